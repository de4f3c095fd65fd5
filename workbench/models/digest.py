"""A hash of a model's weights."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import torch

_CACHE: weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], str]] = weakref.WeakKeyDictionary()


def weights_digest(model: Any) -> str:
    """Return a hash (16 hex digits) over every parameter's shape, dtype and bytes.

    The hash is kept until a parameter is written to or replaced (torch counts in-place changes).
    """
    parameters = list(model.parameters())
    state = tuple(x for p in parameters for x in (id(p), p._version, p.data_ptr()))
    cached = _CACHE.get(model)
    if cached and cached[0] == state:
        return cached[1]
    # By content and not by name: booting renames parameters. Sorted, because it also reorders them.
    seen, digests = set(), []
    for p in parameters:
        if p.data_ptr() in seen:
            continue
        seen.add(p.data_ptr())
        one = hashlib.sha256(f"{tuple(p.shape)} {p.dtype}".encode())
        one.update(p.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes())
        digests.append(one.hexdigest())
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]
    _CACHE[model] = (state, digest)
    return digest
