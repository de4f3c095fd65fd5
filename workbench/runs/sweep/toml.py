"""A sweep's toml file: what its keys may hold, where its paths lie, and how values are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import BadInput


def key_text(name: str) -> str:
    """Return a key as it stands in a toml file."""
    return name if re.fullmatch(r"[\w-]+", name) else toml_text(name)


def toml_text(value: Any) -> str:
    """Return a value as it stands in a toml file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else {'"': '\\"', "\\": "\\\\"}.get(c, c) for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key_text(str(k))} = {toml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_text(v) for v in value) + "]"
    raise BadInput(f"{value!r} cannot stand in a toml file")


def check_types(file: str, given: Mapping[str, Any]) -> None:
    """A toml file may hold anything: say which key holds what it should not."""
    for key, value in given.items():
        if key in ("name", "study", "description"):
            good, wanted = isinstance(value, str), "a text"
        elif key == "fast":
            good, wanted = isinstance(value, bool), "true or false"
        elif key in ("columns", "grid", "settings"):
            good, wanted = isinstance(value, dict), f"a section, [{key}]"
        elif key == "models":
            good = isinstance(value, list) and all(
                isinstance(v, str) or (isinstance(v, dict) and all(isinstance(x, str) for x in v.values())) for v in value
            )
            wanted = "a list, even of one, of texts (of a study of several models: of {role = name})"
        elif key in ("seeds", "layers"):
            good, wanted = isinstance(value, list) and all(type(v) is int for v in value), "a list, even of one, of whole numbers"
        else:
            good, wanted = isinstance(value, list) and all(isinstance(v, str) for v in value), "a list, even of one, of texts"
        if not good:
            raise BadInput(f"{file}: {key} = {value!r}: it is {wanted}")
    for name, values in given.get("grid", {}).items():
        if not isinstance(values, list):
            raise BadInput(f"{file}: [grid] {name} = {values!r}: a list of values; single values go under [settings]")
    for name, column in given.get("columns", {}).items():
        if not isinstance(column, str):
            raise BadInput(f"{file}: [columns] {name} = {column!r}: the name of a column")


def beside(folder: Path, value: Any) -> Any:
    """A path that is there from the toml file's folder: from there; anything else as it is."""
    if isinstance(value, Mapping):
        return {k: beside(folder, v) for k, v in value.items()}
    looks = isinstance(value, str) and ("/" in value or Path(value).suffix in (".csv", ".jsonl", ".parquet", ".py"))
    return str(folder / value) if looks and (folder / value).exists() else value
