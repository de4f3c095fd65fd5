"""Figures of toy models of superposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import look, looks
from .marks import Legend, curve, dots
from .markup import drawn
from .style import BLUE, GREY, ORANGE, RED, style

STATES = ("absent", "superposed", "own dimension")
LINES = {1.0: "a dimension of its own", 0.5: "antipodal pairs"}
PLAIN = {"linear": (GREY, "square-open"), "relu": (BLUE, "circle")}


@drawn
def gram(
    example: pd.DataFrame, features: pd.DataFrame, title: str = "What is kept of each feature, and what it shares its dimension with"
) -> go.Figure:
    """Draw W^T W of one instance per sparsity, and under it the norm of each feature with what interferes with it.

    Args:
        example: `sparsity, feature, other, weight` of one activation.
        features: `activation, sparsity, feature, metric, value, low, high, n` with the metrics `norm` and `interference`; the activation
            "linear" is drawn as a control.
        title: Of the figure.
    """
    shown = list(dict.fromkeys(example["sparsity"]))
    figure = make_subplots(
        rows=2,
        cols=len(shown),
        subplot_titles=[f"sparsity {s:g}" for s in shown],
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.12,
        row_heights=[0.45, 0.55],
    )
    legend = Legend()
    top = max(1.0, float(example["weight"].abs().max()))
    for k, sparsity in enumerate(shown, 1):
        grid = example[example["sparsity"] == sparsity].pivot(index="feature", columns="other", values="weight")
        figure.add_heatmap(
            z=grid.to_numpy(),
            zmin=-top,
            zmax=top,
            colorscale="RdBu",
            showscale=k == 1,
            colorbar={"title": {"text": "WᵀW"}, "thickness": 10, "len": 0.42, "y": 0.8},
            hovertemplate="features %{y} and %{x}: %{z:.2f}<extra></extra>",
            row=1,
            col=k,
        )
        here = features[features["sparsity"] == sparsity]
        for name, own, mark in (
            ("norm", "relu", (BLUE, "circle")),
            ("interference", "relu", (RED, "diamond")),
            ("norm", "linear", PLAIN["linear"]),
        ):
            rows = pick(here, metric=name, activation=own)
            if len(rows):
                text = f"{name}, {'ReLU' if own == 'relu' else 'linear (control)'}"
                curve(
                    figure, rows["feature"], rows, mark, text, group=text, legend=legend.first(text), size=5, mode="markers", row=2, col=k
                )
    style(figure, title, height=520)
    figure.update_yaxes(autorange="reversed", row=1)
    figure.update_yaxes(rangemode="tozero", autorange=True, row=2)
    figure.update_yaxes(title="feature", row=1, col=1)
    figure.update_yaxes(title="norm |W_i| or interference", row=2, col=1)
    figure.update_xaxes(title="feature", row=2)
    figure.update_layout(margin={"t": 110}, legend={"y": 1.07})
    return figure


@drawn
def per_feature(table: pd.DataFrame, title: str = "How many dimensions does a represented feature have?") -> go.Figure:
    """Draw dimensions per represented feature by 1 / density, with a band over seeds.

    Args:
        table: `activation, sparsity, value, low, high, n`.
        title: Of the figure.
    """
    figure = go.Figure()
    for name, rows in table.groupby("activation", sort=False):
        rows = rows.sort_values("sparsity")
        mark = PLAIN.get(str(name), (ORANGE, "diamond"))
        text = {"relu": "ReLU", "linear": "linear (control)"}.get(str(name), str(name))
        curve(figure, 1 / (1 - rows["sparsity"]), rows, mark, text)
    for y, text in LINES.items():
        figure.add_hline(
            y=y,
            line={"dash": "dot", "color": GREY, "width": 1},
            annotation_text=text,
            annotation_position="top right",
            annotation_font_size=11,
        )
    figure.update_xaxes(title="1 / density of a feature, 1 / (1 − sparsity)", type="log", tickvals=[1, 2, 5, 10, 20, 50, 100])
    figure.update_yaxes(title="dimensions per feature, m / ‖W‖²", rangemode="tozero")
    return style(figure, title, height=430)


@drawn
def phase(table: pd.DataFrame, title: str = "What becomes of the last feature?") -> go.Figure:
    """Draw the phase diagram: the commonest state of a feature by density and relative importance, a panel per toy.

    Args:
        table: `panel, density, importance, state, value, n`: the share of replicates in each state ("absent", "superposed",
            "own dimension").
        title: Of the figure.
    """
    panels = list(dict.fromkeys(table["panel"]))
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=[str(p) for p in panels], shared_yaxes=True, horizontal_spacing=0.03)
    colours = ("#ffffff", RED, BLUE)
    for k, name in enumerate(panels, 1):
        here = table[table["panel"] == name]
        cube = np.stack([pick(here, state=s).pivot(index="importance", columns="density", values="value").sort_index() for s in STATES])
        grid = pick(here, state=STATES[0]).pivot(index="importance", columns="density", values="value").sort_index()
        best = cube.argmax(0)
        figure.add_heatmap(
            z=best,
            x=[f"{d:.3g}" for d in grid.columns],
            y=[f"{i:.3g}" for i in grid.index],
            zmin=-0.5,
            zmax=2.5,
            colorscale=[[(j + end) / 3, c] for j, c in enumerate(colours) for end in (0, 1)],
            showscale=False,
            customdata=np.moveaxis(cube, 0, -1),
            text=np.vectorize(lambda v: "" if v > 0.99 else f"{v:.1f}")(cube.max(0)),
            texttemplate="%{text}",
            textfont={"size": 9},
            hovertemplate="density %{x}, importance %{y}: absent %{customdata[0]:.2f}, superposed %{customdata[1]:.2f}, "
            "own dimension %{customdata[2]:.2f}<extra></extra>",
            row=1,
            col=k,
        )
        figure.update_xaxes(title="density (1 − sparsity)", type="category", tickangle=-45, tickfont={"size": 10}, row=1, col=k)
    for colour, state in zip(colours, STATES, strict=True):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=state,
            marker={"symbol": "square", "size": 11, "color": colour, "line": {"width": 1, "color": GREY}},
        )
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_yaxes(title="importance relative to the first", col=1)
    style(figure, title, height=440)
    figure.update_layout(margin={"t": 116}, legend={"y": 1.1})
    return figure


@drawn
def arrangements(table: pd.DataFrame, title: str = "How do equally important features arrange themselves?") -> go.Figure:
    """Draw the share of replicates in each arrangement by sparsity, a panel per toy.

    Args:
        table: `panel, sparsity, arrangement, value, low, high, n`.
        title: Of the figure.
    """
    panels = list(dict.fromkeys(table["panel"]))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=[str(p) for p in panels],
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.3 / lines,
    )
    given = looks(dict.fromkeys(table["arrangement"]), {"other": (GREY, "x")})
    legend = Legend()
    for k, panel in enumerate(panels):
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        for j, (name, own) in enumerate(given.items()):
            rows = pick(table, panel=panel, arrangement=name).sort_values("sparsity")
            if len(rows):
                x = rows["sparsity"] + (j - len(given) / 2) * 0.005
                curve(figure, x, rows, own, str(name), group=str(name), legend=legend.first(str(name)), width=1.5, **place)
    rows_of_legend = -(-len(given) // 3)
    top = 84 + 22 * rows_of_legend
    height = top + 60 + 220 * lines
    style(figure, title, height=height)
    figure.update_xaxes(title="sparsity")
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share of replicates", col=1)
    figure.update_layout(margin={"t": top}, legend={"y": 1 + 26 / max(1, height - top - 60), "font": {"size": 11}})
    return figure


@drawn
def pairs(table: pd.DataFrame, title: str = "Do features that go together avoid each other's dimension?") -> go.Figure:
    """Draw the cosine between features of one pair and of two pairs, by how the features of a pair go together.

    Args:
        table: `sets, pair, value, low, high, n`.
        title: Of the figure.

    Returns:
        The figure.
    """
    order = list(dict.fromkeys(table["sets"]))[::-1]
    figure = go.Figure()
    for k, (name, rows) in enumerate(table.groupby("pair", sort=False)):
        dots(
            figure,
            rows["sets"],
            rows,
            look(k),
            f"{name} a pair" if name == "within" else f"{name} pairs" if name == "across" else str(name),
        )
    figure.add_vline(x=0, line={"dash": "dot", "color": GREY})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_xaxes(title="mean cosine between two features", range=[-1.05, 1.05])
    style(figure, title, height=190 + 44 * len(order))
    figure.update_layout(margin={"l": 130})
    return figure


@drawn
def recovery(table: pd.DataFrame, title: str = "Which dictionary finds the features of a toy?") -> go.Figure:
    """Draw how well dictionaries recover known features, a panel per measure.

    Args:
        table: `kind, control, metric, value, low, high, n`; rows of a control are drawn hollow and grey.
        title: Of the figure.

    Returns:
        The figure.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    order = list(dict.fromkeys(table["kind"]))[::-1]
    controls = list(dict.fromkeys(table["control"]))
    figure = make_subplots(rows=1, cols=len(metrics), subplot_titles=metrics, shared_yaxes=True, horizontal_spacing=0.05)
    for k, metric in enumerate(metrics, 1):
        for j, control in enumerate(controls):
            rows = pick(table, metric=metric, control=control)
            mark = look(0) if control == "" else (GREY, ("square-open", "diamond-open", "cross-open")[j % 3])
            text = "trained" if control == "" else str(control)
            dots(figure, rows["kind"], rows, mark, text, group=text, legend=k == 1, row=1, col=k)
        figure.update_xaxes(range=[-0.03, 1.03], row=1, col=k)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order)
    style(figure, title, height=210 + 34 * len(order))
    figure.update_layout(margin={"l": 130, "t": 112}, legend={"y": 1.13})
    return figure
