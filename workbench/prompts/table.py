"""A table of the user's own, from a file or in memory: its columns, its rows with their places, which column holds which field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, MissingColumn
from .cells import Place, is_missing
from .formats import check_columns
from .rows import ending_of, placed_rows

Source = str | Path | pd.DataFrame | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with their places.

    Attributes:
        name: Name of the table: the file's without its ending, or "table".
        columns: Names of the columns, in order; a row may lack some.
        rows: The rows.
        csv: Whether every cell is a text because the file has no other kind.
    """

    name: str
    columns: tuple[Any, ...]
    rows: Sequence[tuple[Place, Mapping[Any, Any]]]
    csv: bool = False

    def column_of(self, columns: Mapping[str, str] | None, fields: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
        """Return the column of each field that the table has: the one that the mapping names, else one of the field's own name.

        Args:
            columns: The column of each field, as far as it has another name.
            fields: The fields that there are.
            needed: Those that the table must have.

        Raises:
            BadInput: The mapping names a field that does not exist, or one column for two fields.
            MissingColumn: A column that the mapping names, or a field that is needed, is not in the table.
        """
        if not isinstance(columns or {}, Mapping):
            raise BadInput(f"columns is a mapping of fields to columns, {{'{needed[0]}': '…'}}; got {type(columns).__name__}")
        columns = dict(columns or {})
        listing = ", ".join(repr(c) if str(c) != str(c).strip() else str(c) for c in self.columns)
        for field in sorted(set(columns) - set(fields), key=str):
            turned = f" The field comes first: {columns[field]}={field}." if columns[field] in fields else ""
            raise BadInput(f"columns: no field {field!r}; there are: {', '.join(fields)}.{turned}")
        for field, column in columns.items():
            if column not in self.columns:
                raise MissingColumn(f"no column {column!r} for {field!r}; the table has: {listing}.{self._hint()}")
            other = next(f for f, c in columns.items() if c == column)
            if other != field:
                raise BadInput(f"columns: {column!r} is named for {other!r} and for {field!r}; each field has a column of its own")
        own = {f: f for f in fields if f not in columns and f in self.columns and f not in columns.values()}
        column_of = {f: (columns | own)[f] for f in fields if f in columns or f in own}
        for field in needed:
            if field not in column_of:
                raise MissingColumn(
                    f"no column for {field!r}; the table has: {listing}. Name it: columns={{{field!r}: '…'}}, "
                    f"on the command line --columns {field}=….{self._hint()}"
                )
        return column_of

    def _hint(self) -> str:
        """The advice for a table of one column, which is often one that is not separated by commas."""
        only = str(self.columns[0]) if len(self.columns) == 1 else ""
        mark = next((m for m in (";", "\t", "|") if m in only), "")
        return f" It looks separated by {mark!r}; save it with commas." if mark else ""

    def typed(self, column: str) -> list[Any]:
        """Return the cells of a column; of a csv file as numbers or truth values where every cell is written as Python writes them.

        So "12" becomes a number, and "012" stays a text. A row that lacks the column has `None`.
        """
        cells = [row.get(column) for _, row in self.rows]
        if not self.csv:
            return cells
        for read in (_truth, _number):
            values = [read(cell) for cell in cells]
            if None not in values:
                return values
        return cells


def _truth(cell: Any) -> bool | None:
    return {"True": True, "False": False}.get(cell)


def _number(cell: Any) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        if str(number) == cell and (isinstance(number, int) or math.isfinite(number)):
            return number
    return None


def open_table(source: Source, what: str = "the table") -> Table:
    """Return a table from a file, a data frame or a list of mappings.

    Args:
        source: A csv, json, jsonl, ndjson or parquet file (all but parquet also gzipped), or a table in memory.
        what: What to call a table in memory in errors.

    Returns:
        The table, its rows with their places.

    Raises:
        EmptyPromptSet: A file has no rows.
        BadInput: A file cannot be read, two columns have one name, or the source is no table.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        rows = placed_rows(path)
        name = path.name.removesuffix(path.suffix) if path.suffix != ".gz" else Path(path.stem).stem
        return Table(name=name, columns=_columns(rows), rows=rows, csv=ending_of(path) == ".csv")
    if isinstance(source, pd.DataFrame):
        if source.columns.nlevels > 1:
            raise BadInput(f"{what} has column names of {source.columns.nlevels} levels; give each column one name")
        check_columns(list(source.columns), what)
        plain = source.index.equals(pd.RangeIndex(len(source)))
        places = [Place(what, i, "" if plain else f"index {key!r}") for i, key in enumerate(source.index)]
        rows = [(place, dict(row)) for place, row in zip(places, source.to_dict("records"), strict=True)]
        return Table(name="table", columns=tuple(source.columns), rows=rows)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise BadInput(f"{what}: a file, a data frame or a list of mappings is needed, got {type(source).__name__}")
    rows = []
    for i, row in enumerate(source):
        if not isinstance(row, Mapping):
            raise Place(what, i).error(f"a mapping of columns to values is needed, got {type(row).__name__}")
        rows.append((Place(what, i), dict(row)))
    return Table(name="table", columns=_columns(rows), rows=rows)


def _columns(rows: Sequence[tuple[Place, Mapping[Any, Any]]]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(column for _, row in rows for column in row))


def single(value: Any) -> str | int | float | bool | None:
    """Return a cell as a plain value; `None` for an empty one and for a list or a mapping."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str) or (isinstance(value, int | float) and not is_missing(value)) else None
