"""What runs one study on one model: its settings checked, its steps computed, its report written."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, UnknownClaim, UnknownStudy, unknown
from ..models import info
from ..models.hooks import active_edits, foreign_hooks
from .cache import Cache
from .names import STUDIES
from .run import Run


def settings_of(name: str, *, seed: int = 0, fast: bool = False, **options: Any) -> Any:
    """Return the settings of a study, checked as far as they can be without a model.

    Raises:
        UnknownStudy: There is no such study.
        BadInput: It has no such setting, or the setting cannot have this value.
        UnknownClaim: A claim does not exist.
    """
    if name not in STUDIES:
        raise unknown(UnknownStudy, "study", name, STUDIES)
    from .. import prompts

    study, _ = modules(name)
    fields = study.Settings.__dataclass_fields__
    stray = sorted(set(options) - set(fields))
    if stray:
        raise BadInput(f"the study {name!r} has no setting {', '.join(stray)}; it has: {', '.join(fields)}")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    settings = study.fast(seed, **options) if fast else study.Settings(seed=seed, **options)
    known = prompts.claims() | prompts.claims("requests")
    for claim in settings.claims:
        if claim not in known:
            raise unknown(UnknownClaim, "claim", claim, known)
    return settings


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
    facts = {"given": given, "size": sum(p.numel() for p in model.parameters()), "layers": info(model).n_layers, "fast": fast}
    run = Run.open(folder, study=name, settings=kept | {"model": info(model).key()}, say=say, cache=cache, **facts)
    run.formats = formats
    _keep_input(kept.get("data"), folder / "inputs")
    try:
        done = study.compute(model, settings, run, progress)
        writer.write(run, done)
    except BaseException as error:
        run.fail(error)
        raise
    run.finish()
    return run


def _keep_input(data: str | None, folder: Path) -> None:
    """Copy the user's own table into the run, so that it can be run again from itself."""
    if data and Path(data).is_file() and Path(data).resolve().parent != folder.resolve():
        folder.mkdir(exist_ok=True)
        shutil.copyfile(data, folder / Path(data).name)


def modules(name: str) -> tuple[Any, Any]:
    """The module of a study (Settings, fast, compute) and that of its report (write)."""
    return importlib.import_module(f".{name}", __package__), importlib.import_module(f".{name}_report", __package__)
