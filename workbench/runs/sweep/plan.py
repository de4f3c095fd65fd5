"""What a sweep would run, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..cache import Cache
from ..registry import find
from ..rehearsal import COLUMNS, plan_cell
from ..settings import settings_of
from .load import placed
from .worker import finished_cells


def plan(
    sweep: Any, *, out: str | Path | None = None, cache: str | Path | None = None, say: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """Say what a sweep (or one study) would run, what is cached, and about how long the rest will take. Loads no model, writes nothing.

    Args:
        sweep: A `Sweep`, the path of its toml file, or the name of a study.
        out: The folder that it would be written to: finished cells there are not run again.
        cache: As for `run_study`.
        say: Receives a line per cell.

    Returns:
        One row per step: `cell, step, status, seconds, from`. Status "finished" (the whole cell is), "cached", "to run", "shared" (with an
        earlier cell), "likely" (from earlier runs of the study), "unknown". Seconds are nan where there is nothing to judge by; they are
        those of one process.

    Raises:
        BadInput: As `Sweep`; and whatever else of a model or of prompts would end the run.
    """
    document, folder = placed(sweep, out)
    store, study = Cache(cache), find(document.study)
    done = finished_cells(folder, document)
    rows: list[dict[str, Any]] = []
    counted: set[str] = set()
    for cell in document.cells():
        if cell.name in done:
            rows.append({"cell": cell.name, "step": "(all)", "status": "finished", "seconds": 0.0, "from": "the run folder"})
            continue
        say(f"planning {cell.name}")
        settings = settings_of(study, seed=cell.seed, fast=document.fast, **cell.settings)
        for row in plan_cell(study, cell.models, settings, fast=document.fast, cache=store):
            key = row.pop("key", "")
            if row["status"] == "to run" and key in counted:
                row |= {"status": "shared", "seconds": 0.0, "from": "an earlier cell"}
            if key:
                counted.add(key)
            rows.append({"cell": cell.name, **row})
    return pd.DataFrame(rows, columns=COLUMNS)
