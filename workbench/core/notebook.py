"""Errors in a notebook: what is wrong and the reader's own line, not thirty frames of this package."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

WHOLE = False
LINES = 4
HINT = "(the whole traceback: `%tb Plain`; of every error from here on: workbench.core.errors.whole_traceback())"
_PACKAGE = __name__.partition(".")[0]
_STDLIB = sysconfig.get_path("stdlib")


def _shell() -> Any:
    """The running IPython, without importing it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def whole_wanted() -> bool:
    """Whether the reader asked for whole tracebacks: by `whole_traceback`, `%tb Plain` or `%xmode Verbose`."""
    mode = getattr(getattr(_shell(), "InteractiveTB", None), "mode", "Context")
    return WHOLE or mode in ("Plain", "Verbose", "Docs")


def _own(frame: FrameType) -> bool:
    """Whether a frame is the reader's: not of this package, of an installed one, of Python itself, or generated."""
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE:
        return False
    name = frame.f_code.co_filename
    if name.startswith(("<frozen", "<@", "<attrs", "<__array")):
        return False
    parts = Path(name).parts
    return not ({"site-packages", "dist-packages"} & set(parts) or name.startswith(_STDLIB))


def _place(name: str) -> str:
    """A file as the reader knows it: the number of the cell, or the path from the working directory."""
    cell = getattr(getattr(_shell(), "compile", None), "format_code_name", None)
    label = cell(name) if cell else None
    if label:
        return " ".join(label)
    try:
        return str(Path(name).relative_to(Path.cwd()))
    except (OSError, ValueError):  # the file lies elsewhere, or the working directory is gone
        return name


def short_traceback(error: BaseException) -> list[str]:
    """Return an error's name and message, the reader's own last line, and how to see more; eight lines at most."""
    first, *more = (str(error) or "no message").splitlines()
    out = [f"{type(error).__name__}: {first}", *more[: LINES - 1]]
    if len(more) >= LINES:
        out.append(f"… {len(more) - LINES + 1} lines more")
    last_own, step = None, error.__traceback__
    while step is not None:
        if _own(step.tb_frame):
            last_own = step
        step = step.tb_next
    if last_own is not None:
        name, line = last_own.tb_frame.f_code.co_filename, last_own.tb_lineno
        function = last_own.tb_frame.f_code.co_name
        inside = "" if function == "<module>" else f", in {function}"
        out.append(f"  {_place(name)}, line {line}{inside}: {linecache.getline(name, line).strip()[:120]}".rstrip(": "))
    if error.__cause__ is not None:  # its text stays out: it comes from elsewhere and may be long
        out.append(f"  because of a {type(error.__cause__).__name__}")
    return [*out, HINT]
