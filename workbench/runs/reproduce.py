"""Run a finished run again from its own folder, with nothing cached, and say whether the numbers agree."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, DamagedRun, OutputFolder, WrongModel
from ..core.provenance import source_hash, versions
from ..core.show import visible
from .cache import Cache
from .digests import told
from .execute import execute
from .handle import handles
from .inputs import inputs_again
from .record import RECORD, check_output
from .registry import find, names
from .run import Run
from .settings import check_kind
from .study import Study

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
        return visible("\n".join([*(f"note: {w}" for w in self.warnings), *lines, f"{verdict}; the new run is in {self.folder}"]))


def rerun(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    model: Any = None,
    models: Mapping[str, Any] | None = None,
    study: Any = None,
    tolerance: float = 1e-3,
    cache: str | Path | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    inputs: Mapping[str, str | Path] | None = None,
) -> Rerun:
    """Run a run again from its own folder, computing everything anew, and compare every number.

    Args:
        folder: A finished run.
        out: Where the new run goes; by default FOLDER-rerun beside it.
        model: For a run of one model: where it lies now; by default what `run.json` names. Its weights must be the same.
        models: For a run of several: where each lies now, by role.
        study: The study's file, for a study that is not installed: a record is not trusted to name code.
        tolerance: Largest relative error of a number that counts as agreement (numbers below 1e-3 in size: absolute, 1e-3 times the
            tolerance of one). Threads and processors change last digits.
        cache: A cache to use; by default an empty one, which is deleted after: nothing is taken from earlier runs.
        progress, say: As for `run_study`.
        inputs: Where files and folders lie that the run was made from and that it holds no copy of, by setting. A record is not trusted
            to name them.

    Returns:
        Whether the numbers agree, table by table.

    Raises:
        DamagedRun: There is no finished run, it is damaged, or a sweep's folder was given.
        BadInput: The record names no model (a loaded one was given), a study that is not installed, or a file that does not lie in the
            run's folder: name it.
        WrongModel: A model's weights are others.
        OutputFolder: The folder of the new run is a link.
    """
    old = Run.load(folder)
    declared = _study_of(old, study)
    settings, notes = _settings_of(old, declared, inputs or {})
    target = Path(out) if out else old.folder.resolve().parent / f"{old.folder.resolve().name}-rerun"
    if not out and target.is_symlink():
        raise OutputFolder(f"{target.name}, where the new run would go, is a link; choose another folder with --out")
    check_output(target, declared.name)
    with tempfile.TemporaryDirectory(prefix="workbench-rerun-") as empty:
        store = Cache(cache if cache is not None else empty)
        by_role = handles(_models_of(old, declared, model, models), store)
        for role, handle in by_role.items():
            was = old.record["models"].get(role, {}).get("digest")
            if was != handle.info.digest:
                name = handle.given or handle.info.name
                raise WrongModel(f"{name!r} has other weights (digest {handle.info.digest}) than the {role} of the run ({was})")
        fast = bool(old.record.get("fast"))
        execute(declared, by_role, settings, target, fast=fast, progress=progress, say=say, cache=store, formats=("html",))
    again = Run.load(target)
    table = pd.DataFrame([_agree(name, old.tables[name], again.tables.get(name), tolerance) for name in old.tables])
    stray = [t for t in again.tables if t not in old.tables]
    if old.altered:
        notes.insert(0, told(old.folder.name, old.altered))
    notes += [*_otherwise(old), *(f"the rerun made a table that the run has not: {t}" for t in stray)]
    good = len(table) > 0 and not stray and bool((table["differing"] == 0).all()) and bool((table["note"] == "").all())
    return Rerun(agrees=good, table=table, warnings=tuple(notes), folder=again.folder)


def _study_of(run: Run, given: Any) -> Study:
    name = str(run.record["study"])
    if name.startswith("sweep "):
        raise DamagedRun(
            "this is a sweep: run one of its cells again (cells/NAME/run), or the whole with `workbench run FOLDER --out ELSEWHERE`"
        )
    if given is None and name not in names():
        raise BadInput(f"the record in {run.folder.name} names a study {name[:60]!r}, which is not installed: give its file, with --study")
    study = find(name if given is None else given)
    if study.name != name:
        raise BadInput(f"{run.folder.name} holds a run of the study {name[:60]!r}, not of {study.name!r}")
    return study


def _settings_of(run: Run, study: Study, inputs: Mapping[str, str | Path]) -> tuple[Any, list[str]]:
    """The settings of a run, and in words where they cannot be those that it had."""
    was = run.record["settings"]
    kept = {k: tuple(v) if isinstance(v, list) else v for k, v in was.items() if k in study.fields}
    kept |= inputs_again(run, study, kept, inputs)
    try:
        for name, value in kept.items():
            check_kind(name, value, study.fields[name])
        settings = study.settings(**kept)
    except Exception as error:
        raise DamagedRun(f"the settings in {run.folder.name}/{RECORD} are not those of the study {study.name!r}: {error}") from error
    notes = [f"run.json does not say {k}; it is {getattr(settings, k)!r}, as by default" for k in study.fields if k not in was]
    return settings, notes + [
        f"run.json has a setting {k}, which the study has not: left out" for k in was if k not in (*study.fields, *study.models)
    ]


def _models_of(run: Run, study: Study, model: Any, models: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(models or {})
    if model is not None:
        if len(study.models) != 1:
            raise BadInput(f"the study {study.name!r} has the roles {', '.join(study.models) or '(none)'}: name them, with models=")
        given[study.models[0]] = model
    out = {}
    for role in study.models:
        named = given.get(role, run.record["models"].get(role, {}).get("given"))
        if named is None:
            raise BadInput(f"the run was made from a loaded model, which has no name: say where the {role} lies, with --model")
        out[role] = named
    return out


def _otherwise(run: Run) -> list[str]:
    """What is not as it was when the run was made."""
    notes = [f"{k} is {versions().get(k)} now, was {v}" for k, v in run.record["versions"].items() if versions().get(k) != v]
    return notes if run.record.get("source") == source_hash() else [*notes, "the workbench's own source is not what it was"]


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
            with np.errstate(invalid="ignore"):  # of two infinities, which are equal or differ by infinity
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
