"""Figures of directions: angle by layer with verdicts, the 2x2 plane, erasure and cross-steering matrices, models against models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .geometry_parts import CLIP, cross_fitted, naive_cosines, verdicts
from .looks import Look, looks
from .marks import cells_with_intervals
from .markup import BREAK, bold, drawn
from .style import BLUE, FAINT, GREEN, GREY, INK, PURPLE, RED, style

METRICS: dict[str, Look] = {"raw": (INK, "circle"), "whitened": (PURPLE, "square"), "causal": (BLUE, "diamond")}


@drawn
def angles(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw the cosine by layer, one panel per position, with its interval, the null band, the naive cosine and a strip of verdicts.

    Args:
        table: `layer, position, metric, value, low, high, null_low, null_high, naive_cosine, verdict`: cross-fitted cosines, -1 to 1.
        title: Of the figure.
    """
    groups = list(dict.fromkeys(table["position"]))
    metrics = list(dict.fromkeys(table["metric"]))
    given = looks(metrics, METRICS, avoid=(RED,))
    titles = [str(g).replace("_", " ") for g in groups]
    figure = make_subplots(
        rows=2,
        cols=len(groups),
        row_heights=[0.8, 0.2],
        shared_xaxes=True,
        vertical_spacing=0.06,
        horizontal_spacing=0.06,
        subplot_titles=titles,
    )
    for k, group in enumerate(groups):
        here = table[table["position"] == group]
        base = here[here["metric"] == metrics[0]].sort_values("layer")
        naive_cosines(figure, base, metrics[0], first=k == 0, row=1, col=k + 1)
        for step, metric in enumerate(metrics):
            shift = (step - (len(metrics) - 1) / 2) * 0.14
            cross_fitted(figure, here[here["metric"] == metric], metric, given[metric], shift, first=k == 0, row=1, col=k + 1)
        for metric in metrics:
            verdicts(figure, here[here["metric"] == metric].sort_values("layer"), metric, row=2, col=k + 1)
        for edge in (-0.9, -0.2, 0.2, 0.9):
            figure.add_hline(y=edge, line={"color": FAINT, "width": 1}, layer="below", row=1, col=k + 1)  # pyright: ignore[reportArgumentType]
        figure.update_yaxes(range=[-CLIP - 0.05, CLIP + 0.05], tickvals=[-0.9, -0.2, 0, 0.2, 0.9], row=1, col=k + 1)
        strip: dict[str, Any] = {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": metrics[::-1],
            "range": [-0.6, len(metrics) - 0.4],
        }
        figure.update_yaxes(**strip, row=2, col=k + 1, showgrid=False, showticklabels=k == 0)
        figure.update_xaxes(title="layer", dtick=1 if base["layer"].nunique() <= 16 else None, showgrid=False, row=2, col=k + 1)
    figure.update_yaxes(title="cosine", row=1, col=1)
    style(figure, title, height=470 + 36 * len(metrics))
    figure.update_yaxes(showgrid=False)
    figure.update_xaxes(showgrid=False)
    figure.update_layout(margin={"t": 138, "l": 86}, legend={"y": 1.09, "font": {"size": 11}})
    return figure


@drawn
def plane(cells: pd.DataFrame, factors: Sequence[str]) -> go.Figure:
    """Draw the four cell means of a 2x2, by layer: along the two main effects, in their lengths; a square would be plain addition.

    Args:
        cells: `layer, cell, harm, safety`: the mean of each cell ("00", "10", "01", "11"; the first digit is the first factor) along both
            main effects. An effect's own length is 1. Layers at which an effect has no measurable length are left out.
        factors: Names of the two factors.
    """
    # an effect without measurable length is no ruler
    good = cells.groupby("layer")[["harm", "safety"]].agg(lambda v: v.abs().max()).max(axis=1, skipna=False) < 3
    layers = sorted(good[good].index) or sorted(cells["layer"].unique())
    reach = max(1.25, 1.12 * float(cells.loc[cells["layer"].isin(layers), ["harm", "safety"]].abs().max().max()))
    shown = layers if len(layers) <= 6 else [layers[i] for i in np.linspace(0, len(layers) - 1, 6).round().astype(int)]
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=[f"layer {n}" for n in shown],
        horizontal_spacing=0.06,
        vertical_spacing=0.16 if down > 1 else 0,
    )
    colours = {"00": GREY, "10": RED, "01": GREEN, "11": PURPLE}
    names = {"00": "neither", "10": f"{factors[0]} only", "01": f"{factors[1]} only", "11": "both"}
    for k, layer in enumerate(shown):
        rows = cells[cells["layer"] == layer].astype({"cell": str})
        rows = rows.assign(cell=rows["cell"].str.zfill(2)).set_index("cell")
        spot: dict[str, Any] = {"row": k // across + 1, "col": k % across + 1}
        for one, two in (("00", "10"), ("00", "01"), ("10", "11"), ("01", "11")):
            figure.add_scatter(
                x=rows.loc[[one, two], "harm"],
                y=rows.loc[[one, two], "safety"],
                mode="lines",
                line={"color": FAINT, "width": 1.5},
                showlegend=False,
                hoverinfo="skip",
                **spot,
            )
        for cell, colour in colours.items():
            figure.add_scatter(
                x=[rows.loc[cell, "harm"]],
                y=[rows.loc[cell, "safety"]],
                mode="markers",
                name=names[cell],
                legendgroup=cell,
                showlegend=k == 0,
                marker={"color": colour, "size": 13, "symbol": {"00": "circle-open", "10": "diamond", "01": "square", "11": "star"}[cell]},
                **spot,
            )
        figure.update_xaxes(range=[-reach, reach], title=f"along {factors[0]}" if k // across == down - 1 else "", **spot)
        figure.update_yaxes(range=[-reach, reach], title=f"along {factors[1]}" if k % across == 0 else "", **spot)
    style(figure, f"The 2x2: {factors[0]} x {factors[1]}", height=190 + 250 * down)
    figure.update_layout(margin={"t": 118}, legend={"y": 1 + 44 / (250 * down)})
    return figure


@drawn
def points(table: pd.DataFrame) -> go.Figure:
    """Draw held-out requests in the plane of the harm direction and what is left of the safety direction beside it.

    Args:
        table: `layer, input_harm, claim_safety` (0 or 1), `along_harm, beside_harm` (raw units), one row per request.
    """
    figure = go.Figure()
    for h, s, name, colour, symbol in (
        (0, 1, "harmless, protected", GREEN, "square"),
        (0, 0, "harmless, jailbreak", GREY, "circle-open"),
        (1, 1, "harmful, protected", RED, "diamond"),
        (1, 0, "harmful, jailbreak", PURPLE, "star"),
    ):
        rows = table[(table["input_harm"] == h) & (table["claim_safety"] == s)]
        figure.add_scatter(
            x=rows["along_harm"],
            y=rows["beside_harm"],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.65},
        )
    figure.update_xaxes(title="along the harm direction (raw units)")
    figure.update_yaxes(title="along what safety has beside it (raw units)", scaleanchor="x")
    style(figure, f"Held-out requests in the plane of both directions, layer {int(table['layer'].iloc[0])}", height=520)
    return figure


@drawn
def erasure(table: pd.DataFrame, layer: int) -> go.Figure:
    """Draw accuracy of fresh probes after each erasure: what is erased down, what is read across.

    Args:
        table: What `wb.erase_and_reprobe` returns: `layer, method, erased, read, probe, metric, value, low, high`.
        layer: Which layer.
    """
    right = table[(table["layer"] == layer) & (table["metric"] == "accuracy")]
    right = right.assign(
        row=[
            f"{m.replace('_', ' ')}: {e}" if e != "nothing" else "nothing erased"
            for e, m in zip(right["erased"], right["method"], strict=True)
        ],
        column=[f"{r}{BREAK}{p}" for r, p in zip(right["read"], right["probe"], strict=True)],
    )
    columns = list(dict.fromkeys(right["column"]))
    rows = list(dict.fromkeys(right["row"]))
    values, text = cells_with_intervals(right, "row", "column", rows, columns)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=columns,
            y=rows,
            text=text,
            texttemplate="%{text}",
            textfont={"size": 10.5},
            zmin=0,
            zmax=1,
            colorscale=[[0, RED], [0.5, "#ffffff"], [1, BLUE]],
            colorbar={"title": {"text": "accuracy"}, "thickness": 12},
            xgap=1,
            ygap=1,
            hoverinfo="text",
        )
    )
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_xaxes(type="category", title="read by a fresh probe")
    style(figure, f"Erase one, read the other (layer {layer})", height=150 + 42 * len(rows), legend=False)
    figure.update_layout(margin={"l": 210, "t": 60, "b": 90})
    return figure


@drawn
def cross(table: pd.DataFrame, layer: int, *, position: str = "stem_last") -> go.Figure:
    """Draw what a push along each direction does to the reading along each other, and to the behaviour; one panel per way of pushing.

    Args:
        table: What `evaluation.cross_steering` returns. "add" and "subtract" always have a panel, a way to push of your own has one if it
            is there, and "ablate", which has no common cost, has none.
        layer: The layer that was pushed.
        position: The position that was pushed.

    Returns:
        The figure.
    """
    here = table[(table["layer"] == layer) & (table["position"] == position) & (table["kind"] != "ablate")]
    order = [n for n in dict.fromkeys(here["pushed"]) if n != "random"] + (["random"] if (here["pushed"] == "random").any() else [])
    reads = [r for r in dict.fromkeys(here["read"]) if r != "behaviour"] + ["behaviour"]
    kinds = {"add": "added", "subtract": "subtracted"} | {k: k for k in dict.fromkeys(here["kind"]) if k not in ("add", "subtract")}
    figure = make_subplots(
        rows=1, cols=len(kinds), subplot_titles=list(kinds.values()), shared_yaxes=True, horizontal_spacing=0.06 / len(kinds)
    )
    said = here["read"] == "behaviour"  # in other units than the readings, and coloured on its own scale
    top = [float(np.nanmax(np.abs(here.loc[said == (r == "behaviour"), "value"]))) or 1.0 for r in reads]
    for k, kind in enumerate(kinds):
        rows = here[here["kind"] == kind]
        values, text = cells_with_intervals(rows, "pushed", "read", order, reads, bold("{:+.1f}") + BREAK + "[{:.1f}, {:.1f}]")
        figure.add_heatmap(
            z=values / np.array(top),
            x=[*reads[:-1], "log-odds"],
            y=order,
            text=text,
            texttemplate="%{text}",
            textfont={"size": 9},
            zmin=-1.2,
            zmax=1.2,
            colorscale=[[0, RED], [0.5, "#ffffff"], [1, BLUE]],
            showscale=False,
            xgap=1,
            ygap=1,
            hoverinfo="text",
            row=1,
            col=k + 1,
        )
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="pushed along", row=1, col=1)
    figure.update_xaxes(type="category", tickangle=0, tickfont={"size": 10.5})
    title = f"Push along one, read the others: layer {layer}, {position.replace('_', ' ')}, equal KL"
    style(figure, title, height=170 + 54 * len(order), legend=False)
    figure.update_layout(margin={"l": 84, "r": 12, "t": 84, "b": 70})
    return figure


@drawn
def spaces(table: pd.DataFrame, metric: str | None = None) -> go.Figure:
    """Draw the similarity of every layer of one model with every layer of another.

    Args:
        table: What `wb.compare_spaces` returns: `layer, other_layer, metric, value` (0 to 1).
        metric: Which metric; by default the first.
    """
    name = metric or table["metric"].iloc[0]
    grid = table[table["metric"] == name].pivot(index="layer", columns="other_layer", values="value")
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            zmin=0,
            zmax=1,
            colorscale=[[0, "#ffffff"], [1, BLUE]],
            texttemplate="%{z:.2f}",
            textfont={"size": 10.5},
            colorbar={"title": {"text": name}, "thickness": 12},
            xgap=1,
            ygap=1,
        )
    )
    figure.update_xaxes(title="layer of the other model", dtick=1)
    figure.update_yaxes(title="layer", dtick=1)
    return style(figure, f"Same space? {name}", height=460, legend=False)


@drawn
def calibration(table: pd.DataFrame) -> go.Figure:
    """Draw the calibration cells: coverage where there is a signal, silence where there is none, and the naive cosine's error.

    Args:
        table: What the calibration of `benchmarks` writes: `angle, signal, n, noise, construction, metric`, the shares `right, quiet,
            wrong, cover`, and `naive_error, width` (in units of the cosine).
    """
    shown = table.assign(
        name=[
            f"{a if a == 'none' else a + '°'}, {s:g}σ, n={n}, {z}, {c}, {m}"
            for a, s, n, z, c, m in zip(*(table[k] for k in ("angle", "signal", "n", "noise", "construction", "metric")), strict=True)
        ]
    )
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=["share of runs", "how far off"])
    parts = (
        ("right", "right verdict", GREEN, "circle"),
        ("quiet", "refused or undetermined", GREY, "circle-open"),
        ("wrong", "wrong verdict", RED, "diamond"),
        ("cover", "interval covers", BLUE, "square-open"),
    )
    for column, name, colour, symbol in parts:
        figure.add_scatter(
            x=shown[column], y=shown["name"], mode="markers", name=name, marker={"color": colour, "symbol": symbol, "size": 7}, row=1, col=1
        )
    figure.add_scatter(
        x=shown["naive_error"],
        y=shown["name"],
        mode="markers",
        name="naive cosine: mean error",
        marker={"color": RED, "symbol": "x-thin", "size": 8, "line": {"width": 2, "color": RED}},
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=shown["width"].replace(np.inf, np.nan) / 2,
        y=shown["name"],
        mode="markers",
        name="cross-fitted: half the interval, median",
        marker={"color": INK, "symbol": "circle", "size": 6},
        row=1,
        col=2,
    )
    figure.add_vline(x=0.95, line={"color": FAINT, "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(type="category", autorange="reversed", tickfont={"size": 9.5}, dtick=1)
    figure.update_xaxes(range=[-0.03, 1.03])
    style(figure, "Planted angles: how often the instrument is right", height=210 + 17 * len(shown))
    figure.update_layout(margin={"l": 290, "t": 150}, width=900, legend={"y": 1 + 34 / (17 * len(shown))})
    return figure
