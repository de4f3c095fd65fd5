"""The controls that see the words alone, and which of them reads most."""

from __future__ import annotations

from typing import Any

import pandas as pd

TEXT_NAMES = {
    "bag_of_words": "a bag of words",
    "ngrams": "runs of words and letters",
    "token_embeddings": "the model's token embeddings",
}
TEXT_CONTROLS = tuple(TEXT_NAMES)


def strongest_words(table: pd.DataFrame) -> Any:
    """Return the row of the control on the words alone that reads most, or `None` where there is none.

    Args:
        table: Rows of one metric and one condition, with `control` and `value`.

    Returns:
        The row as a named tuple: what a probe has to exceed.
    """
    words = table[table["control"].isin(TEXT_CONTROLS) & table["value"].notna()]
    return next(iter(words.sort_values("value", ascending=False, kind="stable").itertuples()), None)
