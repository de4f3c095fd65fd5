"""Which files of a store were found whole, so that opening the store does not compare all of them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import locked, plain, read_file, write_file
from .manifest import STAMPS


class Stamps:
    """Size, time and checksum of a store's files when they were last found whole.

    They tell early that a file was replaced. They prove nothing: a file can be damaged at the same size and time, so a capture
    that goes on from a shard compares all of its bytes, and a tensor is compared when it is read.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, Any]:
        """Return the stamps by file name: size, time in nanoseconds, sha256."""
        try:
            stamps = json.loads(read_file(self.folder / STAMPS))
        except (OSError, ValueError, RecursionError):
            return {}
        return stamps if isinstance(stamps, dict) else {}

    def unknown(self, names: Sequence[str], shards: Mapping[str, Any]) -> list[str]:
        """Return the files that are missing, or do not have the size and time at which they were last found whole."""
        stamps = self.read()

        def fits(name: str) -> bool:
            with suppress(OSError):
                return stamps.get(name) == self._stamp(name, shards)
            return False

        return [name for name in names if not fits(name)]

    def add(self, names: Sequence[str], shards: Mapping[str, Any]) -> None:
        """Record files whose checksum was just compared. On a full or read-only disk nothing is recorded.

        Args:
            names: Names of the files.
            shards: The manifest's entry of each file.
        """
        with suppress(OSError), locked(self.folder):
            stamps = self.read() | {name: self._stamp(name, shards) for name in names}
            write_file(self.folder / STAMPS, json.dumps(stamps).encode())

    def drop(self, name: str) -> None:
        """Forget a file, so that whoever opens the store next compares the checksum of the whole file."""
        with suppress(OSError), locked(self.folder):
            stamps = self.read()
            if stamps.pop(name, None) is not None:
                write_file(self.folder / STAMPS, json.dumps(stamps).encode())

    def _stamp(self, name: str, shards: Mapping[str, Any]) -> list[Any]:
        state = plain(self.folder / name)
        return [state.st_size, state.st_mtime_ns, shards[name]["sha256"]]
