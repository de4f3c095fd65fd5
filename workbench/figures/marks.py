"""What the drawing functions share: values with their intervals, as curves or as rows of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .looks import Look
from .markup import BREAK, bold
from .style import GREY


class Legend:
    """Gives each name one entry in the legend: in the first panel that draws it."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def first(self, name: str) -> bool:
        """Whether a name has no entry yet; it has one from now on."""
        if name in self._named:
            return False
        self._named.add(name)
        return True


def bars(rows: pd.DataFrame, thickness: float = 1.4) -> dict[str, Any]:
    """Return plotly's error bars from `value, low, high`; none where an end is not known."""
    up, down = (rows["high"] - rows["value"]).clip(lower=0), (rows["value"] - rows["low"]).clip(lower=0)
    return {
        "type": "data",
        "symmetric": False,
        "array": up.fillna(0),
        "arrayminus": down.fillna(0),
        "thickness": thickness,
        "width": 3,
    }


def hover(rows: pd.DataFrame, form: str = ".3f") -> list[str]:
    """Return what is shown when a point is pointed at: the value, its interval and n; of a push also its length (`norm_share`)."""
    return [f"{r['value']:{form}} [{r['low']:{form}}, {r['high']:{form}}], n={int(r['n'])}{dosed(r)}" for r in rows.to_dict("records")]


def dosed(row: dict[Any, Any]) -> str:
    """The length of a push as a share of the stream's, in words; "" where it is none, or unknown."""
    share = row.get("norm_share", float("nan"))
    return f"; push of {share:.2g} times the stream's length" if share > 0 else ""


def curve(
    figure: go.Figure,
    x: Any,
    rows: pd.DataFrame,
    look: tuple[str, str | None],
    name: str,
    *,
    group: str | None = None,
    legend: bool | None = None,
    size: float = 7,
    width: float | None = 2,
    dash: str | None = None,
    mode: str = "lines+markers",
    thickness: float = 1.4,
    form: str = ".3f",
    **place: Any,
) -> None:
    """Draw values over something, with upright error bars.

    Args:
        figure: Where.
        x: One number or name per row.
        rows: `value, low, high, n`.
        look: Colour and symbol; `None` for plotly's own symbol.
        name: For the legend.
        group: Of the legend: what is clicked together.
        legend: Whether this one has an entry; `None` for plotly's default.
        size: Of the symbols, in pixels.
        width, dash: Of the line.
        mode: "lines+markers" or "markers".
        thickness: Of the error bars, in pixels.
        form: Of the numbers shown on pointing, as in a format string.
        place: Row and column of a panel.
    """
    colour, symbol = look
    figure.add_scatter(
        x=x,
        y=rows["value"],
        error_y=bars(rows, thickness),
        mode=mode,
        name=name,
        legendgroup=group,
        showlegend=legend,
        marker={"color": colour, "symbol": symbol, "size": size},
        line={"color": colour, "width": width, "dash": dash} if "lines" in mode else None,
        hovertext=hover(rows, form),
        hoverinfo="text+name",
        **place,
    )


def dots(
    figure: go.Figure,
    y: Any,
    rows: pd.DataFrame,
    look: Look,
    name: str,
    *,
    group: str | None = None,
    legend: bool | None = None,
    size: float = 9,
    thickness: float = 1.4,
    form: str = ".3f",
    info: str = "text+name",
    **place: Any,
) -> None:
    """Draw values as rows of points, with level error bars; arguments as for `curve`, with `y` in place of `x`."""
    colour, symbol = look
    figure.add_scatter(
        x=rows["value"],
        y=y,
        error_x=bars(rows, thickness),
        mode="markers",
        name=name,
        legendgroup=group,
        showlegend=legend,
        marker={"color": colour, "symbol": symbol, "size": size},
        hovertext=hover(rows, form),
        hoverinfo=info,
        **place,
    )


def chance_line(figure: go.Figure, y: float = 0.5, *, named: bool = False, **place: Any) -> None:
    """Draw a dotted level line in one panel: chance, or no effect."""
    text = {"annotation_text": "chance", "annotation_position": "bottom right", "annotation_font_size": 11} if named else {}
    figure.add_hline(y=y, line={"dash": "dot", "color": GREY, "width": 1}, **text, **place)


def cells_with_intervals(
    rows: pd.DataFrame,
    index: str,
    columns: str,
    order: Sequence[str],
    across: Sequence[str],
    form: str = bold("{:.2f}") + BREAK + "{:.2f} to {:.2f}",
) -> tuple[np.ndarray, list[list[str]]]:
    """Lay values out as a matrix for a heat map, with the text of each cell.

    Args:
        rows: `value, low, high` and two columns of names.
        index, columns: Those columns, down and across.
        order, across: Their values in order; a cell without a row is `nan`, and empty.
        form: Of the text, filled with value, low and high.

    Returns:
        The values, `order x across`, and the texts in the same shape.
    """
    value, low, high = (
        rows.pivot(index=index, columns=columns, values=c).reindex(index=list(order), columns=list(across)).to_numpy(float)
        for c in ("value", "low", "high")
    )
    text = [
        ["" if np.isnan(cell[0]) else form.format(*cell) for cell in zip(*line, strict=True)] for line in zip(value, low, high, strict=True)
    ]
    return value, text


def layer_step(table: pd.DataFrame) -> int:
    """Return how far apart the ticks of an axis of layers stand, so that there are seven at most."""
    return max(1, int(table["layer"].max()) // 6)
