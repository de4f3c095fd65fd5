"""A sweep in words and pictures: what finished, what failed, and the study's main result cell by cell."""

from __future__ import annotations

from typing import Any

from ...core.tables import span
from ...figures import Finding, Panel, recipes
from ..publish import Report, main_rows, publish
from ..registry import find
from ..run import Run
from .document import Sweep

draw = recipes("sweep")
MOST = 60


def findings(run: Run, sweep: Sweep) -> list[str]:
    """Return the findings in words."""
    cells = run.tables["sweep_cells"]
    failed = cells[cells["status"] != "finished"]
    out: list[str] = [Finding(f"Cells: {len(cells) - len(failed)} of {len(cells)} finished.", "sweep_cells")]
    out += [Finding(f"Failed: {row.cell}: {row.error or row.status}", "sweep_cells") for row in failed.itertuples()]
    main, rows = main_rows(run.tables, find(sweep.study).main)
    if main is not None:
        several = rows["cell"].nunique() > 1
        for label, some in list(rows.groupby([*main.labels], sort=False))[:16] if main.labels else []:
            name = ", ".join(str(v) for v in (label if isinstance(label, tuple) else (label,)))
            ranked = some.sort_values("value", kind="stable")
            low, high = ranked.iloc[0], ranked.iloc[-1]
            text = f"{low['value']:.3f} [{low['low']:.3f}, {low['high']:.3f}]" + (f" ({low['cell']})" if several else "")
            if several and high["cell"] != low["cell"]:
                text += f" to {high['value']:.3f} [{high['low']:.3f}, {high['high']:.3f}] ({high['cell']})"
            out.append(Finding(f"{name[0].upper()}{name[1:]}: {main.axis} {text}, n={int(some['n'].min())} at least.", main.table))
    return out


def panels(run: Run, sweep: Sweep) -> list[Panel]:
    """Return the figures with their captions."""
    out = []
    axes = [c for c in run.tables["sweep_cells"].columns if c not in ("cell", "status", "seconds", "error")]
    study = find(sweep.study)
    main, rows = main_rows(run.tables, study.main)
    bars = "Bars are the 95 % intervals of the cells; cells of one model and one draw share items and are not independent."
    if main is not None:
        some = rows.head(MOST * 6)
        colour = "cell" if rows["cell"].nunique() > 1 else ""
        note = f" The first {len(some)} of {len(rows)} rows." if len(some) < len(rows) else ""
        out.append(
            Panel(
                name="cells",
                table=main.table,
                drawing=draw.points(some, list(main.labels), f"{sweep.name}: cell by cell", main.axis, main.zero, colour),
                caption=f"{main.axis[0].upper()}{main.axis[1:]} in each cell; n={span(rows)} per point. {bars}{note}",
            )
        )
    return [*out, *(study.across(run, sweep, axes) if study.across else ())]


def write(run: Run, sweep: Sweep) -> None:
    """Write figures and report of a sweep.

    Args:
        run: The sweep's run, with the tables of all cells.
        sweep: The sweep.
    """
    done, study = run.tables["sweep_cells"], find(sweep.study)
    seeds = "Cells that differ only in the seed draw other items, splits and restarts; they say how much a result hangs on them."
    report = Report(
        title=f"Sweep: {sweep.name}",
        subtitle=sweep.description or f"{len(done)} cells of the study {study.name}.",
        findings=findings(run, sweep),
        panels=panels(run, sweep),
        convention="Each cell is a run of its own, with its own report. A table of this page holds the rows of all cells, with the cell's "
        "name and axes in front.",
        limits=[
            "With many cells some will differ by chance: the intervals are those of one cell each, not of the largest of many.",
            *([seeds] if len(sweep.seeds) > 1 else []),
        ],
        warning="" if (done["status"] == "finished").all() else "Some cells failed; what is shown is without them.",
        made=[f"workbench run sweep.toml; the file lies in this folder. Study: {study.name}."],
        links=[(f"cell {row.cell}", f"cells/{row.cell}/run/index.html") for row in done.itertuples() if row.status == "finished"],
    )
    settings: dict[str, Any] = {k: str(v) for k, v in sweep.__dict__.items() if v}
    publish(run, report, {**settings, **run.record["versions"], "commit": run.record["code"]})
