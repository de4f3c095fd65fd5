"""The unsupervised family: planted truth and its null twin, any loss, no label ever seen, and what the honesty panel says."""

import numpy as np
import pandas as pd
import pytest
import torch
from made import activations, cosine, planted

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import LOSSES, Loss, ccs_honesty, fit_contrast, fit_layers, fit_vinc, resolve_sign
from workbench.probes.minimise import Problem, minimise
from workbench.probes.unsupervised import UNSUPERVISED

ALL = sorted(set(UNSUPERVISED) - {"polarity_ccs"})  # which is told who is whose opposite: test_polarity


@pytest.mark.parametrize("method", [*ALL, "ccs:mlp"])
def test_planted_truth_and_null_twin(method):
    name, _, body = method.partition(":")
    options = {"body": "mlp"} if body else {}
    x, y, labels, direction = planted(signal=8.0, n=500, d=16, common=1.0)
    probe = resolve_sign(UNSUPERVISED[name](x[:300], y[:300], **options), (x[:300], y[:300]), labels[:300])
    assert (probe.predict(x[300:], y[300:]) == labels[300:]).mean() > 0.95
    if not body:
        # 300 pairs, 16 dimensions, signal 8 against noise of about 1.4 in each: a mean difference has cosine .999
        assert cosine(probe.vector, direction) > (0.6 if name == "infonce" else 0.9)
    x, y, labels, _ = planted(signal=0.0, n=500, d=16, common=1.0)
    null = resolve_sign(UNSUPERVISED[name](x[:300], y[:300], **options), (x[:300], y[:300]), labels[:300])
    assert 0.36 < (null.predict(x[300:], y[300:]) == labels[300:]).mean() < 0.64  # 200 coins: four standard errors


@pytest.mark.parametrize("method", [*ALL, "ccs:mlp"])
def test_no_bit_depends_on_labels(method):
    acts = activations(n_identities=12)
    noise = acts.with_column("label", numpy_rng(5).integers(0, 2, len(acts)))
    one, two = (fit_layers(a, method, epochs=60) if method.split(":")[0] in LOSSES else fit_layers(a, method) for a in (acts, noise))
    for layer in acts.layers:
        a, b = one.probes[layer], two.probes[layer]
        assert torch.equal(a.weight, b.weight)
        assert a.bias == b.bias
        assert a.losses == b.losses


def test_a_loss_of_ones_own_is_chosen_by_loss_alone_and_goes_through_the_protocol():
    def squared(p_negative, p_positive):
        return ((p_positive + p_negative - 1) ** 2 + p_positive * p_negative).mean(-1)

    acts = activations(common=1.0, signal=8.0)
    table = wb.probe_layers(acts, methods=[squared], controls=(), resamples=50)
    good = table[(table["metric"] == "accuracy") & (table["layer"] == 1)]
    assert good["method"].tolist() == ["squared"]
    assert good["value"].iloc[0] > 0.9
    x, y, _, _ = planted(n=100, d=6)
    probe = fit_contrast(x, y, loss=squared, restarts=4)
    assert probe.loss == min(probe.losses)
    assert len(probe.losses) == 4
    with pytest.raises(errors.ShapeMismatch, match="it should be one per restart"):
        fit_contrast(x, y, loss=lambda p, q: (p + q).mean())
    with pytest.raises(errors.BadInput, match="cannot be computed or has no gradient"):
        fit_contrast(x, y, loss=lambda p, q: (p > q).float().mean(-1))
    with pytest.raises(errors.UnknownName, match="Did you mean 'hinge'"):
        fit_contrast(x, y, loss="hing")
    with pytest.raises(errors.BadInput, match="of a 'probability' or a 'projection'"):
        Loss(name="x", function=squared, of="logit")


@pytest.mark.parametrize("body", ["linear", "mlp"])
def test_gradients_of_both_bodies_against_autograd(body):
    from workbench.probes.ccs import _Linear, _Mlp

    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double()
    parts = _Linear(x) if body == "linear" else _Mlp(x, 3)
    theta = parts.start(4, 0).double().requires_grad_()
    u = parts.forward(theta)
    du = torch.randn(u.shape, generator=torch.Generator().manual_seed(1)).double()
    (oracle,) = torch.autograd.grad((u * du).sum(), theta)
    with torch.no_grad():
        assert torch.allclose(parts.back(theta, du), oracle)


def test_minimise_finds_the_minimum_of_each_row():
    target = torch.tensor([[1.0, -2.0], [30.0, 4.0]]).double()
    scale = torch.tensor([1.0, 100.0]).double()
    problem = Problem(
        forward=lambda x: x, outer=lambda u: ((scale * (u - target) ** 2).sum(1), 2 * scale * (u - target)), back=lambda x, du: du,
        linear=True, penalty=torch.zeros(2).double(),
    )  # fmt: skip
    found = minimise(problem, torch.zeros(2, 2).double(), tolerance=1e-12)
    assert torch.allclose(found, target, atol=1e-3)


def test_vinc_is_invariant_over_wordings():
    """Noise that moves with the wording and not with the statement is what the third term removes."""
    x, y, labels, direction = planted(signal=3.0, n=400, d=12)
    items = np.repeat(np.arange(100), 4)
    labels = labels[::4].repeat(4)
    rng = numpy_rng(8)
    side = (2 * labels - 1)[:, None] * 1.5 * direction
    wording = rng.standard_normal((400, 1)) * 4 * np.eye(12)[0]
    shared = rng.standard_normal((100, 12))[items]
    x, y = shared + side + wording, shared - side - wording
    free = fit_vinc(x, y, normalise="mean", items=items, invariance=5.0)
    tied = fit_vinc(x, y, normalise="mean")
    away = direction - direction[0] * np.eye(12)[0]
    assert abs(cosine(free.vector, away)) > 0.8 > abs(cosine(tied.vector, away))


def distracted(acts, push, seed=0):
    """The same activations with a consistent feature of its own along another direction."""
    rng = numpy_rng(seed, "distractor")
    coin = rng.permutation(np.arange(len(acts)) % 2)
    loud = rng.standard_normal(acts.shape[-1])
    loud *= push / np.linalg.norm(loud)
    step = torch.tensor((2 * coin - 1)[:, None, None] * loud[None, None]).float()
    values = acts.values.clone()
    values[:, 1] += step
    values[:, 0] -= step
    return wb.Activations(
        values=values, layers=acts.layers, site=acts.site, position=acts.position, rows=acts.rows.assign(distractor=coin),
        provenance=acts.provenance,
    )  # fmt: skip


def test_the_panel_says_what_ccs_found():
    acts = activations(n_identities=80, signal=3.0, d=128)
    acts = acts.with_column("answer", acts.labels)
    panel = ccs_honesty(acts, layer=1, distractors={"loud": distracted(acts, 5.0), "soft": distracted(acts, 0.2)}, draws=50, resamples=200)
    assert panel.found == "loud"
    assert "With «loud» put in, CCS finds the distractor" in str(panel)
    assert "With «soft» put in, CCS finds the truth" in str(panel)
    table = panel.table.set_index("what")
    assert table.loc["the model's own answer", "value"] == 1
    assert table.loc["CCS, sign by the model's own answers (no label at all)", "value"] == table.loc["CCS", "value"]
    assert table.loc["orthogonal directions within 2 points", "value"] >= 1
    assert table.loc["CCS, inflated protocol", "value"] >= 0.5
    for column, plain in (("label", "CCS"), ("distractor", "CCS with distractor: loud")):
        one = panel.table[(panel.table["what"] == plain) & (panel.table["against"] == column)].iloc[0]
        spread = "random directions, oriented on training labels" if column == "label" else "random directions with distractor: loud"
        random = panel.table[(panel.table["what"] == spread) & (panel.table["against"] == column)].iloc[0]
        assert one["low"] > random["high"]
    null = ccs_honesty(activations(n_identities=40, signal=0.0), layer=1, draws=50, resamples=200)
    assert null.found == "neither"
    assert "not distinguishable from random directions" in null.findings[0]
    count = null.table.set_index("what").loc["orthogonal directions within 2 points"]
    assert np.isnan(count["value"])
    assert "chance" in count["note"]
    with pytest.raises(errors.BadInput, match="layer 9 was not captured"):
        ccs_honesty(acts, layer=9)


def test_a_distractor_that_does_nothing_does_not_make_ccs_find_the_truth():
    """Few dimensions: random directions read the truth as well, so that reading it is nothing special, with or without a distractor."""
    for seed in range(3):
        acts = activations(n_identities=30, n_rights=6, signal=8.0, d=6, seed=seed, common=1.0)
        coin = numpy_rng(seed, "null distractor").permutation(np.arange(len(acts)) % 2)
        found = [
            ccs_honesty(acts, layer=1, distractors=d, draws=40, orthogonal=1, resamples=50)
            for d in ({}, {"nothing": acts.with_column("distractor", coin)})
        ]
        assert found[0].table.set_index("what").loc["CCS", "low"] > 0.5
        assert [p.found for p in found] == ["neither", "neither"]
        assert "With «nothing» put in, CCS finds the truth no better than random directions (" in str(found[1])


def test_burns_exact_claims_more_at_chance():
    claimed, honest = [], []
    for seed in range(12):
        table = wb.probe_layers(
            activations(n_identities=12, n_rights=6, signal=0.0, seed=seed), methods=["crc"], controls=(), resamples=0, burns_exact=True, seed=seed
        )  # fmt: skip
        some = table[table["metric"] == "accuracy"]
        claimed += some[some["control"] == "burns_exact"]["value"].tolist()
        honest += some[some["control"] == ""]["value"].tolist()
    assert min(claimed) >= 0.5
    assert np.mean(claimed) > 0.53 > np.mean(honest)


def test_distractor_prompts():
    prompts = wb.prompts.udhr("base_short", n=40)
    put = wb.prompts.with_distractor(prompts, "speaker", seed=1)
    frame = put.to_frame()
    assert frame["distractor"].sum() == 20
    assert frame["label"].tolist() == prompts.labels
    for pair, before in zip(put, prompts, strict=True):
        added = " Alice is sure of it." if pair.meta["distractor"] else " Alice does not believe it."
        assert pair.stem.replace(added, "") == before.stem
        assert str(pair.meta["statement"]) + added in pair.stem
        assert pair.stem[: pair.instruction_end].replace(added, "") == before.stem[: before.instruction_end]
    bare = wb.PromptSet([wb.ContrastPair(stem="Q:", negative=" no", positive=" yes", label=k) for k in (0, 1)])
    assert {p.stem for p in wb.prompts.with_distractor(bare)} == {"Banana. Q:", "Shed. Q:"}
    with pytest.raises(errors.UnknownName, match="no distractor named 'wrd'"):
        wb.prompts.with_distractor(prompts, "wrd")


def test_the_twin_without_a_verdict_is_where_ccs_fails():
    """Matched organisms: in one the truth of an answer matters to the model, in the other only the answer does."""
    found = {}
    for name in ("udhr-organism", "udhr-organism-no-verdict"):
        model = wb.load_model(name)
        held = wb.models.planted(model)
        every = wb.prompts.udhr().to_frame()
        test = {"identity": frozenset(held["held_out_identities"]), "right": frozenset(held["held_out_rights"])}
        split = wb.Split(test=test, train={k: frozenset(set(every[k]) - v) for k, v in test.items()})

        def read(side, n, put=lambda p: p, split=split, model=model):
            names = getattr(split, side)
            prompts = wb.prompts.udhr(n=n, identities=sorted(names["identity"]), rights=sorted(names["right"]))
            return put(prompts)

        def both(put=lambda p: p, read=read, model=model):
            return wb.capture(model, read("train", 300, put) + read("test", 160, put), layers=[3], progress=False)

        speaker = both(lambda p: wb.prompts.with_distractor(p, "speaker"))
        found[name] = ccs_honesty(both(), layer=3, split=split, distractors={"speaker": speaker}, draws=20, resamples=200)
    verdict, bare = (p.table.set_index("what").loc["CCS", ["value", "low", "high"]] for p in found.values())
    assert verdict["low"] > 0.85
    assert bare["low"] < 0.5 < bare["high"]
    assert [p.found for p in found.values()] == ["neither", "speaker"]
    assert "With «speaker» put in, CCS finds the truth no better than random directions" in str(found["udhr-organism"])


def test_label_noise_in_the_sign_is_all_that_labels_can_do():
    x, y, labels, _ = planted(signal=6.0)
    probe = fit_contrast(x, y)
    turned = resolve_sign(probe, (x, y), 1 - labels)
    assert turned.sign == -resolve_sign(probe, (x, y), labels).sign
    assert torch.equal(turned.weight, probe.weight)
    assert isinstance(pd.Series(turned.score(x, y)).mean(), float)
