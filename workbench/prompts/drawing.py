"""Which items of a list are asked about: by name, on one side of a split, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..core.errors import BadInput, EmptyPromptSet, UnknownName, unknown
from ..core.seeds import numpy_rng
from .cells import check_count, shown
from .splits import Split

T = TypeVar("T")


def choose(asked: Sequence[str | T] | None, known: Sequence[T], name: str) -> list[T]:
    """Return the items that are asked for, by their names or as they are.

    Args:
        asked: Names of the list, or items of one's own; `None` for all.
        known: The list.
        name: The attribute that holds an item's name.

    Returns:
        The items, in the order asked for.

    Raises:
        UnknownName: No item has a name that is asked for.
        BadInput: Something else is asked for, or a name twice.
    """
    if asked is None:
        return list(known)
    kind, by_name = type(known[0]), {getattr(item, name): item for item in known}
    if isinstance(asked, str):
        raise BadInput(f"a list is asked for, got the text {shown(asked)} as {name}; put it in a list")
    out: dict[str, T] = {}
    for item in asked:
        if isinstance(item, str) and item not in by_name:
            raise unknown(UnknownName, name, item, by_name)
        one = by_name[item] if isinstance(item, str) else item
        if not isinstance(one, kind):
            raise BadInput(f"{shown(item)} is no {name}: give a name of the list, or a value of {kind.__name__}")
        if getattr(one, name) in out:
            raise BadInput(f"the {name} {shown(getattr(one, name))} is asked for twice; its items would count double")
        out[getattr(one, name)] = one
    return list(out.values())


def on_side(split: Split | None, side: str, items: list[T], name: str) -> list[T]:
    """Return the items on one side of a split.

    Args:
        split: The split; without one, or where it does not go by this name, all items are returned.
        side: "train" or "test".
        items: The items.
        name: The attribute that holds an item's name.

    Returns:
        The items of this side, in the order of their names.

    Raises:
        UnknownName: There is no such side.
        EmptyPromptSet: None of them is on this side.
    """
    held = None if split is None else split.values(side).get(name)
    if held is None:
        return items
    by_name = {getattr(item, name): item for item in items}
    if not (kept := [by_name[value] for value in held if value in by_name]):
        raise EmptyPromptSet(f"no {name} that is asked for is on the {side} side of this split")
    return kept


def draw(count: int, n: int | None, seed: int, name: str) -> np.ndarray:
    """Return the indices of `n` of `count` cells, in order; all of them without `n`.

    Raises:
        BadInput: `n` is no whole number, or below 1.
    """
    n = None if n is None else check_count(n, "n is the number of items to draw")
    if n is None or n >= count:
        return np.arange(count)
    return np.sort(numpy_rng(seed, name).permutation(count)[:n])
