"""Where the project's own small data lie, in a checkout and in an installed wheel alike, and where what was computed or fetched is kept."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import WorkbenchError

_PACKAGE = Path(__file__).resolve().parent.parent


def data_path(*parts: str) -> Path:
    """Return the path of a file or folder under the project's `data/`.

    In a wheel the folder travels as `workbench/_data`; in a checkout it is the top-level `data/`.

    Raises:
        WorkbenchError: The installation carries no data folder.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        if (root / "udhr").is_dir():
            return root.joinpath(*parts)
    raise WorkbenchError("this installation carries no data folder. Reinstall the package: pip install --force-reinstall …")


def cache_root() -> Path:
    """Return the folder of what is computed or fetched once: `WORKBENCH_CACHE`, or `~/.cache/workbench`."""
    given = os.environ.get("WORKBENCH_CACHE")
    return Path(given).expanduser() if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench"
