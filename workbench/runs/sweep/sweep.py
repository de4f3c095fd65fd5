"""A sweep's cells, run one after the other, in processes, or on a Ray cluster.

Every worker runs the same loop over the same folder: take a cell that is neither finished nor taken, run it, write how it ended. A cell is
taken by a lock that the system frees if the worker dies, so there is nothing to schedule, whoever the workers are; another takes it up,
and what was computed of it is cached. A cell that fails is listed and does not stop the others.

    OUT/sweep.toml           the sweep
    OUT/cells/NAME/          a run folder each; cell.json says how it ended, error.txt why it did not
    OUT/tables/*.csv         the tables of all cells, one below the other, with the axes in front
    OUT/index.html           the report
"""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ...core.errors import BadInput, WorkbenchError
from ...core.terminal import heard
from ...core.whole import write_whole, writing
from ..cache import Cache
from ..record import check_output
from ..registry import find
from ..render import FORMATS
from ..run import Run
from .document import TOML, Cell, Sweep
from .launch import in_processes, on_ray
from .load import placed
from .report import write
from .worker import finished_cells, status_of, work


class SweepRun(Run):
    """A finished sweep: `.cells` (one row per cell: how it ended), `.tables` (of all cells), `.failed`, `.findings`, `.report`."""

    @property
    def cells(self) -> pd.DataFrame:
        """How each cell ended.

        Returns:
            One row per cell: `cell`, its axes, `status`, `seconds`, `error`.
        """
        return self.tables["sweep_cells"]

    @property
    def failed(self) -> pd.DataFrame:
        """The cells that failed, with their errors.

        Returns:
            Rows of `cells`.
        """
        return self.cells[self.cells["status"] != "finished"]

    def _repr_html_(self) -> str:
        shown = self.cells.to_html(index=False, escape=True, float_format="{:.1f}".format)
        items = "".join(f"<li>{html.escape(f)}</li>" for f in self.findings)
        head = f"<p><b>{html.escape(str(self.record['study']))}</b>, report: <code>{html.escape(str(self.report))}</code></p>"
        return f"{head}<ul>{items}</ul>{shown}"


def run_sweep(
    sweep: Any,
    *,
    out: str | Path | None = None,
    workers: int = 1,
    address: str | None = None,
    resume: bool = False,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    cache: str | Path | None = None,
    formats: Sequence[str] | None = None,
) -> SweepRun:
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
        formats: Of the sweep's figures, as for `run_study`; cells have theirs in their reports.

    Returns:
        The run, also where cells failed: see `.failed`.

    Raises:
        BadInput, UnknownStudy, UnknownModel: Before anything runs.
        OutputFolder: The folder holds something else.
        WorkerLost: No worker could be kept alive.
        DiskFull: There is no room for what was computed.
        MissingTool: `address` without Ray.
    """
    sweep, folder = placed(sweep, out)
    if workers < 1:
        raise BadInput(f"workers {workers}: 1 at least")
    if strange := sorted(set(formats or ()) - set(FORMATS)):
        raise BadInput(f"format {strange[0]!r}: there are {', '.join(FORMATS)}")
    say = heard(say)
    study = f"sweep {sweep.name}"
    if resume and not (folder / TOML).is_file():
        raise BadInput(f"nothing to resume in {str(folder)!r}: no {TOML} there; run it without --resume")
    check_output(folder, study)
    cells = sweep.cells()
    store = Cache(cache)
    with writing(folder, store.root):
        run: Any = SweepRun.open(
            folder, study=study, settings={"sweep": sweep.to_toml()}, say=say, cache=store, cells=len(cells), main=_main(sweep)
        )
        run.formats = None if formats is None else tuple(formats)
        write_whole(folder / TOML, sweep.to_toml())
        for cell in cells:
            shutil.rmtree(folder / "cells" / cell.name / ".tries", ignore_errors=True)
    say(f"{study}: {len(cells)} cells, {len(finished_cells(folder, sweep))} finished -> {folder}")
    try:
        with writing(folder, store.root):
            if address is not None:
                on_ray(folder, store.root, workers, address, say)
            elif workers > 1:
                in_processes(folder, store.root, workers, cells, progress, say)
            else:
                work(folder, store.root, progress=progress, say=say)
            _gather(run, sweep, cells)
            write(run, sweep)
            run.finish()
    except BaseException as error:
        run.fail(error)
        raise
    return run


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
                axes = {clash.get(k, k): [v] * len(table) for k, v in cell.axes.items()}
                front = pd.DataFrame({"cell": cell.name, **axes}, index=table.index)
                parts.setdefault(name, []).append(pd.concat([front, table], axis=1))
        except WorkbenchError as error:
            rows[-1] |= {"status": "failed", "error": str(error)}
    run.keep("sweep_cells", pd.DataFrame(rows))
    for name, tables in parts.items():
        run.keep(name, pd.concat([t for t in tables if len(t)] or tables[:1], ignore_index=True))
    study = find(sweep.study)
    axes = [c for cell in cells[:1] for k in ("cell", *cell.axes) for c in (k, f"cell_{k}")]
    declared = {name: study.columns(name) for name in parts}
    run.record["columns"] = {n: {"about": [*axes, *c.about], "says": list(c.says)} for n, c in declared.items() if c is not None}


def _main(sweep: Sweep) -> dict[str, Any] | None:
    main = find(sweep.study).main
    return None if main is None else {"table": main.table, "labels": list(main.labels), "axis": main.axis, "zero": main.zero}
