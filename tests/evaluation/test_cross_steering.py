"""Cross-steering: equal distance, what a push carries along, refusals before any pass."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_model

import workbench as wb
from workbench.core import errors
from workbench.directions import place_of
from workbench.evaluation import cross_steering
from workbench.models import unembedding, wrap

LAYERS = (3, 5)


@pytest.fixture(scope="module")
def measured(organism):
    prompts = wb.prompts.factorial(n=24)
    acts = wb.capture(organism, prompts, position="stem_last", layers=LAYERS, progress=False)
    found = {}
    for layer in LAYERS:
        x, rows, place = acts.layer(layer)[:, 0], acts.rows, place_of(acts, layer)
        for name, keep in (("harm", rows["input_harm"] == 1), ("safety", rows["claim_harm"] == 0)):
            keep = torch.tensor(keep.to_numpy())
            found.setdefault(name, {})[layer] = wb.extract_direction(x[keep], x[~keep], halves=0, provenance=place)
    return prompts.subset(range(0, 96, 3)), found


def table(model, measured, **how):
    prompts, found = measured
    push = {n: {3: d[3]} for n, d in found.items()}
    return cross_steering(model, prompts, push, {n: d[5] for n, d in found.items()}, read_layer=5, progress=False, **how)


def test_every_push_is_as_far_from_the_unpushed_model(organism, measured):
    found = table(organism, measured, kl=0.1, random=2)
    pushes = found[found["kind"] != "ablate"]
    assert pushes.loc[pushes["note"].str.len() == 0, "kl"].between(0.085, 0.115).all()
    assert (pushes.loc[pushes["pushed"].isin(["harm", "safety"]), "note"] == "").all()
    at = found.set_index(["pushed", "kind", "read"])["value"]
    # both ask for refusal, and refusal is the negative ending
    assert at["harm", "add", "behaviour"] < -1 < 1 < at["harm", "subtract", "behaviour"]
    assert at["harm", "add", "safety"] > 0.2
    assert {"layer", "site", "position", "pushed", "kind", "read", "metric", "value", "low", "high", "n", "direct"} <= set(found.columns)
    chance = found[found["pushed"] == "random"]
    assert (chance["low"] <= chance["value"]).all()
    assert (chance["value"] <= chance["high"]).all()


def test_a_push_at_the_layer_that_is_read_is_all_direct(organism, measured):
    """Nothing lies between: the change is the added vector, and what it has in common with B."""
    prompts, found = measured
    got = cross_steering(
        organism,
        prompts,
        {"harm": {5: found["harm"][5]}},
        {"safety": found["safety"][5]},
        read_layer=5,
        random=0,
        kinds=("add",),
        kl=0.05,
        progress=False,
    )
    row = got[got["read"] == "safety"].iloc[0]
    assert row["value"] == pytest.approx(row["direct"], rel=1e-3)


def test_ablation_sets_the_coordinate_to_its_mean(organism, measured):
    prompts, found = measured
    got = cross_steering(
        organism,
        prompts,
        {"harm": {5: found["harm"][5]}},
        {"harm": found["harm"][5]},
        read_layer=5,
        random=0,
        kinds=("ablate",),
        progress=False,
    )
    assert abs(got[got["read"] == "harm"]["value"].iloc[0]) < 1e-3, "the mean stays"
    assert got["kl"].iloc[0] > 0


@pytest.mark.parametrize("position", ["stem", "instruction_last"])
def test_positions(organism, measured, position):
    found = table(organism, measured, random=0, kinds=("add",), positions=(position,))
    assert set(found["position"]) == {position}
    assert np.isfinite(found["value"]).all()


def test_a_way_to_push_of_ones_own_is_compared_at_the_same_cost(organism, measured):
    """Adding by hand is adding; what only it can know is left open; it acts where the study pushes, whatever its scope."""
    _, found = measured
    scale = {name: d[3].scale for name, d in found.items()}

    def by_hand(d, c):
        return wb.add(d, c, scope="generated")

    got = table(organism, measured, kl=0.05, random=1, kinds=["add", by_hand])
    both = got.set_index(["kind", "pushed", "read"])
    for name in found:
        for read in (*found, "behaviour"):
            one, two = both.loc[("add", name, read)], both.loc[("by_hand", name, read)]
            assert two["value"] == pytest.approx(one["value"], rel=0.15, abs=0.02)
            assert two["coefficient"] * scale[name] == pytest.approx(one["coefficient"], rel=0.1)
    own = got[got["kind"] == "by_hand"]
    assert own["kl"].between(0.0425, 0.0575).all()
    assert own[["direct", "norm_share"]].isna().all(axis=None)
    assert "random" in set(own["pushed"]), "random directions are pushed in the same way"
    minus = lambda d, c: wb.interventions.custom_edit(lambda x: x - c * d.vector, layer=3)  # noqa: E731
    named = table(organism, measured, random=0, kinds={"minus": minus, "subtract": "subtract"}).set_index(["kind", "pushed", "read"])
    assert named.loc[("minus", "harm", "behaviour"), "value"] == pytest.approx(
        named.loc[("subtract", "harm", "behaviour"), "value"], rel=0.15
    )


def test_bad_input(organism, measured):
    prompts, found = measured
    read = {"harm": found["harm"][5]}
    for error, match, arguments in (
        (errors.BadInput, "position 'last'", {"positions": ("last",)}),
        (errors.BadInput, "kind 'rub': one of add, subtract, ablate, or a function", {"kinds": ("rub",)}),
        (errors.BadInput, "kind 'add'", {"kinds": {"mine": "add"}}),
        (errors.BadInput, "two ways to push are named '<lambda>'; name yours in a mapping", {"kinds": [lambda d, c: d, lambda d, c: c]}),
        (errors.BadInput, "two ways to push are named 'add'", {"kinds": {"add": wb.add}}),
        (errors.BadInput, "to edits, such as wb.add.*got Tensor", {"kinds": [lambda d, c: d.vector]}),
        (
            errors.BadInput,
            r"add 1.* acts at layer 5, above the reading layer 3: nothing could arrive",
            {
                "kinds": [lambda d, c: wb.add(d, 1, layer=5, transfer=True)],
                "read_layer": 3,
                "read": {"harm": found["harm"][3]},
            },
        ),
        (errors.WrongModel, "layer", {"push": {"harm": {2: found["harm"][3]}}}),
        (
            errors.BadInput,
            "above the reading layer",
            {"push": {"harm": {5: found["harm"][5]}}, "read_layer": 3, "read": {"harm": found["harm"][3]}},
        ),
        (errors.UnknownLayer, "layers 0-5", {"read_layer": 9}),
    ):
        everything = {"push": {"harm": {3: found["harm"][3]}}, "read": read, "read_layer": 5} | arguments
        with pytest.raises(error, match=match):
            cross_steering(organism, prompts, progress=False, **everything)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "qwen2", "neox"])
def test_the_unembedding_with_its_gain_gives_the_logits(words, kind):
    """The normed stream through it gives the logits, whatever the gain (Gemma multiplies by 1 + it)."""
    hf = tiny_model(kind, len(words))
    base = getattr(hf, hf.base_model_prefix)
    norm = next(getattr(base, n) for n in ("ln_f", "final_layer_norm", "norm") if hasattr(base, n))
    with torch.no_grad():
        norm.weight.copy_(torch.rand(32, generator=torch.Generator().manual_seed(1)) + 0.5)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = hf.get_output_embeddings()(norm(x))
    u = unembedding(wrap(hf, words, name=kind, bos=None if kind == "qwen2" else 0, device="cpu"))
    centred = x if kind in ("llama", "gemma2", "qwen2") else x - x.mean(-1, keepdim=True)
    got = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() @ u
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_pushes_are_held_against_random_ones_and_adjusted():
    from workbench.evaluation.cross_steering import KEYS, _pooled

    rng = np.random.default_rng(0)
    place = {"layer": 1, "site": "resid_post", "position": "stem_last", "read": "b", "metric": "change, sd"}
    other = {"n": 9, "direct": 0.0, "coefficient": 1.0, "norm_share": 0.1, "kl": 0.1, "low": 0.0, "high": 0.0, "note": ""}

    def rows(values):
        drawn = [{**place, "pushed": f"random {k}", "kind": "add", "value": v, **other} for k, v in enumerate(rng.standard_normal(39))]
        own = [{**place, "pushed": "a", "kind": kind, "value": v, **other} for kind, v in values.items()]
        return _pooled(pd.DataFrame(own + drawn)).set_index("kind")

    found = rows({"add": 6.0, "subtract": 0.1})
    own = found[found["pushed"] == "a"]
    assert own.loc["add", "p"] == 1 / 40
    assert own.loc["add", "q"] == 2 / 40
    assert own.loc["subtract", "p"] > 0.5, "a random direction and its opposite are alike"
    assert set(found[found["pushed"] == "random"].index) == {"add", "subtract"}
    flagged = sum(rows({"add": float(v)})["p"].min() <= 0.05 for v in rng.standard_normal(300))
    assert flagged <= 300 * 0.05 + 3 * (300 * 0.05 * 0.95) ** 0.5
    assert set(KEYS) <= {*place, "pushed", "kind"}
