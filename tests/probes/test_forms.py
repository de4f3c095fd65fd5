"""Reading within a form and across forms: a shift of the form moves the threshold, erasure takes the order."""

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.paired import centred_hits
from workbench.core.stats import auroc_influence
from workbench.probes.forms import read_forms

PEOPLE, RIGHTS, WIDTH = 60, 18, 6


def acts(seed, *, strength=3.0, shift=0.0, layers=2, phrasings=1, flip=1.0):
    """Pairs whose difference carries the label along dimension 0, with a shift along it that the prompt form adds."""
    n = PEOPLE * RIGHTS
    rows = pd.DataFrame({"identity": [f"i{k // RIGHTS}" for k in range(n)], "right": [f"r{k % RIGHTS}" for k in range(n)]})
    rows["statement"] = [f"statement {k}" for k in range(n)]
    rows["label"] = (np.arange(n) + np.arange(n) // RIGHTS) % 2
    if phrasings > 1:
        rows["phrasing"] = [f"sentence {k % phrasings}" for k in range(n)]
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2, layers, WIDTH))
    signal = flip * strength / 2 * (2 * rows["label"].to_numpy() - 1)
    values[:, 1, :, 0] += (signal + shift)[:, None]
    values[:, 0, :, 0] -= signal[:, None]
    values[:, :, 0] = rng.normal(size=(n, 2, WIDTH))  # nothing at the first layer
    return wb.Activations(values=torch.tensor(values).float(), layers=list(range(layers)), site="resid_post", position="last", rows=rows)


@pytest.fixture(scope="module")
def split():
    return wb.prompts.grouped_split(acts(0).rows, test=0.4, seed=0)


def one(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.fixture(scope="module")
def tables(split):
    # the base of the form has a shift of its own; the claim adds one more, or erases, or flips
    read = {
        ("f", "neutral"): acts(1),
        ("f", "shifted"): acts(2, shift=25.0),
        ("f", "erased"): acts(3, strength=0.0),
        ("f", "flipped"): acts(4, flip=-1.0),
        ("g", "neutral"): acts(5, shift=-25.0),
    }
    return read_forms({"f": read["f", "neutral"], "no claim": acts(6)}, read, split=split, methods=("logistic",), seed=0)


def test_a_shift_moves_the_threshold_and_not_the_order(tables):
    readings, kept = tables
    at = {"layer": 1, "method": "logistic", "fit": "f", "form": "f", "minus": "", "claim": "shifted"}
    assert one(readings, metric="auroc", **at)["low"] > 0.8
    assert one(readings, metric="accuracy", **at)["value"] < 0.6
    assert one(readings, metric="accuracy_centred", **at)["low"] > 0.7
    less = one(readings, metric="auroc", **at | {"minus": "neutral"})
    assert less["low"] <= 0 <= less["high"]
    share = one(kept, claim="shifted", fit="f")
    assert share["low"] > 0.6
    assert share["layers"] == 1, "the first layer carries nothing"
    assert one(readings, metric="auroc", **at | {"form": "g", "claim": "neutral"})["reading"] == "across forms"


def test_what_is_erased_and_what_is_flipped(tables):
    _, kept = tables
    assert one(kept, claim="erased", fit="f")["high"] < 0.5
    assert one(kept, claim="flipped", fit="f")["high"] < -0.7
    assert set(kept["form"]) == {"f"}, "the other form has no claim beside the neutral one"


def test_controls_stand_beside(tables):
    readings, _ = tables
    null = one(readings, layer=0, control="random_directions", fit="f", form="f", claim="neutral")
    assert null["low"] < 0.5 < null["high"]
    words = one(readings, control="bag_of_words", fit="f", form="f", claim="neutral")
    assert 0.3 < words["value"] < 0.7


def test_a_layer_that_a_control_reads_as_well_is_not_readable(split):
    read = {("f", "neutral"): acts(1), ("f", "harm"): acts(2)}
    _, kept = read_forms({"f": read["f", "neutral"]}, read, split=split, methods=("logistic",), exceed={1: 0.999})
    assert kept["layers"].tolist() == [0]
    assert np.isnan(kept["value"]).all()


def test_sentences_of_a_claim_widen_the_interval(split):
    def width(phrasings):
        read = {("f", c): acts(s, strength=0.4, phrasings=phrasings) for s, c in enumerate(("neutral", "harm"))}
        readings, _ = read_forms({"f": read["f", "neutral"]}, read, split=split, methods=("mass_mean",), random_directions=0)
        row = one(readings, layer=1, control="", claim="neutral", metric="auroc")
        return row["high"] - row["low"]

    assert width(3) > width(1)


def test_intervals_of_a_difference_hold_what_they_claim(split):
    hits, rounds = 0, 60
    for k in range(rounds):
        read = {("f", c): acts(100 + 2 * k + j, strength=0.5) for j, c in enumerate(("neutral", "harm"))}
        fit = {"f": acts(999 + k, strength=6.0)}
        readings, _ = read_forms(fit, read, split=split, methods=("mass_mean",), random_directions=0, seed=k)
        row = one(readings, layer=1, claim="harm", metric="auroc", minus="neutral")
        hits += row["low"] <= 0 <= row["high"]
    assert hits / rounds >= 0.85


def test_centred_accuracy_needs_no_threshold():
    scores, y = np.array([5.0, 6.0, 7.0, 8.0]), np.array([0, 0, 1, 1])
    assert centred_hits(scores, y).mean() == pytest.approx(0.875)  # the median itself says neither
    assert centred_hits(np.zeros(4), y).mean() == 0.5


def test_other_statements_are_refused(split):
    other = acts(2)
    other = other.with_rows(other.rows.assign(statement="x" + other.rows["statement"]))
    with pytest.raises(errors.BadInput, match="shown with other statements"):
        read_forms({"f": acts(1)}, {("f", "neutral"): acts(1), ("f", "harm"): other}, split=split)
    with pytest.raises(errors.BadInput, match="nothing to fit"):
        read_forms({}, {("f", "neutral"): acts(1)}, split=split)


@pytest.mark.parametrize(("value", "reach", "low", "high"), [(1.0, 0, 0.912, 1.0), (0.0, 0, 0.0, 0.088), (0.5, 0, 0.352, 0.648), (0.0, 1, -0.088, 0.088), (1.0, 2, 0.825, 1.175)])  # fmt: skip
def test_what_no_resample_changes_is_as_sure_as_its_clusters(value, reach, low, high):
    from workbench.core.estimate import agreeing

    assert agreeing(value, 40, reach=reach) == pytest.approx((low, high), abs=1e-3)


def test_a_shift_of_each_sentence_of_a_claim_moves_no_order():
    """Sentences that move all scores of their statements alike: within sentences the order is whole, over all of them it is not."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    shown = np.repeat([0, 1, 2], 40)
    scores = y + 0.2 * rng.normal(size=120) + np.array([-9.0, 0.0, 9.0])[shown]
    assert auroc_influence(scores, y, shown)[0] > 0.99
    assert auroc_influence(scores, y)[0] < 0.7
    assert centred_hits(scores, y, shown).mean() > 0.97
    assert centred_hits(scores, y).mean() < 0.75
    by_pairs = [np.mean([scores[i] > scores[j] for i in a for j in b]) for a, b in _sides(y, shown)]
    assert auroc_influence(scores, y, shown)[0] == pytest.approx(np.mean(by_pairs))
    assert auroc_influence(scores, y, np.zeros(120))[0] == auroc_influence(scores, y)[0]


def _sides(y, shown):
    return [(np.flatnonzero((shown == k) & (y == 1)), np.flatnonzero((shown == k) & (y == 0))) for k in np.unique(shown)]
