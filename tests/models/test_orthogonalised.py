"""Weights without a direction, on many architectures: the stream holds nothing of it anywhere, or the call is refused."""

import copy

import pytest
import torch
from conftest import tiny_model
from torch import nn
from zoo import ARCHITECTURES, QUICK, hugging_face

import workbench as wb
from workbench.core import errors
from workbench.core.direction import Direction
from workbench.models import edited, info, wrap, writers
from workbench.models.digest import weights_digest
from workbench.models.forward import run
from workbench.models.hooks import attached_hooks
from workbench.models.tokens import pad
from workbench.models.weights import parameters

REFUSED = {
    "bloom": "a norm between its embeddings and the stream",
    "cohere": "differs from Hugging Face's",
    "cohere2": "differs from Hugging Face's",
    "exaone4": "a norm between its attention output 0 and the stream",
    "gemma2": "a norm between its attention output 0 and the stream",
    "gemma3_text": "a norm between its attention output 0 and the stream",
    "glm4": "a norm between its attention output 0 and the stream",
    "gpt_oss": "the weights of its MLP output 0 cannot be read",
    "mixtral": "the weights of its MLP output 0 cannot be read",
    "olmo2": "a norm between its attention output 0 and the stream",
    "olmo3": "a norm between its attention output 0 and the stream",
    "olmoe": "the weights of its MLP output 0 cannot be read",
    "qwen2_moe": "the weights of its MLP output 0 cannot be read",
    "qwen3_moe": "the weights of its MLP output 0 cannot be read",
    "qwen3_next": "the weights of its attention output 0 cannot be read",
}
QUICKLY = {*QUICK, "bloom", "exaone4", "mixtral", "opt", "mpt", "phi"}


def row(model, length=24):
    return torch.randint(3, int(model.cfg.d_vocab), (1, length), generator=torch.Generator().manual_seed(1))


def along(hf, blocks, ids, unit):
    """The largest share of the stream's length along a direction: at each block's entry, at the last one's end, in plain torch."""
    out = []

    def take(x):
        x = x[0] if isinstance(x, tuple) else x
        out.append(float(((x[0].double() @ unit.double()).abs() / x[0].double().norm(dim=-1)).max()))

    handles = [b.register_forward_pre_hook(lambda m, a, k: take(a[0] if a else k["hidden_states"]), with_kwargs=True) for b in blocks]
    handles.append(blocks[-1].register_forward_hook(lambda m, a, x: take(x)))
    try:
        with torch.no_grad():
            logits = hf(ids).logits
    finally:
        for handle in handles:
            handle.remove()
    return out, logits


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("name", [n if n in QUICKLY else pytest.param(n, marks=pytest.mark.more) for n in ARCHITECTURES])
def test_nothing_is_left_or_it_is_refused(name, several, words):
    model = wrap(hugging_face(name, len(words)), words, name=name, bos=0, device="cpu")
    ids, draw = row(model), torch.Generator().manual_seed(0)
    directions = [Direction.of(torch.randn(32, generator=draw)) for _ in range(several)]
    before = weights_digest(model)
    if name in REFUSED:
        with pytest.raises((errors.BadInput, errors.Disagrees), match=REFUSED[name]):
            wb.orthogonalised(model, directions)
        with pytest.raises((errors.BadInput, errors.Disagrees), match=REFUSED[name]):
            writers(model)
    else:
        plain, _ = along(model.original_model, model.blocks, ids, directions[0].unit)
        assert min(plain) > 0.1, "there was something to remove"
        with wb.orthogonalised(model, directions):
            for direction in directions:
                left, by_weights = along(model.original_model, model.blocks, ids, direction.unit)
                assert max(left) < 1e-6
        with edited(model, wb.ablate_everywhere(model, directions)):
            by_hooks = run(model, pad(model, ids.tolist()))
        assert torch.allclose(by_weights, by_hooks, atol=1e-3 * float(by_hooks.abs().max())), "the same as ablation by hooks"
    assert weights_digest(model) == before
    assert attached_hooks() == 0


class Shifted(nn.Linear):
    """A projection that adds something which is no parameter."""

    def forward(self, x):
        return super().forward(x) + getattr(self, "shift", 0.3)


class Offset(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * 2 + 0.2


def in_mlp(hf):
    hf.model.layers[1].mlp.down_proj.__class__ = Shifted
    hf.model.layers[1].mlp.down_proj.register_buffer("shift", torch.linspace(0, 0.3, 32))


def in_attention(hf):
    hf.model.layers[2].self_attn.o_proj.__class__ = Shifted


def in_embedding(hf):
    hf.model.embed_tokens.__class__ = Offset


def in_hook(hf):
    hf.model.layers[0].register_forward_hook(lambda m, a, x: (x[0] + 0.1, *x[1:]) if isinstance(x, tuple) else x + 0.1)


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (in_mlp, r"length at resid_post\[1\], the first of 4 places of 8, "),
        (in_attention, r"length at resid_mid\[2\]"),
        (in_embedding, r"length at resid_pre\[0\]"),
        (in_hook, "MLP output 0"),
    ],
)
def test_what_is_no_weight_and_writes_is_found(spoil, where, words):
    hf = tiny_model("llama", len(words))
    spoil(hf)
    model = wrap(hf, words, name="spoilt", bos=0, device="cpu")
    before = {n: p.detach().clone() for n, p in parameters(model).items()}
    digest = info(model).digest
    entered = False
    with (
        pytest.raises((errors.BadInput, errors.Disagrees), match=where),
        wb.orthogonalised(model, Direction.of(torch.randn(32, generator=torch.Generator().manual_seed(0)))),
    ):
        entered = True
    assert not entered
    assert all(torch.equal(p, before[n]) for n, p in parameters(model).items()), "the weights are as before"
    assert info(model).digest == digest


def test_edits_do_not_disturb_the_measurement(tiny):
    d = Direction.of(torch.randn(32, generator=torch.Generator().manual_seed(0)), provenance={"site": "resid_post", "layer": 1})
    ids = row(tiny)
    with edited(tiny, wb.add(d, 3.0)):
        with wb.orthogonalised(tiny, d):
            pushed, _ = along(tiny.original_model, tiny.blocks, ids, d.unit)
        run(tiny, pad(tiny, ids.tolist()))
    assert max(pushed[:2]) < 1e-6, "written by nobody"
    assert min(pushed[2:]) > 0.01, "added by the edit"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_leak(dtype, words):
    model = wrap(tiny_model("llama", len(words)).to(dtype), words, name="half", bos=0, device="cpu")
    with wb.orthogonalised(model, Direction.of(torch.randn(32, generator=torch.Generator().manual_seed(0)))):
        run(model, pad(model, row(model).tolist()))


def test_an_untouched_copy_says_the_same(words):
    """The oracle itself is fine: projected weights of Hugging Face's own model leave nothing either."""
    hf = hugging_face("llama", len(words))
    model = wrap(copy.deepcopy(hf), words, name="llama", bos=0, device="cpu")
    d = Direction.of(torch.randn(32, generator=torch.Generator().manual_seed(0)))
    u, ids = d.unit, row(model)
    with torch.no_grad():
        hf.model.embed_tokens.weight -= torch.outer(hf.model.embed_tokens.weight @ u, u)
        for layer in hf.model.layers:
            for out in (layer.self_attn.o_proj, layer.mlp.down_proj):
                out.weight -= torch.outer(u, u @ out.weight)
        want = hf(ids).logits
    with wb.orthogonalised(model, d):
        assert torch.allclose(run(model, pad(model, ids.tolist())), want, atol=1e-4 * float(want.abs().max()))
