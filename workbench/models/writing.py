"""What writes into the residual stream: the weights that do, and whether they are all that does. Both are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import BadInput, HookNotFired, UnknownSite
from ..core.seeds import numpy_rng
from ..core.types import Float
from .edits import Read
from .forward import run
from .hooks import edited, hook_point
from .known import info, n_layers
from .owner import undisturbed
from .taps import Tap, tapped
from .tokens import pad
from .verdict import verdict
from .weights import parameters

TOKENS = 16  # of the row on which is measured
DIRECT = 1e-3  # share of a change of the stream that its weights may leave unexplained, or four times the dtype's precision
LEFT = 1e-4  # share of the stream along a direction that counts as rounding, or twice the precision: eight times what was measured
HOOKS = "Ablate with hooks: wb.ablate_everywhere"


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A parameter that writes into the residual stream.

    Attributes:
        parameter: Its name, as `parameters` lists it.
        axis: The axis that has the width of the stream.
    """

    parameter: str
    axis: int


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An embedding, or what gives the output of attention or of an MLP."""

    name: str
    module: Any


def writers(model: Any) -> list[Writer]:
    """Return every parameter that writes into the residual stream.

    These are the embeddings, and the output weights and biases of attention and MLPs. On a few tokens it is measured that what they
    give arrives in the stream as it is, up to a factor.

    Raises:
        BadInput: The parameters cannot be identified (mixtures of experts), or a norm stands between them and the stream
            (Gemma 2, OLMo 2), so that changing them does not change the stream in the same way.
        Disagrees: TransformerLens's pass over this model is not Hugging Face's.
    """
    names = {id(p): n for n, p in parameters(model).items()}
    if not hasattr(model, "original_model"):
        ends = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
        return [Writer(parameter=n, axis=-1) for n in names.values() if n.rsplit(".", 1)[-1] in ends]
    embeddings = [_Part(name="embeddings", module=_own(model.embed))]
    if hasattr(model, "pos_embed"):
        embeddings.append(_Part(name="positional embeddings", module=_own(model.pos_embed)))
    blocks = [
        [
            _Part(name=f"attention output {layer}", module=_own(getattr(getattr(block, "attn", None), "o", None))),
            _Part(name=f"MLP output {layer}", module=_own(getattr(getattr(block, "mlp", None), "out", None))),
        ]
        for layer, block in enumerate(model.blocks)
    ]
    out = [writer for part in (*embeddings, *(p for block in blocks for p in block)) for writer in _written_by(model, part, names)]
    undisturbed(model, lambda: _check_direct(model, embeddings, blocks))
    return out


def _own(component: Any) -> Any:
    return getattr(component, "original_component", component)


def _written_by(model: Any, part: _Part, names: dict[int, str]) -> list[Writer]:
    weight = getattr(part.module, "weight", None)
    # nn.Linear keeps `out x in`; an embedding and GPT-2's Conv1D keep the stream last
    axis = 0 if isinstance(part.module, nn.Linear) else -1
    if not isinstance(weight, Tensor) or id(weight) not in names or weight.ndim != 2 or weight.shape[axis] != int(model.cfg.d_model):
        raise BadInput(f"{info(model).name}: the weights of its {part.name} cannot be read, so it cannot be orthogonalised. {HOOKS}")
    bias = getattr(part.module, "bias", None)
    several = [Writer(parameter=names[id(weight)], axis=axis)]
    return several + ([Writer(parameter=names[id(bias)], axis=-1)] if isinstance(bias, Tensor) and id(bias) in names else [])


def _check_direct(model: Any, embeddings: list[_Part], blocks: list[list[_Part]]) -> None:
    """Raise unless each change of the stream is what the parts behind it give, each times one number."""
    parts = [*embeddings, *(p for block in blocks for p in block)]
    given: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        return lambda value: given.__setitem__(name, value.detach().double().cpu().flatten(0, -2))

    taps = [Tap(module=p.module, entry=False, function=keep(p.name)) for p in parts]
    try:
        stream = _stream(model, taps)
    except HookNotFired as error:
        raise BadInput(f"{info(model).name}: its output weights are not used as they are stored ({error}). {HOOKS}") from error
    _explained(model, torch.zeros(()), stream["resid_pre", 0], embeddings, given)
    for layer, (attention, mlp) in enumerate(blocks):
        before, after, middle = stream["resid_pre", layer], stream["resid_post", layer], stream.get(("resid_mid", layer))
        if middle is None:
            _explained(model, before, after, [attention, mlp], given)
        else:
            _explained(model, before, middle, [attention], given)
            _explained(model, middle, after, [mlp], given)


def _explained(model: Any, before: Tensor, after: Tensor, parts: Sequence[_Part], given: dict[str, Tensor]) -> None:
    change, sources = after - before, torch.stack([given[p.name].reshape(-1) for p in parts], 1)
    fitted = sources @ torch.linalg.lstsq(sources, change.reshape(-1, 1)).solution
    rest, precision = float((change.reshape(-1, 1) - fitted).norm()), 4 * _precision(model)
    if not rest <= max(DIRECT, precision) * float(change.norm()) + precision * float(after.norm()):
        names = " and ".join(p.name for p in parts)
        raise BadInput(
            f"{info(model).name} has a norm between its {names} and the stream, or something else that is no weight: "
            f"{rest / float(change.norm()):.0%} of what arrives is not what the weights give. Changing them does not change the stream in "
            f"the same way. {HOOKS}"
        )


def _precision(model: Any) -> float:
    return torch.finfo(next(model.parameters()).dtype).eps


def check_removed(model: Any, basis: Float[Tensor, "d_model k"]) -> None:
    """Raise unless the residual stream holds nothing along some directions: after the embedding, in and after every block.

    Args:
        model: What `load_model` returns, with its weights changed. Edits that are active do not act.
        basis: Orthonormal columns.

    Raises:
        BadInput: It holds something; the message says where, and which share of the stream's length.
        Disagrees: TransformerLens's pass over this model is not Hugging Face's.
    """
    stream = undisturbed(model, lambda: _stream(model, ()))
    u = basis.double().cpu()
    once = {(site, layer): x for (site, layer), x in stream.items() if site != "resid_pre" or layer == 0}
    left = {place: float(((x @ u).norm(dim=-1) / x.norm(dim=-1).clamp(min=1e-30)).max()) for place, x in once.items()}
    limit = max(LEFT, 2 * _precision(model))
    leaks = {place: share for place, share in left.items() if not share <= limit}
    if leaks:
        (site, layer), first = next(iter(leaks.items()))
        (most, at), largest = max(leaks.items(), key=lambda leak: leak[1])
        raise BadInput(
            f"{info(model).name} still writes along the direction: {first:.2g} of the stream's length at {site}[{layer}], the first of "
            f"{len(leaks)} places of {len(left)}, and {largest:.2g} at {most}[{at}], the most. Something writes there that is no weight or "
            f"bias of an embedding, of attention or of an MLP. The weights are as before. {HOOKS}"
        )


@torch.no_grad()
def _stream(model: Any, taps: Sequence[Tap]) -> dict[tuple[str, int], Tensor]:
    """The stream over a few tokens at every place where it can be read, in the order in which it is computed, `token x d_model`."""
    out: dict[tuple[str, int], Tensor] = {}

    def keep(site: str, layer: int) -> Callable[[Tensor], None]:
        return lambda value: out.__setitem__((site, layer), value.detach().double().cpu().flatten(0, -2))

    refused = getattr(verdict(model), "sites", {})
    reads = []
    for layer in range(n_layers(model)):
        for site in ("resid_pre", "resid_mid", "resid_post"):
            try:
                hook_point(model, site, layer)
            except UnknownSite:
                continue
            if site not in refused:
                reads.append(Read(site=site, layer=layer, function=keep(site, layer)))
    last = getattr(model, "ln_final", None)
    ends = (
        [Tap(module=last, entry=True, function=keep("before the final norm", n_layers(model) - 1))] if isinstance(last, nn.Module) else []
    )
    size = min(TOKENS, info(model).context)
    row = numpy_rng(0, "writers").integers(0, int(model.cfg.d_vocab), size).tolist()
    with edited(model, reads, times=1), tapped([*taps, *ends], stop=False) if taps or ends else nullcontext():
        run(model, pad(model, [row]))
    return out
