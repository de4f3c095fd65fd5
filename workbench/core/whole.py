"""Files that are whole or not there: written beside their place under a name of their own, then renamed into it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which replaces `path` at the end, or leaves nothing behind where the block fails.

    Several threads and processes may write the same file at once: each reader sees one of them whole.

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
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; its folder must be there.
        content: Text (written as UTF-8) or bytes.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
