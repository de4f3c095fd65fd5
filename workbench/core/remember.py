"""Within a run, fits of the same rows with the same options are made once: steps of a study share conditions and methods."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

MOST = 2000  # fits kept at a time, about 0.1 MB each at d_model 1,000
Probe = TypeVar("Probe")
_KEPT: ContextVar[dict[str, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Keep fits until the block ends."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def remembered(fit: Callable[[], Probe], method: Any, *about: Any) -> Probe:
    """Return a fit that was made within this block of `remembering`, or make it.

    Args:
        fit: Makes it; the same whenever `method` and `about` are the same.
        method: Its name. Functions of a user's own are not remembered.
        about: Everything that it depends on: tensors, arrays, options.

    Returns:
        The fit. Fits are values: nobody changes them.
    """
    kept = _KEPT.get()
    if kept is None or not isinstance(method, str):
        return fit()
    digest = hashlib.blake2b(method.encode(), digest_size=16)
    try:
        _add(digest, about)
    except TypeError:
        return fit()
    key = digest.hexdigest()
    if key not in kept:
        if len(kept) >= MOST:
            kept.pop(next(iter(kept)))
        kept[key] = fit()
    return kept[key]


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest, its kind and shape with it.

    Raises:
        TypeError: It has no content that can be read, as a function.
    """
    import torch  # at the first fit, not where a command line starts

    digest.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value))
    elif isinstance(value, Mapping):
        _add(digest, sorted(value.items()))
    elif isinstance(value, list | tuple | np.ndarray):
        digest.update(str(len(value)).encode())
        for one in value:
            _add(digest, one)
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        digest.update(f"{value!r};".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no content to go by")
