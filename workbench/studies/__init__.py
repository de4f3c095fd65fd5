"""Studies: a declared grid of steps, cached one by one, tidy tables and a report at the end."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, UnknownClaim, UnknownStudy, unknown
from ..models import info, load_model
from ..models.hooks import active_edits, foreign_hooks
from .run import Run, check_output

STUDIES = {
    "udhr": "what a model says about people's rights under a claim, against what it knows inside",
    "probes": "every kind of probe on every layer, whether it carries over, how few samples do, what CCS found, tampering",
    "steering": "does a push along the stance repair what a harm claim breaks, at which price; what undoes refusal",
    "patching": "where a claim overrides the truth: layer by position, heads, and how much one direction carries",
    "caa": "contrastive activation addition on data in its published layout: vectors, layers, coefficients, price (--data FOLDER)",
    "geometry": "are harm and safety opposite, orthogonal or something else: as directions, as information, as causes",
}


def run_study(
    name: str = "udhr", *, model: Any = "bundled", out: str | Path | None = None, fast: bool = False, seed: int = 0,
    progress: bool | None = None, say: Callable[[str], None] | None = None, **options: Any,
) -> Run:  # fmt: skip
    """Run a study and write its tables, figures and report to a folder.

    Args:
        name: One of `STUDIES`.
        model: Anything that `load_model` takes, or a loaded model.
        out: The folder; by default `figures/NAME` (`figures/NAME-MODEL` for a model other than the bundled one).
        fast: A small grid, for a first look.
        seed: Draws everything.
        progress: Show progress bars; by default only in a terminal or a notebook.
        say: Receives a line per step; `print` shows them.
        options: Other values of the study's settings (`behaviour=`, `train=`, `test=`, `claims=`, …).

    Returns:
        The finished run: `.tables`, `.findings`, `.folder`, `.report`.

    Raises:
        UnknownStudy, UnknownModel, UnknownClaim, AnswerTokens, PromptTooLong, OutputFolder: Before any forward pass.
    """
    if name not in STUDIES:
        raise unknown(UnknownStudy, "study", name, STUDIES)
    from .. import prompts

    study, report = _modules(name)
    stray = sorted(set(options) - set(study.Settings.__dataclass_fields__))
    if stray:
        raise BadInput(f"the study {name!r} has no setting {', '.join(stray)}; it has: {', '.join(study.Settings.__dataclass_fields__)}")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    settings = study.fast(seed, **options) if fast else study.Settings(seed=seed, **options)
    for claim in settings.claims:
        if claim not in prompts.claims():
            raise unknown(UnknownClaim, "claim", claim, prompts.claims())
    label = str(model) if isinstance(model, str | Path) else info(model).name
    folder = Path(out) if out else Path("figures") / (name if label == "bundled" else f"{name}-{Path(label).name}")
    check_output(folder, name)
    loaded = load_model(model)
    if active_edits(loaded) or foreign_hooks(loaded):
        raise BadInput("a study's cache does not know edits: run it outside `edited` and without hooks of your own")
    say = say or (lambda _: None)
    say(f"study {name} on {info(loaded).name} -> {folder}")
    run = Run.open(folder, study=name, settings=asdict(settings) | {"model": info(loaded).key(), "fast": fast}, say=say)
    report.write(run, study.compute(loaded, settings, run, progress))
    run.finish()
    return run


def _modules(name: str) -> tuple[Any, Any]:
    """The module of a study (Settings, fast, compute) and that of its report (write)."""
    return importlib.import_module(f".{name}", __name__), importlib.import_module(f".{name}_report", __name__)


def main_run(name: str, **kwargs: Any) -> Run:
    """Run a study from the command line: steps on standard error, progress bars in a terminal."""
    return run_study(name, say=lambda line: print(line, file=sys.stderr, flush=True), **kwargs)  # noqa: T201


__all__ = ["STUDIES", "Run", "run_study"]
