"""A worker of a sweep: the loop that each runs, also as a process of its own, `python -m workbench.runs.sweep.worker FOLDER CACHE [watch]`.

With "watch" it ends when its standard input is closed, that is, when the process that started it has ended in whatever way.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...core.errors import DamagedRun, DiskFull, OutputFolder, WorkbenchError
from ...core.whole import write_whole, writing
from ..cache import Cache
from ..digests import told
from ..execute import execute
from ..handle import ModelHandle, handles
from ..record import read_record
from ..registry import find
from ..run import Run
from ..settings import settings_of
from ..shape import Maybe, misfit, read_json
from .document import TOML, Cell, Sweep
from .load import load_sweep

MOST_TRIES = 3
# a worker that ends for these is not replaced: another one would end in the same way
STOPS: Mapping[int, type[WorkbenchError]] = {74: DiskFull, 73: OutputFolder}
_ENDED = {"key": str, "source": str, "status": str, "error": str, "seconds": float, "session": Maybe(str)}


def work(folder: Path, cache: Path, *, progress: bool | None = False, say: Callable[[str], None] = lambda _: None) -> int:
    """Run every cell of a sweep's folder that is neither finished nor taken, and return how many. What each worker does.

    Raises:
        DiskFull, OutputFolder: How a cell ended cannot be written.
    """
    with writing(folder, cache):
        return _work(folder, cache, progress, say)


def _work(folder: Path, cache: Path, progress: bool | None, say: Callable[[str], None]) -> int:
    sweep = load_sweep(folder / TOML)
    cells = sweep.cells()
    current: Mapping[str, str] | None = None
    models: Mapping[str, ModelHandle] = {}
    count = 0
    bar = tqdm(total=len(cells), desc=sweep.name, disable=None if progress is None else not progress)
    # first what is free; then what others hold is waited for, and taken up if they die
    taken: list[Cell] = []
    for cell, wait in chain(((c, 0) for c in cells), ((c, -1) for c in taken)):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            taken.append(cell)
            continue
        bar.update()
        with lock:
            ended = status_of(place, cell)["status"]
            if ended == "failed now" or (ended == "finished" and is_whole(place, say)):
                continue
            started = time.perf_counter()
            if not _try(place):
                _end(place, cell, "failed", f"its worker died {MOST_TRIES} times", started)
                say(f"{cell.name}: failed: its worker died {MOST_TRIES} times")
                continue
            _end(place, cell, "running", "", started)
            try:
                if cell.models != current:
                    models, current = {}, None  # let go of one before the next is loaded
                    models, current = handles(cell.models, Cache(cache)), cell.models
                if ended == "open":  # what lies there was made by other code, from another model or other data
                    shutil.rmtree(place / "run", ignore_errors=True)
                _run(sweep, cell, models, place, Cache(cache), say)
                _end(place, cell, "finished", "", started)
            except Exception as error:
                first = str(error).strip().splitlines() or [""]
                write_whole(place / "error.txt", traceback.format_exc())
                _end(place, cell, "failed", f"{type(error).__name__}: {first[0]}", started)
                say(f"{cell.name}: failed: {type(error).__name__}: {first[0]}")
            count += 1
    bar.close()
    return count


def is_whole(place: Path, say: Callable[[str], None] = lambda _: None) -> bool:
    """Whether a finished cell's run can be read and is what the cell wrote; where it is not, `say` is told."""
    try:
        damage = told(place.name, Run.load(place / "run").altered)
    except DamagedRun as error:
        damage = str(error)
    if damage:
        say(f"{place.name}: {damage}: run again")
    return not damage


def _run(sweep: Sweep, cell: Cell, models: Mapping[str, ModelHandle], place: Path, cache: Cache, say: Callable[[str], None]) -> None:
    study = find(sweep.study)
    settings = settings_of(study, seed=cell.seed, fast=sweep.fast, **cell.settings)
    (place / "error.txt").unlink(missing_ok=True)

    def tell(line: str) -> None:
        say(f"{cell.name}: {line.strip()}")

    execute(study, models, settings, place / "run", fast=sweep.fast, progress=False, say=tell, cache=cache, formats=())


def _try(place: Path) -> bool:
    """Count an attempt; false where there have been enough: a cell that kills its workers must not do so for ever."""
    tries = place / ".tries"
    tries.mkdir(exist_ok=True)
    before = len(list(tries.iterdir()))
    (tries / str(before)).touch()
    return before < MOST_TRIES


def _end(place: Path, cell: Cell, status: str, error: str, started: float) -> None:
    record = {
        "cell": cell.name,
        "key": cell.key,
        "source": cell.code,
        "status": status,
        "error": error,
        "pid": os.getpid(),
        "seconds": round(time.perf_counter() - started, 2),
        "session": _session(place),
    }
    write_whole(place / "cell.json", json.dumps(record, indent=1, ensure_ascii=False))


def _session(place: Path) -> str:
    """When this run of the sweep began: a cell that failed in it is not tried again in it, but is in the next."""
    try:
        return str(read_record(place.parents[1]).get("started", ""))
    except DamagedRun:
        return ""


def status_of(place: Path, cell: Cell) -> dict[str, Any]:
    """Return how a cell ended: `status`, `error`, `seconds`.

    The status is "open" (not begun, or made by other code or settings), "running", "finished", "failed" (in an earlier run of the sweep:
    to be tried again) or "failed now".
    """
    record: Any = None
    with suppress(OSError, ValueError):
        record = read_json(place / "cell.json")
    known = not misfit(record, _ENDED) and record["status"] in ("running", "finished", "failed")
    if not known or record["key"] != cell.key or record["source"] != cell.code:
        return {"status": "open", "error": "", "seconds": 0.0}
    if record["status"] == "failed" and record.get("session") == _session(place):
        record["status"] = "failed now"
    return record


def finished_cells(folder: Path, sweep: Sweep) -> set[str]:
    """Return the names of the cells that are finished."""
    places = {c.name: (folder / "cells" / c.name, c) for c in sweep.cells()}
    return {name for name, (place, c) in places.items() if status_of(place, c)["status"] == "finished" and is_whole(place)}


def open_cells(folder: Path, cells: list[Cell]) -> int:
    """Return how many cells have not ended in this run of the sweep."""
    return sum(status_of(folder / "cells" / c.name, c)["status"] in ("open", "running", "failed") for c in cells)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended: the system then closes the other end of standard input."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _main(words: list[str]) -> int:
    warnings.filterwarnings("ignore")
    if words[2:] == ["watch"]:
        _end_with_parent()
    try:
        work(Path(words[0]), Path(words[1]))
    except tuple(STOPS.values()) as error:
        sys.stderr.write(f"{error}\n")
        return next(code for code, kind in STOPS.items() if isinstance(error, kind))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
