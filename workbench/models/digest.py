"""A hash of a model's weights."""

from __future__ import annotations

import hashlib
import json
import weakref
from typing import Any

import torch

_CACHE: weakref.WeakKeyDictionary[Any, tuple[tuple[float, ...], str]] = weakref.WeakKeyDictionary()


def weights_state(model: Any) -> tuple[float, ...]:
    """Return what changes when a parameter is written to or replaced; cheap, and good within one process only."""
    parameters = list(model.parameters())
    # torch counts in-place changes, but not those through `.data`: a few values of each tensor catch these
    ends = tuple(float(p.detach().flatten()[:: max(1, p.numel() // 8)].double().sum()) for p in parameters if p.device.type != "meta")
    return (*(x for p in parameters for x in (id(p), p._version, p.data_ptr())), *ends)


def weights_digest(model: Any) -> str:
    """Return a hash (16 hex digits) over the configuration and every parameter's shape, dtype and bytes.

    The hash is kept until a parameter is written to or replaced.
    """
    state = weights_state(model)
    parameters = list(model.parameters())
    cached = _CACHE.get(model)
    if cached and cached[0] == state:
        return cached[1]
    seen: set[int] = set()
    digest = hashlib.sha256(_config(model).encode())
    for p in parameters:
        if p.data_ptr() in seen or p.device.type == "meta":
            continue
        seen.add(p.data_ptr())
        digest.update(f"{tuple(p.shape)} {p.dtype}".encode())
        digest.update(p.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
    _CACHE[model] = (state, digest.hexdigest()[:16])
    return _CACHE[model][1]


def _config(model: Any) -> str:
    """What else decides the output: window, rotary base, epsilon, …; not where it was loaded from or by which version."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    if config is None:
        return ""
    leave = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "output_attentions")
    return json.dumps({k: v for k, v in config.to_dict().items() if k not in leave}, sort_keys=True, default=str)
