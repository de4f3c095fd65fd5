"""Ratings kept on disk, one small file each, named by what was asked."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...core.errors import BadInput, DiskFull


@dataclass(frozen=True, kw_only=True)
class Rated:
    """One rating.

    Attributes:
        rating: 0 to 10, or `None` where the judge gave none.
        reason: The judge's reason, or why there is none.
        model: What the endpoint says answered.
    """

    rating: float | None
    reason: str
    model: str = ""

    def __post_init__(self) -> None:
        if self.rating is not None and not 0 <= self.rating <= 10:
            raise BadInput(f"a rating of {self.rating}; ratings lie between 0 and 10")


class RatingCache:
    """A folder of ratings. A file is whole or not there, so that a killed run leaves nothing half-written.

    Args:
        folder: Made if need be; `None` keeps nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"cache={self.folder.name!r} is a file; give a folder")

    def get(self, key: str) -> Rated | None:
        """Return a rating, `None` where there is none or its file cannot be read (it is then asked for again)."""
        if self.folder is None:
            return None
        try:
            record = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            if record["key"] != key or isinstance(record["rating"], bool | None):
                return None
            return Rated(rating=float(record["rating"]), reason=str(record["reason"]), model=str(record["model"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, rated: Rated, asked: Mapping[str, object]) -> None:
        """Keep a rating, with what was asked (never a credential) beside it for the reader.

        Raises:
            DiskFull: There is no room for it.
        """
        if self.folder is None:
            return
        text = json.dumps({"key": key, **asdict(rated), "asked": dict(asked)}, ensure_ascii=False, indent=1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(key, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"{self.folder.name}: no room left for ratings. Those written before are whole; free some room and run it again"
            ) from error

    def _write(self, key: str, text: str) -> None:
        assert self.folder is not None
        # a name of its own: another process may write the same rating at the same time
        # half a character (a lone surrogate) is written as JSON escapes it, and read back as it was
        handle, temporary = tempfile.mkstemp(prefix=f".{key}.", suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            Path(temporary).replace(self.folder / f"{key}.json")
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
