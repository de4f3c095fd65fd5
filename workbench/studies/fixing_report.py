"""What reports of fixes share: numbers in words, whether the model answers at all, and how deep the old answers still stand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..core.tables import pick
from ..figures import Finding, Panel, recipes
from ..runs import Run
from .answering import unanswered

draw = recipes("training")


def said(row: Any) -> str:
    """Return a row's value with its interval.

    Args:
        row: A row of a table, or an estimate.
    """
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def first(table: pd.DataFrame, **where: Any) -> Any:
    """Return the first row with these values; `None` where there is none.

    Args:
        table: A table.
        where: Values by column.
    """
    return next(pick(table, **where).itertuples(), None)


def silent(run: Run) -> str:
    """Return why the model does not answer without a claim, so that a fix of its answers says little; or "".

    Args:
        run: The run, with the table `says`.
    """
    why = unanswered(run.tables["says"], [("base_short", "none")])
    return f"{why} What a fix does to its answers then says little." if why else ""


def minded(run: Run) -> list[Finding]:
    """Return the finding that stands first where the model does not answer.

    Args:
        run: The run, with the table `says`.
    """
    why = silent(run)
    return [Finding(f"Mind: {why}", "says")] if why else []


def depth_panels(survived: pd.DataFrame, fix: pd.Series) -> list[Panel]:
    """Return the figure of streams patched between the model before and after; none where nothing was patched.

    Args:
        survived: Rows of `survival`.
        fix: By row, the name of what was changed.
    """
    rows = survived.assign(line=fix + ": " + survived["detail"])
    rows = rows[(rows["aspect"] == "depth") & (rows["layer"] >= 0)]
    if not len(rows):
        return []
    return [
        Panel(
            name="depth",
            table="survival",
            drawing=draw.by_block(rows, "How deep the old answers still stand", "share of answers as before"),
            caption="The last token's stream after each block, put from the model before the change into the one after it, and back.",
        )
    ]
