"""What is captured equals Hugging Face's hidden states and run_with_cache, whatever the padding and the batch."""

import pytest
import torch

import workbench as wb
from workbench.activations.engine import Engine
from workbench.core import errors
from workbench.models import Edit, edited
from workbench.models.tokens import encode_pairs
from workbench.prompts import ContrastPair, PromptSet

TOLERANCE = {"gemma2": 1e-4}


def hidden_states(hf, ids):
    """The slow way: one sequence at a time, no padding."""
    with torch.no_grad():
        return hf(torch.tensor([ids]), output_hidden_states=True).hidden_states


def close(got, want, tolerance):
    scale = want.abs().max()
    assert float((got - want).abs().max() / scale) < tolerance


@pytest.mark.parametrize("engine", ["trunk", "bridge"])
@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_equals_hugging_face(tiny_pair, ragged, engine, budget):
    kind, hf, bridge = tiny_pair
    acts = wb.capture(bridge, ragged, engine=engine, batch_tokens=budget, progress=False)
    last = len(acts.layers) - 1
    for item, pair in enumerate(encode_pairs(bridge, ragged)):
        for variant, ids in enumerate((pair.negative, pair.positive)):
            states = hidden_states(hf, ids)
            for layer in range(last):
                close(acts.values[item, variant, layer], states[layer + 1][0, -1], TOLERANCE.get(kind, 1e-5))
            # after the last block Hugging Face gives the normed stream: ours is the block's output
            norm = next(m for n, m in hf.named_modules() if n in ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm"))
            # (the norm of a small difference of large numbers: the blocks before are what is held to 1e-5)
            close(norm(acts.values[item, variant, last]).detach(), states[-1][0, -1], 2e-4)
            assert not torch.allclose(acts.values[item, variant, last], states[-1][0, -1], rtol=1e-3)


def test_equals_run_with_cache_on_every_layer(tiny_pair, ragged):
    kind, _, bridge = tiny_pair
    acts = wb.capture(bridge, ragged, progress=False)
    pair = encode_pairs(bridge, ragged)[2]
    _, cache = bridge.run_with_cache(torch.tensor([pair.positive]))
    for layer in acts.layers:
        close(acts.values[2, 1, layer], cache[f"blocks.{layer}.hook_resid_post"][0, -1], TOLERANCE.get(kind, 1e-5))


def test_positions(tiny, ragged):
    every = wb.capture(tiny, ragged, position="all", progress=False)
    encoded = encode_pairs(tiny, ragged)
    by = {p: wb.capture(tiny, ragged, position=p, progress=False) for p in ("last", "stem_last", "instruction_last", "mean")}
    for i, pair in enumerate(encoded):
        n = len(pair.positive)
        assert int(every.mask[i, 1].sum()) == n
        tokens = every.values[i, 1]
        close(by["last"].values[i, 1], tokens[:, n - 1], 1e-5)
        close(by["stem_last"].values[i, 1], tokens[:, pair.stem - 1], 1e-5)
        close(by["instruction_last"].values[i, 0], tokens[:, pair.instruction - 1], 1e-5)
        close(by["mean"].values[i, 1], tokens[:, 1:n].mean(1), 1e-5)  # without the first, special token


def test_instruction_last_is_before_the_answer(organism):
    prompts = wb.prompts.udhr("since_claim", "harm", n=2)
    early = wb.capture(organism, prompts, position="instruction_last", layers=[1], progress=False)
    late = wb.capture(organism, prompts, position="stem_last", layers=[1], progress=False)
    bare = wb.capture(organism, wb.prompts.udhr("base_short", n=2), position="instruction_last", layers=[1], progress=False)
    assert torch.allclose(early.values, bare.values, atol=1e-5), "nothing after the instruction reaches it"
    assert not torch.allclose(early.values, late.values, atol=1e-2)


def test_an_edit_reaches_the_capture(tiny, ragged):
    vector = torch.ones(32)
    plain = wb.capture(tiny, ragged, layers=[0, 1], progress=False)
    with edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x + vector)):
        pushed = wb.capture(tiny, ragged, layers=[0, 1], progress=False)
    assert torch.allclose(pushed.layer(0), plain.layer(0) + 1, atol=1e-5)
    assert not torch.allclose(pushed.layer(1), plain.layer(1) + 1, atol=1e-2)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out", "z"])
def test_sites(tiny, ragged, site):
    acts = wb.capture(tiny, ragged, site=site, layers=[1], progress=False)
    assert acts.values.shape == ((12, 2, 1, 4, 8) if site == "z" else (12, 2, 1, 32))


def test_residual_stream_adds_up(tiny, ragged):
    part = {
        s: wb.capture(tiny, ragged, site=s, layers=[1], progress=False).values for s in ("resid_pre", "attn_out", "mlp_out", "resid_post")
    }
    assert torch.allclose(part["resid_pre"] + part["attn_out"] + part["mlp_out"], part["resid_post"], atol=1e-4)


def test_bad_input_before_any_forward(tiny, ragged, monkeypatch):
    monkeypatch.setattr(Engine, "read", lambda *a: pytest.fail("a forward pass was run"))
    with pytest.raises(errors.UnknownSite, match="no site named 'resid'"):
        wb.capture(tiny, ragged, site="resid")
    with pytest.raises(errors.UnknownLayer, match="which has layers 0-2"):
        wb.capture(tiny, ragged, layers=[0, 3])
    with pytest.raises(errors.UnknownPosition, match="Did you mean 'last'"):
        wb.capture(tiny, ragged, position="lsat")
    with pytest.raises(errors.BadInput, match="use attention_patterns"):
        wb.capture(tiny, ragged, site="pattern")
    with pytest.raises(errors.BadInput, match="dtype 'float8'"):
        wb.capture(tiny, ragged, dtype="float8")
    with pytest.raises(errors.BadInput, match="logits 'all'"):
        wb.capture(tiny, ragged, logits="all")
    with pytest.raises(errors.BadInput, match="logits of token 99999"):
        wb.capture(tiny, ragged, logits=[1, 99999])
    with pytest.raises(errors.BadInput, match="batch_tokens 0"):
        wb.capture(tiny, ragged, batch_tokens=0)
    with pytest.raises(errors.BadInput, match="engine 'fast'"):
        wb.capture(tiny, ragged, engine="fast")
    with pytest.raises(errors.PromptTooLong):
        wb.capture(tiny, PromptSet([ContrastPair(stem="women " * 300, negative=" no", positive=" yes", label=1)]))
    with pytest.raises(errors.EmptyPromptSet, match="is empty"):
        PromptSet([])


def test_not_finite_is_counted_and_placed(tiny, ragged):
    def spoil(x):
        return torch.where(torch.arange(x.shape[1])[None, :, None] >= 20, float("nan"), x)

    with edited(tiny, Edit(site="resid_post", layer=1, function=spoil)):
        with pytest.raises(errors.NotFinite, match=r"384 activations are NaN or infinite, the first in item 2, variant 0, layer 1\."):
            wb.capture(tiny, ragged, layers=[1, 2], batch_tokens=1, progress=False)
        # (a prompt at a time: in a padded batch the spoilt padding would reach the others, as nothing times NaN is NaN)
        acts = wb.capture(tiny, ragged, layers=[1, 2], batch_tokens=1, on_nan="count", progress=False)
    # items 2, 5, 8, ... are the long ones: variants x layers x d_model of each
    long = [i for i in range(len(ragged)) if i % 4 == 2]
    assert acts.provenance["not_finite"] == {"count": len(long) * 2 * 2 * 32, "item": 2, "variant": 0, "part": "layer.1"}
    assert torch.isnan(acts.values).flatten(1).any(1).nonzero().flatten().tolist() == long


def test_float16_that_overflows_is_counted_and_placed(tiny, ragged):
    def blow(x):
        return x * 1e6

    with edited(tiny, Edit(site="resid_post", layer=2, function=blow)):
        with pytest.raises(errors.Overflow, match=r"\d+ activations do not fit float16 .* the first in item 0, variant 0, layer 2, where"):
            wb.capture(tiny, ragged, dtype="float16", progress=False)
        assert torch.isfinite(wb.capture(tiny, ragged, dtype="bfloat16", progress=False).values).all()


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_kept_in_half_precision(tiny, ragged, tmp_path, dtype, digits):
    want = wb.capture(tiny, ragged, progress=False).values
    acts = wb.capture(tiny, ragged, dtype=dtype, store=tmp_path, progress=False)
    assert acts.values.dtype == torch.float32
    assert ((acts.values - want).abs() <= want.abs() * digits + 1e-6).all()
    assert not torch.equal(acts.values, want)
    with pytest.raises(errors.OutputFolder, match=f"with dtype '{dtype}', not 'float32'"):
        wb.capture(tiny, ragged, store=tmp_path, progress=False)


def test_activations_object(tiny, ragged):
    acts = wb.capture(tiny, ragged, layers=[2], progress=False)
    with pytest.raises(errors.UnknownLayer, match="layer 0 was not captured; there is: 2"):
        acts.layer(0)
    some = acts.subset(acts.labels == 1)
    assert len(some) == 6
    assert (some.labels == 1).all()
    assert "item x variant x layer x d_model" in repr(acts)
    assert "Activations" in acts._repr_html_()
    with pytest.raises(errors.ShapeMismatch):
        wb.Activations(values=torch.zeros(3, 2, 2, 4), layers=(0,), site="resid_post", position="last", rows=acts.rows[:3])


def test_layers_may_be_numpy_integers(tiny, ragged):
    import numpy as np

    assert wb.capture(tiny, ragged, layers=np.array([1, 2]), progress=False).layers == (1, 2)
    assert wb.capture(tiny, ragged, layers=1, progress=False).layers == (1,)
