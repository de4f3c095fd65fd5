"""Panels and marks of the figures of steering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from . import marks
from .looks import SYMBOLS, Look
from .style import BLUE, FAINT, GREEN, GREY, ORANGE, PURPLE, RED, SKY, band

COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
POLARITIES = {"grant": "statements that grant", "deny": "statements that deny"}
THIN: dict[str, Any] = {"thickness": 1.3, "form": ".3g"}


def tint(k: int) -> str:
    """Return the colour of the k-th name; they go round."""
    return COLOURS[k % len(COLOURS)]


def own_look(k: int, symbols: Sequence[str] = ("circle", "diamond", "square")) -> Look:
    """Return the look of the k-th name: of the first six no two have one colour, and of all that follow no two have colour and symbol."""
    rounds = k // len(COLOURS)
    return tint(k), symbols[k % len(symbols)] if rounds == 0 else SYMBOLS[(rounds + 2) % len(SYMBOLS)]


def place_look(direction: int, site: int) -> tuple[Look, str]:
    """Return look and dash of a direction at a site: the colour is the direction's, the symbol the site's; the first site is hollow."""
    rounds = direction // len(COLOURS)  # beyond six directions colours come again
    if site == 0:
        return (tint(direction), f"{SYMBOLS[rounds % len(SYMBOLS)]}-open"), "dot"
    return (tint(direction), SYMBOLS[(site - 1) % len(SYMBOLS)]), ("solid", "dash", "dashdot")[rounds % 3]


def bars(rows: pd.DataFrame) -> dict[str, object]:
    """Return plotly's error bars from `value, low, high`; none where an end is not known."""
    return marks.bars(rows, 1.3)


def hover(rows: pd.DataFrame) -> list[str]:
    """Return what is shown when a point is pointed at."""
    return marks.hover(rows, ".3g")


def dose_panel(figure: go.Figure, here: pd.DataFrame, lines: Sequence[Any], legend: marks.Legend, **place: Any) -> None:
    """Draw the band of random pushes, which closes where nothing is pushed, and a line per condition, in the order of all panels."""
    chance = here[(here["method"] == "random") & (here["condition"] == "all")].sort_values("coefficient")
    own = here[here["method"] == "direction"]
    if len(chance):
        draws = int(chance["n"].iloc[0])
        zero = own[(own["coefficient"] == 0) & (own["condition"] == "all")].assign(low=lambda t: t["value"], high=lambda t: t["value"])
        ends = pd.concat([chance, zero]).sort_values("coefficient")
        figure.add_scatter(
            x=[*ends["coefficient"], *ends["coefficient"][::-1]],
            y=[*ends["high"], *ends["low"][::-1]],
            fill="toself",
            fillcolor=band(GREY, 0.25),
            mode="none",
            name=f"{draws} random directions, {'middle 95 %' if draws >= 39 else 'least to most'}",
            legendgroup="random",
            showlegend=legend.first("random"),
            hoverinfo="skip",
            **place,
        )
    conditions = [c for c in dict.fromkeys(own["condition"]) if c != "all"] or ["all"]
    for condition in conditions:
        j = lines.index(condition)
        rows = own[own["condition"] == condition].sort_values("coefficient")
        name = str(condition)
        how: dict[str, Any] = (
            {"size": 8, "dash": ("solid", "dash")[j % 2], "group": name, "legend": legend.first(f"condition {name}")} | THIN | place
        )
        marks.curve(figure, rows["coefficient"], rows, own_look(j), POLARITIES.get(name, name), **how)
    figure.add_vline(x=0, line={"color": FAINT, "width": 1}, **place)  # pyright: ignore[reportArgumentType]


def choice_panel(figure: go.Figure, here: pd.DataFrame, *, scale: bool, **place: Any) -> None:
    """Draw one site: a cell per layer and coefficient, and a ring around the one that was chosen."""
    grid = here.pivot(index="coefficient", columns="layer", values="worse")
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[str(c) for c in grid.columns],
        y=[f"{c:g}" for c in grid.index],
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        showscale=scale,
        colorbar={"title": {"text": "safe"}, "thickness": 12},
        text=grid.round(2).astype(str).to_numpy(),
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertemplate="layer %{x}, coefficient %{y}: %{z:.2f}<extra></extra>",
        **place,
    )
    mark = here[here["chosen"]]
    if len(mark):
        figure.add_scatter(
            x=[str(int(mark["layer"].iloc[0]))],
            y=[f"{mark['coefficient'].iloc[0]:g}"],
            mode="markers",
            showlegend=False,
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 34, "color": RED, "line": {"width": 3}},
            **place,
        )


def by_task(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return rows by task, in order; a task with several metrics has an entry for each."""
    parts = {(str(task), str(metric)): part for (task, metric), part in rows.groupby(["task", "metric"], sort=False)}
    tasks = [task for task, _ in parts]
    return {task if tasks.count(task) == 1 else f"{task}, {metric}": part for (task, metric), part in parts.items()}


def change_points(
    figure: go.Figure, rows: pd.DataFrame, y: list[float], offset: float, look: tuple[str, str], name: str, **place: Any
) -> None:
    """Draw changes against no edit, in hundredths."""
    value = (rows["change"] - offset) * 100.0
    up, down = (rows["change_high"] - rows["change"]) * 100.0, (rows["change"] - rows["change_low"]) * 100.0
    ends = pd.DataFrame({"value": 0.0, "low": -down.clip(lower=0), "high": up.clip(lower=0)})
    figure.add_scatter(
        x=value,
        y=y,
        mode="markers",
        name=name,
        error_x=bars(ends),
        marker={"color": look[0], "symbol": look[1], "size": 9},
        hovertext=[f"{v:.2f}{marks.dosed(row)}" for v, row in zip(value, rows.to_dict("records"), strict=True)],
        hoverinfo="text+name",
        **place,
    )
