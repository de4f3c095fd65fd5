"""Files that are whole or not there: temporary name, synchronise, rename; checksums; a full disk said plainly."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DiskFull
from ..core.provenance import content_hash

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def shard_name(keys: Sequence[str], parts: Sequence[str]) -> str:
    """Name a shard by what it holds."""
    return f"{content_hash(list(keys), list(parts))}.safetensors"


def part_order(part: str) -> tuple[str, int, str]:
    """Sort layers by number."""
    head, _, tail = part.partition(".")
    return head, int(tail) if tail.isdigit() else -1, tail


def raw(tensor: Tensor) -> Any:
    """Return a tensor's bytes, without a copy."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy()


def digest(data: Any) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, synchronise it, and rename it into place. Callers hold a lock on the name."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Say plainly that there is no room.

    Raises:
        DiskFull: In place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"{folder.name}: no room left to write ({error.strerror}). What was written before is whole; free some room and run "
            "the same capture again to go on"
        ) from error
