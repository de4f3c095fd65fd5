"""One shard: a safetensors file of which no byte is used before it was compared with the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .files import digest, file_digest, opened, plain, raw

HEADER = "workbench"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError, SafetensorError)


class Shard:
    """An open shard. Its header is compared with its checksum at once, a tensor when it is first read.

    The file is mapped into memory. `same` says whether it is still the file that was opened; if not, make another of this.

    Args:
        path: The file.
        entry: What the manifest says of it.

    Raises:
        OSError: The file is missing, a link or a device, or cannot be read.
        ValueError: It is not the file that was written. Any of `UNREADABLE` means the same.
    """

    def __init__(self, path: Path, entry: Mapping[str, Any]) -> None:
        self.path, self.entry = path, entry
        self._state = self._now()
        self._whole: set[str] = set()
        self.keys: list[str] = []
        with opened(path) as handle:
            start = handle.read(8)
            header = start + handle.read(min(int.from_bytes(start, "little"), self._state[2]))
        # a store that an earlier version wrote has no checksum of the header: there the whole file is compared
        if digest(header) != entry["header"] if "header" in entry else not self.whole():
            raise ValueError("its header differs from its checksum")
        self._file: Any = safe_open(path, framework="pt")
        if not self.same():
            raise ValueError("it was replaced while it was opened")
        self._check()

    def _now(self) -> tuple[int, ...]:
        state = plain(self.path)
        # the time of the last change of any kind is there too, for the time of writing can be set by anyone
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns

    def _check(self) -> None:
        """Raise unless the header describes what the manifest lists: only then does reading a row find that row."""
        self.keys = json.loads(self._file.metadata()[HEADER])["items"]
        items = self.entry["items"]
        if not (isinstance(self.keys, list) and len(self.keys) == items and all(isinstance(k, str) for k in self.keys)):
            raise ValueError("it holds other items")
        for part in self.entry["parts"]:
            shape = self.shape(part)
            axes = 3 if part.startswith(("layer.", "mask")) else 2
            if len(shape) < axes or shape[0] != items or (not part.startswith("logp.") and shape[1] != 2):
                raise ValueError(f"{part} has the shape {shape}")

    def same(self) -> bool:
        """Return whether the file is still the one that was opened, unchanged."""
        try:
            return self._now() == self._state
        except OSError:
            return False

    def whole(self) -> bool:
        """Compare every byte of the file with its checksum; if it is right, its tensors are not compared again."""
        good = self._state[2] == self.entry["bytes"] and file_digest(self.path) == self.entry["sha256"]
        self._whole = set(self.entry["parts"]) if good else set()
        return good

    def shape(self, part: str) -> tuple[int, ...]:
        """Return the shape of a tensor, from the header."""
        return tuple(self._file.get_slice(part).get_shape())

    def tensor(self, part: str) -> Tensor:
        """Return a tensor, mapped into memory.

        Raises:
            ValueError: It differs from its checksum.
        """
        tensor = self._file.get_tensor(part)
        if part not in self._whole and digest(raw(tensor)) != self.entry["tensors"][part]:
            raise ValueError(f"{part} differs from its checksum")
        self._whole.add(part)
        return tensor
