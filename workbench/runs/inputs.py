"""Files and folders of the user's own that a run is made from: single files are copied into it; all are known by what they hold."""

from __future__ import annotations

import os
import re
import shutil
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, DamagedRun
from ..core.whole import replacing
from .keys import content_of
from .run import Run
from .study import Study

INPUTS = "inputs"


def same_inputs(record: Mapping[str, Any], study: Study, settings: Any) -> bool:
    """Return whether a finished run was made from the same files as another is to be.

    Args:
        record: Of the finished run.
        study, settings: Of the other.
    """
    now = {name: _digest(path) for name, path in _given(study, settings).items() if path.is_file()}
    if "inputs" in record:
        return now == {name: one["digest"] for name, one in record["inputs"].items() if one["kept"]}
    return record.get("input") == next((digest[:16] for digest in now.values()), None)  # records before schema 4 know one file


def keep_inputs(folder: Path, record: dict[str, Any], study: Study, settings: Any) -> None:
    """Copy the user's own files into a run, so that it can be run again from itself, and note what they hold.

    Args:
        folder: The run.
        record: Its record; receives `inputs`.
        study, settings: Of the run.
    """
    given, target = _given(study, settings), folder / INPUTS
    record["inputs"] = {}
    taken: set[str] = set()
    if not any(path.resolve().parent == target.resolve() for path in given.values()):
        shutil.rmtree(target, ignore_errors=True)  # that of an earlier run into this folder
    for setting, path in given.items():
        name = re.sub(r"^\W+|[^\w .+-]", "_", path.name)
        name = f"{setting}-{name}" if name in taken else name
        taken.add(name)
        record["inputs"][setting] = {"name": name, "digest": _digest(path), "kept": path.is_file()}
        if path.is_file() and path.resolve().parent != target.resolve():
            target.mkdir(exist_ok=True)
            with replacing(target / name) as temporary:
                shutil.copyfile(path, temporary)


def inputs_again(run: Run, study: Study, kept: Mapping[str, Any], given: Mapping[str, str | Path]) -> dict[str, str]:
    """Return the files and folders that a run is to be run again from: its own copies, and those that the user names.

    Args:
        run: The finished run.
        study: Its study.
        kept: The settings that its record holds.
        given: What the user names, by setting.

    Returns:
        Paths by setting. Names of data sets that come with the package are not among them.

    Raises:
        BadInput: The record names something outside of the run's folder that the user does not name, or the user names something else
            than the run was made from.
        DamagedRun: A copy is missing, or not as it was.
    """
    paths = _path_settings(study)
    if stray := sorted(set(given) - set(paths)):
        raise BadInput(
            f"the study {study.name!r} has no file or folder {stray[0]!r} among its settings; there are: {', '.join(paths) or 'none'}"
        )
    noted = _noted(run, [name for name in paths if kept.get(name)])
    out = {}
    for name in paths:
        value, note = kept.get(name), noted.get(name)
        if name in given:
            path = Path(given[name]).expanduser()
            if note is not None and not (path.exists() and _is(path, note["digest"])):
                raise BadInput(
                    f"{name}={str(given[name])!r} is not what {run.folder.name} was made from: there is nothing, or something else"
                )
            out[name] = str(given[name])
        elif note is not None and note["kept"]:
            path = run.folder / INPUTS / note["name"]
            if not path.is_file() or not _is(path, note["digest"]):
                raise DamagedRun(f"{run.folder.name}/{INPUTS} does not hold {note['name']}, which the run was made from, as it was")
            out[name] = str(path)
        elif value and value != _default(study, name) and (note is not None or _lies_there(value)):
            raise BadInput(
                f"the record of {run.folder.name} names {name}={str(value)[:200]!r}, outside of the run's folder: nothing is read there. "
                f"If the run was made from it, say so: --input {name}={str(value)[:200]} (in Python inputs={{{name!r}: …}})"
            )
    return out


def _noted(run: Run, named: list[str]) -> dict[str, dict[str, Any]]:
    """What the record says of each input; one of before schema 4 knows the digest of a single file."""
    if "inputs" in run.record or not run.record.get("input"):
        return run.record.get("inputs", {})
    copies = [p.name for p in (run.folder / INPUTS).glob("*") if p.is_file()]
    name = copies[0] if len(copies) == 1 else f"one file ({len(copies)} are there)"
    return {one: {"name": name, "digest": run.record["input"], "kept": True} for one in named[:1]}


def _given(study: Study, settings: Any) -> dict[str, Path]:
    """The files and folders among a run's inputs that are there; the others are names of data sets."""
    named = {name: Path(str(value)).expanduser() for name in study.inputs if (value := getattr(settings, name, ""))}
    return {name: path for name, path in named.items() if path.exists()}


def _digest(path: Path) -> str:
    content = content_of(path)
    return content[1] if isinstance(content, list) else str(content)


def _is(path: Path, digest: str) -> bool:
    return digest in ((now := _digest(path)), now[:16])


def _path_settings(study: Study) -> tuple[str, ...]:
    """Settings that name files or folders: those that the study declares, and every one that is a path by its type."""
    paths = [name for name, kind in study.fields.items() if kind is Path or Path in typing.get_args(kind)]
    return tuple(dict.fromkeys([*study.inputs, *paths]))


def _default(study: Study, name: str) -> Any:
    field = next(f for f in fields(study.settings) if f.name == name)
    return field.default if field.default is not MISSING else None


def _lies_there(value: Any) -> bool:
    try:
        return os.path.lexists(Path(str(value)).expanduser())
    except (OSError, ValueError, RuntimeError):  # no path of this system
        return False
