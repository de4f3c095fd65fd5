"""Whether an edit belongs to a model: the one that it was made from, of its width."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import ShapeMismatch, WrongModel
from .known import info

# what the model is, by a state that is cheap to see: hashing a model at every push would cost more than the push
_SEEN: weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], dict[str, Any]]] = weakref.WeakKeyDictionary()
_HOME: weakref.WeakKeyDictionary[Any, list[dict[str, Any]]] = weakref.WeakKeyDictionary()


def check_origin(model: Any, edits: Iterable[Any]) -> None:
    """Raise unless every edit that says what it was made from was made from this model.

    Raises:
        WrongModel: Another model, or another way of processing its weights.
        ShapeMismatch: Another width.
    """
    known = None
    for edit in edits:
        if not edit.origin:
            continue
        where, width = f"{edit.label} at {edit.site}[{edit.layer}]", edit.origin.get("d_model")
        if width is not None and width != int(model.cfg.d_model):
            raise ShapeMismatch(f"{where} is {width} wide; the model has d_model {int(model.cfg.d_model)}")
        made = edit.origin.get("model")
        if not made:
            continue
        known = known or [_key(model), *_HOME.get(model, [])]
        same = [all(k[name] == made[name] for name in ("digest", "processing") if name in made) for k in known]
        if not any(same):
            raise WrongModel(
                f"{where} was made from {made.get('name')!r}, and this is {known[0]['name']!r}, or its weights or their processing differ. "
                "To try it all the same, say so: transfer=True"
            )


def _key(model: Any) -> dict[str, Any]:
    state = tuple(x for p in model.parameters() for x in (id(p), p._version))
    seen = _SEEN.get(model)
    if seen is None or seen[0] != state:
        seen = _SEEN[model] = (state, info(model).key())
    return seen[1]


@contextmanager
def at_home(model: Any) -> Iterator[None]:
    """Inside, what was made from the model as it is now goes on being accepted, whatever becomes of its weights."""
    homes = _HOME.setdefault(model, [])
    homes.append(info(model).key())
    try:
        yield
    finally:
        homes.pop()
