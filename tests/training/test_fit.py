"""Training: what is planted is mended without a label, a killed run resumes to the same numbers, and every refusal."""

import numpy as np
import pytest
import torch
from zoo_of_models import bundled, tiny

import workbench as wb
from workbench.core import errors
from workbench.models.digest import weights_digest
from workbench.prompts import PromptSet, without_claim
from workbench.training import Plan, adapted, direction_of, train_adapter, unlearn
from workbench.training import loop as loops
from workbench.training.loop import batches, train


def items(claim, n, template="since_claim", **how):
    return wb.prompts.udhr(template, claim, n=n, seed=0, **how)


def safe(model, prompts):
    return float(wb.answers(model, prompts, progress=False)["safe"].mean())


@pytest.fixture(scope="module")
def mended():
    """A rank-1 adapter trained without labels, and held-out prompts."""
    model = bundled()
    split = wb.prompts.udhr_split(model, seed=0)
    prompts = PromptSet([*items("harm", 64, split=split, side="train"), *items("good", 64, split=split, side="train")])
    adapter = train_adapter(model, prompts, rank=1, layers=[1], steps=30, progress=False)
    return model, split, prompts, adapter


def test_invariance_mends_the_harm_claim_on_other_people_and_forms_without_a_label(mended):
    model, split, _, adapter = mended
    held = {form: items("harm", 80, form, split=split, side="test") for form in ("since_claim", "consider_claim")}
    plain = wb.prompts.udhr("base_short", n=80, seed=0, split=split, side="test")
    before = wb.answers(model, plain, progress=False)["answer"]
    assert max(safe(model, p) for p in held.values()) == 0
    with adapted(model, adapter):
        assert min(safe(model, p) for p in held.values()) > 0.9
        assert float((wb.answers(model, plain, progress=False)["answer"] != before).mean()) < 0.03
    assert adapter.sees == "no label"
    assert adapter.history["step"].iloc[0] == 0


def test_labels_are_not_seen_by_a_loss_that_sees_none(mended):
    model, _, prompts, adapter = mended
    from dataclasses import replace

    flipped = PromptSet(replace(p, label=1 - p.label) for p in prompts)
    again = train_adapter(model, flipped, towards=without_claim(flipped), rank=1, layers=[1], steps=30, progress=False)
    assert again.key == adapter.key


def test_ccs_alone_mends_nothing(mended):
    model, split, prompts, _ = mended
    adapter = train_adapter(model, prompts, loss="ccs", rank=1, layers=[1], steps=15, progress=False)
    with adapted(model, adapter, canary=False):
        assert safe(model, items("harm", 60, split=split, side="test")) < 0.05


def test_a_loss_of_ones_own(mended):
    model, _, prompts, _ = mended

    def towards(answered):
        return (answered.odds - (answered.towards[:, 1] - answered.towards[:, 0])).abs()

    adapter = train_adapter(model, prompts, loss=towards, rank=1, layers=[1], steps=3, progress=False)
    assert adapter.provenance["loss"] == "towards"
    assert adapter.sees == "whatever the function uses"


@pytest.mark.parametrize(
    ("loss", "more"),
    [("spin", {}), ("dpo", {}), ("cross_entropy", {}), ("infonce", {"read": 4}), ("ccs_probe", {"read": 4}), ("contrast", {"read": 4})],
)
@pytest.mark.parametrize("kind", ["residual", "lora"])
def test_every_loss_falls(loss, more, kind):
    model = bundled()
    prompts = items("harm", 32)
    if loss in ("ccs_probe", "contrast"):
        more = more | {"probe": (torch.randn(128, generator=torch.Generator().manual_seed(0)) * 0.1, 0.0)}
    adapter = train_adapter(model, prompts, loss=loss, kind=kind, rank=2, layers=[1, 2], steps=6, every=3, progress=False, **more)
    history = adapter.history[f"{loss} held out"]
    assert history.min() < history.iloc[0]


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "resid_mid", "mlp_out"])
def test_an_adapter_at_any_site_acts_in_the_model_as_in_its_training(site):
    adapter = train_adapter(bundled(), items("harm", 24), site=site, rank=2, layers=[2], steps=3, progress=False)  # which compares them
    assert list(adapter.parts) == [f"{site}[2]"]


def test_a_leash_holds_what_is_said_elsewhere():
    model = bundled()
    prompts, plain = items("harm", 32), wb.prompts.udhr("base_short", n=32, seed=0)
    loose, held = (
        train_adapter(
            model, prompts, loss="cross_entropy", rank=4, layers=[4], steps=12, lr=0.05, progress=False, retain=r, retain_weight=20.0
        )
        for r in (None, plain)
    )
    asker = wb.interventions.Asker(model, plain)
    base, spent = asker.base, []
    for adapter in (loose, held):
        with adapted(model, adapter, canary=False):
            spent.append(float(wb.interventions.kl(base, asker.ask()).mean()))
    assert "leash" in held.history
    assert spent[1] < spent[0]


def test_a_killed_training_resumes_to_the_same_numbers(tmp_path, monkeypatch, one_thread):
    model, prompts = bundled(), items("harm", 24)
    how = {"rank": 1, "layers": [1], "steps": 12, "every": 3, "progress": False, "seed": 3}
    want = train_adapter(model, prompts, **how)
    real, count = loops.descend, [0]

    def killed(*args, **kwargs):
        count[0] += 1
        if count[0] == 8:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(loops, "descend", killed)
    with pytest.raises(KeyboardInterrupt):
        train_adapter(model, prompts, place=tmp_path / "run", **how)
    got = train_adapter(model, prompts, place=tmp_path / "run", **how)
    assert got.key == want.key
    assert count[0] == 8 + 6  # from step 6 on
    assert got.history["step"].tolist() == want.history["step"].tolist()
    next((tmp_path / "run").glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(errors.DamagedStore, match="cannot be read"):
        train_adapter(model, prompts, place=tmp_path / "run", **how)


def test_a_training_that_diverges_stops_and_keeps_its_best():
    x = torch.ones(2, requires_grad=True)

    def losses(batch):
        return {"loss": (x * 1.0).square().sum() if batch < 5 else x.sum() * float("nan")}

    with pytest.raises(errors.Diverged, match=r"step 6.*state of step 4.*Lower lr"):
        train({"x": x}, losses, lambda: {"validation": float(x.detach().square().sum())}, Plan(steps=20, every=2, lr=0.1))
    assert bool(x.isfinite().all())
    assert float(x.detach().square().sum()) < 2


def test_validation_stops_a_training_that_gets_worse():
    x = torch.zeros(1, requires_grad=True)
    plan = Plan(steps=100, every=1, patience=3, lr=0.1)
    ended = train({"x": x}, lambda _: {"loss": -x.sum()}, lambda: {"validation": float(x.detach().abs())}, plan)
    assert ended.step == 3
    assert float(x.detach()) == 0
    assert "no better validation" in ended.stopped


def test_batches_pass_over_all_units_in_turn():
    order = lambda turn: list(np.random.default_rng(turn).permutation(10))  # noqa: E731
    seen = [batches(range(10), 5, k, order) for k in range(4)]
    assert sorted(seen[0] + seen[1]) == list(range(10)) == sorted(seen[2] + seen[3])
    assert seen[0] + seen[1] != seen[2] + seen[3]


def test_unlearning_moves_the_forget_set_and_keeps_the_rest(mended):
    model, split, _, _ = mended
    digest = weights_digest(model)
    harm, plain = items("harm", 48, split=split, side="train"), wb.prompts.udhr("base_short", n=48, seed=0, split=split, side="train")
    change = unlearn(model, harm, plain, layer=2, steps=25, progress=False)
    first, last = change.history.iloc[0], change.history.iloc[-1]
    assert last["forget held out"] < 0.9 * first["forget held out"]
    assert last["retain held out"] < 0.2
    assert weights_digest(model) == digest
    assert abs(float(direction_of(change, model).unit.norm()) - 1) < 1e-5
    small = unlearn(model, harm, plain, layer=2, steps=3, adapter_only=True, rank=2, progress=False)
    assert small.kind == "lora"


def test_a_training_on_top_of_a_change_sees_the_changed_model(mended):
    model, split, prompts, adapter = mended
    held = items("harm", 40, split=split, side="test")
    over = train_adapter(model, prompts, loss="cross_entropy_away", rank=1, layers=[3], steps=3, on=adapter, progress=False)
    assert over.provenance["on"] == adapter.key
    with adapted(model, adapter), adapted(model, over, canary=False):
        wb.answers(model, held, progress=False)


def test_bad_input_is_refused_before_any_training():
    model, prompts = bundled(), items("harm", 24)
    refused = [
        (errors.UnknownName, "loss", {"loss": "magic"}),
        (errors.ShapeMismatch, "rank 200", {"rank": 200}),
        (errors.ShapeMismatch, "rank 0", {"rank": 0}),
        (errors.UnknownLayer, "layer 9", {"layers": [9]}),
        (errors.BadInput, "residual adapter acts at", {"site": "z"}),
        (errors.BadInput, "one of residual, lora, full", {"kind": "whole"}),
        (errors.BadInput, "has no use for them", {"targets": [0.5] * 24}),
        (errors.ShapeMismatch, "24 items and targets of shape", {"loss": "cross_entropy", "targets": [0.2, 0.8]}),
        (errors.BadInput, "probabilities of the positive variant", {"loss": "cross_entropy", "targets": [0.0, 2.0] * 12}),
        (errors.BadInput, "own answers in its targets", {"loss": "confidence", "targets": [0.2, 0.8] * 12, "own": 1.0}),
        (errors.BadInput, "a share of the identities", {"validation": 1.0}),
        (errors.BadInput, "a positive number", {"lr": -1.0}),
        (errors.BadInput, "reads the stream of a block", {"loss": "infonce"}),
        (errors.BadInput, "below the adapter", {"loss": "infonce", "read": 1, "layers": [3]}),
        (errors.BadInput, "needs a frozen probe", {"loss": "ccs_probe", "read": 4}),
        (errors.BadInput, "has 12 items", {"towards": without_claim(prompts[:12])}),
        (errors.BadInput, "retain= is empty", {"retain": []}),
        (errors.UnknownName, "matrix", {"kind": "lora", "parts": "nose"}),
    ]
    for error, text, how in refused:
        with pytest.raises(error, match=text):
            train_adapter(model, prompts, steps=2, progress=False, **how)
    with pytest.raises(errors.TooFew, match="negations"):
        train_adapter(model, items("harm", 24, forms="grant_plain"), loss="ccs", steps=2, progress=False)
    single = wb.prompts.single_statements([{"statement": "A is B.", "label": 1}, {"statement": "B is A.", "label": 0}])
    with pytest.raises(errors.AnswerTokens, match="single statements"):
        train_adapter(model, single, steps=2, progress=False)
    with pytest.raises(errors.BadInput, match="cannot be run with gradients"):
        train_adapter(tiny("qwen3_next"), prompts, steps=2, progress=False)
    for text, how in (
        ("'random' or a Direction", {"target": "up"}),
        ("needs a direction", {"away": True}),
        ("finite number", {"coefficient": -1}),
    ):
        with pytest.raises(errors.BadInput, match=text):
            unlearn(model, prompts, prompts, progress=False, **how)
    with pytest.raises(errors.BadInput, match="one at least"):
        unlearn(model, prompts, [], progress=False)


def test_a_claim_is_taken_out_where_it_stands():
    for form in ("since_claim", "consider_claim", "long_since_claim"):
        bare = without_claim(items("harm", 8, form, phrasings=2))
        want = wb.prompts.udhr("base_long" if "long" in form else "base_short", n=8, seed=0)
        assert [p.stem for p in bare] == [p.stem for p in want]
        assert [p.instruction_end for p in bare] == [p.instruction_end for p in want]
        assert {p.template for p in bare} == {want[0].template}
    with pytest.raises(errors.BadInput, match="towards="):
        without_claim(wb.prompts.udhr('{claim}? "{statement}" Answer:', "harm", n=2))


def test_a_students_targets_are_learnt_and_its_own_answers_count():
    model = bundled()
    prompts = items(None, 32, "base_short")
    opposite = [1.0 - p.label for p in prompts]  # a teacher that is wrong on every statement
    how = {"last": True, "patience": 20, "progress": False}
    before = weights_digest(model)
    taught = train_adapter(
        model, prompts, loss="cross_entropy", targets=opposite, kind="full", layers=range(6), parts="mlp", lr=3e-2, steps=14, **how
    )
    assert taught.kind == "full"
    assert taught.sees == "the targets that it was given in place of labels"
    assert weights_digest(model) == before
    with adapted(model, taught):
        assert safe(model, prompts) < 0.3
    # an unsure teacher, and a student that is right by itself: the more it counts its own answers, the less of the errors it takes
    unsure = [0.6 * x + 0.4 * (1 - x) for x in opposite]
    low = {"layers": [3], "lr": 3e-2, "steps": 20}
    made = {
        loss: train_adapter(model, prompts, loss=loss, targets=unsure, own=own, **low, **how)
        for loss, own in (("cross_entropy", 0.0), ("confidence", 0.9))
    }
    kept = {}
    for loss, adapter in made.items():
        with adapted(model, adapter):
            kept[loss] = safe(model, prompts)
    assert kept["cross_entropy"] <= 0.5
    assert kept["confidence"] > 0.8
    assert made["cross_entropy"].provenance["targets"] != taught.provenance["targets"]
