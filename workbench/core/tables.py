"""Result tables: rows chosen, items counted, and the one way in which tables are written to csv and read from it.

A spreadsheet runs a cell that begins with = + - @ or a tab as a formula. In the csv such a text has a ' in front, which `read_csv` takes
away again. Numbers stay as they are, also those that stand in a column of texts.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DamagedRun, MissingColumn, TooFew
from .whole import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# the last four are the wide forms that an East Asian spreadsheet reads as the first
_LIVE = re.compile(r"'*(?:[\t\r\n]|[\x00-\x20\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)", re.ASCII)


def pick(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows of a table that have the given values.

    Args:
        table: A long-format table, one row per cell.
        where: The value that each named column must equal. Every further column narrows the choice; none at all keeps every row.
            NaN equals nothing, so `column=nan` selects no row.

    Returns:
        The matching rows, in their order and with their index labels; an empty table where none matches.

    Raises:
        MissingColumn: The table has no column of that name; the message names those it has.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"layer": [0, 1, 1], "split": ["test", "train", "test"], "value": [0.5, 0.9, 0.8]})
        >>> pick(table, layer=1, split="test")["value"].tolist()
        [0.8]
    """
    for name, value in where.items():
        if name not in table.columns:
            raise MissingColumn(f"no column {name!r} to choose rows by. There are: {', '.join(map(str, table.columns)) or 'none'}.")
        table = table[table[name] == value]
    return table


def span(table: pd.DataFrame) -> str:
    """Return the number of items behind the rows of a table as text, for a caption or a sentence.

    Args:
        table: Rows with a column `n`, the number of items behind each row. Rows without a number (NaN) do not count.

    Returns:
        One number where all rows agree ("60"), otherwise the smallest and the largest ("40 to 60").

    Raises:
        MissingColumn: The table has no column `n`.
        TooFew: No row has a number in `n`.

    Example:
        >>> import pandas as pd
        >>> span(pd.DataFrame({"n": [60, 40, 50]}))
        '40 to 60'
    """
    if "n" not in table.columns:
        raise MissingColumn(f"no column 'n' to count items by. There are: {', '.join(map(str, table.columns)) or 'none'}.")
    counts = table["n"].dropna()
    if not len(counts):
        raise TooFew(f"no number of items in {len(table)} rows: the column 'n' is empty")
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as csv with six significant digits, whole or not at all, without a text that a spreadsheet would run.

    Args:
        path: The file. Its folder must be there.
        table: The table. Half a character (a lone surrogate), which no file can hold, is written as its escape.
    """
    import pandas as pd

    inert = table.copy(deep=False)
    inert.columns = [_inert(c) for c in table.columns]
    broken = any(isinstance(c, str) and "\r" in c for c in table.columns)
    for k in _texts(table):
        cells = [_inert(v) for v in table.iloc[:, k]]
        broken = broken or any(isinstance(v, str) and "\r" in v for v in cells)
        column: Any = pd.Series(cells, index=table.index, dtype=object)
        inert.isetitem(k, column)
    # Python's writer leaves a carriage return bare, where every reader takes it for the end of a row
    text = inert.to_csv(index=False, float_format="%.6g", quoting=csv.QUOTE_ALL if broken else csv.QUOTE_MINIMAL, lineterminator="\n")
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that `write_csv` wrote.

    Args:
        path: The csv file.

    Returns:
        The table, with its texts as they were given; empty cells of text columns are "", those of numbers nan.

    Raises:
        DamagedRun: There is no such file, or it is empty or no table.
    """
    import pandas as pd

    if not path.is_file():
        raise DamagedRun(f"{path.name} is missing from {path.parent}: the run was not finished, or the file was deleted; run it again")
    try:
        data = path.read_bytes()
        if data == b"\n":  # a table without columns
            return pd.DataFrame()
        table = pd.read_csv(io.BytesIO(data), keep_default_na=False, na_values=[""], low_memory=False)
    except (OSError, ValueError) as error:  # an empty or broken file
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedRun(f"{path.name} in {path.parent} cannot be read: {why}; run the study again") from None
    table.columns = [_bare(c) for c in table.columns]
    for k in _texts(table):
        column: Any = table.iloc[:, k].astype(object).fillna("").map(_bare)
        table.isetitem(k, column)
    return table


def _texts(table: pd.DataFrame) -> list[int]:
    """The places of the columns that may hold texts."""
    return [k for k, kind in enumerate(table.dtypes) if kind.kind not in "biufcmM"]


def _inert(cell: Any) -> Any:
    live = isinstance(cell, str) and _LIVE.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if live else cell


def _bare(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _LIVE.match(cell) else cell


def sentences_of(rows: pd.DataFrame) -> Any:
    """Return which sentence of its claim each row was shown, to compare rows within sentences.

    Args:
        rows: Rows of prompts or answers; the column `phrasing` holds the sentence.

    Returns:
        One text per row; `None` where there is no such column.
    """
    # rows without a claim have no sentence, and a missing value equals nothing, not even another
    return rows["phrasing"].astype(object).where(rows["phrasing"].notna(), "").astype(str).tolist() if "phrasing" in rows else None


def units_of(rows: pd.DataFrame, unit: str = "identity") -> NDArray[Any]:
    """Return what varies from row to row, for intervals: identities, and the rights and the sentences of a claim that cross them.

    A factor with fewer than three values is held fixed: an estimate then speaks of these values alone.

    Args:
        rows: Rows of prompts, activations or answers.
        unit: The column whose values are the independent units where nothing else varies.

    Returns:
        `row`, or `row x factor` where several vary: clusters for `core.stats`.
    """
    names = [unit, *(c for c in ("right", "phrasing") if c != unit and c in rows and rows[c].nunique() > 2)]
    return rows[unit].to_numpy() if len(names) == 1 else rows[names].astype(object).fillna("").astype(str).to_numpy()
