"""Figures of words: how a search went, and how deep two models differ along an answer."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import marks
from .looks import look
from .markup import drawn
from .style import style


@drawn
def searched(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw the loss of each search by step, on training and on validation prompts.

    Args:
        table: `words, restart, step, train, validation`, and `text` for pointing.
        title: Of the figure.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["training prompts", "validation prompts"], shared_yaxes=True, horizontal_spacing=0.05
    )
    names, legend = list(dict.fromkeys(table["words"])), marks.Legend()
    for col, side in enumerate(("train", "validation"), 1):
        for k, name in enumerate(names):
            for _, rows in table[table["words"] == name].groupby("restart", sort=True):
                colour, _ = look(k)
                figure.add_scatter(
                    x=rows["step"],
                    y=rows[side],
                    mode="lines",
                    line={"color": colour, "width": 2, "shape": "hv"},
                    name=str(name),
                    legendgroup=str(name),
                    showlegend=legend.first(name),
                    hovertext=[f"step {s}: {v:.2f}; {t!r}" for s, v, t in zip(rows["step"], rows[side], rows["text"], strict=True)],
                    hoverinfo="text+name",
                    row=1,
                    col=col,
                )
    style(figure, title, height=400)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss, nats (0: every prompt is won)", row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(margin={"t": 112}, legend={"y": 1.12})
    return figure
