"""What a cell of a table may hold (text, a name, a label), and errors that say in which file, row and column it stands.

Every way into the workbench goes through these rules: files, tables in memory, and values that are made by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, MissingColumn
from ..core.show import short

# white space of any kind is text; a tokenizer reads other control characters as nothing or as noise, and half a character not at all
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
_LABELS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}


@dataclass(frozen=True)
class Place:
    """Where a row stands.

    Attributes:
        source: The file or table.
        row: Number of the row, counted from 0 without a head.
        at: The same place as an editor shows it ("line 7"), or "".
    """

    source: str
    row: int
    at: str = ""

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}"

    def beside(self, other: Place) -> str:
        """Return what to call this place in a message about another one."""
        return f"row {self.row}" + ("" if self.source == other.source else f" of {self.source}")

    def error(self, problem: str, kind: type[BadInput] = BadInput, joint: str = ": ") -> BadInput:
        """Return an error about this row, ready to raise.

        Args:
            problem: What is wrong, and what to do.
            kind: Class of the error.
            joint: What stands between the place and the problem.
        """
        return kind(f"{self}{joint}{problem}" + (f" ({self.at})" if self.at else ""))


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN and its like, or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def shown(value: Any) -> str:
    """Return a value for a message, on one line of limited length, without control characters."""
    return short(repr(value), 80)


def flaw_of(value: Any, *, blank: bool = False) -> str:
    """Return in words why a value is no text, "" for one that is.

    Args:
        value: Any value. White space of any kind is part of a text, the line separators U+0085, U+2028 and U+2029 too.
        blank: Whether a text without a character, or of white space alone, will do.
    """
    if not isinstance(value, str) or not (blank or value.strip()):
        return f"is {shown(value)}, and must be text"
    found = _NO_TEXT.search(value)
    if found is None:
        return ""
    what = "half a character (a lone surrogate, " if found[0] >= "\ud800" else "a control character ("
    around = shown(value[max(0, found.start() - 20) : found.start() + 20])
    return f"holds {what}U+{ord(found[0]):04X}) at character {found.start()}, in {around}: repair or remove it"


def check_text(value: Any, what: str, *, blank: bool = False) -> str:
    """Return a text after checking it.

    Args:
        value: Any value.
        what: What it is, for the error ("the stem of a contrast pair").
        blank: Whether blank text will do.

    Returns:
        The text, unchanged.

    Raises:
        BadInput: It is no text, or blank, or holds a control character or half a character.
    """
    if flaw := flaw_of(value, blank=blank):
        raise BadInput(f"{what} {flaw}")
    return value


def check_answers(answers: Any) -> tuple[str, str]:
    """Return the two answer words, the negative first.

    Raises:
        BadInput: They are not two different texts.
    """
    if isinstance(answers, str) or not isinstance(answers, Sequence) or len(answers) != 2:
        raise BadInput(f"answers are two words, the negative first; got {shown(answers)}")
    no, yes = (check_text(word, f"answer word {i} of {shown(answers)}") for i, word in enumerate(answers))
    if no == yes:
        raise BadInput(f"both answer words are {no!r}: two different ones are needed")
    return no, yes


def check_count(count: Any, what: str) -> int:
    """Return a number of things after checking it.

    Args:
        count: Any value.
        what: What it counts, for the error ("n is the number of items to draw").

    Returns:
        The number.

    Raises:
        BadInput: It is no whole number, or below 1.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise BadInput(f"{what}, at least 1; got {shown(count)}")
    return int(count)


def are_texts(values: Iterable[Any]) -> bool:
    """Whether all values are text, blank or not: a quick look before `check_text` says which one is not."""
    held = list(values)
    return all(isinstance(v, str) for v in held) and _NO_TEXT.search("".join(held)) is None


def need(row: Mapping[str, Any], columns: Sequence[str], where: Place) -> None:
    """Raise unless a row has these columns.

    Raises:
        MissingColumn: A column is missing; the message lists those that exist.
    """
    for column in columns:
        if column not in row:
            raise where.error(f"no column {column!r}; it has: {', '.join(map(str, row)) or 'none'}", MissingColumn)


def text_of(row: Mapping[str, Any], column: str, where: Place, *, blank: bool = False) -> str:
    """Return the text of a column.

    Args:
        row: The row.
        column: Name of the column.
        where: Place of the row.
        blank: Whether blank text will do.

    Returns:
        The text, unchanged.

    Raises:
        MissingColumn: The column is missing.
        BadInput: The value is no text, or blank, or holds a control character or half a character.
    """
    need(row, (column,), where)
    if flaw := flaw_of(row[column], blank=blank):
        raise where.error(f"{column!r} {flaw}" + ("; write a text, or leave the row out" if is_missing(row[column]) else ""))
    return str(row[column])


def to_name(value: Any) -> str | None:
    """Return a name (of an identity, a group, a category) without white space at its ends; `None` for what can be none.

    A whole number is a name by its digits, also if a table keeps it as 3.0; an empty cell is the name "".
    """
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return None if flaw_of(value) else value.strip()
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating) or value != value // 1:
        return None
    return str(int(value))


def name_of(row: Mapping[str, Any], column: str, where: Place) -> str:
    """Return the name that a column holds.

    Args:
        row: The row.
        column: Name of the column.
        where: Place of the row.

    Returns:
        The name without white space at its ends; "" where the row has no such column or nothing in it.

    Raises:
        BadInput: The value is neither text nor a whole number, or holds a control character or half a character.
    """
    value = row.get(column)
    name = to_name(value)
    if name is None:
        raise where.error(f"{column!r} {name_flaw(value)}")
    return name


def name_flaw(value: Any) -> str:
    """Return in words why a value is no name."""
    return flaw_of(value) if isinstance(value, str) else f"is {shown(value)}, and must be a name: text, or a whole number"


def to_label(value: Any) -> int | None:
    """Return a label, 0 or 1, from a number (0, 1, 0.0, 1.0), a truth value or a text (0/1, true/false, yes/no); `None` for any other."""
    if isinstance(value, str):
        return _LABELS.get(value.strip().lower())
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating) and value in (0, 1):
        return int(value)
    return None


def label_of(row: Mapping[str, Any], column: str, where: Place) -> int:
    """Return the label that a column holds.

    Args:
        row: The row.
        column: Name of the column.
        where: Place of the row.

    Returns:
        0 or 1.

    Raises:
        MissingColumn: The column is missing.
        BadInput: The value is not 0/1, true/false or yes/no.
    """
    need(row, (column,), where)
    label = to_label(row[column])
    if label is None:
        raise where.error(f"a label is 0/1, true/false or yes/no, got {shown(row[column])} in {column!r}")
    return label
