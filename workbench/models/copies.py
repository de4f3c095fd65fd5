"""A model of its own with other weights, made from one that is loaded and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..core.errors import BadInput, ShapeMismatch, UnknownName, unknown
from ..core.types import Float, Tensor
from .fused import transposed
from .known import info, trunk_of
from .load import wrap
from .source import building


def changed_copy(model: Any, added: Mapping[str, Float[Tensor, "width_out width_in"]], *, name: str) -> Any:
    """Build a copy of a model to whose weight matrices something is added.

    The copy takes the memory of a second model. To let a change act for a while, use `wb.adapted`, which takes none.

    Args:
        model: A `TransformerBridge`; it is not changed.
        added: By Hugging Face parameter name, what is added, `width_out x width_in`.
        name: The copy's name in provenance and errors.

    Returns:
        A model on the same device and of the same dtype.

    Raises:
        BadInput: The model has no Hugging Face shell to copy.
        UnknownName, ShapeMismatch: A parameter does not exist, or has another shape.
    """
    trunk = trunk_of(model)
    if isinstance(trunk, str):
        raise BadInput(f"{info(model).name} cannot be copied: {trunk}")
    state = {k: v.detach().clone() for k, v in trunk.shell.state_dict().items()}
    for parameter, change in added.items():
        if parameter not in state:
            raise unknown(UnknownName, "parameter", parameter, state)
        change = change.T if transposed(model, parameter) else change
        if change.shape != state[parameter].shape:
            raise ShapeMismatch(f"{parameter} is {tuple(state[parameter].shape)}, and what is added to it {tuple(change.shape)}")
        state[parameter] += change.to(state[parameter])
    known, one = info(model), next(model.parameters())
    with building():
        config = type(trunk.shell.config).from_dict(trunk.shell.config.to_dict())
        hf: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(one.dtype)
    hf.load_state_dict(state)
    hf.tie_weights()
    return wrap(hf, model.tokenizer, name=name, bos=known.first, device=one.device if one.device != torch.device("cpu") else None)


__all__ = ["changed_copy"]
