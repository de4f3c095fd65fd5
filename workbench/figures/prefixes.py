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


@drawn
def depth(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw how far models differ by token of a reply, and how often they refuse after a prefilled beginning.

    Args:
        table: `condition, metric, tokens, value, low, high, n` with the metrics "kl" and "refused".
        title: Of the figure.
    """
    panels = {"kl": "difference from the base, by token of the reply", "refused": "refusals after a prefilled beginning"}
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(panels.values()), horizontal_spacing=0.09)
    names, legend = list(dict.fromkeys(table["condition"])), marks.Legend()
    for col, metric in enumerate(panels, 1):
        for k, name in enumerate(names):
            rows = table[(table["condition"] == name) & (table["metric"] == metric)].sort_values("tokens")
            if len(rows):
                place = {"row": 1, "col": col, "group": str(name), "legend": legend.first(name)}
                shift = 0.06 * (k - (len(names) - 1) / 2) if metric == "refused" else 0.0
                marks.curve(figure, rows["tokens"] + shift, rows, look(k), str(name), **place)
    style(figure, title, height=430)
    figure.update_xaxes(title="tokens of the reply before", row=1, col=1)
    figure.update_xaxes(title="tokens put into the model's mouth", row=1, col=2)
    figure.update_yaxes(title="KL from the base, nats", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="share of continuations that refuse", range=[-0.04, 1.04], row=1, col=2)
    figure.update_layout(margin={"t": 120}, legend={"y": 1.14})
    return figure
