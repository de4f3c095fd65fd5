"""Figures of dictionaries and of what directions are made of."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import Look, looks
from .marks import Legend, chance_line, curve, dots
from .markup import drawn
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, style

KNOWN: dict[str, Look] = {
    "direction": (BLUE, "circle"),
    "random directions": (GREY, "square-open"),
    "shuffled labels": (ORANGE, "diamond-open"),
    "permuted dictionary": (PURPLE, "cross-open"),
    "untrained model's dictionary": (SKY, "x-open"),
}


@drawn
def explained(table: pd.DataFrame, title: str = "How much of a direction do a few latents explain?") -> go.Figure:
    """Draw the explained share by number of latents, a panel per direction, controls beside it.

    Args:
        table: `direction, subject, latents, value, low, high, n`.
        title: Of the figure.
    """
    names = list(dict.fromkeys(table["direction"]))
    figure = make_subplots(
        rows=1, cols=max(1, len(names)), subplot_titles=[str(n) for n in names], shared_yaxes=True, horizontal_spacing=0.05
    )
    given, legend = looks(dict.fromkeys(table["subject"]), KNOWN), Legend()
    for k, name in enumerate(names, 1):
        here = table[table["direction"] == name]
        for j, (subject, own) in enumerate(given.items()):
            rows = here[here["subject"] == subject].sort_values("latents")
            if not len(rows):
                continue
            x: Any = rows["latents"] * (1 + 0.05 * (j - len(given) / 2))
            text = str(subject)
            curve(
                figure, x, rows, own, text, group=text, legend=legend.first(text), width=2 if subject == "direction" else 1.2, row=1, col=k
            )
        ticks = sorted(set(here["latents"]))
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(t) for t in ticks], title="latents", row=1, col=k)
    figure.add_hline(y=0.9, line={"dash": "dot", "color": GREY, "width": 1})
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="share of squared length explained", col=1)
    lines = -(-len(given) // 2)
    style(figure, title, height=440 + 22 * lines)
    figure.update_layout(margin={"t": 96 + 22 * lines}, legend={"y": 1.08, "font": {"size": 11}})
    return figure


@drawn
def quality(table: pd.DataFrame, title: str = "How good is the dictionary?") -> go.Figure:
    """Draw the report of dictionaries, a panel per measure.

    Args:
        table: `dictionary, metric, value, low, high, n`; seeds are drawn filled, controls hollow.
        title: Of the figure.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    order = list(dict.fromkeys(table["dictionary"]))[::-1]
    figure = make_subplots(
        rows=1, cols=max(1, len(metrics)), subplot_titles=[str(m) for m in metrics], shared_yaxes=True, horizontal_spacing=0.04
    )
    for k, metric in enumerate(metrics, 1):
        rows = pick(table, metric=metric)
        own = rows["dictionary"].astype(str).str.startswith("seed")
        for mask, look in ((own, (BLUE, "circle")), (~own, (GREY, "square-open"))):
            if mask.any():
                dots(figure, rows[mask]["dictionary"], rows[mask], look, "", info="text", row=1, col=k)
    figure.update_annotations(font={"size": 11})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order)
    style(figure, title, height=190 + 34 * len(order), legend=False)
    figure.update_annotations(font={"size": 11})
    figure.update_layout(margin={"l": 140})
    return figure


PROBED: dict[str, Look] = {
    "latents": (BLUE, "circle"),
    "axes of the stream": (SKY, "x-open"),
    "random latents": (GREY, "square-open"),
    "shuffled labels": (ORANGE, "diamond-open"),
}


@drawn
def probed(table: pd.DataFrame, title: str = "How few latents does a probe need?") -> go.Figure:
    """Draw what probes on a few latents read, a panel per direction, with controls; the dense probe on the stream is a level.

    Args:
        table: `direction, subject, latents, value, low, high, n`, one metric; the dense probe has 0 latents.
        title: Of the figure.
    """
    names = list(dict.fromkeys(table["direction"]))
    figure = make_subplots(
        rows=1, cols=max(1, len(names)), subplot_titles=[str(n) for n in names], shared_yaxes=True, horizontal_spacing=0.05
    )
    given, legend = looks(dict.fromkeys(table.loc[table["latents"] > 0, "subject"]), PROBED), Legend()
    for k, name in enumerate(names, 1):
        here = table[table["direction"] == name]
        for j, (subject, own) in enumerate(given.items()):
            rows = here[(here["subject"] == subject) & (here["latents"] > 0)].sort_values("latents")
            x: Any = rows["latents"] * (1 + 0.06 * (j - len(given) / 2))
            if len(rows):
                curve(figure, x, rows, own, str(subject), group=str(subject), legend=legend.first(str(subject)), row=1, col=k)
        ticks = sorted(set(here.loc[here["latents"] > 0, "latents"]))
        dense = here[(here["latents"] == 0) & (here["subject"] != "shuffled labels")]
        if len(dense):
            ends = pd.concat([dense.assign(latents=min(ticks, default=1)), dense.assign(latents=max(ticks, default=8))])
            label = str(dense["subject"].iloc[0])
            curve(figure, ends["latents"], ends, (GREEN, None), label, group=label, legend=legend.first(label), mode="lines", row=1, col=k)
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(t) for t in ticks], title="latents (or axes)", row=1, col=k)
        chance_line(figure, named=k == 1, row=1, col=k)
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="AUROC, held-out identities", col=1)
    lines = -(-(len(given) + 1) // 4)
    style(figure, title, height=440 + 22 * lines)
    figure.update_layout(margin={"t": 96 + 22 * lines}, legend={"y": 1.08, "font": {"size": 11}})
    return figure
