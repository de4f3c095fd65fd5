"""A run: one folder that holds a study's tables, figures, report and the record of how they were made.

    index.html       the report; report.json is what it says
    run.json         the reproduction card: study, model, settings, seed, versions, commit, times
    tables/*.csv     the results
    figures/*        each figure, and the rows that it draws as csv
    inputs/*         copies of the tables that the user brought

Every step is cached by content (`cache`), so a rerun repeats nothing, a killed run resumes at the step it was in, and a changed line of code
recomputes.
"""

from __future__ import annotations

import html
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..core.errors import DamagedRun, DamagedStore, OutputFolder, UnknownLayer, WrongModel
from ..core.provenance import provenance, source_hash
from ..figures import read_rows
from .cache import Cache

if TYPE_CHECKING:  # a run is read, compared and drawn again without torch
    from ..activations import Activations
    from ..prompts import PromptSet

SCHEMA = 2
RECORD = "run.json"


class Run:
    """A study's folder, open for work or finished.

    Attributes:
        folder: Where everything lies.
        record: What `run.json` holds.
        tables: The result tables by name, once made.
        findings: The findings in words, once made.
        formats: Of its figures; `None` for html, and stills where a browser is found.
    """

    def __init__(self, folder: Path, record: dict[str, Any], say: Callable[[str], None], cache: Cache | None = None) -> None:
        self.folder = folder
        self.record = record
        self.tables: dict[str, pd.DataFrame] = {}
        self.findings: list[str] = []
        self.formats: tuple[str, ...] | None = None
        self.cache = cache or Cache()
        self._say = say
        self._started = time.perf_counter()

    @classmethod
    def open(
        cls, out: str | Path, *, study: str, settings: Mapping[str, Any], say: Callable[[str], None] = lambda _: None,
        cache: Cache | None = None, **facts: Any,
    ) -> Run:  # fmt: skip
        """Begin a run folder, or go on in one of the same study.

        Args:
            out: The folder.
            study: Name of the study.
            settings: All that decides the results.
            say: Receives a line per step.
            cache: Where steps are kept.
            facts: Further entries of `run.json`.

        Raises:
            OutputFolder: The folder holds something else.
        """
        folder = Path(out)
        check_output(folder, study)
        folder.mkdir(parents=True, exist_ok=True)
        record = provenance(schema=SCHEMA, study=study, status="running", settings=dict(settings), source=source_hash(), **facts)
        record["started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record["steps"] = []
        run = cls(folder, record, say, cache)
        run._write()
        return run

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Open a finished run: its record, its findings and its tables, without a model.

        Raises:
            DamagedRun: There is no such run, or it was not finished.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record.get("status") != "finished":
            raise DamagedRun(
                f"the run in {folder.name} is {record.get('status', 'of no known status')}, not finished; run it again to go on"
            )
        run = cls(folder, record, lambda _: None)
        run.findings = list(record.get("findings", []))
        run.tables = {name: read_rows(folder / "tables" / f"{name}.csv") for name in record.get("tables", [])}
        return run

    def _write(self) -> None:
        path = self.folder / RECORD
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self.record, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        temporary.replace(path)

    def log(self, name: str, started: float, cached: bool) -> None:
        """Note that a step is done."""
        seconds = time.perf_counter() - started
        self.record["steps"].append({"step": name, "seconds": round(seconds, 2), "cached": cached})
        self._say(f"  {name:<52} {'cached' if cached else f'{seconds:.1f} s'}")
        if not cached:
            facts = {k: self.record.get(k) for k in ("study", "fast", "size", "layers", "source")}
            self.cache.note(**facts, step=name, seconds=round(seconds, 3))
        self._write()

    def table(self, name: str, key: Any, make: Callable[[], pd.DataFrame], *, items: int = 0) -> pd.DataFrame:
        """Return a cached table, or make and cache it.

        Args:
            name: What the step does, for the log.
            key: Everything that decides the result, JSON-like (a hash of the source is added).
            make: Makes the table.
            items: Items that the model reads for it, where that is what takes the time; for `--plan`.
        """
        started = time.perf_counter()
        path = self.cache.table(name, key)
        cached = path.is_file()
        if cached:
            out = pd.read_parquet(path)
        else:
            self._say(f"  {name} …")
            out = make()
            out.attrs = {}
            self.cache.write(path, out)
        self.log(name, started, cached)
        return out

    def activations(
        self, name: str, key: Any, prompts: PromptSet, make: Callable[[Path], Activations], *, layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Activations:  # fmt: skip
        """Return cached activations, or capture them into the cache.

        Args:
            name: What the step does, for the log.
            key: What decides the store: model, site, position. Prompt sets of one key share a folder.
            prompts: What is read.
            make: Receives the folder to stream to.
            layers: The layers that are needed; `None` for those that are there.
            answers: Whether the log-probabilities of the answers are needed.
        """
        from ..activations import Activations

        started = time.perf_counter()
        folder = self.cache.activations(key)
        cached = True
        try:
            out = Activations.load(folder, prompts=prompts.hash, layers=layers)
            if answers and not out.answered:
                raise DamagedStore("read without answers")
        except (DamagedStore, WrongModel, UnknownLayer):  # none yet, unfinished, less than asked or damaged: capture goes on and mends it
            cached = False
            self._say(f"  {name} …")
            folder.parent.mkdir(parents=True, exist_ok=True)
            out = make(folder)
        self.log(name, started, cached)
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

    def fail(self, error: BaseException) -> None:
        """Write the record of a run that an error ended; running it again goes on."""
        stopped = isinstance(error, KeyboardInterrupt)
        self.record |= {"status": "stopped" if stopped else "failed", "error": "" if stopped else f"{type(error).__name__}: {error}"}
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
    if not folder.is_dir() or not any(p.suffix != ".tmp" for p in folder.iterdir()):
        return
    try:
        record = read_record(folder)
    except DamagedRun:
        raise OutputFolder(f"{folder.name} holds something else (no {RECORD}); choose an empty folder with --out") from None
    if record.get("study") != study:
        raise OutputFolder(f"{folder.name} holds a run of the study {record.get('study')!r}, not {study!r}; choose another folder")


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run's `run.json` holds.

    Raises:
        DamagedRun: There is none, it cannot be read, or a newer version wrote it.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DamagedRun(f"no run in {str(folder)!r}: it has no readable {RECORD}") from None
    lists = all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in (_of(record, "tables"), _of(record, "findings")))
    if not isinstance(record, dict) or not lists or not isinstance(record.get("settings", {}), dict):
        raise DamagedRun(f"{RECORD} in {folder.name} is not a record")
    if not isinstance(record.get("schema", 0), int) or record.get("schema", 0) > SCHEMA:
        raise DamagedRun(f"the run in {folder.name} was written by a newer version (schema {record['schema']}, this one knows {SCHEMA})")
    for name in record.get("tables", []):
        check_name(name, folder)
    return record


def _of(record: Any, key: str) -> Any:
    return record.get(key, []) if isinstance(record, dict) else None


def check_name(name: Any, folder: Path) -> str:
    """Return a name of a table or a figure as a run's documents give it, if it may become a file: a run folder may be a stranger's.

    Raises:
        DamagedRun: It could name a file elsewhere.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
        raise DamagedRun(f"{folder.name} names {str(name)[:60]!r}, which is not a name of a table or a figure")
    return name
