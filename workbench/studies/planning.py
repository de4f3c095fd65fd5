"""What a study or a sweep would run, what of it is cached, and about how long the rest will take.

Each cell is rehearsed: its study runs against a run that computes nothing. What is cached is read; a step that is not is noted, and the
rehearsal goes on until something needs its result. The steps after that are known from earlier runs of the same study, if there were any:
the journal in the cache holds their names and times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from ..activations import Activations, capture
from ..core.errors import WorkbenchError
from ..core.provenance import content_hash, source_hash
from ..evaluation import choose_answers
from ..models import info, load_model
from ..prompts import PromptSet, udhr
from .cache import Cache
from .run import Run
from .running import modules, settings_of

COLUMNS = ["cell", "step", "status", "seconds", "from"]


class NotYet(Exception):
    """A rehearsal needs a result that has not been computed."""


class Later:
    """Stands for a result that has not been computed: whatever is asked of it ends the rehearsal."""

    def __getattr__(self, name: str) -> Any:
        raise NotYet(name)

    def __len__(self) -> int:
        raise NotYet("len")

    def __iter__(self) -> Any:
        raise NotYet("iter")

    def __getitem__(self, key: Any) -> Any:
        raise NotYet(str(key))


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that is known to come.

    Attributes:
        name: What it does.
        cached: Whether its result is there.
        items: How many items the model reads for it, 0 where that is not what takes time.
        key: What it computes, for steps that several cells share.
    """

    name: str
    cached: bool
    items: int = 0
    key: str = ""


class Rehearsal(Run):
    """A run that writes nothing and computes nothing."""

    def __init__(self, cache: Cache) -> None:
        super().__init__(Path("rehearsal"), {"steps": [], "study": ""}, lambda _: None, cache)
        self.seen: list[Step] = []

    def _write(self) -> None:
        pass

    def log(self, name: str, started: float, cached: bool) -> None:
        """Note a step that is cached."""
        if cached:
            self.seen.append(Step(name=name, cached=True))

    def table(self, name: str, key: Any, make: Callable[[], pd.DataFrame], *, items: int = 0) -> Any:
        """Return a cached table, or a stand-in."""
        if self.cache.table(name, key).is_file():
            return super().table(name, key, make)
        self.seen.append(Step(name=name, cached=False, items=items, key=content_hash(name, key)))
        return Later()

    def activations(
        self, name: str, key: Any, prompts: PromptSet, make: Callable[[Path], Activations], *, layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Any:  # fmt: skip
        """Return cached activations, or a stand-in."""

        def stop(_: Path) -> Activations:
            raise NotYet(name)

        try:
            return super().activations(name, key, prompts, stop, layers=layers, answers=answers)
        except NotYet:
            self.seen.append(Step(name=name, cached=False, items=len(prompts), key=content_hash(key, prompts.hash, layers, answers)))
            return Later()

    def keep(self, name: str, table: Any) -> Any:
        """Keep a table in memory only."""
        self.tables[name] = table
        return table


def rehearse(study: str, model: Any, settings: Any, cache: Cache) -> tuple[list[Step], bool]:
    """Return the steps that are known to come, and whether these are all."""
    run = Rehearsal(cache)
    module, _ = modules(study)
    try:
        module.compute(model, settings, run, False)
    except WorkbenchError:
        raise
    except Exception:
        # a stand-in was given to something that wants the real thing, which may raise whatever it likes;
        # without a stand-in the error is the study's own
        if all(step.cached for step in run.seen):
            raise
        return run.seen, False
    return run.seen, all(step.cached for step in run.seen)


def expected(
    study: str, steps: Sequence[Step], whole: bool, facts: Mapping[str, Any], journal: Sequence[Mapping[str, Any]], rate: Callable[[], float]
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the steps of a cell with their expected seconds, from the journal of earlier runs.

    A step's time is the median over earlier runs of the most similar kind: same model size and grid before same grid before any; times of
    another model are scaled by its size. A step that was never run is judged by its items and a short trial of the model (`rate`, seconds an item).
    """
    mine = [e for e in journal if e["study"] == study]
    rows = []
    for step in steps:
        seconds, source = (0.0, "cache") if step.cached else _seconds(step.name, mine, facts)
        if seconds != seconds and step.items:
            seconds, source = step.items * rate(), "a short trial of the model"
        rows.append(
            {"step": step.name, "status": "cached" if step.cached else "to run", "seconds": seconds, "from": source, "key": step.key}
        )
    if not whole:
        known = {step.name for step in steps}
        newest = [e for e in mine if e.get("source") == source_hash()] or mine  # steps of older code may not be there any more
        alike = [e for e in newest if e.get("fast") == facts.get("fast")] or newest
        later = [n for n in dict.fromkeys(e["step"] for e in alike) if n not in known and not n.startswith(("read ", "ask "))]
        for name in later:
            seconds, source = _seconds(name, mine, facts)
            rows.append({"step": name, "status": "likely", "seconds": seconds, "from": source})
        if not later and not any(e["step"] in known for e in mine):
            rows.append(
                {
                    "step": "(further steps)",
                    "status": "unknown",
                    "seconds": float("nan"),
                    "from": "no earlier run of this study to judge by",
                }
            )
    return rows


def _trial(model: Any) -> float:
    """Seconds an item takes to read, from sixteen items under a claim."""
    some = udhr("since_claim", "harm", n=16, answers=choose_answers(model))
    capture(model, some[:2], logits="answers", progress=False)
    started = time.perf_counter()
    capture(model, some, logits="answers", progress=False)
    return (time.perf_counter() - started) / len(some)


def _seconds(name: str, journal: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> tuple[float, str]:
    same = [e for e in journal if e["step"] == name]
    for keys, what in (
        (("size", "fast"), "earlier runs"),
        (("fast",), "earlier runs on other models"),
        ((), "earlier runs with another grid"),
    ):
        some = [e for e in same if all(e.get(k) == facts.get(k) for k in keys)]
        if some:
            scale = [
                1.0 if e.get("size") == facts.get("size") else float(facts["size"]) / max(1.0, float(e.get("size") or 1)) for e in some
            ]
            return median(float(e["seconds"]) * s for e, s in zip(some, scale, strict=True)), what
    return float("nan"), "never run before"


def plan(
    sweep: Any, *, out: str | Path | None = None, cache: str | Path | None = None, say: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:  # fmt: skip
    """Say what a sweep (or one study) would run, what is cached, and about how long the rest will take. Runs no study.

    Args:
        sweep: A `Sweep`, the path of its toml file, or the name of a study.
        out: The folder that it would be written to: finished cells there are not run again.
        cache: As for `run_study`.
        say: Receives a line per model that is loaded.

    Returns:
        One row per step: `cell, step, status, seconds, from`. Status "finished" (the whole cell is), "cached", "to run", "likely" (from earlier
        runs of the study), "unknown". Seconds are nan where there is nothing to judge by; they are those of one process.

    Raises:
        BadInput: As `Sweep`; and whatever else of a model or of prompts would end the run.
    """
    from .grid import placed
    from .worker import finished_cells

    sweep, folder = placed(sweep, out)
    store = Cache(cache)
    done = finished_cells(folder, sweep)
    journal = store.journal()
    rows: list[dict[str, Any]] = []
    name, model = "", None
    counted: set[str] = set()
    for cell in sweep.cells():
        if cell.name in done:
            rows.append({"cell": cell.name, "step": "(all)", "status": "finished", "seconds": 0.0, "from": "the run folder"})
            continue
        if cell.model != name:
            model = None  # let go of one before the next is loaded
            say(f"loading {cell.model}")
            name, model = cell.model, load_model(cell.model)
        settings = settings_of(sweep.study, seed=cell.seed, fast=sweep.fast, **cell.settings)
        facts = {"size": sum(p.numel() for p in model.parameters()), "fast": sweep.fast, "layers": info(model).n_layers}  # pyright: ignore[reportOptionalMemberAccess]
        steps, whole = rehearse(sweep.study, model, settings, store)
        for row in expected(sweep.study, steps, whole, facts, journal, once(partial(_trial, model))):
            key = row.pop("key", "")
            if row["status"] == "to run" and key in counted:
                row |= {"status": "shared", "seconds": 0.0, "from": "an earlier cell"}
            if key:
                counted.add(key)
            rows.append({"cell": cell.name, **row})
    return pd.DataFrame(rows, columns=COLUMNS)


def spoken(table: pd.DataFrame, workers: int = 1) -> str:
    """Return a plan in words: a line per cell, and the sum."""
    lines = []
    for cell, rows in table.groupby("cell", sort=False):
        counts = rows["status"].value_counts()
        parts = [f"{counts[s]} {s}" for s in ("finished", "cached", "shared", "to run", "likely", "unknown") if s in counts]
        lines.append(f"{cell!s:<52} {', '.join(parts):<44} {_duration(rows)}")
    unknown = table["seconds"].isna()
    total = float(table["seconds"].sum()) / max(1, workers)
    tail = f", and {int(unknown.sum())} steps that nothing is known of" if unknown.any() else ""
    lines += ["", f"about {_human(total)}{f' with {workers} workers' if workers > 1 else ''}{tail}"]
    return "\n".join(lines)


def _duration(rows: pd.DataFrame) -> str:
    known = float(rows["seconds"].sum())
    return ("about " + _human(known) if known else "") + (" + ?" if rows["seconds"].isna().any() else "")


def _human(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
