"""Files that are whole or not there: written beside their place under a name of their own, then renamed into it."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DiskFull, OutputFolder, WorkbenchError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
# libraries that write files themselves pass the system's words on, without its number
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which replaces `path` at the end, or leaves nothing behind where the block fails.

    Several threads and processes may write the same file at once: each reader sees one of them whole. A link is replaced and not followed.

    Args:
        path: The file to be written. Its folder must be there.

    Yields:
        The temporary path, in the same folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):  # on a disk that became read-only the error is told by what was to be written
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; its folder must be there.
        content: Text (written as UTF-8, half a character as its escape) or bytes.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextmanager
def writing(*places: str | Path) -> Iterator[None]:
    """Turn the system's errors while files are written into errors that say what to do.

    Args:
        places: The folders that are written to, or files.

    Raises:
        DiskFull: There is no room.
        OutputFolder: One of the places cannot be written.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        told = _told(error, [Path(p).absolute() for p in places])
        if told is None:
            raise
        raise told from error


@contextmanager
def file_for(path: str | Path) -> Iterator[Path]:
    """Give the path of a file that a user wants, its folder made; raises like `writing`.

    Args:
        path: Where the user wants it.

    Yields:
        The path.
    """
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield Path(path)


def _told(error: Exception, places: list[Path]) -> WorkbenchError | None:
    """The error in our words, `None` for one that is not about writing there."""
    named = getattr(error, "filename", None)
    path = Path(os.fsdecode(named)).absolute() if isinstance(named, str | bytes | os.PathLike) else None
    inside = next((p for p in places if path is not None and (p == path or p in path.parents or path in p.parents)), None)
    if (isinstance(error, OSError) and error.errno in _FULL) or any(words in str(error) for words in _FULL_WORDS):
        where = str(inside) if inside else " or ".join(map(str, places))
        return DiskFull(
            f"no room left to write in {where}{_free(inside or places[0])}. What was written before is whole: free some room (`workbench "
            "cache --clear` deletes what can be computed again), or choose other places with --out and WORKBENCH_CACHE, and run the same "
            "again to go on"
        )
    if isinstance(error, OSError) and error.errno in _REFUSED and inside is not None:
        why = error.strerror or type(error).__name__
        return OutputFolder(
            f"{inside} cannot be written ({why}{'' if path == inside else f': {path}'}). Choose another place, with --out for results and "
            "WORKBENCH_CACHE for what is computed once, or make this one writable"
        )
    return None


def _free(place: Path) -> str:
    with suppress(OSError):
        there = next(p for p in (place, *place.parents) if p.is_dir())
        return f" ({shutil.disk_usage(there).free / 1e6:.1f} MB free)"
    return ""


def check_writable(folder: Path) -> None:
    """Raise unless a folder can be written or made, before anything is computed.

    Args:
        folder: It need not be there; nothing is written.

    Raises:
        OutputFolder: It is a file, lies under one (NotADirectoryError), or cannot be written (PermissionError).
    """
    with writing(folder):
        there = Path(folder).absolute()
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no right to write there, or a read-only disk", str(there))
