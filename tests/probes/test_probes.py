"""Plant the truth and find it, with the null twin beside it; oracles; what must not see a label does not."""

import numpy as np
import pytest
import torch
from made import activations, cosine, planted
from sklearn.linear_model import LogisticRegression

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import (
    accuracy_by,
    bag_of_words,
    fit_ccs,
    fit_ccs_layers,
    fit_layers,
    fit_logistic,
    fit_mass_mean,
    probe_layers,
    resolve_sign,
)


@pytest.mark.parametrize("fit", [fit_logistic, fit_mass_mean])
def test_pairs_planted_and_null(fit):
    x, y, labels, direction = planted()
    probe = fit(x[:300], y[:300], labels[:300])
    assert (probe.predict(x[300:], y[300:]) == labels[300:]).mean() > 0.9
    assert cosine(probe.vector, direction) > 0.85
    x, y, labels, _ = planted(signal=0.0)
    hits = (fit(x[:300], y[:300], labels[:300]).predict(x[300:], y[300:]) == labels[300:]).mean()
    assert 0.35 < hits < 0.65  # 100 coins: .5 +- .15 is three standard errors


def test_exchanging_the_variants_turns_the_score_round():
    x, y, labels, _ = planted()
    probe = fit_mass_mean(x, y, labels, normalise="none")
    assert probe.score(x, y) == pytest.approx(-probe.score(y, x), abs=1e-3)


def test_rows_equal_sklearn():
    rng = numpy_rng(1)
    a, b = rng.standard_normal((80, 6)) + 0.5, rng.standard_normal((60, 6))
    probe = fit_logistic(a, b, normalise="none", c=0.7)
    oracle = LogisticRegression(C=0.7, tol=1e-8, max_iter=5000).fit(np.r_[a, b], np.r_[np.ones(80), np.zeros(60)])
    assert probe.weight.numpy() == pytest.approx(oracle.coef_[0], abs=1e-3)
    assert probe.bias == pytest.approx(oracle.intercept_[0], abs=1e-3)
    assert probe.score(a) == pytest.approx(oracle.decision_function(a), abs=1e-2)


def test_mass_mean_of_rows_is_mental_arithmetic():
    probe = fit_mass_mean(torch.tensor([[3.0, 0.0], [5.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]]), normalise="none")
    assert probe.weight.tolist() == [4.0, 0.0]
    assert probe.score(torch.tensor([[2.0, 7.0]])).tolist() == [0.0]


def test_ccs_finds_a_planted_direction_without_labels_and_not_a_null():
    x, y, labels, direction = planted(signal=6.0, n=600)
    probe = resolve_sign(fit_ccs(x[:400], y[:400]), (x[:400], y[:400]), labels[:400])
    assert (probe.predict(x[400:], y[400:]) == labels[400:]).mean() > 0.95
    assert cosine(probe.vector, direction) > 0.8
    assert probe.loss == min(probe.losses)
    assert "400 training rows" in probe.oriented_on
    x, y, labels, _ = planted(signal=0.0, n=600)
    null = resolve_sign(fit_ccs(x[:400], y[:400]), (x[:400], y[:400]), labels[:400])
    assert 0.37 < (null.predict(x[400:], y[400:]) == labels[400:]).mean() < 0.63


def test_ccs_finds_a_stronger_distractor_instead():
    """Farquhar et al. 2023: what it finds is the most prominent consistent feature, not truth."""
    x, y, labels, direction = planted(signal=2.0, n=600, d=32)
    rng = numpy_rng(9)
    word = rng.integers(0, 2, 600)
    loud = rng.standard_normal(32)
    loud -= loud @ direction * direction
    loud *= 6 / np.linalg.norm(loud)
    push = torch.tensor((2 * word - 1)[:, None] * loud).float()
    probe = fit_ccs(x + push, y - push)
    said = probe.predict(x + push, y - push)
    assert max((said == word).mean(), (said != word).mean()) > 0.95
    assert 0.3 < (said == labels).mean() < 0.7


def test_ccs_slopes_against_autograd():
    from workbench.probes import LOSSES

    g = torch.Generator().manual_seed(0)
    u, v = (torch.randn(3, 30, generator=g).double().requires_grad_() for _ in range(2))
    literal = LOSSES["ccs"].function(torch.sigmoid(u), torch.sigmoid(v))
    slopes = torch.autograd.grad(literal.sum(), (u, v))
    with torch.no_grad():
        value, low, high = LOSSES["ccs"].slopes(u, v)
    assert torch.allclose(value, literal)
    assert torch.allclose(low, slopes[0])
    assert torch.allclose(high, slopes[1])


def test_ccs_layers_do_not_depend_on_one_another_and_seed_is_all():
    x, y, _, _ = planted(n=100, d=8)
    both = fit_ccs_layers(torch.stack([x, 2 * y], 1), torch.stack([y, x], 1), epochs=50, seed=3)
    alone = fit_ccs(x, y, epochs=50, seed=3)
    assert torch.allclose(both[0].weight, alone.weight, atol=1e-5)
    assert torch.equal(fit_ccs(x, y, epochs=50, seed=3).weight, alone.weight)
    assert not torch.equal(fit_ccs(x, y, epochs=50, seed=4).weight, alone.weight)


def test_protocol_table():
    acts = activations()
    table = probe_layers(acts, test={"pushed": acts}, resamples=100, shuffles=5, random_directions=10, ccs_options={"epochs": 300})
    for column in ("layer", "site", "method", "condition", "split", "metric", "value", "low", "high", "n", "control"):
        assert column in table
    good = table[(table["control"] == "") & (table["metric"] == "accuracy")]
    assert set(good["method"]) == {"logistic", "mass_mean", "ccs"}
    assert (good[good["layer"] == 1]["value"] > 0.9).all()
    assert (good[good["layer"] == 0]["low"] < 0.5).all()
    assert (good[good["layer"] == 0]["high"] > 0.5).all()
    assert ((table["low"] <= table["value"] + 1e-9) & (table["value"] <= table["high"] + 1e-9)).all()
    assert set(table["control"]) == {"", "shuffled_labels", "random_directions", "bag_of_words", "ngrams"}
    assert good["n"].nunique() == 1
    assert good["n"].iloc[0] < len(acts)
    assert "ccs_sign" in table.attrs["provenance"]


def test_no_unsupervised_number_changes_when_training_labels_are_noise():
    acts = activations()
    noise = acts.with_column("label", numpy_rng(5).integers(0, 2, len(acts)))
    one, two = (fit_layers(a, "ccs", epochs=100) for a in (acts, noise))
    for layer in acts.layers:
        assert torch.equal(one.probes[layer].weight, two.probes[layer].weight)
        assert one.probes[layer].losses == two.probes[layer].losses
        assert one.probes[layer].bias == two.probes[layer].bias


def test_held_out_rows_never_reach_a_fit():
    acts = activations()
    split = wb.grouped_split(acts.rows, seed=0)
    held = split.side(acts.rows) != "train"
    values = acts.values.clone()
    values[torch.as_tensor(held)] = 1e6  # if these were used to fit or to normalise, the scalers would show it
    spoiled = wb.Activations(values=values, layers=acts.layers, site=acts.site, position=acts.position, rows=acts.rows)
    train = split.side(acts.rows) == "train"
    for method in ("logistic", "ccs"):
        a = fit_layers(acts.subset(train), method)
        b = fit_layers(spoiled.subset(train), method)
        assert torch.equal(a.probes[1].weight, b.probes[1].weight)


def test_intervals_of_permuted_labels_cover_chance():
    covered = {"accuracy": 0, "auroc": 0}
    for seed in range(200):
        acts = activations(signal=0.0, seed=seed, n_identities=20, n_rights=8).where(layers=[1])
        table = probe_layers(acts, methods=["mass_mean"], controls=(), resamples=200, metrics=("accuracy", "auroc"), seed=seed)
        for row in table.itertuples():
            covered[row.metric] += row.low <= 0.5 <= row.high
    # .95 of 200 is 190; fewer than 182 has probability .007; the percentile bootstrap of few clusters is a little short
    assert covered["accuracy"] >= 182
    assert covered["auroc"] >= 172


def test_accuracy_by():
    acts = activations().with_column("identity_tokens", [1, 2] * 240)
    table = accuracy_by(fit_layers(acts, "logistic"), acts, 1, "identity_tokens")
    assert table["identity_tokens"].tolist() == [1, 2]
    assert table["n"].sum() == len(acts)
    with pytest.raises(errors.MissingColumn, match="no column 'colour'"):
        accuracy_by(fit_layers(acts, "logistic"), acts, 1, "colour")
    with pytest.raises(errors.BadInput, match="layer 7 was not fitted"):
        accuracy_by(fit_layers(acts, "logistic"), acts, 7, "identity_tokens")


def test_bag_of_words():
    train = ["good cat", "good dog", "bad cat", "bad dog"]
    assert (bag_of_words(train, [1, 1, 0, 0], ["good bird", "bad bird"]) > 0).tolist() == [True, False]


def test_a_position_that_both_variants_share_has_no_pairs():
    acts = activations()
    same = wb.Activations(
        values=acts.values[:, :1].expand(-1, 2, -1, -1).clone(), layers=acts.layers, site=acts.site, position="stem_last", rows=acts.rows
    )
    with pytest.raises(errors.BadInput, match="read at 'stem_last', where both variants are the same"):
        probe_layers(same, methods=["ccs"])
    assert set(probe_layers(same, controls=(), resamples=0)["method"]) == {"logistic", "mass_mean"}


def test_bad_input():
    x, y, labels, _ = planted(n=20, d=4)
    with pytest.raises(errors.OneClass, match="all 20 labels are 1"):
        fit_logistic(x, y, np.ones(20, int))
    with pytest.raises(errors.ShapeMismatch, match="contrast pairs"):
        fit_ccs(x, y[:10])
    with pytest.raises(errors.ShapeMismatch, match="20 rows and labels of shape"):
        fit_mass_mean(x, y, labels[:5])
    bad = x.clone()
    bad[3, 1] = float("nan")
    with pytest.raises(errors.NotFinite, match="1 of 20 rows hold NaN or infinity, the first is row 3"):
        fit_logistic(bad, y, labels)
    with pytest.raises(errors.BadInput, match="above 0; got 0"):
        fit_logistic(x, y, labels, c=0)
    with pytest.raises(errors.BadInput, match="restarts and epochs"):
        fit_ccs(x, y, restarts=0)
    with pytest.raises(errors.ShapeMismatch, match="reads pairs"):
        fit_logistic(x, y, labels).score(x)
    with pytest.raises(errors.ShapeMismatch, match="fitted on width 4, given width 3"):
        fit_logistic(x, y, labels).score(x[:, :3], y[:, :3])
    acts = activations()
    with pytest.raises(errors.UnknownName, match="Did you mean 'logistic'"):
        probe_layers(acts, methods=["logistc"])
    with pytest.raises(errors.OneClass, match="needs both classes"):
        fit_layers(acts.with_column("label", np.ones(len(acts), int)), "ccs")
    with pytest.raises(errors.MissingColumn, match="no column 'answer'"):
        probe_layers(acts, target="answer")
    other = wb.Activations(
        values=acts.values, layers=acts.layers, site=acts.site, position=acts.position, rows=acts.rows,
        provenance={"model": {"name": "other", "digest": "e", "dtype": "float32", "processing": "none"}},
    )  # fmt: skip
    with pytest.raises(errors.WrongModel, match="come from 'm'"):
        probe_layers(acts, test={"x": other})
