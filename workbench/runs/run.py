"""A run: one folder that holds a study's tables, figures, report and the record of how they were made.

    index.html       the report; report.json is what it says
    run.json         the reproduction card: study, models by role, settings, seed, versions, commit, times
    tables/*.csv     the results
    figures/*        each figure, and the rows that it draws as csv
    NAME/            files that a step wrote and kept (vectors, adapters)
    inputs/*         copies of the tables that the user brought

Every step that fills it is cached by content (`steps`), so a rerun repeats nothing, and a killed run resumes at the step it was in.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import DamagedRun
from ..core.provenance import provenance, source_hash
from ..core.show import visible
from ..core.tables import read_csv, write_csv
from .amount import Amount
from .cache import Cache
from .digests import altered, digests_of
from .inside import check_inside
from .record import SCHEMA, check_output, end_record, read_record, write_record


class Run:
    """A study's folder, open for work or finished.

    Attributes:
        folder: Where everything lies.
        record: What `run.json` holds.
        tables: The result tables by name, once made.
        findings: The findings in words, once made.
        formats: Of its figures; `None` for html, and stills where a browser is found.
        altered: Of a run that was loaded: published files (`tables/NAME.csv`, …) that are not what it wrote.
    """

    def __init__(
        self, folder: Path, record: dict[str, Any], say: Callable[[str], None] = lambda _: None, cache: Cache | None = None
    ) -> None:
        self.folder = folder
        self.record = record
        self.tables: dict[str, pd.DataFrame] = {}
        self.findings: list[str] = []
        self.formats: tuple[str, ...] | None = None
        self.altered: tuple[str, ...] = ()
        self.cache = cache or Cache()
        self.say = say
        self._started = time.perf_counter()

    @classmethod
    def open(
        cls,
        out: str | Path,
        *,
        study: str,
        settings: Mapping[str, Any],
        say: Callable[[str], None] = lambda _: None,
        cache: Cache | None = None,
        **facts: Any,
    ) -> Run:
        """Begin a run folder, or resume one of the same study.

        Args:
            out: The folder.
            study: Name of the study.
            settings: All that decides the results.
            say: Receives a line per step.
            cache: Where steps are kept.
            facts: Further entries of `run.json`.

        Returns:
            The run, with status "running".

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

        Args:
            folder: The run's folder.

        Returns:
            The run.

        Raises:
            DamagedRun: There is no such run, it was not finished, something is missing from it, or there are links in it.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record.get("status") != "finished":
            raise DamagedRun(
                f"the run in {folder.name} is {record.get('status', 'of no known status')}, not finished; run it again to go on"
            )
        check_inside(folder)
        run = cls(folder, record)
        run.findings = list(record["findings"])
        run.tables = {name: read_csv(folder / "tables" / f"{name}.csv") for name in record["tables"]}
        run.altered = altered(folder, record)
        return run

    def _write(self) -> None:
        write_record(self.folder, self.record)

    def log(self, name: str, started: float, cached: bool, amount: Amount | None = None) -> None:
        """Note that a step is done, in the record and in the cache's journal.

        Args:
            name: What it did.
            started: `time.perf_counter()` when it began.
            cached: Whether its result was there.
            amount: What it had to do.
        """
        seconds = time.perf_counter() - started
        self.record["steps"].append({"step": name, "seconds": round(seconds, 2), "cached": cached})
        self.say(f"  {name:<52} {'cached' if cached else f'{seconds:.1f} s'}")
        if not cached:
            facts = {k: self.record.get(k) for k in ("study", "fast", "size", "layers", "source")}
            did = amount or Amount()
            self.cache.note(**facts, step=name, seconds=round(seconds, 3), tokens=round(did.tokens), read=round(did.read))
        self._write()

    def keep(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write a result table to `tables/NAME.csv` and keep it.

        Args:
            name: Its name.
            table: The table.

        Returns:
            The table.
        """
        path = self.folder / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        write_csv(path, table)
        self.tables[name] = table
        return table

    # ------------------------------------------------------------------ the end

    def finish(self, **facts: Any) -> None:
        """Write the record of a finished run."""
        self.record |= facts | {
            "status": "finished",
            "findings": self.findings,
            "seconds": round(time.perf_counter() - self._started, 1),
            "tables": sorted(self.tables),
            "digests": digests_of(self.folder),
        }
        self._write()

    def fail(self, error: BaseException) -> None:
        """Write the record of a run that an error ended; running it again resumes."""
        stopped = isinstance(error, KeyboardInterrupt)
        self.record |= {"status": "stopped" if stopped else "failed", "error": "" if stopped else f"{type(error).__name__}: {error}"}
        end_record(self.folder, self.record)

    @property
    def report(self) -> Path:
        """The report, `index.html`."""
        return self.folder / "index.html"

    def __repr__(self) -> str:
        tables = ", ".join(self.tables) or "none"
        return visible(f"Run({self.record['study']!r}, {self.record['status']}, tables: {tables}, report: {self.report})")

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(f)}</li>" for f in self.findings)
        return (
            f"<p><b>{html.escape(str(self.record['study']))}</b>, {self.record['status']}, report: "
            f"<code>{html.escape(str(self.report))}</code>; tables: {html.escape(', '.join(self.tables))}</p><ul>{items}</ul>"
        )
