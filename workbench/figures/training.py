"""Figures of trained changes: what is said under every fix, and values by block."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import look
from .marks import Legend, chance_line, curve, dots, layer_step
from .markup import drawn
from .style import GREY, style


@drawn
def fixes(table: pd.DataFrame, title: str, axis: str = "share of safe answers") -> go.Figure:
    """Draw what is said under every fix: a row for each fix, a panel for each prompt form, a colour for each claim.

    Args:
        table: Rows with `fix, form, condition, value, low, high, n`.
        title: Of the figure.
        axis: What the value is.
    """
    forms, names = list(dict.fromkeys(table["form"])), list(dict.fromkeys(table["fix"]))[::-1]
    claims = list(dict.fromkeys(table["condition"]))
    columns = min(3, len(forms))
    count = -(-len(forms) // columns)
    figure = make_subplots(
        rows=count, cols=columns, subplot_titles=forms, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.28 / count / 2,
    )  # fmt: skip
    legend = Legend()
    for k, form in enumerate(forms):
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        for j, claim in enumerate(claims):
            rows = table[(table["form"] == form) & (table["condition"] == claim)]
            if not len(rows):
                continue
            y = [names.index(f) + 0.22 * (j - (len(claims) - 1) / 2) for f in rows["fix"]]
            text = claim if claim == "no claim" else f"{claim} claim"
            dots(figure, y, rows, look(j), text, group=text, legend=legend.first(text), **place)
        figure.add_vline(x=0.5, line={"color": GREY, "width": 1, "dash": "dot"}, **place)
    height = 150 + count * (60 + 26 * len(names))
    style(figure, title, height=height)
    figure.update_xaxes(range=[-0.04, 1.04])
    for column in range(1, columns + 1):
        figure.update_xaxes(title=axis, row=count, col=column)
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[-0.7, len(names) - 0.3])
    figure.update_layout(margin={"t": 110, "l": 200})
    return figure


@drawn
def by_block(table: pd.DataFrame, title: str, axis: str, zero: float | None = None) -> go.Figure:
    """Draw a value by block, one line for each value of `line`.

    Args:
        table: Rows with `line, layer, value, low, high, n`.
        title: Of the figure.
        axis: What the value is, with its unit.
        zero: The value of no effect, drawn as a dotted line.
    """
    figure, legend = go.Figure(), Legend()
    lines = list(dict.fromkeys(table["line"]))
    for j, line in enumerate(lines):
        rows = table[table["line"] == line].sort_values("layer")
        x = rows["layer"] + (j - (len(lines) - 1) / 2) * 0.04  # side by side, where values are the same
        curve(figure, x, rows, look(j), str(line), group=str(line), legend=legend.first(str(line)))
    if zero is not None:
        chance_line(figure, zero)
    top = 90 + 26 * -(-len(lines) // 2)
    style(figure, title, height=top + 380)
    figure.update_layout(margin={"t": top}, legend={"y": 1.02, "yanchor": "bottom", "font": {"size": 11}})
    figure.update_xaxes(title="block", dtick=layer_step(table) if len(table) else 1)
    figure.update_yaxes(title=axis)
    return figure
