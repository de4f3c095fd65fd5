"""Hugging Face's model again from a Bridge that was booted elsewhere: the same tensors in modules that nothing has replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from . import verdict
from .checked import check
from .known import KNOWN, info
from .reference import refer
from .source import building

WRAPPED = "._original_component"


def rebuilt(model: Any) -> Any | None:
    """Build Hugging Face's model around the weights of a Bridge.

    Args:
        model: A Bridge whose weights TransformerLens has not processed.

    Returns:
        A model that shares every tensor with it; `None` where a tensor of the model has no counterpart in the Bridge.
    """
    config = model.original_model.config
    held = _tensors(model.original_model)
    with building(), torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=next(model.parameters()).dtype)
    for name, tensor in (*list(hf.named_parameters()), *list(hf.named_buffers())):
        own = held.get(name)
        if own is None or own.shape != tensor.shape:
            return None
        path, _, last = name.rpartition(".")
        module = hf.get_submodule(path)
        if last in module._parameters:
            module._parameters[last] = own if isinstance(own, torch.nn.Parameter) else torch.nn.Parameter(own, requires_grad=False)
        else:
            module._buffers[last] = own
    hf.tie_weights()
    return hf.eval()


def _tensors(bridged: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a booted model, by the names that they have in Hugging Face's model."""
    held = {**dict(bridged.named_buffers()), **dict(bridged.named_parameters())}
    held = {name.replace(WRAPPED, ""): tensor for name, tensor in held.items()}
    for path, module in bridged.named_modules():
        own = getattr(module, "name", None)
        original = module._modules.get("_original_component")
        if isinstance(own, str) and own and original is not None:
            # a part whose matrices TransformerLens splits stands under another name, with the original inside
            where = ".".join([*path.replace(WRAPPED, "").split(".")[:-1], own.split(".")[-1]])
            for name, tensor in (*original.named_buffers(), *original.named_parameters()):
                held.setdefault(f"{where}.{name.replace(WRAPPED, '')}", tensor)
    return held


def compare(model: Any) -> None:
    """Compare a Bridge that was booted elsewhere with Hugging Face's model around the same weights, and keep what was found.

    Args:
        model: A Bridge in the side table without a comparison. Where no model can be built (weights that TransformerLens has
            processed, a `HookedTransformer`) it stays without one.
    """
    known = info(model)
    KNOWN[model] = replace(KNOWN[model], reference="it is being compared")
    hf = rebuilt(model) if known.processing == "none" and hasattr(model, "original_model") else None
    if hf is None:
        KNOWN[model] = replace(KNOWN[model], reference="it was booted elsewhere, and its weights are not Hugging Face's any more")
        return
    reference = refer(hf, first=known.first, special=set(model.tokenizer.all_special_ids))
    KNOWN[model] = replace(KNOWN[model], reference=reference)
    if isinstance(reference, str):
        found = verdict.Verdict(bridge=f"its comparison with Hugging Face's pass failed ({reference})")
    else:
        found = check(model, reference)
    KNOWN[model] = replace(KNOWN[model], verdict=found)
    verdict.guard(model)


verdict.first_use = compare
