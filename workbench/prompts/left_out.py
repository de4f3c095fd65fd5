"""Rows that cannot be used: an error for the careful, or left out, counted and named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core.errors import BadInput
from .cells import Place

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that was left out.

    Attributes:
        source: The file or table.
        row: Number of the row, counted from 0 without a head; -1 for a whole file.
        why: What is wrong with it.
    """

    source: str
    row: int
    why: str

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}: {self.why}" if self.row >= 0 else f"{self.source}: {self.why}"


_LEFT: ContextVar[list[Skipped] | None] = ContextVar("left out", default=None)


@contextmanager
def leaving_out() -> Iterator[list[Skipped]]:
    """Leave out rows that cannot be used, until the block ends, instead of raising an error at the first.

    Yields:
        The list that they are noted in.
    """
    rows: list[Skipped] = []
    token = _LEFT.set(rows)
    try:
        yield rows
    finally:
        _LEFT.reset(token)


def leave_out(place: Place, error: BadInput) -> None:
    """Note a row that cannot be used, inside `leaving_out`.

    Args:
        place: Where it stands.
        error: What is wrong with it.

    Raises:
        BadInput: The error itself, outside `leaving_out`.
    """
    rows = _LEFT.get()
    if rows is None:
        raise error
    rows.append(Skipped(source=place.source, row=place.row, why=str(error).removeprefix(f"{place}").lstrip(": ")))


def each(rows: Iterable[tuple[Place, Any]], make: Callable[[Any, Place], T]) -> list[T]:
    """Return what is made of every row that can be used.

    Args:
        rows: Rows with their places.
        make: Makes something of a row and its place; raises `BadInput` where it cannot.

    Returns:
        What was made, in the order of the rows.

    Raises:
        BadInput: A row cannot be used, outside `leaving_out`.
    """
    out = []
    for place, row in rows:
        try:
            out.append(make(row, place))
        except BadInput as error:
            leave_out(place, error)
    return out


def distinct(items: Iterable[tuple[Place, T]], key: Callable[[T], Any]) -> list[T]:
    """Return each item once; those that stood there before are noted as left out.

    Args:
        items: Items with their places.
        key: What is equal for equal items.

    Returns:
        The first of each, in order.

    Raises:
        BadInput: An item is there twice, outside `leaving_out`.
    """
    seen: dict[Any, Place] = {}
    out = []
    for place, item in items:
        first = seen.setdefault(key(item), place)
        if first is place:
            out.append(item)
        else:
            leave_out(place, place.error(f"it stands there already, in {first.beside(place)}"))
    return out
