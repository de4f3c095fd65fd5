"""Changes of a weight matrix under the name that Hugging Face gives it, in a model whose parts TransformerLens may have taken apart.

TransformerLens computes queries, keys and values with copies of what a fused matrix holds, so a change of the fused matrix alone would
do nothing. Here such a change is split as TransformerLens splits the matrix, and each copy gets its part.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from ..core.errors import BadInput, ShapeMismatch, UnknownName, unknown
from .known import KNOWN, info
from .weights import Change, parameters


def fused(model: Any, name: str, delta: Tensor, *, label: str) -> list[Change]:
    """Return the changes of a model's parameters that add a matrix to one of Hugging Face's weights.

    Args:
        model: What `load_model` returns.
        name: The weight's name in Hugging Face's model.
        delta: What is added, in the orientation of a linear layer, `width_out x width_in`.
        label: Named in errors.

    Returns:
        One change, or three where the matrix is a fused one.

    Raises:
        UnknownName: There is no such weight. ShapeMismatch: it has another shape.
        BadInput: The model computes with copies of its parts, and how they are made is unknown.
    """
    shell = _shell(model)
    theirs = parameters(model) if shell is None else dict(shell.named_parameters())
    if name not in theirs:
        raise unknown(UnknownName, "weight", name, theirs)
    weight = theirs[name]
    added = delta.T if transposed(model, name) else delta
    if tuple(weight.shape) != tuple(added.shape):
        raise ShapeMismatch(f"{label} of {name} is {tuple(added.shape)}, and the weight is {tuple(weight.shape)}")
    own = parameters(model)
    # the shell shares every parameter that the model computes with
    mine = {id(p): n for n, p in own.items()}.get(id(weight))
    if mine is None:
        raise BadInput(f"{name} is no parameter that {info(model).name} computes with")
    bridge = _taken_apart(model, own[mine])
    if bridge is None:
        return [Change(parameter=mine, function=lambda w: w + added.to(w), label=label)]
    component = copy.deepcopy(bridge.original_component)
    for part in component.modules():
        for key, value in list(part.named_parameters(recurse=False)):
            if value.shape == weight.shape and bool((value == weight).all()):
                setattr(part, key, nn.Parameter(added.to(weight), requires_grad=False))
    stem, out = mine.rsplit(".", 2)[0], []
    for letter, part in zip("qkv", bridge.split_qkv_matrix(component), strict=True):
        more = part.weight.detach().clone()
        out.append(Change(parameter=f"{stem}.{letter}.weight", function=lambda w, more=more: w + more.to(w).view_as(w), label=label))
    return out


def _shell(model: Any) -> Any:
    """The engine's shell, whose modules have Hugging Face's names; `None` for a model that was booted elsewhere."""
    info(model)
    trunk = KNOWN[model].trunk
    return None if trunk is None else trunk.shell


def transposed(model: Any, name: str) -> bool:
    """Whether a weight is stored as `width_in x width_out` (GPT-2's Conv1D)."""
    shell = _shell(model)
    return shell is not None and type(shell.get_submodule(name.rpartition(".")[0])).__name__ == "Conv1D"


def _taken_apart(model: Any, weight: nn.Parameter) -> Any:
    """The attention of the Bridge that computes with copies of parts of this weight; `None` where none does."""
    for module in model.modules():
        split = getattr(module, "split_qkv_matrix", None)
        qkv = getattr(module, "qkv", None) if split is not None else None
        if qkv is not None and any(p is weight for p in qkv.parameters()):
            copies = [p for letter in "qkv" for p in getattr(module, letter).parameters()]
            shared = weight.untyped_storage().data_ptr()
            return module if any(p.untyped_storage().data_ptr() != shared for p in copies) else None
    return None
