"""Studies: a declared grid of steps, cached one by one, tidy tables and a report at the end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# lazy: redrawing and comparing runs need neither torch nor a model
_WHERE = {
    "STUDIES": "names",
    "settings_of": "running",
    "Cache": "cache",
    "cache_root": "cache",
    "Run": "run",
    "Sweep": "sweep",
    "load_sweep": "sweep",
    "SweepRun": "grid",
    "run_sweep": "grid",
    "run_study": "start",
    "plan": "planning",
    "spoken": "planning",
    "compare_runs": "compare",
    "rerun": "rerunning",
    "redraw": "render",
    "captions_of": "render",
}
__all__ = [
    "Cache",
    "Run",
    "STUDIES",
    "Sweep",
    "SweepRun",
    "cache_root",
    "captions_of",
    "compare_runs",
    "load_sweep",
    "plan",
    "redraw",
    "rerun",
    "run_study",
    "run_sweep",
    "settings_of",
    "spoken",
]

if TYPE_CHECKING:
    from .cache import Cache, cache_root
    from .compare import compare_runs
    from .grid import SweepRun, run_sweep
    from .names import STUDIES
    from .planning import plan, spoken
    from .render import captions_of, redraw
    from .rerunning import rerun
    from .run import Run
    from .running import settings_of
    from .start import run_study
    from .sweep import Sweep, load_sweep


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        found = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
