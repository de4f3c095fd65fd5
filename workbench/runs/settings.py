"""A study's settings from what a user gives: keywords, a toml file, or words on the command line."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from .study import Study

_WORDS = {
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ("a number", lambda v: isinstance(v, float) or (isinstance(v, int) and not isinstance(v, bool) and abs(v) < 10**300)),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    str: ("a text", lambda v: isinstance(v, str | Path)),
    Path: ("a path", lambda v: isinstance(v, str | Path)),
}


def settings_of(study: Study, *, seed: int = 0, fast: bool = False, **options: Any) -> Any:
    """Return the settings of a study, checked as far as they can be without a model.

    Args:
        study: The study.
        seed: Draws everything; for settings with a field of this name.
        fast: Begin from the small grid of the study.
        options: Other settings; they take precedence.

    Returns:
        An instance of the study's settings.

    Raises:
        BadInput: The study has no such setting, or the setting cannot have this value.
    """
    known = study.fields
    stray = sorted(set(options) - set(known))
    if stray:
        raise BadInput(f"the study {study.name!r} has no setting {', '.join(stray)}; it has: {', '.join(known)}")
    if "seed" in known:
        options = {"seed": seed, **options}
    elif seed:
        raise BadInput(f"the study {study.name!r} has no seed: nothing in it is drawn")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    for name, value in options.items():
        check_kind(name, value, known[name])
    return study.settings(**({**study.fast, **options} if fast else options))


def check_kind(name: str, value: Any, kind: Any) -> None:
    """Raise if a value cannot be that of a setting of this type: a toml file may hold a text where a number belongs.

    Args:
        name: The setting, for the message.
        value: What was given.
        kind: The setting's type. Types other than numbers, texts, tuples of these and mappings are not checked.

    Raises:
        BadInput: It cannot.
    """
    options = _options(kind)
    if any(_fits(value, option) for option in options):
        return
    raise BadInput(f"{name} = {value!r}: {' or '.join(_in_words(o) for o in options)}")


def _options(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else (kind,)


def _inner(kind: Any) -> Any:
    """The type of a tuple's or sequence's values, `None` for a type that has none."""
    if typing.get_origin(kind) not in (tuple, list, Sequence):
        return None
    return next(iter(typing.get_args(kind)), Any)


def _fits(value: Any, kind: Any) -> bool:
    if kind is type(None):
        return value is None
    if kind in _WORDS:
        return _WORDS[kind][1](value)
    if (inner := _inner(kind)) is not None:
        return isinstance(value, tuple) and all(any(_fits(v, o) for o in _options(inner)) for v in value)
    if typing.get_origin(kind) in (Mapping, dict) or kind is Mapping:
        return isinstance(value, Mapping)
    return True


def _in_words(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind][0]
    if (inner := _inner(kind)) is not None:
        return f"a list of values, each {_in_words(inner)}"
    if typing.get_origin(kind) is Mapping or kind is Mapping:
        return "names with their values"
    return "nothing" if kind is type(None) else str(kind)


def takes_many(kind: Any) -> bool:
    """Whether a setting of this type takes several words on a command line: a list, or names with their values.

    Args:
        kind: The setting's type.
    """
    return any(_inner(k) is not None or k is Mapping or typing.get_origin(k) in (Mapping, dict) for k in _options(kind))


def from_words(study: Study, name: str, words: Sequence[str]) -> Any:
    """Return the value of a setting from words of a command line.

    Args:
        study: The study.
        name: The setting.
        words: One word for a single value; several words, or one with commas, for a list; KEY=VALUE for names with their values. A toml
            value (`[1, 2]`, `true`, `{a = "b"}`) is read as such.

    Returns:
        The value, of the setting's type.

    Raises:
        BadInput: The study has no such setting, or the words are no value of it.
    """
    known = study.fields
    if name not in known:
        raise BadInput(f"the study {study.name!r} has no setting {name}; it has: {', '.join(known)}")
    kinds = _options(known[name])
    if (inner := next((i for k in kinds if (i := _inner(k)) is not None), None)) is not None:
        given = _toml(words[0]) if len(words) == 1 else None
        if not isinstance(given, list):
            split = words[0].split(",") if len(words) == 1 else list(words)
            given = [_one(name, w.strip(), _options(inner)) for w in split if w.strip()]
        value: Any = tuple(given)
    elif any(typing.get_origin(k) is Mapping or k is Mapping for k in kinds):
        given = _toml(words[0]) if len(words) == 1 else None
        value = given if isinstance(given, dict) else _pairs(name, words)
    elif len(words) != 1:
        raise BadInput(f"{name} takes one value, got {len(words)}: {' '.join(words)}")
    else:
        value = _one(name, words[0], kinds)
    check_kind(name, value, known[name])
    return value


def _pairs(name: str, words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise BadInput(f"{name}: {word!r} is not FIELD=COLUMN, as in statement=text label=is_true")
    fields = [word.split("=", 1)[0] for word in words]
    twice = [field for field in fields if fields.count(field) > 1]
    if twice:
        raise BadInput(f"{name}: {twice[0]!r} is given twice ({' '.join(words)}); keep one")
    return dict(word.split("=", 1) for word in words)


def _one(name: str, word: str, kinds: Sequence[Any]) -> Any:
    if str in kinds or Path in kinds:
        return word
    value = _toml(word)
    if value is None and type(None) in kinds and word in ("", "none", "None"):
        return None
    if value is None:
        raise BadInput(f"{name} = {word!r}: {' or '.join(_in_words(k) for k in kinds)}")
    return value


def _toml(word: str) -> Any:
    """A word as a toml value, `None` where it is none."""
    text = {"True": "true", "False": "false"}.get(word, word)
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return float(word) if re.fullmatch(r"[+-]?\.\d+(e[+-]?\d+)?", word) else None  # .5 is no toml
