"""Keys and values of the first columns of a batch: read, cut to fewer columns, measured."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..core.types import Tensor
from .decode import fresh_cache
from .narrow import narrowed
from .tokens import Batch


def places(batch: Batch) -> Tensor:
    """Return the number of each token in its row."""
    return (batch.mask.cumsum(-1) - 1).clamp(min=0)


def read_prefix(model: Any, batch: Batch, width: int) -> Any:
    """Run the first columns of a batch, so many, and return their keys and values."""
    cache = fresh_cache(model)
    last = torch.full((len(batch.ids), 1), width - 1, device=batch.ids.device)
    with narrowed(model, last):
        model(
            batch.ids[:, :width],
            return_type="logits",
            attention_mask=batch.mask[:, :width],
            past_key_values=cache,
            use_cache=True,
            position_ids=places(batch)[:, :width],
        )
    return cache


def cropped(cache: Any, width: int) -> Any:
    """Return the first columns of a cache; nothing is copied, and what a pass adds stays out of the original."""
    out = copy.copy(cache)
    out.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in out.layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., :width, :], layer.values[..., :width, :]
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = width
    return out


def croppable(cache: Any, width: int) -> bool:
    """Whether a cache holds so many columns, in layers of the two plain kinds."""
    return all(
        type(layer).__name__ in ("DynamicLayer", "DynamicSlidingWindowLayer")
        and (not layer.is_initialized or layer.keys.shape[-2] == width)
        for layer in cache.layers
    )


def size_of(cache: Any) -> int:
    """Return the bytes of the keys and values that a cache holds."""
    return sum(t.numel() * t.element_size() for layer in cache.layers if layer.is_initialized for t in (layer.keys, layer.values))
