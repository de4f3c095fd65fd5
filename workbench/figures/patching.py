"""Figures of patching: maps of layer by position, heads, and how much one line carries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .marks import chance_line, curve, layer_step
from .markup import drawn
from .steering_parts import THIN, tint
from .style import GREY, style


@drawn
def maps(table: pd.DataFrame, title: str, *, panels: str = "site") -> go.Figure:
    """Draw what each layer and part of the prompt recovers, one panel per site (or way), in one scale of colours.

    Args:
        table: What `wb.patch` returns: `layer, position, token, value, low, high` (recovered: 0 corrupted, 1 clean), and the column
            `panels`.
        title: Of the figure.
        panels: A column whose values get a panel each.
    """
    names = list(dict.fromkeys(table[panels]))
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=[str(n) for n in names],
        horizontal_spacing=0.08,
        vertical_spacing=0.4 / lines if lines > 1 else 0,
        shared_yaxes=True,
    )
    for k, name in enumerate(names):
        here = table[table[panels] == name]
        parts = list(dict.fromkeys(here["position"]))
        grid = here.pivot(index="layer", columns="position", values="value")[parts]
        low, high = (here.pivot(index="layer", columns="position", values=c)[parts].to_numpy() for c in ("low", "high"))
        words = [
            part if not str(part).lstrip("-").isdigit() else f"{part} {here[here['position'] == part]['token'].iloc[0]!r}" for part in parts
        ]
        figure.add_heatmap(
            z=grid.to_numpy(),
            x=words,
            y=[str(n) for n in grid.index],
            zmin=-1,
            zmax=1,
            colorscale="RdBu",
            showscale=k == 0,
            colorbar={"title": {"text": "recovered"}, "thickness": 12},
            customdata=np.stack([low, high], -1),
            hovertemplate="layer %{y}, %{x}: %{z:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}]<extra></extra>",
            text=np.vectorize(lambda v: "" if np.isnan(v) or abs(v) < 0.05 else f"{v:.2f}")(grid.to_numpy()),
            texttemplate="%{text}",
            textfont={"size": 10},
            row=k // columns + 1,
            col=k % columns + 1,
        )
    style(figure, title, height=190 + lines * (170 + 22 * table["layer"].nunique()), legend=False)
    figure.update_xaxes(type="category", tickangle=-30, tickfont={"size": 11})
    figure.update_yaxes(type="category")
    for line in range(lines):
        figure.update_yaxes(title="layer", row=line + 1, col=1)
    figure.update_layout(margin={"b": 120})
    return figure


@drawn
def heads(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw what each attention head recovers at one part of the prompt.

    Args:
        table: What `wb.patch(heads=True)` returns, one position of it: `layer, head, value` (recovered: 0 corrupted, 1 clean).
        title: Of the figure.
    """
    grid = table.pivot(index="layer", columns="head", values="value")
    figure = go.Figure()
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[str(c) for c in grid.columns],
        y=[str(r) for r in grid.index],
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        colorbar={"title": {"text": "recovered"}, "thickness": 12},
        text=grid.round(2).astype(str).to_numpy() if grid.size <= 200 else None,
        texttemplate="%{text}" if grid.size <= 200 else None,
        hovertemplate="layer %{y}, head %{x}: %{z:.3f}<extra></extra>",
    )
    style(figure, title, height=200 + 28 * len(grid), legend=False)
    figure.update_xaxes(title="head", type="category")
    figure.update_yaxes(title="layer", type="category")
    return figure


@drawn
def lines(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw what is recovered by layer when all of the stream is exchanged, and when only its component along a direction is.

    Args:
        table: `line, layer, value, low, high, n`; a `line` that begins with "random" is drawn in grey.
        title: Of the figure.
    """
    figure = go.Figure()
    for j, (name, rows) in enumerate(table.groupby("line", sort=False)):
        rows = rows.sort_values("layer")
        look = GREY if str(name).startswith("random") else tint(j), ("circle", "square", "diamond", "cross")[j % 4]
        curve(figure, rows["layer"] + (j - 1) * 0.04, rows, look, str(name), size=8, **THIN)
    chance_line(figure, 0)
    chance_line(figure, 1)
    figure.update_xaxes(title="layer", dtick=layer_step(table))
    figure.update_yaxes(title="recovered (0 corrupted, 1 clean)")
    style(figure, title, height=430)
    figure.update_layout(margin={"t": 110})
    return figure


@drawn
def attribution(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw, by layer, how well a gradient's guess goes with exact patching.

    Args:
        table: What `wb.attribution_error` returns, of one or several sites: `site, layer, correlation, mean_error, mean_effect`.
        title: Of the figure.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["correlation with exact patching", "mean error, share of the mean effect"], horizontal_spacing=0.1
    )
    for j, (site, rows) in enumerate(table.groupby("site", sort=False)):
        rows = rows.sort_values("layer")
        for k, y in enumerate((rows["correlation"], rows["mean_error"] / rows["mean_effect"].clip(lower=1e-12))):
            figure.add_scatter(
                x=rows["layer"],
                y=y,
                mode="lines+markers",
                name=str(site),
                legendgroup=str(site),
                showlegend=k == 0,
                marker={"color": tint(j), "size": 7},
                line={"color": tint(j)},
                row=1,
                col=k + 1,
            )
    style(figure, title, height=400)
    figure.update_xaxes(title="layer", dtick=1)
    figure.update_layout(margin={"t": 120}, legend={"y": 1.12})
    return figure
