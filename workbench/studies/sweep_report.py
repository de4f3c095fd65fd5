"""A sweep in words and pictures: what finished, what failed, and the study's main result cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ..figures import Finding, Panel, recipes
from .common import FIT, pick, span
from .names import MAIN_TABLES
from .render import publish_document
from .run import Run
from .sweep import Sweep

draw = recipes("sweep")


@dataclass(frozen=True, kw_only=True)
class Main:
    """The main result of a study: the table, the rows of it, and the columns that name them."""

    table: str
    labels: tuple[str, ...]
    axis: str
    where: Mapping[str, Any]
    zero: float | None = None


MAIN = {
    study: Main(table=MAIN_TABLES[study], labels=labels, axis=axis, where=where, zero=zero)
    for study, labels, axis, where, zero in (
        ("udhr", ("condition", "what"), "share of held-out items", {}, 0.5),
        ("reading", ("condition", "what"), "share of held-out items", {}, 0.5),
        ("probes", ("what", "against"), "share of held-out items", {"metric": "accuracy"}, 0.5),
        ("geometry", ("layer",), "cosine of harm and safety", {}, 0.0),
        ("steering", ("direction", "site", "layer", "polarity"), "share of safe answers", {"metric": "safe_score"}, 0.5),
        ("patching", ("line", "layer"), "recovered (0 corrupted, 1 clean)", {}, 0.0),
        ("caa", ("behaviour", "name"), "P(answer matching behaviour)", {}, 0.5),
    )
}
MOST = 60


def main_rows(run: Run, study: str) -> tuple[Main, pd.DataFrame] | None:
    """Return the rows of a study's main result, of every cell; `None` where it made no such table."""
    main = MAIN[study]
    table = run.tables.get(main.table)
    if table is None or not {"value", "low", "high", "n"} <= set(table.columns):
        return None
    rows = pick(table, **{k: v for k, v in main.where.items() if k in table})
    rows = rows[rows["value"].notna()]
    return (replace(main, labels=tuple(c for c in main.labels if c in rows)), rows) if len(rows) else None


def findings(run: Run, sweep: Sweep) -> list[str]:
    """Return the findings in words."""
    cells = run.tables["sweep_cells"]
    failed = cells[cells["status"] != "finished"]
    out: list[str] = [Finding(f"Cells: {len(cells) - len(failed)} of {len(cells)} finished.", "sweep_cells")]
    out += [Finding(f"Failed: {row.cell}: {row.error or row.status}", "sweep_cells") for row in failed.itertuples()]
    found = main_rows(run, sweep.study)
    if found:
        main, rows = found
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
    found = main_rows(run, sweep.study)
    bars = "Bars are the 95 % intervals of the cells; cells of one model and one draw share items and are not independent."
    if found:
        main, rows = found
        some = rows.head(MOST * 6)
        colour = "cell" if rows["cell"].nunique() > 1 else ""
        note = f" The first {len(some)} of {len(rows)} rows." if len(some) < len(rows) else ""
        out.append(
            Panel(
                name="cells", table=main.table, drawing=draw.points(some, list(main.labels), f"{sweep.name}: cell by cell", main.axis, main.zero, colour),
                caption=f"{main.axis[0].upper()}{main.axis[1:]} in each cell; n={span(rows)} per point. {bars}{note}",
            )
        )  # fmt: skip
    probes = run.tables.get("probes")
    if sweep.study == "reading" and probes is not None:
        some = pick(probes, metric="accuracy", against="label")
        # a column of the study goes by the name "cell_…" where the sweep has an axis of that name
        told = [c if f"cell_{c}" not in some else f"cell_{c}" for c in axes if c in some or f"cell_{c}" in some]
        some = some.assign(line=some[told].astype(str).agg(" · ".join, axis=1) if told else sweep.name)
        for condition in dict.fromkeys(some["condition"]):
            here = pick(some, condition=condition)
            title = f"Read {'without a claim' if condition == FIT else f'under the {condition} claim'}"
            out.append(
                Panel(
                    name=f"layers_{condition.replace(' ', '_')}", table="probes", drawing=draw.by_layer(here, "method", "line", title),
                    caption=f"Accuracy on held-out items by layer, a line per cell, fitted without a claim; n={span(pick(here, control=''))} "
                    f"per point. {bars} Grey: the widest central 95 % of random directions in any cell.",
                )
            )  # fmt: skip
    return out


def write(run: Run, sweep: Sweep) -> None:
    """Write figures and report of a sweep."""
    done = run.tables["sweep_cells"]
    seeds = "Cells that differ only in the seed draw other items, splits and restarts; they say how much a result hangs on them."
    publish_document(
        run, findings=findings(run, sweep), panels=panels(run, sweep), title=f"Sweep: {sweep.name}",
        subtitle=sweep.description or f"{len(done)} cells of the study {sweep.study}.",
        convention="Each cell is a run of its own, with its own report. A table of this page holds the rows of all cells, the cell's name and axes in front.",
        limits=[
            "With many cells some will differ by chance: the intervals are those of one cell each, not of the largest of many.",
            *([seeds] if len(sweep.seeds) > 1 else []),
        ],
        warning="" if (done["status"] == "finished").all() else "Some cells failed; what is shown is without them.",
        made=[f"workbench run sweep.toml; the file lies in this folder. Study: {sweep.study}."],
        settings={**{k: str(v) for k, v in sweep.__dict__.items() if v}, **run.record["versions"], "commit": run.record["code"]},
        links=[(f"cell {row.cell}", f"cells/{row.cell}/run/index.html") for row in done.itertuples() if row.status == "finished"],
    )  # fmt: skip
