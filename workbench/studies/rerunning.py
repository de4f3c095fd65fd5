"""Run a finished run again from its own folder, with nothing cached, and say whether the numbers agree."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, DamagedRun, WrongModel
from ..core.provenance import source_hash, versions
from ..models import info, load_model
from .cache import Cache
from .names import STUDIES
from .run import Run, check_output
from .running import check_model, content_digest, modules, run_loaded

# what is measured in seconds, or says when
_TIMED = ("seconds",)


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """How a run's numbers agree with those of its rerun.

    Attributes:
        agrees: Whether every number does, within the tolerance.
        table: One row per table: `table, numbers, differing, largest` (relative error) and `note`.
        warnings: What is not as it was: versions, source.
        folder: The new run.
    """

    agrees: bool
    table: pd.DataFrame
    warnings: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        """Return it in words."""
        lines = [
            f"  {r['table']:<24} {r['numbers']:>7} numbers, {r['differing']} differ, largest relative error {r['largest']:.1e}"
            + (f"; {r['note']}" if r["note"] else "")
            for r in self.table.to_dict("records")
        ]
        verdict = "every number agrees" if self.agrees else "NOT every number agrees"
        return "\n".join([*(f"note: {w}" for w in self.warnings), *lines, f"{verdict}; the new run is in {self.folder}"])


def rerun(
    folder: str | Path, *, out: str | Path | None = None, model: Any = None, tolerance: float = 1e-3, cache: str | Path | None = None,
    progress: bool | None = None, say: Callable[[str], None] | None = None,
) -> Rerun:  # fmt: skip
    """Run a run again from its own folder, computing everything anew, and compare every number.

    Args:
        folder: A finished run.
        out: Where the new run goes; by default FOLDER-rerun beside it.
        model: Where the model lies now; by default what `run.json` names. Its weights must be the same.
        tolerance: Largest relative error of a number that counts as agreement (numbers below 1e-3 in size: absolute, 1e-3 times the tolerance
            of one). Threads and processors change last digits.
        cache: A cache to use; by default an empty one, which is deleted after: nothing is taken from earlier runs.
        progress, say: As for `run_study`.

    Returns:
        Whether the numbers agree, table by table.

    Raises:
        DamagedRun: There is no finished run, or a sweep's folder was given.
        BadInput: The record names no model (a loaded one was given): name it.
        WrongModel: The model's weights are others.
    """
    old = Run.load(folder)
    record = old.record
    if str(record["study"]).startswith("sweep "):
        raise DamagedRun(
            "this is a sweep: run one of its cells again (cells/NAME/run), or the whole with `workbench run FOLDER --out ELSEWHERE`"
        )
    if record["study"] not in STUDIES:
        raise DamagedRun(f"the record in {old.folder.name} names a study {str(record['study'])[:60]!r}, which there is not")
    named = model if model is not None else record.get("given")
    if named is None:
        raise BadInput("the run was made from a loaded model, which has no name: say where it lies, with --model")
    study, _ = modules(str(record["study"]))
    kept = {k: v for k, v in record["settings"].items() if k in study.Settings.__dataclass_fields__}
    copies = [p for p in (old.folder / "inputs").glob("*") if p.is_file()]
    if record.get("input"):  # the user's own table: only its copy in the run, and only as it was
        if len(copies) != 1 or content_digest(copies[0]) != record["input"]:
            raise DamagedRun(f"{old.folder.name}/inputs does not hold the table that the run was made from, as it was")
        kept["data"] = str(copies[0])
    try:
        settings = study.Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()})
    except TypeError as error:
        raise DamagedRun(f"the settings in {old.folder.name}/run.json are not those of the study: {error}") from None
    target = Path(out) if out else old.folder.resolve().parent / f"{old.folder.resolve().name}-rerun"
    check_output(target, str(record["study"]))
    loaded = load_model(named)
    check_model(loaded)
    was, now = record["settings"].get("model", {}), info(loaded).key()
    if was.get("digest") != now["digest"]:
        raise WrongModel(f"{named!r} has other weights (digest {now['digest']}) than the model of the run ({was.get('digest')})")
    with tempfile.TemporaryDirectory(prefix="workbench-rerun-") as empty:
        new = run_loaded(
            str(record["study"]), loaded, settings, target, given=str(named), fast=bool(record.get("fast")), progress=progress, say=say,
            cache=Cache(cache if cache is not None else empty), formats=("html",),
        )  # fmt: skip
    again = Run.load(target)
    table = pd.DataFrame([_agree(name, old.tables[name], again.tables.get(name), tolerance) for name in old.tables])
    notes = [f"{k} is {versions().get(k)} now, was {v}" for k, v in record["versions"].items() if versions().get(k) != v]
    if record.get("source") != source_hash():
        notes.append("the workbench's own source is not what it was")
    stray = [t for t in again.tables if t not in old.tables]
    notes += [f"the rerun made a table that the run has not: {t}" for t in stray]
    good = len(table) > 0 and not stray and bool((table["differing"] == 0).all()) and bool((table["note"] == "").all())
    return Rerun(agrees=good, table=table, warnings=tuple(notes), folder=new.folder)


def _agree(name: str, old: pd.DataFrame, new: pd.DataFrame | None, tolerance: float) -> dict[str, Any]:
    out: dict[str, Any] = {"table": name, "numbers": 0, "differing": 0, "largest": 0.0, "note": ""}
    if new is None:
        return out | {"note": "the rerun has no such table"}
    if list(old.columns) != list(new.columns) or len(old) != len(new):
        return out | {"note": f"{len(old)} rows x {len(old.columns)} columns before, {len(new)} x {len(new.columns)} now"}
    for column in old.columns:
        if column in _TIMED:
            continue
        a, b = old[column], new[column]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            x, y = a.to_numpy(float), b.to_numpy(float)
            size = np.maximum(np.maximum(np.abs(x), np.abs(y)), 1e-3)
            error = np.where(np.isnan(x) & np.isnan(y), 0.0, np.where(x == y, 0.0, np.abs(x - y) / size))
            error = np.where(np.isnan(error), np.inf, error)
            out["numbers"] += len(x)
            out["differing"] += int((error > tolerance).sum())
            out["largest"] = max(out["largest"], float(error.max(initial=0.0)))
        else:
            differing = int((a.astype(str) != b.astype(str)).sum())
            out["differing"] += differing
            out["numbers"] += len(a)
    return out
