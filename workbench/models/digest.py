"""A hash of a model's weights."""

from __future__ import annotations

import hashlib
import json
import weakref
from typing import Any

import torch

from ..core.provenance import content_hash

_CACHE: weakref.WeakKeyDictionary[Any, tuple[tuple[float, ...], str]] = weakref.WeakKeyDictionary()


def weights_state(model: Any) -> tuple[float, ...]:
    """Return what changes when a parameter, a buffer or the configuration does; cheap, and good within one process only.

    Note:
        torch counts in-place changes, but not those through `.data`. These show in a sum over up to 65,536 values of each
        tensor. A changed row or matrix is detected; a single changed value of a large tensor may not be.
    """
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.device.type != "meta"]
    # an odd stride, so that it does not walk along one column
    samples = (t.detach().flatten()[:: max(1, t.numel() // 65536) | 1] for t in tensors)
    sums = (float(s.double().sum().nan_to_num()) for s in samples)
    return (*(x for t in tensors for x in (id(t), t._version, t.data_ptr())), *sums, float(int(content_hash(_config(model)), 16)))


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
    left_out = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "output_attentions")
    return json.dumps({k: v for k, v in config.to_dict().items() if k not in left_out}, sort_keys=True, default=str)
