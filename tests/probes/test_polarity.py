"""Opposite statements: who is whose opposite, a loss that knows it, and how often a probe contradicts itself."""

import numpy as np
import pandas as pd
import pytest
import torch
from made import activations, cosine, planted

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import fit_layers, fit_polarity_ccs, has_opposites, opposites, polarity_consistency


def both_polarities(seed=0, loud=0.0, true=2.0, d=16, n_identities=24):
    """Statements in pairs of opposites: truth flips between the two, and `loud` is a contrast that does not."""
    acts = activations(n_identities=n_identities, signal=0.0, d=d, common=1.0, seed=seed)
    n = len(acts)
    rng = numpy_rng(seed, "polarities")
    grant = np.arange(n) % 2
    truth = np.where(rng.random(n // 2).repeat(2) < 0.5, grant, 1 - grant)  # which of the two is true says the right, not the polarity
    coin = rng.integers(0, 2, n // 2).repeat(2)
    values = acts.values.clone()
    for feature, size, axis in ((truth, true, 0), (coin, loud, 1)):
        step = torch.as_tensor((2 * feature - 1) * size).float()
        values[:, 1, 1, axis] += step
        values[:, 0, 1, axis] -= step
    rows = acts.rows.assign(polarity=np.where(grant == 1, "grant", "deny"), label=truth, statement=[f"s{k}" for k in range(n)])
    return wb.Activations(
        values=values, layers=acts.layers, site=acts.site, position=acts.position, rows=rows, provenance=acts.provenance
    ).where(layers=[1])  # fmt: skip


def test_opposites_are_the_same_of_everything_but_the_polarity():
    rows = pd.DataFrame(
        {"identity": ["a", "a", "b", "a", "b", "c"], "right": ["r", "s", "r", "r", "r", "r"], "polarity": ["g", "g", "g", "d", "d", "g"]}
    )
    assert opposites(rows).tolist() == [3, -1, 4, 0, 2, -1]
    assert has_opposites(rows)
    assert not has_opposites(rows[["identity", "right"]])
    assert not has_opposites(rows[rows["polarity"] == "g"])
    # the index of a row is its place, not its name; and which polarity is which does not matter
    assert opposites(rows.set_index(pd.Index([7, 3, 1, 9, 4, 2]))).tolist() == [3, -1, 4, 0, 2, -1]
    assert opposites(rows.assign(polarity=rows["polarity"].map({"g": "x", "d": "y"}))).tolist() == [3, -1, 4, 0, 2, -1]
    with pytest.raises(errors.MissingColumn, match="have a column 'polarity'; there are: identity, right"):
        opposites(rows[["identity", "right"]])
    with pytest.raises(errors.BadInput, match="two polarities; the column 'polarity' holds 1: g"):
        opposites(rows[rows["polarity"] == "g"])
    with pytest.raises(errors.BadInput, match="no statement has its opposite in these 2 rows"):
        opposites(rows.iloc[[1, 4]])


def test_weight_0_is_ccs_and_the_order_of_opposites_changes_nothing():
    x, y, _, _ = planted(n=60, d=6, signal=5.0, common=1.0)
    partner = np.arange(60) ^ 1
    ccs = wb.fit_ccs(x, y, restarts=3)
    assert torch.allclose(fit_polarity_ccs(x, y, opposite=partner, weight=0.0, restarts=3).weight, ccs.weight, atol=1e-3)
    assert fit_polarity_ccs(x, y, opposite=partner, restarts=3).method == "polarity_ccs"


def test_it_finds_the_truth_where_a_louder_contrast_wins_ccs():
    acts = both_polarities(loud=4.0)
    side = np.array([int(i[1:]) < 16 for i in acts.rows["identity"]])
    train, held = acts.subset(side), acts.subset(~side)
    right = {}
    for method in ("ccs", "polarity_ccs"):
        fit = fit_layers(train, method)
        right[method] = (fit.scores(held, 1) > 0) == held.labels
        truth, loud = np.eye(16)[0], np.eye(16)[1]
        vector = fit.probes[1].vector
        assert abs(cosine(vector, loud if method == "ccs" else truth)) > 0.9
    assert right["polarity_ccs"].mean() > 0.95 > 0.65 > right["ccs"].mean()
    # the null twin: no truth, only the loud contrast, which says the same of opposites; nothing is found
    blank = both_polarities(loud=4.0, true=0.0)
    fit = fit_layers(blank.subset(side), "polarity_ccs")
    held = blank.subset(~side)
    assert 0.3 < ((fit.scores(held, 1) > 0) == held.labels).mean() < 0.7


def test_contradictions_of_probes_that_read_the_truth_or_something_else():
    acts = both_polarities(loud=4.0)
    tables = {m: polarity_consistency(fit_layers(acts, m, **o), acts) for m, o in (("ccs", {}), ("logistic", {"c": 1.0}), ("rrc", {}))}
    told = {m: t.set_index(["metric", "control"]) for m, t in tables.items()}
    assert told["logistic"].loc[("contradictions", ""), "value"] < 0.02
    assert told["ccs"].loc[("contradictions", ""), "value"] > 0.95  # the loud contrast says the same of both
    random = told["ccs"].loc[("contradictions", "random opposites")]
    assert random["low"] < 0.5 < random["high"]
    assert told["logistic"].loc[("consistency", ""), "value"] > 0.9
    assert np.isnan(told["rrc"].loc[("consistency", ""), "value"])
    assert told["rrc"].loc[("consistency", ""), "note"] == "states no probabilities"
    assert told["ccs"].loc[("contradictions", ""), "n"] == len(acts) // 2


def test_it_goes_through_the_protocol_and_is_refused_before_fitting():
    acts = both_polarities()
    table = wb.probe_layers(acts, methods=["polarity_ccs", "drc", "rrc"], controls=["shuffled_labels", "random_directions"], resamples=50)
    right = table[(table["metric"] == "accuracy") & (table["control"] == "")]
    assert (right["value"] > 0.9).all()
    assert set(table.loc[table["control"] == "shuffled_labels", "method"]) == {"polarity_ccs", "drc", "rrc"}
    with pytest.raises(errors.MissingColumn, match="'polarity'"):
        wb.probe_layers(activations(), methods=["logistic", "polarity_ccs"], controls=())


def test_errors():
    x, y, _, _ = planted(n=6, d=4)
    for opposite, match in (
        (None, "say which statements are opposites"),
        ([1, 0, 3, 4, 5, -1], "the opposite of an opposite is the statement itself"),
        ([-1] * 6, "at least one of them"),
        ([7, 0, 3, 2, 5, 4], "indices of these pairs"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            fit_polarity_ccs(x, y, opposite=opposite)
    with pytest.raises(errors.ShapeMismatch, match="6 pairs and opposite of shape"):
        fit_polarity_ccs(x, y, opposite=[1, 0])
    with pytest.raises(errors.BadInput, match="weight is 0 or more, got -1"):
        fit_polarity_ccs(x, y, opposite=np.arange(6) ^ 1, weight=-1)
