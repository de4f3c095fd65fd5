"""The record of a run, `run.json`: read with suspicion, for a run folder may be a stranger's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import DamagedRun, OutputFolder
from ..core.whole import check_writable, write_whole
from .inside import check_inside, check_name
from .shape import Maybe, misfit, read_json

SCHEMA = 4
RECORD = "run.json"
_TEXTS = Maybe([str])
_MODEL = {"given": Maybe((str, None)), "name": Maybe(str), "digest": Maybe((str, None))}
_SHAPE: Mapping[str, Any] = {
    "study": str,
    "status": str,
    "tables": _TEXTS,
    "findings": _TEXTS,
    "folders": _TEXTS,
    "settings": Maybe(dict),
    "versions": Maybe({str: (str, None)}),
    "code": Maybe((dict, None)),
    "columns": Maybe({str: {"about": [str], "says": [str]}}),
    "models": Maybe({str: _MODEL}),
    "given": Maybe((str, None)),
    "steps": Maybe([{"step": str, "seconds": float, "cached": bool}]),
    "main": Maybe(({"table": str}, None)),
    "digests": Maybe({str: str}),
    "input": Maybe((str, None)),
    "inputs": Maybe({str: {"name": str, "digest": str, "kept": bool}}),
    "fast": Maybe((bool, None)),
    "source": Maybe((str, None)),
    "started": Maybe(str),
}
_EMPTY = {"tables": list, "findings": list, "steps": list, "settings": dict, "versions": dict}


def check_output(folder: Path, study: str) -> None:
    """Raise unless a run of this study may be written to a folder.

    Args:
        folder: Where the run is to go.
        study: Name of the study.

    Raises:
        OutputFolder: It is a file, cannot be written, or holds something that is not a run of this study.
        DamagedRun: It holds links.
    """
    check_writable(folder)
    if not folder.is_dir() or not any(p.suffix != ".tmp" for p in folder.iterdir()):
        return
    try:
        record = read_record(folder)
    except DamagedRun as error:
        why = f"no {RECORD}" if not os.path.lexists(folder / RECORD) else str(error)
        raise OutputFolder(f"{folder.name} holds something else ({why}); choose an empty folder with --out") from None
    if record["study"] != study:
        raise OutputFolder(f"{folder.name} holds a run of the study {record['study']!r}, not {study!r}; choose another folder")
    check_inside(folder)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run's `run.json` holds.

    Args:
        folder: The run.

    Returns:
        The record. Records of older versions are given the fields of today's (`models` by role).

    Raises:
        DamagedRun: There is none, it cannot be read, it is no record, or a newer version wrote it.
    """
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError:
        raise DamagedRun(f"no run in {str(folder)!r}: it has no readable {RECORD}") from None
    except (OSError, ValueError) as error:
        raise DamagedRun(f"no run in {str(folder)!r}: it has no readable {RECORD} ({error})") from None
    fault = misfit(record, {"schema": Maybe(int)})
    if not fault and record.get("schema", 0) > SCHEMA:
        raise DamagedRun(f"the run in {folder.name} was written by a newer version (schema {record['schema']}, this one knows {SCHEMA})")
    if fault := fault or misfit(record, _SHAPE):
        raise DamagedRun(f"{RECORD} in {folder.name} is not a record: {fault}")
    for name in (*record.get("tables", []), *record.get("columns", {}), *record.get("folders", [])):
        check_name(name, folder)
    for one in record.get("inputs", {}).values():
        check_name(one["name"], folder)
    for name, kind in _EMPTY.items():
        record.setdefault(name, kind())
    if "models" not in record:  # schema 2: one model, under settings
        old = record["settings"].get("model")
        record["models"] = {"model": {"given": record.get("given"), **old}} if isinstance(old, Mapping) else {}
        if fault := misfit(record["models"], {str: _MODEL}):
            raise DamagedRun(f"{RECORD} in {folder.name} is not a record: settings.{fault}")
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, whole or not at all.

    Args:
        folder: The run.
        record: What it is to hold; what is not JSON-like is written as text.
    """
    write_whole(folder / RECORD, _text(record) + "\n")


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False, default=str)


def end_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a run that ended before it was finished, on a full disk as well.

    Where there is no room for a new file the old one is written over, in the room that it has: without the steps if need be, or with
    nothing but the new status. On a read-only disk it stays as it was.

    Args:
        folder: The run.
        record: With its status and its error.
    """
    with suppress(OSError):
        write_record(folder, record)
        return
    with suppress(OSError, ValueError):
        path = folder / RECORD
        room, old, status = path.stat(), read_json(path), {"status": record["status"]}
        for one in (record, {**record, "steps": []}, {**old, **status, "error": record["error"]}, old | status):
            text = _text(one).encode("utf-8", "backslashreplace")
            if len(text) <= room.st_size and room.st_nlink == 1:
                with path.open("r+b") as file:
                    file.write(text.ljust(room.st_size))
                return
