"""The folder of a run holds files and folders of its own: no link leads out of it, for it may be a stranger's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..core.errors import DamagedRun

FILES = ("run.json", "report.json", "index.html", "sweep.toml", "workers.log")
FOLDERS = ("tables", "figures", "inputs", "cells")
# opened where they lie, not renamed into place: through a second name of somebody else's file they would be written
_IN_PLACE = (".lock", "workers.log")


def check_inside(folder: Path) -> None:
    """Raise unless everything that is read or written in a run's folder lies there.

    Args:
        folder: The run or the sweep; it need not be there. Other files and folders in it are not looked at.

    Raises:
        DamagedRun: There is a link, something that is neither file nor folder, or one in the place of the other; the message names it.
    """
    try:
        for name in (*FILES, *FOLDERS):
            path = folder / name
            if os.path.lexists(path):
                _check(folder, path, folder_wanted=name in FOLDERS)
    except OSError as error:
        raise DamagedRun(f"{folder.name} cannot be read ({error.strerror}): {error.filename}") from None


def _check(run: Path, path: Path, folder_wanted: bool | None = None) -> None:
    name = path.relative_to(run).as_posix()
    if path.is_symlink():
        raise DamagedRun(
            f"{name} in {run.name} is a link; a run is read and written inside its own folder only. Delete the link, or copy the file there"
        )
    if path.is_dir():
        if folder_wanted is False:
            raise DamagedRun(f"{name} in {run.name} is a folder, where a file belongs; delete it")
        for entry in os.scandir(path):
            if entry.is_symlink() or not entry.is_file() or entry.name in _IN_PLACE:
                _check(run, Path(entry.path))
    elif folder_wanted or not path.is_file():
        raise DamagedRun(f"{name} in {run.name} is no {'folder' if folder_wanted else 'file'}; delete it")
    elif path.name in _IN_PLACE and path.stat().st_nlink > 1:
        raise DamagedRun(f"{name} in {run.name} has a second name elsewhere, where it would be written, too; delete it")


def check_name(name: Any, folder: Path) -> str:
    """Return a name of a table, a figure or a folder as a run's documents give it, if it may become a file.

    Args:
        name: What the document says.
        folder: The run, for the message.

    Returns:
        The name.

    Raises:
        DamagedRun: It could name a file elsewhere.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
        raise DamagedRun(f"{folder.name} names {str(name)[:60]!r}, which is not a name of a table or a figure")
    return name
