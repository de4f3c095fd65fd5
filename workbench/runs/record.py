"""The record of a run, `run.json`: read with suspicion, for a run folder may be a stranger's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DamagedRun, OutputFolder

SCHEMA = 3
RECORD = "run.json"


def check_output(folder: Path, study: str) -> None:
    """Raise unless a run of this study may be written to a folder.

    Args:
        folder: Where the run is to go.
        study: Name of the study.

    Raises:
        OutputFolder: It is a file, or holds something that is not a run of this study.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolder(f"{folder.name} is a file; a run needs a folder")
    if not folder.is_dir() or not any(p.suffix != ".tmp" for p in folder.iterdir()):
        return
    try:
        record = read_record(folder)
    except DamagedRun:
        raise OutputFolder(f"{folder.name} holds something else (no {RECORD}); choose an empty folder with --out") from None
    if record.get("study") != study:
        raise OutputFolder(f"{folder.name} holds a run of the study {record.get('study')!r}, not {study!r}; choose another folder")


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run's `run.json` holds.

    Args:
        folder: The run.

    Returns:
        The record. Records of older versions are given the fields of today's (`models` by role).

    Raises:
        DamagedRun: There is none, it cannot be read, or a newer version wrote it.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DamagedRun(f"no run in {str(folder)!r}: it has no readable {RECORD}") from None
    if not isinstance(record, dict) or not _shaped(record):
        raise DamagedRun(f"{RECORD} in {folder.name} is not a record")
    if record.get("schema", 0) > SCHEMA:
        raise DamagedRun(f"the run in {folder.name} was written by a newer version (schema {record['schema']}, this one knows {SCHEMA})")
    for name in (*record.get("tables", []), *record.get("columns", {}), *record.get("folders", [])):
        check_name(name, folder)
    if "models" not in record:  # schema 2: one model, under settings
        old = record.get("settings", {}).get("model")
        record["models"] = {"model": {"given": record.get("given"), **old}} if isinstance(old, Mapping) else {}
    return record


def _shaped(record: Mapping[str, Any]) -> bool:
    """Whether the fields that are read have their types."""
    texts = all(
        isinstance(record.get(k, []), list) and all(isinstance(v, str) for v in record.get(k, []))
        for k in ("tables", "findings", "folders")
    )
    maps = all(isinstance(record.get(k, {}), dict) for k in ("settings", "columns", "models", "versions"))
    if not (texts and maps) or not isinstance(record.get("schema", 0), int) or not isinstance(record.get("study", ""), str):
        return False
    models = all(isinstance(v, dict) for v in record.get("models", {}).values())
    columns = all(
        isinstance(v, dict) and all(isinstance(v.get(k), list) and all(isinstance(c, str) for c in v[k]) for k in ("about", "says"))
        for v in record.get("columns", {}).values()
    )
    steps = isinstance(record.get("steps", []), list) and all(isinstance(s, dict) for s in record.get("steps", []))
    return models and columns and steps


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
