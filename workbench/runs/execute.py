"""Run a study: its settings checked, its steps computed, its report written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import DamagedRun, OutputFolder
from ..core.remember import remembering
from ..core.terminal import heard
from ..core.whole import writing
from ..models import bundled_models
from ..models.shelf import SHELF
from ..models.source import split_dtype
from .cache import Cache
from .handle import ModelHandle
from .inputs import keep_inputs, same_inputs
from .publish import by_main_table, publish
from .record import read_record
from .run import Run
from .steps import Steps
from .study import Study


def execute(
    study: Study,
    models: Mapping[str, ModelHandle],
    settings: Any,
    folder: Path,
    *,
    fast: bool,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    cache: Cache | None = None,
    formats: tuple[str, ...] | None = None,
) -> Run:
    """Run a study on models, once everything is checked; what `run_study`, sweeps, `rerun` and `check_study` share.

    Args:
        study: The study.
        models: A handle for each of its roles.
        settings: Its settings.
        folder: Where the run goes.
        fast: Whether the settings are those of `--fast`; for the record.
        progress: Whether steps show progress bars.
        say: Receives a line per step.
        cache: Where steps are kept.
        formats: Of the figures; by default html, and stills where a browser is found.

    Returns:
        The finished run.

    Raises:
        OutputFolder: The folder holds a finished run of other models or other data, or something else, or cannot be written.
        DiskFull: There is no room for what was computed.
    """
    say = heard(say)
    say(f"study {study.name}{''.join(f' on {m.info.name}' for m in models.values())} -> {folder}")
    _same_subject(folder, study, models, settings)
    store = cache or Cache()
    with writing(folder, store.root):
        run = Run.open(
            folder,
            study=study.name,
            settings=asdict(settings) | {r: m.info.key() for r, m in models.items()},
            say=say,
            cache=store,
            **_facts(study, models, fast),
        )
    run.formats = formats
    try:
        with writing(folder, store.root):
            _fill(run, study, models, settings, progress)
    except BaseException as error:
        run.fail(error)
        raise
    return run


def _fill(run: Run, study: Study, models: Mapping[str, ModelHandle], settings: Any, progress: bool | None) -> None:
    keep_inputs(run.folder, run.record, study, settings)
    steps = Steps(run, study, settings, models, progress=progress)
    with remembering():
        computed = study.compute(models, settings, steps)
    run.record["columns"] = _columns(study, run)
    for fault in undeclared(study, run):
        run.say(f"note: {fault}")
    report = study.report(run, computed) if study.report else by_main_table(study, run)
    publish(run, report, _decided(run, models, settings))
    run.finish()


def _facts(study: Study, models: Mapping[str, ModelHandle], fast: bool) -> dict[str, Any]:
    """What the record says beside settings and versions."""
    named = {role: m.record() | {"given": _whole(m.given)} for role, m in models.items()}
    main = study.main
    return {
        "asks": study.asks,
        "models": named,
        "fast": fast,
        "size": sum({m.info.name: m.size for m in models.values()}.values()),
        "layers": max((m.info.n_layers for m in models.values()), default=0),
        "main": None if main is None else {"table": main.table, "labels": list(main.labels), "axis": main.axis, "zero": main.zero},
    }


def _whole(given: str | None) -> str | None:
    """A model's name, a folder's or a file's with its whole path: a rerun may begin elsewhere."""
    plain, dtype = split_dtype(given or "")
    if not plain or plain in (*bundled_models(), *SHELF) or not Path(plain).exists():
        return given
    return f"{Path(plain).resolve()}{f':{dtype}' if dtype else ''}"


def _decided(run: Run, models: Mapping[str, ModelHandle], settings: Any) -> dict[str, Any]:
    return {
        **asdict(settings),
        **{role: m.info.key() for role, m in models.items()},
        **run.record["versions"],
        "commit": run.record["code"],
    }


def _columns(study: Study, run: Run) -> dict[str, Any]:
    """The declared columns of the tables that were made: what a comparison goes by."""
    declared = {name: study.columns(name) for name in run.tables}
    return {name: {"about": list(c.about), "says": list(c.says)} for name, c in declared.items() if c is not None}


def undeclared(study: Study, run: Run) -> list[str]:
    """Return what the tables of a run have otherwise than the study declares; nothing for a study that declares no tables.

    Args:
        study: The study.
        run: The run, with its tables.

    Returns:
        Sentences that say what to do.
    """
    out = []
    for name, table in run.tables.items() if study.tables else ():
        declared = study.columns(name)
        if declared is None:
            out.append(f"made the table {name!r}, which tables= does not declare: add it, with its columns ({' '.join(map(str, table))})")
            continue
        known = (*declared.about, *declared.says)
        out += [f"the table {name!r} lacks the column {c!r}; it has {' '.join(map(str, table))}" for c in known if c not in table]
        out += [f"the table {name!r} has the column {c!r}, which tables= does not declare: add it there" for c in table if c not in known]
    return out


def _same_subject(folder: Path, study: Study, models: Mapping[str, ModelHandle], settings: Any) -> None:
    """A finished run is not overwritten by one of another model or another table."""
    try:
        record = read_record(folder)
    except DamagedRun:
        return
    if record.get("status") != "finished":
        return
    for role, was in record["models"].items():
        if role in models and was.get("digest") not in (None, models[role].info.digest):
            raise OutputFolder(
                f"{folder.name} holds a finished run of the model {was.get('name')!r}, not of {models[role].info.name!r}; choose another "
                "folder"
            )
    if not same_inputs(record, study, settings):
        raise OutputFolder(f"{folder.name} holds a finished run on other statements; choose another folder")
