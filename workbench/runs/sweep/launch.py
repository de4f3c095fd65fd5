"""Start the workers of a sweep, as processes here or as tasks on a Ray cluster, and replace those that die."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ...core.errors import MissingTool, WorkerLost
from .document import TOML, Cell
from .load import load_sweep
from .worker import MOST_TRIES, STOPS, open_cells, status_of, work


def in_processes(folder: Path, cache: Path, workers: int, cells: list[Cell], progress: bool | None, say: Callable[[str], None]) -> None:
    """Start workers as processes of their own, and new ones for those that die, until every cell has ended.

    Raises:
        WorkerLost: They died again and again.
        DiskFull, OutputFolder: One of them cannot write.
    """
    workers = min(workers, len(cells))
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), "TOKENIZERS_PARALLELISM": "false"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "workbench.runs.sweep.worker",
        str(folder.resolve()),
        str(Path(cache).resolve()),
        "watch",
    ]

    said = folder / "workers.log"  # not a pipe: one that nobody reads fills up, and the worker stands still

    def start() -> subprocess.Popen[bytes]:
        with said.open("ab") as log:
            # nothing is sent: a worker ends when this end of the pipe is closed, however this process ends
            return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)

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
                    _close(process)
                    words = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                    if process.returncode in STOPS:
                        raise STOPS[process.returncode](words[-1] if words else "a worker could not write")
                    if process.returncode and open_cells(folder, cells):
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
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def on_ray(folder: Path, cache: Path, workers: int, address: str, say: Callable[[str], None]) -> None:
    """Run workers as Ray tasks; Ray starts another for one that dies."""
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError:
        raise MissingTool("--address needs Ray: pip install 'workbench-interp[ray]'") from None
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
        cells = load_sweep(folder / TOML).cells()
        if open_cells(folder, cells):
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
