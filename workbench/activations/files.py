"""Files of a store: plain files inside its folder, written whole or not at all; their checksums, and the locks on them."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..core.errors import DiskFull, OutputFolder
from ..core.provenance import content_hash
from ..core.whole import replacing

LOCK = ".manifest.lock"
CLAIMS = ".claims"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# a link is refused, and the other end of a pipe is not waited for
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class NotPlain(OSError):
    """A link, a device or a folder where a store keeps a file, or something else where it keeps a folder."""


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


def plain(path: Path) -> os.stat_result:
    """Return the state of a file.

    Raises:
        FileNotFoundError: There is none.
        NotPlain: It is a link, a folder or a device.
    """
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise NotPlain(f"{path.name} is a link or no file")
    return state


def own_folder(path: Path, *, make: bool = False) -> Path:
    """Return a folder inside a store, made if asked for.

    Raises:
        FileNotFoundError: There is none.
        NotPlain: It is a link or a file.
    """
    if make:
        path.mkdir(exist_ok=True)
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise NotPlain(f"{path.name} is a link or no folder")
    return path


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading.

    Raises:
        FileNotFoundError: There is none.
        NotPlain: It is a link, a folder or a device.
    """
    plain(path)
    with os.fdopen(os.open(path, _OPEN), "rb") as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise NotPlain(f"{path.name} is no file")
        yield handle


def read_file(path: Path) -> bytes:
    """Return what a plain file holds; raises like `opened`."""
    with opened(path) as handle:
        return handle.read()


def file_digest(path: Path) -> str:
    """Return the sha256 of a plain file; raises like `opened`."""
    with opened(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, synchronise it, and rename it into place. Callers hold a lock on the name.

    Args:
        path: The file.
        data: What it is to hold.
    """
    with replacing(path) as temporary, temporary.open("xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's errors while a store is written into errors that say what to do.

    Args:
        folder: The store's folder.

    Raises:
        DiskFull: No room is left to write.
        OutputFolder: The folder cannot be written, or holds a link where the store keeps a file.
    """
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"{folder.name}: no room left to write ({error.strerror}). What was written before is whole; free some room and run "
                "the same capture again to go on"
            ) from error
        raise OutputFolder(f"{folder.name} cannot be written ({error.strerror or error}); choose another folder") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store, under which every one of its files is written.

    Raises:
        NotPlain: The lock's file is a link, a folder or a device.
        OSError: The folder cannot be written.
    """
    with FileLock(_lock_file(folder / LOCK)):
        yield


def _lock_file(path: Path) -> Path:
    if os.path.lexists(path):
        plain(path)
    return path


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
    lock = FileLock(folder / CLAIMS / f"{name}.lock")
    held = True
    try:
        try:
            with writing(folder):
                own_folder(folder / CLAIMS, make=True)
                _lock_file(folder / CLAIMS / f"{name}.lock")
                lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            held = False
        yield held
    finally:
        lock.release()
