"""Final norm, unembedding, scale and cap are measured: the logit lens gives what Hugging Face gives, whatever the classes are called."""

import copy
from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer
from zoo import hugging_face

import workbench as wb
from workbench.core import errors
from workbench.models import info, readout, reweighted, unembedding, wrap
from workbench.models.known import KNOWN
from workbench.models.reference import blocks, hooked
from workbench.models.source import bundled_models
from workbench.models.weights import Change

NORMS = {  # architecture: whether its final norm takes the mean away
    "gemma2": False, "gemma3_text": False, "qwen3_next": False, "llama": False, "granite": False, "olmo2": False, "gpt2": True,
    "cohere": True, "olmo": True, "phi": True, "stablelm": True, "gpt_neox": True, "nemotron": True, "opt": True, "mpt": True, "gptj": True,
}  # fmt: skip
MORE = ("olmo2", "nemotron", "opt", "mpt", "gptj")


@pytest.fixture(scope="module")
def tokens():
    return AutoTokenizer.from_pretrained(bundled_models()["udhr-organism"])


def both(name, tokens, **config):
    hf = hugging_face(name, len(tokens), **config)
    return wrap(copy.deepcopy(hf), tokens, name=name, bos=0, device="cpu"), hf


@torch.no_grad()
def after(hf, stream):
    """Hugging Face's logits where its last block gives this stream."""

    def instead(_, __, out):
        return stream[None] if isinstance(out, torch.Tensor) else (stream[None], *out[1:])

    with hooked(blocks(hf)[-1].register_forward_hook(instead)):
        return hf(torch.zeros(1, len(stream), dtype=torch.long), use_cache=False).logits[0]


def streams(width=32):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(30, width, generator=draw)
    return torch.cat([0.01 * x[:10], x[10:20] + 2.0, 100 * x[20:]])


@pytest.mark.parametrize("name", [n if n not in MORE else pytest.param(n, marks=pytest.mark.more) for n in NORMS])
def test_the_lens_gives_the_logits_and_a_tokens_own_readout_ranks_it_first(name, tokens):
    model, hf = both(name, tokens)
    found = readout(model)
    want = after(hf, streams())
    assert float((found.logits(streams()) - want).abs().max() / want.abs().max()) < 1e-5
    assert found.centred is NORMS[name]
    # along each axis, Hugging Face's norm and head give the columns up to one factor
    axes = 1e3 * torch.eye(32)
    columns = after(hf, axes) - after(hf, -axes)
    if found.cap:
        columns = torch.atanh(after(hf, axes) / found.cap) - torch.atanh(after(hf, -axes) / found.cap)
    got = unembedding(model)
    assert float(torch.nn.functional.cosine_similarity(got.flatten(), columns.flatten(), dim=0)) > 1 - 1e-4
    columns = columns - columns.mean(1, keepdim=True)
    for token in torch.randint(len(tokens), (8,), generator=torch.Generator().manual_seed(1)).tolist():
        own = wb.Direction.of(columns[:, token], provenance={"model": info(model).key()})
        table = wb.top_tokens(model, own, k=1).set_index("side")
        assert table.loc["towards", "id"] == token
        assert table.loc["towards", "cosine"] > 0.999


def test_the_map_follows_the_weights(tokens):
    """A gain that was changed in memory is measured as it is now, and compared with a pass of the changed model."""
    model, hf = both("qwen3_next", tokens)
    name = next(n for n, _ in hf.named_parameters() if n.endswith("model.norm.weight") or n == "model.norm.weight")
    before = unembedding(model)
    with reweighted(model, Change(parameter=name, function=lambda w: 3 * w)):
        with torch.no_grad():
            hf.get_parameter(name).mul_(3)
        want = after(hf, streams())
        assert float((readout(model).logits(streams()) - want).abs().max() / want.abs().max()) < 1e-5
    assert torch.equal(unembedding(model), before)


class Squash(torch.nn.Module):
    """Not a norm: every entry by itself."""

    def forward(self, x):
        return torch.tanh(x)


def test_a_final_norm_without_a_gain_is_refused(tokens):
    model, _ = both("llama", tokens)
    model.ln_final.set_original_component(Squash())
    with pytest.raises(errors.Disagrees, match=r"final norm \(Squash\) has no gain.*by \d"):
        unembedding(model)
    with pytest.raises(errors.Disagrees, match="has no gain"):
        wb.top_tokens(model, wb.Direction.of(torch.ones(32)))


def test_a_map_that_does_not_give_the_logits_is_refused(tokens, monkeypatch):
    """Something stands between norm and logits that is not known here."""
    model, _ = both("llama", tokens)
    reference = KNOWN[model].reference
    monkeypatch.setitem(KNOWN, model, replace(KNOWN[model], reference=replace(reference, scale=2.0)))
    with pytest.raises(errors.Disagrees, match=r"do not give its logits \(log-probabilities are off by \d"):
        unembedding(model)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "granite"])
@pytest.mark.parametrize("processed", [False, True])
def test_a_model_booted_elsewhere(name, processed, tokens):
    """Nothing was compared at loading: the scale is measured in a pass, and folded weights are read as they are."""
    hf = hugging_face(name, len(tokens))
    hf.config.architectures = [type(hf).__name__]
    with torch.random.fork_rng(devices=[]):  # booting draws
        model = TransformerBridge.boot_transformers(name, hf_model=hf, tokenizer=tokens, device="cpu")
        if processed:
            model.enable_compatibility_mode(disable_warnings=True)
    ids = torch.tensor([[0, 5, 6, 7, 8]])
    with torch.no_grad():
        logits, cache = model.run_with_cache(ids)
    got = readout(model).logits(cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"][0])
    assert torch.allclose(got.log_softmax(-1), logits[0].log_softmax(-1), atol=1e-3)


def test_a_gain_in_half_precision_loses_no_digits(tokens):
    hf = hugging_face("qwen3_next", len(tokens)).bfloat16()
    model = wrap(copy.deepcopy(hf), tokens, name="half", bos=0, device="cpu")
    want = (1 + hf.model.norm.weight.float())[:, None] * hf.lm_head.weight.float().T
    assert torch.allclose(unembedding(model), want, atol=1e-5)


def test_an_odd_width(tokens, monkeypatch):
    """A mean of 0 needs an entry of 0 among an odd number of probes; its gain is measured too."""
    import zoo

    monkeypatch.setitem(zoo.ARCHITECTURES, "gpt2", {"n_embd": 35, "n_layer": 2, "n_head": 5, "n_positions": 64})
    model, hf = both("gpt2", tokens)
    want = after(hf, streams(35))
    assert float((readout(model).logits(streams(35)) - want).abs().max() / want.abs().max()) < 1e-5
