"""What runs one study on one model: its settings checked, its steps computed, its report written."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, DamagedRun, OutputFolder, UnknownClaim, UnknownStudy, unknown
from ..models import bundled_models, info
from ..models.hooks import active_edits, foreign_hooks
from .cache import Cache
from .names import STUDIES
from .run import Run, read_record


def settings_of(name: str, *, seed: int = 0, fast: bool = False, **options: Any) -> Any:
    """Return the settings of a study, checked as far as they can be without a model.

    Raises:
        UnknownStudy: There is no such study.
        BadInput: It has no such setting, or the setting cannot have this value.
        UnknownClaim: A claim does not exist.
    """
    if name not in STUDIES and ("/" in name or "." in name):
        raise BadInput(f"no file {name!r}; a sweep is a .toml file, and the studies are: {', '.join(STUDIES)}")
    if name not in STUDIES:
        raise unknown(UnknownStudy, "study", name, STUDIES)
    from .. import prompts

    study, _ = modules(name)
    fields = study.Settings.__dataclass_fields__
    stray = sorted(set(options) - set(fields))
    if stray:
        raise BadInput(f"the study {name!r} has no setting {', '.join(stray)}; it has: {', '.join(fields)}")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    for key, value in options.items():
        _check_kind(key, value, fields[key].type)
    settings = study.fast(seed, **options) if fast else study.Settings(seed=seed, **options)
    known = prompts.claims() | prompts.claims("requests")
    for claim in settings.claims:
        if claim not in known:
            raise unknown(UnknownClaim, "claim", claim, known)
    return settings


def _check_kind(name: str, value: Any, kind: Any) -> None:
    """Settings may come from a toml file, which may hold anything: refuse a text for a number, one for a list."""
    text = str(kind)
    wanted = {
        "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)), "bool": ("true or false", lambda v: isinstance(v, bool)),
        "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)), "str": ("a text", lambda v: isinstance(v, str | Path)),
    }  # fmt: skip
    inner = text.removeprefix("tuple[").partition(",")[0].rstrip("]")
    if text.startswith("tuple[") and inner in wanted:
        what, good = wanted[inner]
        if not isinstance(value, tuple) or not all(good(v) for v in value):
            raise BadInput(f"{name} = {value!r}: a list of values, each {what}")
    elif text in wanted and not wanted[text][1](value):
        raise BadInput(f"{name} = {value!r}: {wanted[text][0]}")
    elif text.startswith("Mapping") and not isinstance(value, Mapping):
        raise BadInput(f"{name} = {value!r}: names with their values")


def check_model(model: Any) -> None:
    """Raise unless a loaded model is as it was loaded: a study's cache knows weights, not edits.

    Raises:
        BadInput: There are edits or hooks on it.
    """
    if active_edits(model) or foreign_hooks(model):
        raise BadInput("a study's cache does not know edits: run it outside `edited` and without hooks of your own")


def run_loaded(
    name: str, model: Any, settings: Any, folder: Path, *, given: str | None, fast: bool, progress: bool | None = None,
    say: Callable[[str], None] | None = None, cache: Cache | None = None, formats: tuple[str, ...] | None = None,
) -> Run:  # fmt: skip
    """Run a study on a loaded model; what `run_study` does once everything is checked.

    Args:
        name, model, settings, folder: What to run, and where to.
        given: What the model was loaded by, for `workbench rerun`.
        fast: Whether the settings are those of `--fast`; for the record.
        progress, say: As for `run_study`.
        cache: Where steps are kept.
        formats: Of the figures; by default html, and stills where a browser is found.
    """
    say = say or (lambda _: None)
    study, writer = modules(name)
    say(f"study {name} on {info(model).name} -> {folder}")
    kept = asdict(settings)
    given = str(Path(given).resolve()) if given and given not in bundled_models() and Path(given).is_dir() else given
    facts = {"given": given, "size": sum(p.numel() for p in model.parameters()), "layers": info(model).n_layers, "fast": fast}
    _same_subject(folder, info(model).key(), kept.get("data"))
    run = Run.open(folder, study=name, settings=kept | {"model": info(model).key()}, say=say, cache=cache, **facts)
    run.formats = formats
    _keep_input(run, kept.get("data"))
    try:
        done = study.compute(model, settings, run, progress)
        writer.write(run, done)
    except BaseException as error:
        run.fail(error)
        raise
    run.finish()
    return run


def _same_subject(folder: Path, model: Mapping[str, Any], data: str | None) -> None:
    """A finished run is not overwritten by one of another model or another table."""
    try:
        record = read_record(folder)
    except DamagedRun:
        return
    was = dict(record.get("settings", {})).get("model", {})
    if record.get("status") != "finished" or not isinstance(was, Mapping):
        return
    if was.get("digest") not in (None, model["digest"]):
        raise OutputFolder(
            f"{folder.name} holds a finished run of the model {was.get('name')!r}, not of {model['name']!r}; choose another folder"
        )
    mine = content_digest(Path(data)) if data and Path(data).is_file() else None
    if record.get("input") != mine:
        raise OutputFolder(f"{folder.name} holds a finished run on other statements; choose another folder")


def content_digest(path: Path) -> str:
    """Return a hash of a file (16 hex digits)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _keep_input(run: Run, data: str | None) -> None:
    """Copy the user's own table into the run, so that it can be run again from itself."""
    folder = run.folder / "inputs"
    if not data or not Path(data).is_file():
        return
    run.record["input"] = content_digest(Path(data))
    if Path(data).resolve().parent == folder.resolve():
        return
    shutil.rmtree(folder, ignore_errors=True)  # that of an earlier run into this folder
    folder.mkdir()
    shutil.copyfile(data, folder / Path(data).name)


def modules(name: str) -> tuple[Any, Any]:
    """The module of a study (Settings, fast, compute) and that of its report (write)."""
    return importlib.import_module(f".{name}", __package__), importlib.import_module(f".{name}_report", __package__)
