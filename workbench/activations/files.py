"""Files that are complete or absent (temporary name, synchronise, rename), their checksums, and the error for a full disk."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..core.errors import DiskFull
from ..core.provenance import content_hash

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def shard_name(keys: Sequence[str], parts: Sequence[str]) -> str:
    """Return a shard's file name, a hash of its items and parts."""
    return f"{content_hash(list(keys), list(parts))}.safetensors"


def part_order(part: str) -> tuple[str, int, str]:
    """Return a sort key that orders layers by number."""
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
    """Turn the system's errors for a full disk into `DiskFull`.

    Raises:
        DiskFull: No room is left to write.
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


@contextmanager
def claimed(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Claim a shard of a store while computing it. The system frees the claim of a process that dies.

    Args:
        folder: The store's folder.
        name: The name of the shard's file.
        wait: Wait until the process that holds the claim is done; otherwise give up at once.

    Yields:
        Whether this process holds the claim.
    """
    lock = FileLock(folder / ".claims" / f"{name}.lock")
    try:
        with full_disk(folder):
            (folder / ".claims").mkdir(exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
