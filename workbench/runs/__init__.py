"""The engine: a study is run by steps that are cached one by one, planned, swept, run again, drawn again and compared."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# lazy: redrawing and comparing runs need neither torch nor a model
_WHERE = {
    "Cache": "cache",
    "Columns": "study",
    "Main": "study",
    "ModelHandle": "handle",
    "Report": "publish",
    "Run": "run",
    "Steps": "steps",
    "Study": "study",
    "Sweep": "sweep.document",
    "SweepRun": "sweep.sweep",
    "cache_root": "cache",
    "captions_of": "render",
    "check_study": "check",
    "compare_runs": "compare",
    "find": "registry",
    "listed": "registry",
    "load_sweep": "sweep.load",
    "names": "registry",
    "plan": "sweep.plan",
    "redraw": "render",
    "rerun": "reproduce",
    "run_study": "start",
    "run_sweep": "sweep.sweep",
    "settings_of": "settings",
    "spoken": "rehearsal",
}
__all__ = [
    "Cache",
    "Columns",
    "Main",
    "ModelHandle",
    "Report",
    "Run",
    "Steps",
    "Study",
    "Sweep",
    "SweepRun",
    "cache_root",
    "captions_of",
    "check_study",
    "compare_runs",
    "find",
    "listed",
    "load_sweep",
    "names",
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
    from .check import check_study
    from .compare import compare_runs
    from .handle import ModelHandle
    from .publish import Report
    from .registry import find, listed, names
    from .rehearsal import spoken
    from .render import captions_of, redraw
    from .reproduce import rerun
    from .run import Run
    from .settings import settings_of
    from .start import run_study
    from .steps import Steps
    from .study import Columns, Main, Study
    from .sweep.document import Sweep
    from .sweep.load import load_sweep
    from .sweep.plan import plan
    from .sweep.sweep import SweepRun, run_sweep


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        found = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
