"""Which files of a store are known to be whole, so that their checksums need not be compared again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from .files import write_file

FILE = ".whole.json"


class Stamps:
    """Size, time and checksum of a store's files when they were last found whole.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Any]:
        """Return the stamps by file name: size, time in nanoseconds, sha256."""
        try:
            return json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def add(self, names: Sequence[str], shards: Mapping[str, Any]) -> None:
        """Record files whose checksum was just compared. On a full or read-only disk nothing is recorded.

        Args:
            names: Names of the files.
            shards: The manifest's entry of each file.
        """
        with suppress(OSError), FileLock(self.folder / ".manifest.lock"):
            stamps = self.read()
            for name in names:
                stat = (self.folder / name).stat()
                stamps[name] = [stat.st_size, stat.st_mtime_ns, shards[name]["sha256"]]
            write_file(self.folder / FILE, json.dumps(stamps).encode())

    def drop(self, name: str) -> None:
        """Forget a file, so that the next capture compares the checksum of the whole file."""
        with suppress(OSError), FileLock(self.folder / ".manifest.lock"):
            stamps = self.read()
            stamps.pop(name, None)
            write_file(self.folder / FILE, json.dumps(stamps).encode())
