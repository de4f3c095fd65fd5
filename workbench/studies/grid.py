"""A sweep's cells, run one after the other, in processes, or on a Ray cluster.

Every worker runs the same loop over the same folder: take a cell that is neither finished nor taken, run it, write how it ended. A cell is
taken by a lock that the system frees if the worker dies, so there is nothing to schedule, whoever the workers are; another takes it up, and what
was computed of it is cached. A cell that fails is listed and does not stop the others.

    OUT/sweep.toml           the sweep
    OUT/cells/NAME/          a run folder each; cell.json says how it ended, error.txt why it did not
    OUT/tables/*.csv         the tables of all cells, one below the other, with the axes in front
    OUT/index.html           the report
"""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..core.errors import BadInput, DamagedRun, MissingTool, WorkbenchError, WorkerLost
from ..core.provenance import source_hash
from ..models import load_model
from .cache import Cache
from .run import Run, check_output, read_record
from .running import run_loaded, settings_of
from .sweep import Cell, Sweep, load_sweep

MOST_TRIES = 3
TOML = "sweep.toml"


def as_sweep(sweep: Any) -> Sweep:
    """Return a sweep from itself, a toml file, or the name of a study."""
    if isinstance(sweep, Sweep):
        return sweep
    path = Path(sweep)
    if (path / TOML).is_file():
        return load_sweep(path / TOML)
    if path.suffix == ".toml":
        return load_sweep(path)
    return Sweep(name=str(sweep), study=str(sweep))


def default_out(sweep: Sweep) -> Path:
    """Return the folder that a sweep is written to unless one is named."""
    return Path("figures") / sweep.name.replace(" ", "-")


class SweepRun(Run):
    """A finished sweep: `.cells` (one row per cell: how it ended), `.tables` (of all cells), `.failed`, `.findings`, `.report`."""

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell: `cell`, its axes, `status`, `seconds`, `error`."""
        return self.tables["sweep_cells"]

    @property
    def failed(self) -> pd.DataFrame:
        """The cells that failed, with their errors."""
        return self.cells[self.cells["status"] != "finished"]

    def _repr_html_(self) -> str:
        shown = self.cells.to_html(index=False, escape=True, float_format="{:.1f}".format)
        items = "".join(f"<li>{html.escape(f)}</li>" for f in self.findings)
        return f"<p><b>{html.escape(str(self.record['study']))}</b>, report: <code>{html.escape(str(self.report))}</code></p><ul>{items}</ul>{shown}"


def run_sweep(
    sweep: Any, *, out: str | Path | None = None, workers: int = 1, address: str | None = None, resume: bool = False, progress: bool | None = None,
    say: Callable[[str], None] | None = None, cache: str | Path | None = None,
) -> SweepRun:  # fmt: skip
    """Run a sweep, and gather the tables of its cells.

    Args:
        sweep: A `Sweep`, the path of its toml file, or the folder of one that was begun.
        out: The folder; by default `figures/NAME`. Cells that are finished there are not run again; those that failed are.
        workers: Processes; 1 runs in this one.
        address: A Ray cluster's address ("auto", "ray://…"), or "local" to start one here; the workers must see `out` and the cache.
        resume: Insist that there is something to go on with.
        progress: Show progress bars; by default only in a terminal or a notebook.
        say: Receives a line per cell.
        cache: As for `run_study`.

    Returns:
        The run, also where cells failed: see `.failed`.

    Raises:
        BadInput, UnknownStudy, UnknownModel: Before anything runs.
        OutputFolder: The folder holds something else.
        WorkerLost: No worker could be kept alive.
        MissingTool: `address` without Ray.
    """
    begun = Path(sweep) if isinstance(sweep, str | Path) and (Path(sweep) / TOML).is_file() else None
    sweep = as_sweep(sweep).resolved()
    folder = (Path(out) if out else begun or default_out(sweep)).resolve()
    if workers < 1:
        raise BadInput(f"workers {workers}: 1 at least")
    say = say or (lambda _: None)
    study = f"sweep {sweep.name}"
    if resume and not (folder / TOML).is_file():
        raise BadInput(f"nothing to resume in {str(folder)!r}: no {TOML} there; run it without --resume")
    check_output(folder, study)
    cells = sweep.cells()
    store = Cache(cache)
    run = SweepRun.open(folder, study=study, settings={"sweep": sweep.to_toml()}, say=say, cache=store, cells=len(cells))
    (folder / TOML).write_text(sweep.to_toml(), encoding="utf-8")
    for cell in cells:
        shutil.rmtree(folder / "cells" / cell.name / ".tries", ignore_errors=True)
    say(f"{study}: {len(cells)} cells, {len(finished_cells(folder, sweep))} finished -> {folder}")
    try:
        if address is not None:
            _on_ray(folder, store.root, workers, address, say)
        elif workers > 1:
            _in_processes(folder, store.root, workers, cells, progress, say)
        else:
            work(folder, store.root, progress=progress, say=say)
        _gather(run, sweep, cells)
        from .sweep_report import write  # the report needs figures; a worker does not

        write(run, sweep)
    except BaseException as error:
        run.fail(error)
        raise
    run.finish()
    return run


# ------------------------------------------------------------------ a worker


def work(folder: Path, cache: Path, *, progress: bool | None = False, say: Callable[[str], None] = lambda _: None) -> int:
    """Run every cell of a sweep's folder that is neither finished nor taken, and return how many. What each worker does."""
    sweep = load_sweep(folder / TOML)
    cells = sweep.cells()
    name, model, count = "", None, 0
    for cell in tqdm(cells, desc=sweep.name, disable=None if progress is None else not progress):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with lock:
            if status_of(place, cell)["status"] in ("finished", "failed now"):
                continue
            started = time.perf_counter()
            if not _try(place):
                _end(place, cell, "failed", f"its worker died {MOST_TRIES} times", started)
                say(f"{cell.name}: failed: its worker died {MOST_TRIES} times")
                continue
            _end(place, cell, "running", "", started)
            try:
                if cell.model != name:
                    name, model = cell.model, None  # let go of one before the next is loaded
                    model = load_model(cell.model)
                _run(sweep, cell, model, place, Cache(cache), say)
                _end(place, cell, "finished", "", started)
            except Exception as error:
                if model is None:
                    name = ""
                first = str(error).strip().splitlines() or [""]
                (place / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
                _end(place, cell, "failed", f"{type(error).__name__}: {first[0]}", started)
                say(f"{cell.name}: failed: {type(error).__name__}: {first[0]}")
            count += 1
    return count


def _run(sweep: Sweep, cell: Cell, model: Any, place: Path, cache: Cache, say: Callable[[str], None]) -> None:
    settings = settings_of(sweep.study, seed=cell.seed, fast=sweep.fast, **cell.settings)
    (place / "error.txt").unlink(missing_ok=True)
    run_loaded(
        sweep.study, model, settings, place / "run", given=cell.model, fast=sweep.fast, progress=False, say=lambda line: say(f"{cell.name}: {line.strip()}"),
        cache=cache, formats=(),
    )  # fmt: skip


def _try(place: Path) -> bool:
    """Count an attempt; false where there have been enough: a cell that kills its workers must not do so for ever."""
    tries = place / ".tries"
    tries.mkdir(exist_ok=True)
    before = len(list(tries.iterdir()))
    (tries / str(before)).touch()
    return before < MOST_TRIES


def _end(place: Path, cell: Cell, status: str, error: str, started: float) -> None:
    record = {
        "cell": cell.name, "key": cell.key, "source": source_hash(), "status": status, "error": error, "pid": os.getpid(),
        "seconds": round(time.perf_counter() - started, 2), "session": _session(place),
    }  # fmt: skip
    temporary = place / f"cell.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(place / "cell.json")


def _session(place: Path) -> str:
    """When this run of the sweep began: a cell that failed in it is not tried again in it, but is in the next."""
    try:
        return str(read_record(place.parents[1]).get("started", ""))
    except DamagedRun:
        return ""


def status_of(place: Path, cell: Cell) -> dict[str, Any]:
    """Return how a cell ended: `status` "open" (not begun, or made by other code or settings), "running", "finished", "failed" (in an earlier
    run of the sweep), "failed now"; `error`; `seconds`.
    """
    record: Any = None
    try:
        record = json.loads((place / "cell.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    if not isinstance(record, dict) or record.get("key") != cell.key or record.get("source") != source_hash():
        return {"status": "open", "error": "", "seconds": 0.0}
    if record["status"] == "failed" and record.get("session") == _session(place):
        record["status"] = "failed now"
    return record


def finished_cells(folder: Path, sweep: Sweep) -> set[str]:
    """Return the names of the cells that are finished."""
    return {c.name for c in sweep.cells() if status_of(folder / "cells" / c.name, c)["status"] == "finished"}


# ------------------------------------------------------------------ many workers


def _open(folder: Path, cells: list[Cell]) -> int:
    return sum(status_of(folder / "cells" / c.name, c)["status"] in ("open", "running", "failed") for c in cells)


def _in_processes(
    folder: Path, cache: Path, workers: int, cells: list[Cell], progress: bool | None, say: Callable[[str], None]
) -> None:  # fmt: skip
    """Start workers as processes of their own, and new ones for those that die, until every cell has ended."""
    workers = min(workers, len(cells))
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-m", "workbench.studies.worker", str(folder.resolve()), str(Path(cache).resolve())]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    alive, left = [start() for _ in range(workers)], workers * MOST_TRIES + len(cells) * MOST_TRIES
    told: dict[str, str] = {}
    try:
        with tqdm(total=len(cells), desc=folder.name, disable=None if progress is None else not progress) as bar:
            while alive:
                time.sleep(0.2)
                for cell in cells:
                    now = status_of(folder / "cells" / cell.name, cell)
                    if now["status"] in ("finished", "failed now") and cell.name not in told:
                        told[cell.name] = now["status"]
                        bar.update()
                        say(
                            f"{cell.name}: {now['status'].split()[0]}{': ' + now['error'] if now['error'] else ''} ({now['seconds']:.0f} s)"
                        )
                for process in [p for p in alive if p.poll() is not None]:
                    alive.remove(process)
                    words = (process.stderr.read() if process.stderr else b"").decode(errors="replace").strip().splitlines()
                    if process.returncode and _open(folder, cells):
                        say(f"a worker died (exit {process.returncode}{': ' + words[-1][:200] if words else ''})")
                        left -= 1
                        if left <= 0:
                            raise WorkerLost(
                                f"the workers died again and again; the last words of one: {words[-1][:300] if words else 'none'}"
                            )
                        alive.append(start())
    finally:
        for process in alive:
            process.kill()
        for process in alive:
            process.wait()


def _on_ray(folder: Path, cache: Path, workers: int, address: str, say: Callable[[str], None]) -> None:
    """Run workers as Ray tasks; Ray starts another for one that dies."""
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError:
        raise MissingTool("--address needs Ray: pip install 'workbench-interp[ray]'") from None
    import logging

    began = not ray.is_initialized()
    if began:
        local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    threads = max(1, (os.cpu_count() or 1) // workers) if address == "local" else 0
    try:
        task = ray.remote(num_cpus=1, max_retries=MOST_TRIES)(_remote)
        jobs = [task.remote(str(folder.resolve()), str(Path(cache).resolve()), threads) for _ in range(workers)]
        for job in jobs:
            try:
                ray.get(job)
            except RayError as error:  # its cells are free again: whoever is left takes them up
                say(f"a worker was lost: {str(error).splitlines()[0][:200]}")
        cells = as_sweep(folder).cells()
        if _open(folder, cells):
            ray.get(task.remote(str(folder.resolve()), str(Path(cache).resolve()), threads))
    except RayError as error:
        raise WorkerLost(
            f"the workers died again and again ({str(error).splitlines()[0][:200]}); what they finished is kept, run it again"
        ) from error
    finally:
        if began:
            ray.shutdown()


def _remote(folder: str, cache: str, threads: int) -> int:
    import torch

    if threads:
        torch.set_num_threads(threads)
    return work(Path(folder), Path(cache))


# ------------------------------------------------------------------ all cells together


def _gather(run: Run, sweep: Sweep, cells: list[Cell]) -> None:
    """Keep the tables of all cells, one below the other, with the axes in front; and the table of the cells."""
    rows, parts = [], {}
    for cell in cells:
        place = run.folder / "cells" / cell.name
        ended = status_of(place, cell)
        status = ended["status"].split()[0]
        rows.append({"cell": cell.name, **cell.axes, "status": status, "seconds": ended["seconds"], "error": ended["error"]})
        if status != "finished":
            continue
        try:
            for name, table in Run.load(place / "run").tables.items():
                clash = {k: f"cell_{k}" for k in cell.axes if k in table}
                axes = {clash.get(k, k): v for k, v in cell.axes.items()}
                front = pd.DataFrame({"cell": cell.name, **axes}, index=table.index)
                parts.setdefault(name, []).append(pd.concat([front, table], axis=1))
        except WorkbenchError as error:
            rows[-1] |= {"status": "failed", "error": str(error)}
    run.keep("sweep_cells", pd.DataFrame(rows))
    for name, tables in parts.items():
        run.keep(name, pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True))
