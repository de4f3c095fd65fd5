"""Choose rows of a result table, and say how many items stand behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MissingColumn, TooFew

if TYPE_CHECKING:
    import pandas as pd


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
