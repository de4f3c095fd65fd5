"""A run: one folder that holds a study's tables, figures, report and the record of how they were made.

Every step is cached by content: the key of a step hashes the package's own source, the model's weights and the step's
settings. So a rerun repeats nothing, a killed run resumes at the step it was in, and a changed line of code recomputes.
"""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..activations import Activations
from ..core.errors import DamagedStore, OutputFolder, WrongModel
from ..core.provenance import content_hash, provenance, source_hash

SCHEMA = 1
RECORD = "run.json"


class Run:
    """A study's folder, open for work or finished.

    Attributes:
        folder: Where everything lies.
        record: What `run.json` holds.
        tables: The result tables by name, once made.
        findings: The findings in words, once made.
    """

    def __init__(self, folder: Path, record: dict[str, Any], say: Callable[[str], None]) -> None:
        self.folder = folder
        self.record = record
        self.tables: dict[str, pd.DataFrame] = {}
        self.findings: list[str] = []
        self._say = say
        self._started = time.perf_counter()

    @classmethod
    def open(cls, out: str | Path, *, study: str, settings: Mapping[str, Any], say: Callable[[str], None] = lambda _: None) -> Run:
        """Begin a run folder, or go on in one of the same study.

        Raises:
            OutputFolder: The folder holds something else.
        """
        folder = Path(out)
        check_output(folder, study)
        (folder / "cache").mkdir(parents=True, exist_ok=True)
        record = provenance(schema=SCHEMA, study=study, status="running", settings=dict(settings), source=source_hash())
        record["started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record["steps"] = []
        run = cls(folder, record, say)
        run._write()
        return run

    def _write(self) -> None:
        path = self.folder / RECORD
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.record, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        temporary.replace(path)

    def _log(self, name: str, started: float, cached: bool) -> None:
        seconds = time.perf_counter() - started
        self.record["steps"].append({"step": name, "seconds": round(seconds, 2), "cached": cached})
        self._say(f"  {name:<52} {'cached' if cached else f'{seconds:.1f} s'}")
        self._write()

    def table(self, name: str, key: Any, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a cached table, or make and cache it.

        Args:
            name: What the step does, for the log.
            key: Everything that decides the result, JSON-like (the source hash is added).
            make: Makes the table.
        """
        started = time.perf_counter()
        path = self.folder / "cache" / f"table-{content_hash(source_hash(), name, key)}.parquet"
        cached = path.is_file()
        if cached:
            out = pd.read_parquet(path)
        else:
            out = make()
            out.attrs = {}
            temporary = path.with_suffix(".tmp")
            out.to_parquet(temporary)
            temporary.replace(path)
        self._log(name, started, cached)
        return out

    def activations(self, name: str, key: Any, prompts: str, make: Callable[[Path], Activations]) -> Activations:
        """Return cached activations, or capture them into the cache.

        Args:
            name: What the step does, for the log.
            key: What decides the store (model, site, position); prompt sets of one key share a folder.
            prompts: The hash of the prompt set.
            make: Receives the folder to stream to.
        """
        started = time.perf_counter()
        folder = self.folder / "cache" / f"acts-{content_hash(source_hash(), key)}"
        cached = True
        try:
            out = Activations.load(folder, prompts=prompts)
        except (DamagedStore, WrongModel):  # none yet, unfinished or damaged: capture resumes and mends it
            cached = False
            out = make(folder)
        self._log(name, started, cached)
        return out

    def keep(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write a result table to `tables/NAME.csv` and keep it."""
        path = self.folder / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False, float_format="%.6g")
        self.tables[name] = table
        return table

    def finish(self, **facts: Any) -> None:
        """Write the record of a finished run."""
        self.record |= facts | {
            "status": "finished", "findings": self.findings, "seconds": round(time.perf_counter() - self._started, 1),
            "tables": sorted(self.tables),
        }  # fmt: skip
        self._write()

    @property
    def report(self) -> Path:
        """The report, `index.html`."""
        return self.folder / "index.html"

    def __repr__(self) -> str:
        return f"Run({self.record['study']!r}, {self.record['status']}, tables: {', '.join(self.tables) or 'none'}, report: {self.report})"

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(f)}</li>" for f in self.findings)
        return (
            f"<p><b>{html.escape(str(self.record['study']))}</b>, {self.record['status']}, report: "
            f"<code>{html.escape(str(self.report))}</code>; tables: {html.escape(', '.join(self.tables))}</p><ul>{items}</ul>"
        )


def check_output(folder: Path, study: str) -> None:
    """Raise unless a run of this study may be written to a folder.

    Raises:
        OutputFolder: It is a file, or holds something that is not a run of this study.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolder(f"{folder.name} is a file; a run needs a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not a record")
    except (OSError, ValueError):
        raise OutputFolder(f"{folder.name} holds something else (no {RECORD}); choose an empty folder with --out") from None
    if record.get("study") != study:
        raise OutputFolder(f"{folder.name} holds a run of the study {record.get('study')!r}, not {study!r}; choose another folder")
