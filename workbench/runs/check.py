"""The contract of studies, as scikit-learn checks its estimators: `check_study(study)`.

It runs on yours, and on every study of this package in its tests.

1. Its settings are frozen, and wrong ones are refused before a model is touched.
2. A plan writes nothing, loads nothing, computes nothing, and knows every step.
3. Killed in the middle and run again, it gives the same bytes as a run that was not.
4. A second run makes no forward pass: every step is cached, and no model is loaded.
5. Every table has the columns that were declared (a study that declares none: its main table has the columns of a main table), and every
   finding and figure names a table that is there.
6. Redrawn from its documents it is the same.
7. Run again from its own folder with nothing cached, every number agrees.
8. Its report opens without a network.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, BrokenStudy
from .cache import Cache
from .document import DOCUMENT
from .execute import execute, undeclared
from .handle import ModelHandle, handles
from .registry import find
from .rehearsal import rehearse
from .render import redraw
from .reproduce import Rerun, rerun
from .roles import roles_of
from .run import Run
from .settings import settings_of
from .study import Study


class _Killed(BaseException):
    """Stands for a kill: nothing of a study can catch it by accident."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came out of a check.

    Attributes:
        run: The finished run (killed once, then resumed).
        steps: How many steps it has.
        again: How its numbers agree with those of the rerun.
    """

    run: Run
    steps: int
    again: Rerun


def check_study(
    study: Any,
    *,
    model: Any = "bundled",
    models: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Checked:
    """Check that a study keeps the contract of studies.

    It is run with the settings of `--fast`, those that the study declares for its check (`Study.checked`) and `options`, twice: once killed
    half-way and resumed, once afresh from its own folder.

    Args:
        study: A `Study`, the name of one that is installed, or the path of its file.
        model: For a study of one model: by name or folder, so that it can be run again.
        models: For a study of several: by role.
        out: An empty folder for the runs; by default a temporary one, which is kept.
        say: Receives a line per clause.
        options: Settings of the study.

    Returns:
        The run that was checked.

    Raises:
        BrokenStudy: The study breaks a clause; the message says which and where.

    Example:
        >>> from workbench.runs import Main, Study, check_study
        >>> import dataclasses, pandas as pd
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Settings:
        ...     n: int = 4
        >>> def compute(models, settings, run):
        ...     row = {"k": "a", "value": 0.5, "low": 0.4, "high": 0.6, "n": settings.n}
        ...     return run.table("t", make=lambda: pd.DataFrame([row]))
        >>> main = Main(table="t", labels=("k",), axis="share")
        >>> declared = {"t": "k | value low high n"}
        >>> study = Study(name="tiny", asks="is it there?", settings=Settings, compute=compute, models=(), main=main, tables=declared)
        >>> check_study(study).steps
        1
    """
    study = find(study)
    place = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix=f"check-{study.name}-"))
    wanted = {**study.fast, **study.checked, **options}
    _check_settings(study, wanted)
    settings = settings_of(study, **wanted)
    given = roles_of(study, model, models)
    store = Cache(place / "cache")
    say("settings are frozen and refuse what does not exist")
    planned = _check_plan(study, given, settings, place, store)
    say(f"a plan knows {planned} steps, loads nothing, writes nothing")
    run = _killed_and_resumed(study, given, settings, place, store, planned)
    say("killed half-way and resumed")
    _check_second(study, given, settings, place, store, run)
    say("a second run makes no forward pass")
    _check_tables(study, run)
    _check_redrawn(run, place)
    _check_report(run)
    say("tables, figures and report are what was declared")
    mine = {name: one for name in study.inputs if (one := getattr(settings, name)) and not run.record["inputs"].get(name, {}).get("kept")}
    again = rerun(run.folder, out=place / "again", models=given, study=study, progress=False, inputs=mine)
    if not again.agrees:
        raise BrokenStudy(f"{study.name}: run again from its own folder, numbers differ:\n{again}")
    _same_bytes(study, run.folder, place / "again", "an uninterrupted run", figures=False)
    say("run again, every number agrees")
    return Checked(run=run, steps=planned, again=again)


def _check_settings(study: Study, wanted: Mapping[str, Any]) -> None:
    settings = settings_of(study, **wanted)
    for field in dataclasses.fields(settings)[:1]:
        with suppress(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, getattr(settings, field.name))
            raise BrokenStudy(f"{study.name}: its settings can be changed after they were made; declare them frozen")
    with suppress(BadInput):
        settings_of(study, **{**wanted, "a_setting_that_is_not_there": 1})
        raise BrokenStudy(f"{study.name}: it takes a setting that it does not have")
    for name, kind in study.fields.items():
        if kind is int and name != "seed":
            with suppress(BadInput):
                settings_of(study, **{**wanted, name: "a text"})
                raise BrokenStudy(f"{study.name}: {name} takes a text for a number")


def _check_plan(study: Study, given: Mapping[str, Any], settings: Any, place: Path, store: Cache) -> int:
    before = _files(place)
    by_role = handles(given, store, identify=False)
    steps, whole = rehearse(study, by_role, settings, store)
    if not whole:
        raise BrokenStudy(
            f"{study.name}: its plan ends after the step {steps[-1].name if steps else '(none)'!r}: compute() looks into a step's result "
            "outside of a step. Do it in the make= of the next step"
        )
    if not steps:
        raise BrokenStudy(f"{study.name}: it has no steps: compute() computes nothing that is cached")
    if loaded := [role for role, m in by_role.items() if m.loaded and m.given is not None]:
        raise BrokenStudy(f"{study.name}: planning it loaded the model {loaded[0]}")
    if written := sorted(set(_files(place)) - set(before)):
        raise BrokenStudy(f"{study.name}: planning it wrote {written[0]}")
    return len(steps)


def _killed_and_resumed(study: Study, given: Mapping[str, Any], settings: Any, place: Path, store: Cache, planned: int) -> Run:
    """Run it, kill it after half of its steps, run it again."""
    left = [planned // 2]

    def die(line: str) -> None:
        if line.rstrip().endswith((" s", "cached")):  # a step is done
            left[0] -= 1
            if left[0] < 0:
                raise _Killed

    folder = place / "run"
    try:
        execute(study, handles(given, store), settings, folder, fast=True, progress=False, say=die, cache=store, formats=("html",))
    except _Killed:
        if json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished":
            raise BrokenStudy(f"{study.name}: a run that was killed says that it finished") from None
    return execute(study, handles(given, store), settings, folder, fast=True, progress=False, cache=store, formats=("html",))


def _check_second(study: Study, given: Mapping[str, Any], settings: Any, place: Path, store: Cache, run: Run) -> None:
    by_role: dict[str, ModelHandle] = handles(given, store)
    second = execute(study, by_role, settings, place / "second", fast=True, progress=False, cache=store, formats=("html",))
    if computed := [s["step"] for s in second.record["steps"] if not s["cached"]]:
        raise BrokenStudy(f"{study.name}: a second run computes the step {computed[0]!r} again: something else than its key decides it")
    if loaded := [role for role, m in by_role.items() if m.loaded and m.given is not None]:
        raise BrokenStudy(f"{study.name}: a second run loads the model {loaded[0]}, though every step is cached")
    _same_bytes(study, run.folder, second.folder, "a second run")


def _same_bytes(study: Study, one: Path, two: Path, what: str, *, figures: bool = True) -> None:
    kinds = ("tables/*.csv", *(("figures/*.csv", DOCUMENT) if figures else ()))
    for kind in kinds:
        first, second = ({p.name: p.read_bytes() for p in folder.glob(kind)} for folder in (one, two))
        if set(first) != set(second):
            raise BrokenStudy(f"{study.name}: {what} has other files: {', '.join(sorted(set(first) ^ set(second)))}")
        if kind.startswith("tables") and not figures:
            continue  # a run in other batches may differ in last digits: `rerun` says whether numbers agree
        if changed := sorted(name for name in first if first[name] != second[name]):
            raise BrokenStudy(f"{study.name}: {what} gives other bytes: {changed[0]}")


def _check_tables(study: Study, run: Run) -> None:
    if study.main is not None and study.main.table not in run.tables:
        raise BrokenStudy(f"{study.name}: it made no table {study.main.table!r}, which holds its main result")
    if faults := undeclared(study, run):
        raise BrokenStudy(f"{study.name}: {faults[0]}")
    if study.main is not None:
        table = run.tables[study.main.table]
        if lost := [c for c in (*study.main.labels, "value", "low", "high", "n") if c not in table]:
            raise BrokenStudy(f"{study.name}: its main table {study.main.table!r} lacks the column {lost[0]!r}")


def _check_redrawn(run: Run, place: Path) -> None:
    redraw(run.folder, out=place / "redrawn", formats=("html",))
    for path in sorted((run.folder / "figures").glob("*.html")):
        if _drawn(path) != _drawn(place / "redrawn" / "figures" / path.name):
            raise BrokenStudy(f"{run.record['study']}: redrawn, the figure {path.stem} is another")


def _drawn(path: Path) -> str:
    """A figure's page without the ids that plotly draws at random."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "", path.read_text(encoding="utf-8"))


def _check_report(run: Run) -> None:
    name = run.record["study"]
    try:
        page, document = run.report.read_text(encoding="utf-8"), json.loads((run.folder / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenStudy(f"{name}: its report cannot be opened ({error})") from None
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    if fetched := re.search(r"""<(?:script|link|img|iframe|object|embed)\b[^>]*(?:src|href|data)=["']?(?:https?:)?//[^"' >]+""", markup):
        raise BrokenStudy(f"{name}: its report fetches {fetched[0]} when it is opened")
    if not document["findings"]:
        raise BrokenStudy(f"{name}: its report has no finding")
    for finding in document["findings"]:
        if lost := [t for t in finding["tables"] if t not in run.tables]:
            raise BrokenStudy(f"{name}: a finding names the table {lost[0]!r}, which was not made: {finding['text'][:80]}")
    for panel in document["panels"]:
        if panel["table"] not in run.tables:
            raise BrokenStudy(f"{name}: the figure {panel['name']} names the table {panel['table']!r}, which was not made")


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.is_dir() else []
