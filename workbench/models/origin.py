"""Whether an edit was made from the model that it is to act on."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import ShapeMismatch, WrongModel
from .digest import weights_state
from .known import info

# the model's key, by a state that is cheap to compare: hashing the weights at every edit would cost more than the edit
_SEEN: weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], dict[str, Any]]] = weakref.WeakKeyDictionary()
_HOME: weakref.WeakKeyDictionary[Any, list[dict[str, Any]]] = weakref.WeakKeyDictionary()


def check_origin(model: Any, edits: Iterable[Any]) -> None:
    """Raise unless every edit or gate with an origin was made from this model.

    Args:
        model: What `load_model` returns.
        edits: Edits and gates. One without an origin is not checked.

    Raises:
        WrongModel: An edit was made from another model, or from one whose weights were processed differently.
        ShapeMismatch: An edit has another width than the model.
    """
    accepted = None
    for edit in edits:
        if not edit.origin:
            continue
        where, width = f"{edit.label} at {edit.site}[{edit.layer}]", edit.origin.get("d_model")
        if width is not None and width != int(model.cfg.d_model):
            raise ShapeMismatch(f"{where} is {width} wide; the model has d_model {int(model.cfg.d_model)}")
        made = edit.origin.get("model")
        if not made:
            continue
        accepted = accepted or [_key(model), *_HOME.get(model, [])]
        same = [all(k[name] == made[name] for name in ("digest", "processing") if name in made) for k in accepted]
        if not any(same):
            raise WrongModel(
                f"{where} was made from {made.get('name')!r}, and this is {accepted[0]['name']!r}, or its weights or their "
                "processing differ. To try it all the same, say so: transfer=True"
            )


def _key(model: Any) -> dict[str, Any]:
    state = weights_state(model)
    seen = _SEEN.get(model)
    if seen is None or seen[0] != state:
        seen = _SEEN[model] = (state, info(model).key())
    return seen[1]


def come_home(model: Any) -> Mapping[str, Any]:
    """Accept from now on all edits that were made from the current weights, even after the weights change.

    Returns:
        What `leave_home` needs to end it.
    """
    key = info(model).key()
    _HOME.setdefault(model, []).append(key)
    return key


def leave_home(model: Any, key: Mapping[str, Any] | None) -> None:
    """Accept them no longer. It may be called more than once."""
    _HOME[model] = [k for k in _HOME.get(model, []) if k is not key]
