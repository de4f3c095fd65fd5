"""The digests of a run's tables, of the rows of its figures and of its report's words, by which a later edit is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .record import SCHEMA

_PUBLISHED = ("tables/*.csv", "tables/*.parquet", "figures/*.csv", "report.json")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, as hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """Return the digests of what a run has published, by path inside its folder."""
    return {p.relative_to(folder).as_posix(): file_digest(p) for kind in _PUBLISHED for p in sorted(folder.glob(kind)) if p.is_file()}


def altered(folder: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which published files of a finished run are not what it wrote.

    Args:
        folder: The run.
        record: Its record. Records of older versions hold no digests.

    Returns:
        Paths inside the folder: what was changed, and tables that the record has no digest of.
    """
    written = record.get("digests", {})
    if record.get("schema", 0) < SCHEMA and not written:
        return ()
    now = digests_of(folder)
    tables = [f"tables/{name}.csv" for name in record["tables"]]
    return tuple(sorted(name for name in {*tables, *written} if name in now and now[name] != written.get(name)))


def told(run: str, names: Iterable[str]) -> str:
    """Return in words which files were changed.

    Args:
        run: Name of the run.
        names: What `altered` returned.

    Returns:
        A sentence, "" where nothing was changed.
    """
    changed = ", ".join(names)
    return f"{changed} in {run}: changed after the run wrote it; its digest is not the one in run.json" if changed else ""
