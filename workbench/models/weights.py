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
    """Return a model's parameters by name, as Hugging Face or TransformerLens names them, each once."""
    out: dict[str, nn.Parameter] = {}
    for name, parameter in nn.Module.named_parameters(getattr(model, "original_model", None) or model):
        out[name.replace("_original_component.", "")] = parameter
    return out


@contextmanager
def reweighted(
    model: Any, changes: Change | Sequence[Change], *, untie: bool = True, check: Callable[[], object] | None = None
) -> Iterator[None]:
    """Change weights of a model inside a `with` block. Afterwards, also after an exception or Ctrl-C, they are as before, bit for bit.

    A model has one set of weights: while one thread has changed them, forward passes of other threads (and of other asynchronous
    tasks) raise an error. Load the model a second time to use it beside.

    Args:
        model: What `load_model` returns.
        changes: One or several, of different parameters.
        check: Called when all is changed, before the block; what it raises ends the block, with the weights as before.
        untie: Where a changed embedding is the unembedding too, give the unembedding a copy of its own inside the block.

    Raises:
        UnknownName: A parameter does not exist; before anything changes.
        BadInput: A parameter is changed twice, or is one that the model does not compute with, because TransformerLens keeps copies of
            its parts; before anything changes.
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
    _check_used(names, known)
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
            if check is not None:
                check()
            yield
        finally:
            surely(undo)
    finally:
        surely(undo)


def _check_used(names: Sequence[str], known: dict[str, nn.Parameter]) -> None:
    """Raise where queries, keys and values are computed with copies of what a fused matrix or bias holds."""
    for name in names:
        module, _, kind = name.rpartition(".")
        copies = [f"{module.removesuffix('qkv')}{part}.{kind}" for part in "qkv"]
        if not module.endswith(".qkv") or any(copy not in known for copy in copies):
            continue
        stored = known[name].untyped_storage().data_ptr()
        if any(known[copy].untyped_storage().data_ptr() != stored for copy in copies):
            raise BadInput(f"{name} is not what the model computes with: it has copies of its parts. Change {', '.join(copies)}")


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
