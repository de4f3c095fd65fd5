"""What a study or a sweep would run, what of it is cached, and about how long the rest will take.

Each cell is rehearsed: its study computes with steps that compute nothing. What is cached is read; a step that is not cached gives a
stand-in. A study that touches results of earlier steps inside `make` only is rehearsed to its end. Otherwise the rehearsal ends where a
stand-in is touched, and the steps after that are taken from earlier runs of the study: the journal in the cache holds their names and
times.

No model is loaded and no file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from ..activations import Activations
from ..core.errors import DamagedStore, UnknownLayer, WrongModel
from ..core.provenance import content_hash, source_hash
from ..prompts import PromptSet
from .amount import Amount
from .cache import Cache
from .handle import ModelHandle, handles
from .keys import settled
from .run import Run
from .steps import Steps
from .study import Study

COLUMNS = ["cell", "step", "status", "seconds", "from"]


class NotYet(BaseException):
    """A rehearsal needs a result that has not been computed. No `except Exception` of a study holds it up."""


class Later:
    """Stands for a result that has not been computed: whatever is asked of it ends the rehearsal.

    Args:
        kind: What it stands for: it passes for one, so that a study may say in its annotations what it takes.
    """

    def __init__(self, kind: type = object) -> None:
        object.__setattr__(self, "_kind", kind)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The type that it stands for."""
        return object.__getattribute__(self, "_kind")

    def __getattr__(self, name: str) -> Any:
        raise NotYet(name)

    def _touched(self, *_: Any) -> Any:
        raise NotYet("a result")

    __len__ = __iter__ = __getitem__ = __contains__ = __bool__ = __call__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _touched
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __and__ = __or__ = __invert__ = _touched
    __float__ = __int__ = __index__ = __array__ = __fspath__ = __str__ = __format__ = __hash__ = _touched

    def __ne__(self, other: object) -> Any:
        raise NotYet("a result")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that is known to come.

    Attributes:
        name: What it does.
        cached: Whether its result is there.
        amount: What it has to do.
        key: What it computes, for steps that several cells share.
    """

    name: str
    cached: bool
    amount: Amount = field(default_factory=Amount)
    key: str = ""


class RehearsedSteps(Steps):
    """Steps that compute and write nothing."""

    def __init__(self, study: Study, settings: Any, models: Mapping[str, ModelHandle], cache: Cache) -> None:
        super().__init__(Run(Path("plan"), {"steps": [], "study": study.name}, cache=cache), study, settings, models, progress=False)
        self.seen: list[Step] = []

    def _publish(self, tables: Mapping[str, pd.DataFrame]) -> None:
        self.run.tables |= tables

    def _tables(self, paths: Mapping[str, Path], make: Any, doing: str, amount: Amount, *, single: bool) -> Any:
        tables = self._cached(paths, doing)
        key = content_hash(*(p.name for p in paths.values()))
        self.seen.append(Step(name=doing, cached=tables is not None, amount=amount, key=key))
        return tables if tables is not None else {name: Later(pd.DataFrame) for name in paths}

    def choose(
        self,
        name: str,
        key: Any,
        make: Callable[[], pd.DataFrame],
        pick: Callable[[pd.DataFrame], Any],
        otherwise: Any,
        *,
        items: int = 0,
        tokens: float = 0,
    ) -> Any:
        """Return what a cached table decides, or what is assumed without one."""
        table = self.table(name, key, make, items=items, tokens=tokens)
        return otherwise if type(table) is Later else pick(table)

    def activations(
        self,
        name: str,
        key: Any,
        prompts: PromptSet,
        make: Callable[[Path], Activations],
        *,
        layers: Sequence[int] | None = None,
        answers: bool = False,
    ) -> Any:
        """Return cached activations, or a stand-in."""
        self._begin(name, make=make)
        key = settled(key)
        out: Any = None
        try:
            out = Activations.load(self.run.cache.activations(key), prompts=prompts.hash, layers=layers)
            if answers and not out.answered:
                out = None
        except (DamagedStore, WrongModel, UnknownLayer):
            out = None
        whole = content_hash(key, prompts.hash, layers, answers)
        self.seen.append(Step(name=name, cached=out is not None, amount=self.tally.reads(prompts, layers, content_hash(key)), key=whole))
        return Later(Activations) if out is None else out

    def folder(self, name: str, key: Any = None, make: Any = None, *, doing: str = "", keep: bool = True, resumes: bool = False) -> Any:
        """Return a cached folder, or a stand-in."""
        self._begin(doing or name, "folder", (name,) if keep else (), make)
        path = self.run.cache.folder(name, self._key(key), self.source)
        cached = self._whole(path, doing or name)
        self.seen.append(Step(name=doing or name, cached=cached, amount=self.tally.declared(), key=path.name))
        return path if cached else Later(Path)


def rehearse(study: Study, models: Mapping[str, ModelHandle], settings: Any, cache: Cache) -> tuple[list[Step], bool]:
    """Return the steps that are known to come.

    Args:
        study: The study.
        models: Handles by role; none is loaded.
        settings: The study's settings.
        cache: Where steps are kept; it is read only.

    Returns:
        The steps, and whether these are all. An error of the study itself is raised, whatever is cached.
    """
    steps = RehearsedSteps(study, settings, models, cache)
    try:
        study.compute(models, settings, steps)
    except NotYet:
        return steps.seen, False
    return steps.seen, True


def expected(
    study: str, steps: Sequence[Step], whole: bool, facts: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the steps of a cell with their expected seconds, from the journal of earlier runs.

    A step's time is the median over earlier runs of it on a model of this size, each scaled by how much there was to do (`Amount`). Without
    any it is that on other models, scaled by their size too. A step that was never run takes as long for its amount as other steps did, or
    as long as a rule says.

    Args:
        study: Name of the study.
        steps: The steps that are known to come.
        whole: Whether these are all.
        facts: What the run's record says: `size`, `fast`, `layers`.
        journal: Earlier steps of any study.

    Returns:
        Rows with `step, status, seconds, from, key`.
    """
    mine = [e for e in journal if e["study"] == study]
    rows = []
    for step in steps:
        seconds, source = (0.0, "cache") if step.cached else _seconds(step.name, step.amount, mine, journal, facts)
        status = "cached" if step.cached else "to run"
        rows.append({"step": step.name, "status": status, "seconds": seconds, "from": source, "key": step.key})
    if not whole:
        rows += _likely(mine, journal, {step.name for step in steps}, steps[-1].amount if steps else Amount(), facts)
    return rows


def _likely(
    mine: Sequence[Mapping[str, Any]], journal: Sequence[Mapping[str, Any]], known: set[str], last: Amount, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Steps of earlier runs that come after the last one that is known."""
    newest = [e for e in mine if e.get("source") == source_hash()] or mine  # steps of older code may not be there any more
    alike = [e for e in newest if e.get("fast") == facts.get("fast")] or newest
    later = [n for n in dict.fromkeys(e["step"] for e in alike) if n not in known and not n.startswith(("read ", "ask "))]
    rows = []
    for name in later:
        # how much it does was not rehearsed: it is taken to grow with what was read until then
        tokens, read = next((float(e.get("tokens") or 0), float(e.get("read") or 0)) for e in reversed(alike) if e["step"] == name)
        amount = Amount(tokens=tokens * last.read / read, read=last.read) if read else Amount(tokens=tokens)
        seconds, source = _seconds(name, amount, mine, journal, facts)
        rows.append({"step": name, "status": "likely", "seconds": seconds, "from": source})
    if not later and not any(e["step"] in known for e in mine):
        nothing = "unknown until it was run once: compute() looks into a step's result outside of a step"
        rows.append({"step": "(further steps)", "status": "unknown", "seconds": float("nan"), "from": nothing})
    return rows


def _seconds(
    name: str,
    amount: Amount,
    mine: Sequence[Mapping[str, Any]],
    journal: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> tuple[float, str]:
    """Expected seconds of a step, and from where."""
    size = float(facts.get("size") or 0)

    def alike(entries: Sequence[Mapping[str, Any]], **same: Any) -> list[tuple[Mapping[str, Any], float]]:
        compared = [(e, amount.times(float(e.get("tokens") or 0), float(e.get("read") or 0))) for e in entries]
        return [(e, times) for e, times in compared if times is not None and all(e.get(k) == v for k, v in same.items())]

    def told(found: Sequence[tuple[Mapping[str, Any], float]]) -> float:
        return median(float(e["seconds"]) * times * amount.scale(size, float(e.get("size") or 0)) for e, times in found)

    here = [e for e in mine if e["step"] == name]
    how = ", scaled by how much there is to do" if amount.tokens or amount.read else ", of which nothing says how much there is to do"
    if found := [(e, t) for e, t in alike(here, size=facts.get("size"), fast=facts.get("fast")) if abs(t - 1) < 0.05]:
        return told(found), "earlier runs"
    if found := alike(here, size=facts.get("size")):
        return told(found), f"earlier runs with another grid{how}"
    if found := alike(here):
        return told(found), f"earlier runs on other models{how}"
    kind = [e for e in journal if bool(e.get("tokens")) == bool(amount.tokens) and (e.get("tokens") or e.get("read"))]
    if found := alike([e for e in kind if float(e["seconds"]) > 0], size=facts.get("size")):
        return told(found), "other steps of this model"
    return amount.by_rule(size)


def plan_cell(study: Study, models: Mapping[str, Any], settings: Any, *, fast: bool, cache: Cache) -> list[dict[str, Any]]:
    """Return the steps of one run of a study with status and expected seconds.

    Args:
        study: The study.
        models: What each role is given.
        settings: Its settings.
        fast: Whether these are those of the small grid.
        cache: Where steps are kept.

    Returns:
        Rows with `step, status, seconds, from, key`.
    """
    by_role = handles(models, cache, identify=False)
    steps, whole = rehearse(study, by_role, settings, cache)
    facts = {"size": sum({m.info.name: m.size for m in by_role.values()}.values()), "fast": fast}
    return expected(study.name, steps, whole, facts, cache.journal())


def spoken(table: pd.DataFrame, workers: int = 1) -> str:
    """Return a plan in words: a line per cell, and the sum.

    Args:
        table: What `plan` returns.
        workers: Among how many processes the time is divided.

    Returns:
        Lines of text.
    """
    lines = []
    for cell, rows in table.groupby("cell", sort=False):
        counts = rows["status"].value_counts()
        parts = [f"{counts[s]} {s}" for s in ("finished", "cached", "shared", "to run", "likely", "unknown") if s in counts]
        lines.append(f"{cell!s:<52} {', '.join(parts):<44} {_duration(rows)}")
    unknown = table["seconds"].isna()
    total = float(table["seconds"].sum()) / max(1, workers)
    tail = f", and {int(unknown.sum())} steps whose time is unknown" if unknown.any() else ""
    lines += ["", f"about {_human(total)}{f' with {workers} workers' if workers > 1 else ''}{tail}"]
    return "\n".join(lines)


def _duration(rows: pd.DataFrame) -> str:
    known = float(rows["seconds"].sum())
    return ("about " + _human(known) if known else "") + (" + ?" if rows["seconds"].isna().any() else "")


def _human(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
