"""Keys and values of the first columns of a batch: read, cut to fewer columns, measured."""

from __future__ import annotations

import copy
import ctypes
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from ..core.types import Tensor
from .decode import fresh_cache
from .narrow import narrowed
from .tokens import Batch

COMMON = 8  # tokens that all rows begin with; for fewer a pass of their own does not pay


def places(batch: Batch) -> Tensor:
    """Return the number of each token in its row."""
    return (batch.mask.cumsum(-1) - 1).clamp(min=0)


def read_prefix(model: Any, batch: Batch, width: int) -> Any:
    """Run the first columns of a batch, so many, and return their keys and values; what all rows begin with is run once."""
    cache, done = fresh_cache(model), 0
    pads = batch.starts - batch.starts.min()
    common = _common(batch)
    if len(batch.ids) > 1 and common >= COMMON:
        done = min(common + int(batch.starts.min()), width)
        rows = batch.ids[:1, int(batch.starts[0]) :][:, : done - int(batch.starts.min())]
        first = _run(model, rows, torch.ones_like(rows), torch.arange(rows.shape[1], device=rows.device)[None], fresh_cache(model))
        if not croppable(first, rows.shape[1]):
            cache, done = fresh_cache(model), 0
        else:
            # a row that is padded further holds fewer of these tokens; what stands in the padding is never looked at
            at = (torch.arange(done, device=rows.device) - batch.starts.min() - pads[:, None]).clamp(min=0)
            for n, layer in enumerate(first.layers):
                if layer.is_initialized:
                    cache.update(*(x[0][:, at.to(x.device)].transpose(0, 1).contiguous() for x in (layer.keys, layer.values)), n)
    return cache if done >= width else _run(model, batch.ids[:, done:width], batch.mask[:, :width], places(batch)[:, done:width], cache)


def _run(model: Any, ids: Tensor, mask: Tensor, position: Tensor, cache: Any) -> Any:
    """Run columns behind those that a cache holds; return the cache, which holds them too."""
    with narrowed(model, torch.full((len(ids), 1), ids.shape[1] - 1, device=ids.device)):
        model(ids, return_type="logits", attention_mask=mask, past_key_values=cache, use_cache=True, position_ids=position)
    return cache


def _common(batch: Batch) -> int:
    """How many tokens all rows of a batch begin with."""
    rows = [ids[mask.bool()] for ids, mask in zip(batch.ids, batch.mask, strict=True)]
    shortest = min(map(len, rows))
    same = (torch.stack([r[:shortest] for r in rows]) == rows[0][:shortest]).all(0)
    return shortest if bool(same.all()) else int((~same).int().argmax())


def cropped(kept: Any, width: int) -> Any:
    """Return the first columns of a cache for one pass: nothing is copied, and what the pass adds is kept nowhere."""
    out = copy.copy(kept)
    out.layers = [_passing(copy.copy(layer), width) for layer in kept.layers]
    return out


def _passing(layer: Any, width: int) -> Any:
    if layer.is_initialized:
        layer.keys, layer.values = layer.keys[..., :width, :], layer.values[..., :width, :]
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = width
        layer.__class__ = _forgetful(type(layer))
    return layer


@cache
def _forgetful(kind: type) -> type:
    """A kind of layer that gives what a pass adds back to the pass and does not keep it."""

    class Forgetful(kind):
        def update(self, *args: Any, **more: Any) -> Any:
            kept = self.keys, self.values
            grown = super().update(*args, **more)
            self.keys, self.values = kept
            return grown

    return Forgetful


def together(cache: Any) -> None:
    """Move keys and values into one piece of memory: in many pieces, between what passes take and free, they would leave holes there."""
    parts = [(layer, name) for layer in cache.layers if layer.is_initialized for name in ("keys", "values")]
    if len({(getattr(*p).dtype, getattr(*p).device) for p in parts}) != 1:
        return
    first = getattr(*parts[0])
    memory = torch.empty(sum(getattr(*p).numel() for p in parts), dtype=first.dtype, device=first.device)
    start = 0
    for layer, name in parts:
        value = getattr(layer, name)
        room = memory[start : start + value.numel()].view(value.shape)
        setattr(layer, name, room.copy_(value))
        start += value.numel()


def trim() -> None:
    """Give memory that passes have freed back to the system, where the C library can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
