"""`run_study`: what a notebook and the command line begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..models import info
from .cache import Cache
from .execute import execute
from .handle import handles
from .record import check_output
from .registry import find
from .render import FORMATS
from .roles import DEFAULT_MODEL, roles_of
from .settings import settings_of
from .study import Study
from .sweep.document import Sweep
from .sweep.sweep import run_sweep


def run_study(
    name: Any = "udhr",
    *,
    model: Any = DEFAULT_MODEL,
    models: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    fast: bool = False,
    seed: int = 0,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    cache: str | Path | None = None,
    formats: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Run a study and write its tables, figures and report to a folder.

    Args:
        name: A study that is installed (`workbench studies`), the path of a study of your own (a .py file), or a `Study`; or a `Sweep`,
            or the path of a toml file that describes one (then `model`, `fast`, `seed` and options are its own, `workers=`, `address=` and
            `resume=` are those of `run_sweep`, and what comes back is a `SweepRun`).
        model: For studies of one model: anything that `load_model` takes, or a loaded model.
        models: For studies of several: a model for each role.
        out: The folder; by default `figures/NAME` (`figures/NAME-MODEL` for a model other than the bundled one).
        fast: A small grid, for a first look.
        seed: Draws everything.
        progress: Show progress bars; by default only in a terminal or a notebook.
        say: Receives a line per step; `print` shows them.
        cache: Where steps are kept for all studies; by default `WORKBENCH_CACHE` or `~/.cache/workbench`.
        formats: Of the figures: "html", "png", "svg", "pdf"; by default html, and png and svg where a browser is found.
        options: Other values of the study's settings (`behaviour=`, `train=`, `test=`, `claims=`, `data=`, …).

    Returns:
        The finished run: `.tables`, `.findings`, `.folder`, `.report`.

    Raises:
        UnknownStudy, UnknownModel, UnknownClaim, AnswerTokens, PromptTooLong, OutputFolder: Before any forward pass.
        BadInput: A setting, a format or a role that the study does not have.
    """
    if isinstance(name, Sweep) or (not isinstance(name, Study) and str(name).endswith(".toml")):
        how = {k: options.pop(k) for k in ("workers", "address", "resume") if k in options}
        if options or fast or seed or models or model != DEFAULT_MODEL:
            raise BadInput("a sweep's models, seed, fast and settings stand in it: change them there")
        return run_sweep(name, out=out, progress=progress, say=say, cache=cache, formats=formats, **how)
    if strange := sorted(set(formats or ()) - set(FORMATS)):
        raise BadInput(f"format {strange[0]!r}: there are {', '.join(FORMATS)}")
    study = find(name)
    settings = settings_of(study, seed=seed, fast=fast, **options)
    given = roles_of(study, model, models)
    folder = Path(out) if out else default_folder(study, given)
    check_output(folder, study.name)
    store = Cache(cache)
    return execute(
        study,
        handles(given, store),
        settings,
        folder,
        fast=fast,
        progress=progress,
        say=say,
        cache=store,
        formats=None if formats is None else tuple(formats),
    )


def default_folder(study: Study, given: Mapping[str, Any]) -> Path:
    """Return `figures/NAME`, with the models' names behind it where they are not the bundled one.

    Args:
        study: The study.
        given: What each role is given.

    Returns:
        The folder; it need not be there.
    """
    labels = [Path(str(m)).name.replace(":", "-") if isinstance(m, str | Path) else info(m).name for m in given.values()]
    named = [] if all(label == DEFAULT_MODEL for label in labels) else list(dict.fromkeys(labels))
    return Path("figures") / "-".join([study.name, *named])
