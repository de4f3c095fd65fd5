"""The bench around the probes: nonlinear gaps, calibration, controls, transfer, sample sizes, tampering, change points."""

import numpy as np
import pandas as pd
import pytest
import torch
from made import activations, planted
from sklearn.metrics import brier_score_loss

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import (
    best_layers,
    brier,
    calibration_error,
    change_point,
    fit_layers,
    fit_tamper,
    platt,
    reliability,
    roc_curve,
    sample_efficiency,
    smallest,
    tamper_roc,
    tamper_score,
    transfer_matrix,
)
from workbench.probes.calibration import equal_bins
from workbench.probes.methods import LINEAR, NONLINEAR
from workbench.probes.scaling import Eraser, Normaliser
from workbench.probes.tamper import _threshold
from workbench.prompts import grouped_folds

SPLIT = {"test": 0.4}


def crooked(seed=0, n_identities=40, n_rights=6, d=8):
    """Truth is the product of the signs of two features: a linear probe reads nothing."""
    acts = activations(n_identities=n_identities, n_rights=n_rights, signal=0.0, seed=seed)
    rng = numpy_rng(seed, "crooked")
    n = len(acts)
    y = acts.labels
    values = 0.3 * rng.standard_normal((n, 2, 1, d))
    for variant in (0, 1):
        true = (y == variant).astype(int)
        a = rng.integers(0, 2, n) * 2 - 1
        values[:, variant, 0, 0] += 2 * a
        values[:, variant, 0, 1] += 2 * a * (2 * true - 1)
    return wb.Activations(
        values=torch.tensor(values).float(), layers=[0], site="resid_post", position="last", rows=acts.rows, provenance=acts.provenance
    )  # fmt: skip


@pytest.mark.parametrize("method", sorted(LINEAR))
def test_linear_methods_find_a_planted_truth_and_not_a_null(method):
    good = wb.probe_layers(activations(signal=6.0), methods=[method], controls=(), resamples=100)
    at = good[(good["layer"] == 1) & (good["metric"] == "accuracy")].iloc[0]
    assert at["value"] > 0.9
    assert at["low"] > 0.6  # eight held-out identities
    null = wb.probe_layers(activations(signal=0.0), methods=[method], controls=(), resamples=100)
    some = null[null["metric"] == "accuracy"]
    assert (some["low"] < 0.5).all()
    assert (some["high"] > 0.5).all()


def test_nonlinear_methods_read_what_no_line_can_and_say_by_how_much():
    table = wb.probe_layers(crooked(), methods=["logistic", "mass_mean", *sorted(NONLINEAR)], controls=(), resamples=200)
    accuracy = table[table["metric"] == "accuracy"].set_index("method")
    assert (accuracy.loc[["logistic", "mass_mean"], "low"] < 0.55).all()
    gap = table[table["metric"] == "gap"].set_index("method")
    for method in ("mlp", "quadratic", "rbf"):
        assert accuracy.loc[method, "low"] > 0.7, method
        assert gap.loc[method, "low"] > 0.1, method
        assert "which validation rows prefer" in gap.loc[method, "note"]
    chosen = table[table["metric"] == "selectivity"]
    assert set(chosen["method"]) == {"logistic", "mass_mean", *NONLINEAR}
    assert (chosen["split"] == "validation").all()


def test_nonlinear_gains_nothing_where_truth_is_linear():
    table = wb.probe_layers(
        activations(signal=2.5, n_identities=40).where(layers=[1]), methods=["lda", "mlp", "knn"], controls=(), resamples=200
    )
    gap = table[table["metric"] == "gap"]
    assert len(gap) == 2
    assert (gap["high"] < 0.25).all()
    assert (gap["low"] <= 0.02).all()


@pytest.mark.parametrize("method", sorted(NONLINEAR))
def test_nonlinear_probes_are_antisymmetric_and_need_folds(method):
    acts = activations(n_identities=12)
    probe = fit_layers(acts, method).probes[1]
    x = acts.layer(1)
    a, b = probe.scaler(x[:, 1], x[:, 0])
    assert probe.function(a, b).numpy() == pytest.approx(-probe.function(b, a).numpy(), abs=2e-2)
    with pytest.raises(errors.BadInput, match="tuned on folds"):
        NONLINEAR[method](x[:, 1], x[:, 0], acts.labels)


def test_leace_leaves_no_linear_trace_and_normalisers_use_training_statistics():
    x, y, _, _ = planted(n=300, d=10)
    eraser = Eraser.fit(y, x)
    a, b = eraser(x), eraser(y)
    assert torch.allclose(a.mean(0), b.mean(0), atol=1e-3)
    rows, z = torch.cat([b, a]), torch.cat([torch.zeros(300), torch.ones(300)])
    covariance = (rows - rows.mean(0)).T @ (z - 0.5) / 600
    assert float(covariance.abs().max()) < 1e-3
    assert float((torch.cat([y, x]) - rows).norm() / rows.norm()) < 0.5  # and little else is gone
    names = ["p"] * 150 + ["q"] * 150
    by = Normaliser.fit(x, y, per="template", groups=names)
    u, v = by(x, y, names)
    for part in (slice(0, 150), slice(150, 300)):
        assert u[part].mean(0).abs().max() < 1e-4
        assert v[part].std(0, correction=0) == pytest.approx(torch.ones(10), abs=1e-3)
    other, _ = by(x[:5], y[:5], ["new"] * 5)
    assert torch.allclose(other, by.scalers[1](x[:5]))
    together = Normaliser.fit(x, y, per="all")
    assert together.scalers[0] is together.scalers[1]
    erased = Normaliser.fit(x, y, normalise="mean", erase_variant=True)
    w = torch.randn(10, generator=torch.Generator().manual_seed(1))
    u, v = erased(x, y)
    assert torch.allclose((u - u.mean(0)) @ w, (x - x.mean(0)) @ erased.raw(w), atol=1e-3)
    with pytest.raises(errors.BadInput, match="per='right'"):
        Normaliser.fit(x, y, per="right")


@pytest.mark.parametrize(
    "how", [{"per": "all"}, {"per": "template"}, {"erase_variant": True}, {"normalise": "mean"}, {"normalise": "none"}]
)
def test_every_normalisation_goes_through_the_protocol(how):
    acts = activations(signal=8.0, common=1.0).with_column("template", ["p", "q"] * 240)
    table = wb.probe_layers(acts, methods=["logistic", "crc"], controls=(), resamples=50, **how)
    some = table[(table["metric"] == "accuracy") & (table["layer"] == 1)]
    assert (some.loc[some["method"] == "logistic", "value"] > 0.9).all()
    if how != {"per": "all"} and how != {"normalise": "none"}:  # there the first component is which variant it is
        assert (some.loc[some["method"] == "crc", "value"] > 0.9).all()


def test_calibration():
    rng = numpy_rng(0)
    p = rng.uniform(0, 1, 4000)
    y = (rng.uniform(0, 1, 4000) < p).astype(int)
    clusters = np.arange(4000) // 10
    good = calibration_error(p, y, clusters)
    bad = calibration_error(p**3, y, clusters)
    assert good.low == 0
    assert good.value < 0.03 < bad.low
    assert brier(p, y).value == pytest.approx(brier_score_loss(y, p))
    table = reliability(p, y, clusters)
    assert table["value"].is_monotonic_increasing
    assert table["n"].sum() == 4000
    assert ((table["low"] - 0.05 <= table["probability"]) & (table["probability"] <= table["high"] + 0.05)).all()
    bins = equal_bins(p)
    assert bins.max() + 1 == len(table) == 10
    scores = np.log(p / (1 - p))
    assert platt(scores / 3, y) == pytest.approx(3, rel=0.1)
    assert platt(-scores, y) == pytest.approx(0, abs=1e-3)
    with pytest.raises(errors.BadInput, match="between 0 and 1"):
        brier(scores, y)


def test_probabilities_in_the_table():
    acts = activations(signal=3.0, n_identities=60)
    table = wb.probe_layers(acts, methods=["logistic", "lda", "ccs", "crc"], controls=(), resamples=100)
    has = table[table["metric"] == "brier"].groupby("method")["value"].max()
    assert set(has.index) == {"logistic", "lda", "ccs"}, "a search without labels and without probabilities has no calibration"
    at = table[(table["layer"] == 1) & (table["metric"] == "calibration_error")].set_index("method")
    assert at.loc["lda", "value"] < 0.15


def test_embedding_untrained_and_constant_features_are_nan_with_a_reason():
    acts = activations()
    constant = acts.values.clone()
    constant[:, 0], constant[:, 1] = constant[:1, 0], constant[:1, 1]  # at the embedding, the last token is the answer word
    embedding = wb.Activations(
        values=constant[:, :, :1], layers=[0], site="resid_pre", position="last", rows=acts.rows, provenance=acts.provenance
    )  # fmt: skip
    table = wb.probe_layers(acts, methods=["logistic", "ccs"], controls=(), embedding=embedding, resamples=50)
    row = table[table["control"] == "embedding"]
    assert (row["layer"] == -1).all()
    assert row["value"].isna().all()
    assert row["note"].str.contains("same in every pair").all()
    with pytest.raises(errors.WrongModel, match="same prompts in the same order"):
        wb.probe_layers(acts, methods=["logistic"], controls=(), embedding=embedding.subset(range(10)))


def test_swapped_variants_are_noticed_before_fitting():
    acts = activations(signal=8.0).with_column("template", ["p", "q", "r"] * 160)
    flipped = acts.labels.copy()
    rows = acts.rows["template"].to_numpy() == "q"
    flipped[rows] = 1 - flipped[rows]
    with pytest.raises(errors.FlippedLabels, match="template 'q': at layer 1 a direction fitted on the other forms is right in 0%"):
        wb.probe_layers(acts.with_column("label", flipped), methods=["mass_mean"], controls=())
    wb.probe_layers(acts, methods=["mass_mean"], controls=(), resamples=0)
    wb.probe_layers(acts.with_column("label", flipped), methods=["mass_mean"], controls=(), resamples=0, check_labels=False)


def test_bad_input_of_the_protocol():
    acts = activations()
    with pytest.raises(errors.WrongModel, match="lacks layer 1"):
        wb.probe_layers(acts, test={"x": acts.where(layers=[0])})
    with pytest.raises(errors.UnknownName, match=r"no metric named 'acuracy'.*Did you mean 'accuracy'"):
        wb.probe_layers(acts, metrics=["acuracy"])
    with pytest.raises(errors.UnknownName, match="no control named 'shuffled'"):
        wb.probe_layers(acts, controls=["shuffled"])
    with pytest.raises(errors.UnknownName, match="no method named 'crc:mlp'"):
        wb.probe_layers(acts, methods=["crc:mlp"])
    with pytest.raises(errors.BadInput, match="folds need 40 groups"):
        fit_layers(acts, "logistic", folds=40)
    fit_layers(acts, "logistic", folds=40, c=1.0)  # nothing to tune
    few = activations(n_rights=3)
    table = wb.probe_layers(few, methods=["knn"], controls=(), split=wb.grouped_split(few.rows, by=("identity",)))
    untold = table[table["metric"] == "selectivity"]
    assert untold["value"].isna().all()
    assert untold["note"].str.contains("a control task needs a column of four values, and 'right' is none").all()


def turned(acts, angle, seed=1):
    """The same items with the planted direction turned."""
    q = torch.linalg.qr(torch.randn(acts.shape[-1], acts.shape[-1], generator=torch.Generator().manual_seed(seed)))[0]
    values = acts.values if angle == 0 else acts.values @ q
    return wb.Activations(
        values=values, layers=acts.layers, site=acts.site, position=acts.position, rows=acts.rows, provenance=acts.provenance
    )  # fmt: skip


def test_transfer_matrix():
    acts = activations(signal=6.0, d=32)
    table = transfer_matrix({"a": acts, "b": turned(acts, 0), "c": turned(acts, 1)}, method="mass_mean", layers=[1])
    grid = table[table["metric"] == "accuracy"].pivot(index="fit_condition", columns="condition", values="value")
    assert grid.loc["a", "b"] > 0.8
    assert grid.loc["c", "c"] > 0.8
    assert grid.loc["a", "c"] < 0.75
    assert set(table["metric"]) == {"accuracy", "auroc"}
    with pytest.raises(errors.BadInput, match="two conditions"):
        transfer_matrix({"a": acts})
    with pytest.raises(errors.BadInput, match=r"layers \[7\] are not in every condition"):
        transfer_matrix({"a": acts, "b": acts}, layers=[7])


def test_transfer_between_sets_that_share_some_groups_leaks_none():
    acts = activations(n_identities=40)
    early, late = (acts.rows["identity"].isin([f"i{k}" for k in ks]).to_numpy() for ks in (range(28), range(12, 40)))
    table = transfer_matrix({"a": acts.subset(early), "b": acts.subset(late)}, layers=[1], method="mass_mean")
    assert len(table) == 8  # accuracy and AUROC of each
    split = wb.grouped_split(pd.concat([acts.rows[early], acts.rows[late]], ignore_index=True), seed=0)
    assert not split.train["identity"] & split.test["identity"]


def test_sample_efficiency():
    acts = activations(signal=4.0, n_identities=40)
    table = sample_efficiency(acts, layer=1, methods=["logistic", "ccs"], sizes=[4, 32, 128], repeats=4, resamples=200)
    found = table[(table["metric"] == "accuracy") & (table["method"] == "logistic")].set_index(["world", "items"])["value"]
    assert found["measured", 128] > found["measured", 4] - 0.02
    # the activations are Gaussian themselves: the perfect world is the same world
    assert found["perfect", 128] == pytest.approx(found["measured", 128], abs=0.08)
    stable = table[(table["metric"] == "stability") & (table["method"] == "logistic") & (table["world"] == "measured")].set_index("items")[
        "value"
    ]
    assert stable[128] > stable[4]
    enough = smallest(table, 0.8).set_index(["method", "world"])["items"]
    assert enough["logistic", "measured"] in (32, 128)
    assert smallest(table, 0.9999)["items"].isna().all()
    null = sample_efficiency(activations(signal=0.0, n_identities=40), layer=1, methods=["lda"], sizes=[64], repeats=3, resamples=200)
    assert (null[null["metric"] == "accuracy"]["low"] < 0.5).all()
    with pytest.raises(errors.BadInput, match="sizes go from 4 to"):
        sample_efficiency(acts, layer=1, sizes=[2, 10])


def answering(acts, wrong, seed=0):
    """Activations with log-probabilities of the answers, of which a share contradicts the label."""
    rng = numpy_rng(seed, "answers")
    right = rng.uniform(0, 1, len(acts)) >= wrong
    positive = np.where(right, acts.labels, 1 - acts.labels)
    margin = torch.tensor(np.where(positive == 1, 1.0, -1.0) * rng.uniform(1, 4, len(acts)))
    logp = torch.nn.functional.logsigmoid(torch.stack([-margin, margin], 1)).float()
    return wb.Activations(
        values=acts.values, layers=acts.layers, site=acts.site, position=acts.position, rows=acts.rows, provenance=acts.provenance, logp=logp
    )  # fmt: skip


def test_tampering_is_seen_from_the_disagreement_alone():
    base = activations(signal=8.0, n_identities=60, n_rights=40, d=24)
    split = wb.grouped_split(base.rows, seed=0)
    clean, pushed, calm = answering(base, 0.0), answering(base, 1.0, 1), answering(base, 0.0, 2)
    detector = fit_tamper(clean, layer=1, split=split, false_alarms=0.15)
    table = tamper_roc(clean, {"pushed": pushed, "calm": calm}, detector, split=split, tuned_on="pushed")
    at = table.set_index(["condition", "metric"])
    assert at.loc[("pushed", "auroc"), "value"] > 0.98
    assert at.loc[("pushed", "detected"), "value"] > 0.8
    assert at.loc[("calm", "auroc"), "value"] == pytest.approx(0.5, abs=0.12)
    assert at.loc[("no push", "false alarms"), "low"] <= 0.15
    assert at.loc[("calm", "auroc"), "kind"] == "held out"
    rows = tamper_score(pushed, detector)
    assert rows["tamper_score"].between(0, 1).all()
    assert rows["flagged"].mean() > 0.8
    assert len(tamper_score(pushed, clean=clean, layer=1, split=split)) == len(pushed)
    few = fit_tamper(clean, layer=1, split=split, false_alarms=0.01)
    assert few.units == {"identity": 20, "right": 13}
    assert few.threshold == np.inf, "so few identities and rights cannot promise that rate"
    assert few.least == pytest.approx(1 - 20 / 21 * 13 / 14)
    note = (
        "flags nothing: 20 values of identity and 13 values of right in calibration promise 11.6% false alarms at best, 0.01 was asked for"
    )
    assert few.note == note
    assert note in few._repr_html_()
    small = fit_tamper(erring(0, (12, 4)), layer=0, method="mass_mean", false_alarms=0.5)
    assert small.units["right"] == 0, "too few rows to hold rights out"
    assert small.threshold == np.inf
    assert small.least == 1
    silent = tamper_roc(clean, {"pushed": pushed}, few, split=split).set_index("metric")
    assert silent.loc["detected", ["value", "note"]].tolist() == [0, note]
    assert silent.loc["false alarms", "note"] == note
    with pytest.raises(errors.MissingColumn, match="the answers were not captured"):
        fit_tamper(base, layer=1)
    with pytest.raises(errors.BadInput, match="give a detector"):
        tamper_score(pushed)
    with pytest.raises(errors.BadInput, match="a share between 0 and 1"):
        fit_tamper(clean, layer=1, false_alarms=0)


def erring(seed, n=(80, 40), spread=(1.0, 1.0)):
    """Unpushed answers whose log-odds err by identity and by right, with heavy tails."""
    rng = numpy_rng(seed, "erring")
    rows = pd.DataFrame(
        [{"identity": f"i{i}", "right": f"r{r}", "template": "t", "stem": f"{i} {r}"} for i in range(n[0]) for r in range(n[1])]
    )
    y = rng.integers(0, 2, len(rows))
    x = rng.standard_normal((len(rows), 2, 1, 8))
    x[:, :, 0, 0] += 2 * (2 * y - 1)[:, None] * np.array([-1, 1])
    err = [s * rng.standard_t(3, m)[rows[c].str[1:].astype(int)] for s, m, c in zip(spread, n, ("identity", "right"), strict=True)]
    margin = torch.tensor((2 * y - 1) * (3 + err[0] + err[1] + rng.standard_normal(len(rows))))
    return wb.Activations(
        values=torch.tensor(x).float(), layers=(0,), site="resid_post", position="last", rows=rows.assign(label=y, claim="none"),
        provenance={"model": {"name": "m", "digest": "d", "dtype": "float32", "processing": "none"}},
        logp=torch.nn.functional.logsigmoid(torch.stack([-margin, margin], 1)).float(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "spread", "rate"), [((80, 40), (0.0, 2.0), 0.12), ((120, 1), (2.0, 0.0), 0.05), ((310, 1), (2.0, 0.0), 0.01)]
)
def test_false_alarms_hold_where_identities_and_rights_vary(n, spread, rate):
    rates = []
    for seed in range(24):
        acts = erring(seed, n, spread)
        split = wb.grouped_split(acts.rows, seed=seed)
        detector = fit_tamper(acts, layer=0, method="mass_mean", split=split, false_alarms=rate, seed=seed)
        assert np.isfinite(detector.threshold)
        rates.append(tamper_score(acts.subset(split.side(acts.rows) == "test"), detector)["flagged"].mean())
    error = np.std(rates, ddof=1) / len(rates) ** 0.5
    assert 0 < np.mean(rates) <= rate + 3 * error


def test_a_threshold_weighs_identities_and_not_rows():
    """One identity with half of the rows is one identity."""
    scores = np.r_[np.full(300, 0.9), np.linspace(0.1, 0.5, 59 * 5)]
    rows = pd.DataFrame({"identity": np.r_[np.zeros(300, int), np.repeat(np.arange(1, 60), 5)]})
    assert _threshold(scores, rows, 0.05) == pytest.approx(0.5, abs=0.02)
    assert _threshold(scores, rows, 0.017) == 0.9
    assert _threshold(scores, rows, 0.016) == np.inf, "1 of 61 is the least"


def test_roc_curve():
    curve = roc_curve(np.array([0.1, 0.2, 0.3]), np.array([0.25, 0.9]))
    assert curve.iloc[0][["false_alarms", "detected"]].tolist() == [0, 0]
    assert curve.iloc[-1][["false_alarms", "detected"]].tolist() == [1, 1]
    area = np.trapezoid(curve["detected"], curve["false_alarms"])
    assert area == pytest.approx(5 / 6)


def test_change_point():
    rng = numpy_rng(0)
    steps = [1, 2, 4, 8, 16, 32, 64, 128]
    people = np.repeat(np.arange(40), 5)
    share = np.array([0.5] * 5 + [0.95] * 3)
    hits = rng.uniform(0, 1, (8, 200)) < share[:, None]
    found = change_point(steps, hits, people)
    assert found.value == 32
    assert found.low <= 32 <= found.high <= 64
    null = change_point(steps, rng.uniform(0, 1, (8, 200)) < 0.5, people)
    assert np.isnan(null.value)
    assert "no rise" in null.note
    for e in (found, null):
        assert e.note.endswith("over items of one run: what its neighbouring checkpoints share by chance is not counted")
    with pytest.raises(errors.BadInput, match="three checkpoints at least"):
        change_point([1, 2], hits[:2], people)


def test_azaria_and_mitchell_end_to_end(statements, organism):
    """Real true and false statements through a model that has never seen such text: chance where it is chance."""
    path, stories = statements
    for model in (organism, stories):
        words = wb.choose_answers(model)
        prompts = wb.prompts.from_table(path, {"label": "label"}, template="base_short", answers=words).subset(range(0, 612, 2))
        acts = wb.capture(model, prompts, layers=[0, wb.models.info(model).n_layers - 1], logits="answers", progress=False)
        table = wb.probe_layers(acts, methods=["logistic", "lda", "ccs", "crc"], resamples=100, shuffles=5, random_directions=20)
        best = table[(table["metric"] == "accuracy") & (table["control"] == "")]
        assert len(best) == 8
        assert (best["low"] < 0.6).all()
        unsupervised = best[best["method"].isin(["ccs", "crc"])]
        assert (unsupervised["low"] < 0.55).all()
        assert (unsupervised["high"] > 0.45).all()


@pytest.fixture(scope="module")
def statements():
    from conftest import SHARED

    path, folder = SHARED / "datasets" / "azaria_mitchell" / "facts_true_false.csv", SHARED / "models" / "stories260K"
    if not path.is_file() or not folder.is_dir():
        pytest.skip("the shared datasets and models are not here")
    return pd.read_csv(path), wb.load_model(folder, device="cpu")


def test_folds_have_rows_on_both_sides():
    fit, held = grouped_folds(activations().rows, 4)
    assert fit.any(1).all()
    assert held.any(1).all()
    assert not (fit & held).any()


def test_best_layers_are_those_that_cannot_be_told_from_the_best():
    """Truth in layers 1 and 2 equally, none in layer 0: the band keeps 1 and 2 and drops 0."""
    rows = []
    for layer, value, low, high in ((0, 0.5, 0.4, 0.6), (1, 0.95, 0.9, 0.98), (2, 0.97, 0.92, 0.99)):
        rows.append({"layer": layer, "method": "logistic", "control": "", "condition": "fit", "against": "label", "metric": "accuracy",
                     "value": value, "band_low": low, "band_high": high, "n": 100})  # fmt: skip
    found = best_layers(pd.DataFrame(rows)).iloc[0]
    assert (found["layer"], found["layers"]) == (2, "1, 2")


def test_bands_over_layers_are_wider_than_single_intervals():
    """A band for all layers at once holds each layer's own interval, and is wider."""
    table = wb.probe_layers(activations(signal=1.5), methods=["mass_mean"], controls=(), resamples=0)
    some = table[table["metric"] == "accuracy"]
    assert (some["band_low"] < some["low"]).all()
    assert (some["band_high"] > some["high"]).all()
    assert len(best_layers(table)) == 1
