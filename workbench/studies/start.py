"""`run_study`: what a notebook and the command line begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..models import info, load_model
from .cache import Cache
from .grid import run_sweep
from .render import FORMATS
from .run import check_output
from .running import check_model, run_loaded, settings_of
from .sweep import Sweep


def run_study(
    name: Any = "udhr", *, model: Any = "bundled", out: str | Path | None = None, fast: bool = False, seed: int = 0,
    progress: bool | None = None, say: Callable[[str], None] | None = None, cache: str | Path | None = None,
    formats: Sequence[str] | None = None, **options: Any,
) -> Any:  # fmt: skip
    """Run a study and write its tables, figures and report to a folder.

    Args:
        name: One of `STUDIES`; or a `Sweep`, or the path of a toml file that describes one (then `model`, `fast`, `seed` and options are its
            own, `workers=`, `address=` and `resume=` are those of `run_sweep`, and what comes back is a `SweepRun`).
        model: Anything that `load_model` takes, or a loaded model.
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
    """
    if isinstance(name, Sweep | Path) or str(name).endswith(".toml"):
        how = {k: options.pop(k) for k in ("workers", "address", "resume") if k in options}
        if options or fast or seed or model != "bundled":
            raise BadInput("a sweep's model, seed, fast and settings stand in it: change them there")
        return run_sweep(name, out=out, progress=progress, say=say, cache=cache, formats=formats, **how)
    if strange := sorted(set(formats or ()) - set(FORMATS)):
        raise BadInput(f"format {strange[0]!r}: there are {', '.join(FORMATS)}")
    settings = settings_of(name, seed=seed, fast=fast, **options)
    label = str(model) if isinstance(model, str | Path) else info(model).name
    folder = Path(out) if out else Path("figures") / (name if label == "bundled" else f"{name}-{Path(label).name}")
    check_output(folder, name)
    loaded = load_model(model)
    check_model(loaded)
    return run_loaded(
        name, loaded, settings, folder, given=label if isinstance(model, str | Path) else None, fast=fast, progress=progress, say=say,
        cache=Cache(cache), formats=None if formats is None else tuple(formats),
    )  # fmt: skip
