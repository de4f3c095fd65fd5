"""The one door to a model's weights: reading them for measurements, and changing them inside a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..core.errors import BadInput, NotFinite, ShapeMismatch, UnknownName, unknown
from ..core.types import Float
from .digest import weights_digest
from .hold import Hold
from .hooks import check_layer
from .known import info, same_weights, vouch
from .origin import come_home, leave_home
from .restore import surely


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one parameter, as a value.

    Attributes:
        parameter: Name of the parameter, as `parameters` lists it.
        function: Maps its values to new values of the same shape.
        label: A name of the change for errors.
    """

    parameter: str
    function: Callable[[Tensor], Tensor]
    label: str = "change"


def parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return a model's parameters by name, as Hugging Face names them, each once."""
    out: dict[str, nn.Parameter] = {}
    for name, parameter in nn.Module.named_parameters(getattr(model, "original_model", None) or model):
        out[name.replace("_original_component.", "")] = parameter
    return out


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A parameter that writes into the residual stream.

    Attributes:
        parameter: Its name, as `parameters` lists it.
        axis: The axis that has the width of the stream.
    """

    parameter: str
    axis: int


def writers(model: Any) -> list[Writer]:
    """Return every parameter that writes into the residual stream.

    These are the embeddings, and the output weights and biases of attention and MLPs.

    Raises:
        BadInput: The parameters cannot be identified (mixtures of experts), or a norm stands between them and the stream
            (Gemma 2), so that changing them does not change the stream in the same way.
    """
    name, names = info(model).name, {id(p): n for n, p in parameters(model).items()}
    if not hasattr(model, "original_model"):
        ends = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
        return [Writer(parameter=n, axis=-1) for n in names.values() if n.rsplit(".", 1)[-1] in ends]
    parts = [("embed", model.embed), *([("pos_embed", model.pos_embed)] if hasattr(model, "pos_embed") else [])]
    if hasattr(model, "embed_ln"):
        raise BadInput(
            f"{name} has a norm after its embeddings: what they write cannot be changed by their weights. "
            "Ablate with hooks: wb.ablate_everywhere"
        )
    for layer, block in enumerate(model.blocks):
        if hasattr(block, "ln1_post") or hasattr(block, "ln2_post"):
            raise BadInput(
                f"{name} has a norm between its blocks' outputs and the stream: what they write cannot be changed by their weights. "
                "Ablate with hooks: wb.ablate_everywhere"
            )
        parts += [(f"attention output {layer}", getattr(block.attn, "o", None)), (f"MLP output {layer}", getattr(block.mlp, "out", None))]
    out: list[Writer] = []
    for described, part in parts:
        module = getattr(part, "original_component", part)
        weight = getattr(module, "weight", None)
        if part is None or not isinstance(weight, Tensor) or id(weight) not in names or weight.ndim != 2:
            raise BadInput(f"{name}: the weights of its {described} cannot be read, so it cannot be orthogonalised")
        # nn.Linear keeps `out x in`; an embedding and GPT-2's Conv1D keep the stream last
        out.append(Writer(parameter=names[id(weight)], axis=0 if isinstance(module, nn.Linear) else -1))
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor) and id(bias) in names:
            out.append(Writer(parameter=names[id(bias)], axis=-1))
    return out


@contextmanager
def reweighted(model: Any, changes: Change | Sequence[Change], *, untie: bool = True) -> Iterator[None]:
    """Change weights of a model inside a `with` block. Afterwards, also after an exception or Ctrl-C, they are as before, bit for bit.

    A model has one set of weights: while one thread has changed them, forward passes of other threads (and of other asynchronous
    tasks) raise an error. Load the model a second time to use it beside.

    Args:
        model: What `load_model` returns.
        changes: One or several, of different parameters.
        untie: Where a changed embedding is the unembedding too, give the unembedding a copy of its own inside the block.

    Raises:
        UnknownName: A parameter does not exist; before anything changes.
        BadInput: A parameter is changed twice; before anything changes.
        ShapeMismatch: A function returned values of another shape.
        NotFinite: A function returned NaN or infinity.
        ModelInUse: Another thread has changed the weights, or is in a forward pass; before anything changes.
    """
    items = [changes] if isinstance(changes, Change) else list(changes)
    known = parameters(model)
    for item in items:
        if item.parameter not in known:
            raise unknown(UnknownName, "parameter", item.parameter, known)
    names = [item.parameter for item in items]
    if len(set(names)) < len(names):
        raise BadInput(f"{next(n for n in names if names.count(n) > 1)} is changed twice in one block; nest two blocks instead")
    head = _tied(model, [known[n] for n in names]) if untie else None
    hold, home, intact = Hold(model), None, False
    before: list[tuple[nn.Parameter, Tensor]] = []

    def undo() -> None:
        while before:
            parameter, old = before[-1]
            parameter.detach().copy_(old)
            before.pop()
        if hold.taken:
            if head is not None:
                head[0].weight = head[1]
            if intact:
                weights_digest(model)  # the state knows the last content that was read
                vouch(model)
        leave_home(model, home)
        hold.release()

    try:
        try:
            hold.take()
            intact, home = same_weights(model), come_home(model)
            if head is not None:
                head[0].weight = nn.Parameter(head[1].detach().clone(), requires_grad=head[1].requires_grad)
            for item in items:
                values = known[item.parameter].detach()  # no `no_grad`, whose end an interruption might miss
                before.append((known[item.parameter], values.clone()))
                values.copy_(_changed(item, values))
            yield
        finally:
            surely(undo)
    finally:
        surely(undo)


def _changed(item: Change, values: Tensor) -> Tensor:
    """The new values of a parameter, checked, in its dtype."""
    new = item.function(values.clone())
    if not isinstance(new, Tensor) or new.shape != values.shape:
        raise ShapeMismatch(f"{item.label} of {item.parameter}: {tuple(values.shape)} became {tuple(getattr(new, 'shape', ()))}")
    new = new.detach().to(values.dtype)
    if not bool(new.isfinite().all()):
        raise NotFinite(f"{item.label} of {item.parameter} holds NaN or infinity, or numbers too large for {values.dtype}")
    return new


def _tied(model: Any, changed: Sequence[nn.Parameter]) -> tuple[Any, nn.Parameter] | None:
    """The unembedding's module and weight, where it shares the weight with a changed embedding."""
    get = getattr(getattr(model, "original_model", None), "get_output_embeddings", None)
    module = None if get is None else get()
    module = getattr(module, "original_component", module)
    weight = getattr(module, "weight", None)
    return (module, weight) if weight is not None and any(weight is p for p in changed) else None


def head_outputs(model: Any, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """Return the output weights of a layer's attention heads.

    Args:
        model: What `load_model` returns.
        layer: The block, counted from 0; a negative one counts from the end.

    Returns:
        The matrix by which each head writes into the residual stream, in float32 on the CPU.

    Raises:
        UnknownLayer: The model has no such layer.
        BadInput: The weights cannot be read.
    """
    block = model.blocks[check_layer(model, layer)]
    w = getattr(getattr(block, "attn", None), "W_O", None)
    if not isinstance(w, Tensor):
        raise BadInput(f"{info(model).name} has no attention output weights that can be read at layer {layer}")
    w = w.detach().float().cpu()
    return w if w.ndim == 3 else w.view(int(model.cfg.n_heads), -1, w.shape[-1])
