"""JSON documents that somebody else may have written: read within bounds, and compared with the shape that they should have."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 256 * 1024 * 1024
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "names with their values", None: "null"}


@dataclass(frozen=True)
class Maybe:
    """A field that may be missing.

    Attributes:
        shape: What it is where it is there.
    """

    shape: Any


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.

    Returns:
        JSON-like. Half a character (a lone surrogate), which no file and no terminal can show, is a question mark.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a link, no file or too large, or no JSON.
    """
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is a link or no file")
    if state.st_size > LARGEST:
        raise ValueError(f"it has {state.st_size} bytes")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def misfit(value: Any, shape: Any, at: str = "") -> str:
    """Say where a value has another shape than it should have.

    Args:
        value: JSON-like.
        shape: A type (`float` takes whole numbers, too); `None`; a tuple of shapes, any of which fits; a list of one shape, for a list of
            any length; a mapping from names to shapes, which may be `Maybe`; a mapping with the single key `str`, for any names. Names
            that the shape does not have are not looked at.
        at: Where the value stands, for the sentence.

    Returns:
        A sentence such as "steps.0.seconds is no number", "" where everything fits.
    """
    if isinstance(shape, tuple):
        faults = [misfit(value, one, at) for one in shape]
        return "" if "" in faults else faults[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{at or 'it'} is no list"
        return next((fault for k, v in enumerate(value) if (fault := misfit(v, shape[0], _under(at, k)))), "")
    if isinstance(shape, Mapping):
        return _misfit_of_names(value, shape, at)
    return "" if _is(value, shape) else f"{at or 'it'} is not {_WORDS[shape]}"


def _misfit_of_names(value: Any, shape: Mapping[Any, Any], at: str) -> str:
    if not isinstance(value, dict):
        return f"{at or 'it'} is not {_WORDS[dict]}"
    if str in shape:
        return next((fault for k, v in value.items() if (fault := misfit(v, shape[str], _under(at, k)))), "")
    for name, inner in shape.items():
        if name not in value:
            if not isinstance(inner, Maybe):
                return f"{_under(at, name)} is missing"
        elif fault := misfit(value[name], inner.shape if isinstance(inner, Maybe) else inner, _under(at, name)):
            return fault
    return ""


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
            return False
        try:
            return math.isfinite(value) or kind is float
        except OverflowError:  # a whole number that no float can hold
            return False
    return isinstance(value, kind)


def _under(at: str, name: Any) -> str:
    return f"{at}.{name}" if at else str(name)
