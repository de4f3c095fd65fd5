"""What studies have computed, by content, for all of them: a step is never repeated, whichever study asks for it.

    ROOT/acts/HASH/        activations of one model, site and position: every prompt set that any study read there
    ROOT/tables/HASH.parquet
    ROOT/journal.jsonl     how long each step took, for `--plan`

ROOT is `WORKBENCH_CACHE`, or `~/.cache/workbench`. Keys hold a hash of the source that computes the thing: reading depends on `core`,
`models` and `activations`; tables on everything but figures, reports and the command line. Versions of the packages are in both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from ..core.provenance import content_hash, source_hash, versions

READS = ("core/", "models/", "activations/")
SHOWS = ("core/show.py", "core/notebook.py", "core/machine.py")  # how things look in a notebook, and the doctor
DRAWS = ("figures/", "cli.py", "doctor.py", "__init__.py", *SHOWS)
_KEPT = 4000


def cache_root() -> Path:
    """Return the folder that studies share what they computed in: `WORKBENCH_CACHE`, or `~/.cache/workbench`."""
    given = os.environ.get("WORKBENCH_CACHE")
    return Path(given).expanduser() if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench"


class Cache:
    """A cache folder.

    Args:
        root: The folder; by default `cache_root()`.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else cache_root()

    def activations(self, key: Any) -> Path:
        """Return the folder of the activations of one model, site and position."""
        return self.root / "acts" / content_hash(source_hash(only=READS, without=SHOWS), versions(), key)

    def table(self, name: str, key: Any) -> Path:
        """Return the file of a step's table."""
        return self.root / "tables" / f"{content_hash(source_hash(without=DRAWS, endings=('_report.py',)), versions(), name, key)}.parquet"

    def write(self, path: Path, table: pd.DataFrame) -> None:
        """Write a table whole or not at all; several processes may write the same one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        table.to_parquet(temporary)
        temporary.replace(path)

    def note(self, **entry: Any) -> None:
        """Add a line to the journal."""
        path = self.root / "journal.jsonl"
        with suppress(OSError):  # a journal is a convenience: a full or read-only disk fails where it matters
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")), path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry, default=str) + "\n")

    def journal(self) -> list[dict[str, Any]]:
        """Return the journal's latest lines."""
        path = self.root / "journal.jsonl"
        if not path.is_file():
            return []
        out = []
        for line in path.read_text(encoding="utf-8").splitlines()[-_KEPT:]:
            with suppress(ValueError):  # a line that was cut off when a process was killed
                out.append(json.loads(line))
        return [entry for entry in out if isinstance(entry, dict) and {"study", "step", "seconds"} <= set(entry)]

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of activations and of tables."""
        return {kind: sum(_size(p) for p in _files(self.root / kind)) for kind in ("acts", "tables")}

    def clear(self) -> int:
        """Delete everything that can be computed again and return the number of bytes; the journal stays."""
        freed = sum(self.sizes().values())
        for kind in ("acts", "tables"):
            shutil.rmtree(self.root / kind, ignore_errors=True)
        return freed


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
