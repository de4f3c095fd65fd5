"""Figures of sweeps: what many cells found, side by side; by layer, and as points with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import COLOURS, SYMBOLS, look
from .marks import Legend, chance_line, curve, dots, layer_step
from .markup import drawn
from .style import GREY, null_band, style

__all__ = ["COLOURS", "SYMBOLS", "by_layer", "look", "points"]


@drawn
def by_layer(table: pd.DataFrame, panel: str, line: str, title: str, axis: str = "accuracy", chance: float = 0.5) -> go.Figure:
    """Draw a value by layer, a panel for each value of one column and a line for each of another; random directions behind, if there.

    Args:
        table: Rows with `layer, value, low, high, n` and the two columns. Where there is a column `control`, rows of "" are drawn as lines
            and those of "random_directions" as a grey band.
        panel, line: Names of columns.
        title: Of the figure.
        axis: What the value is, with its unit.
        chance: Drawn as a dotted line.
    """
    main = table[table["control"] == ""] if "control" in table else table
    null = table[table["control"] == "random_directions"] if "control" in table else table.head(0)
    panels, lines = list(dict.fromkeys(main[panel])), list(dict.fromkeys(main[line]))
    columns = min(3, max(1, len(panels)))
    count = -(-len(panels) // columns)
    figure = make_subplots(
        rows=max(1, count),
        cols=columns,
        subplot_titles=[str(p) for p in panels],
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.16 if count > 1 else 0,
    )
    legend = Legend()
    for k, name in enumerate(panels):
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        here = main[main[panel] == name]
        band = null[null[panel] == name] if name in set(null[panel]) else null  # random directions have no method
        if len(band):  # several cells have one each: the widest is the honest one
            wide = band.groupby("layer", as_index=False).agg(low=("low", "min"), high=("high", "max"))
            null_band(figure, wide, "random directions, 95 %", legend=k == 0, **place)
        for j, label in enumerate(lines):
            rows = here[here[line] == label].sort_values("layer")
            if not len(rows):
                continue
            x, text = rows["layer"] + (j - (len(lines) - 1) / 2) * 0.06, str(label)
            curve(figure, x, rows, look(j), text, group=text, legend=legend.first(text), width=1.8, **place)
        chance_line(figure, chance, **place)
    rows_of_legend = -(-len(lines) // 3)
    top = 70 + 22 * (rows_of_legend + 1)
    height = top + 70 + 250 * max(1, count)
    style(figure, title, height=height)
    figure.update_yaxes(range=[-0.04, 1.04] if main["value"].between(0, 1).all() else None)
    for row in range(max(1, count)):
        figure.update_yaxes(title=axis, row=row + 1, col=1)
    figure.update_xaxes(title="layer", dtick=layer_step(main) if len(main) else 1)
    figure.update_layout(margin={"t": top}, legend={"y": 1 + 30 / max(1, height - top - 60), "font": {"size": 11}})
    return figure


@drawn
def points(table: pd.DataFrame, labels: Sequence[str], title: str, axis: str, zero: float | None = None, colour: str = "") -> go.Figure:
    """Draw values with their intervals, one row for each combination of the label columns; one colour for each value of another column.

    Args:
        table: Rows with `value, low, high, n` and the columns named.
        labels: Columns whose values name a row.
        title: Of the figure.
        axis: What the value is, with its unit.
        zero: A dotted line: chance, or no effect.
        colour: A column, or "" for one colour.
    """
    names = [" · ".join(str(v) for v in row if str(v)) for row in table[list(labels)].to_numpy()]
    order = list(dict.fromkeys(names))[::-1]
    groups = list(dict.fromkeys(table[colour])) if colour else [""]
    figure = go.Figure()
    for k, group in enumerate(groups):
        keep = (table[colour] == group).to_numpy() if colour else np.ones(len(table), bool)
        rows = table[keep]
        shift = ((len(groups) - 1) / 2 - k) * min(0.22, 0.7 / max(1, len(groups)))
        y: list[Any] = [order.index(n) + shift for n, kept in zip(names, keep, strict=True) if kept]
        dots(figure, y, rows, look(k), str(group), info="text+name" if group else "text")
    if zero is not None:
        figure.add_vline(x=zero, line={"dash": "dot", "color": GREY})
    widest = max((len(n) for n in order), default=0)
    top = 56 + (24 * (len(groups) + 1) if colour else 0)  # long names: one line of the legend each
    figure_height = top + 70 + max(30, 12 * len(groups)) * max(2, len(order))
    style(figure, title, height=figure_height, legend=bool(colour))
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=order, range=[-0.6, len(order) - 0.4], tickfont={"size": 11})
    figure.update_xaxes(title=axis, range=[-0.03, 1.03] if len(table) and table["value"].between(0, 1).all() else None)
    figure.update_layout(
        margin={"l": min(330, 60 + 6 * widest), "t": top},
        legend={"orientation": "v", "y": 1 + 12 / max(1, figure_height - top - 60), "yanchor": "bottom", "font": {"size": 11}},
    )
    return figure
