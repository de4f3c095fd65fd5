"""Panels of the figures of the UDHR study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..core.text_controls import strongest_words
from .looks import Look
from .marks import Legend, chance_line, curve, hover
from .style import GREY, INK, METHOD_COLOURS, METHOD_NAMES, ORANGE, band, null_band

METHODS: dict[str, Look] = dict(
    zip(METHOD_COLOURS, zip(METHOD_COLOURS.values(), ("circle", "square", "diamond"), strict=True), strict=True)
)


def said_and_read(
    figure: go.Figure,
    table: pd.DataFrame,
    null: pd.DataFrame | None,
    conditions: list[str],
    given: dict[str, Look],
    legend: Legend,
    **place: Any,
) -> None:
    """Draw what is said and what is read in one prompt form, with what random directions read behind."""
    shift = {what: (k - (len(given) - 1) / 2) * 0.2 for k, what in enumerate(given)}
    if null is not None and len(null):
        # as wide as the markers of what is read inside, which stand right of what is said
        null = null[null["condition"].isin(conditions)]
        inside = [shift[what] for what in given if what.startswith("knows")] or [0.0]
        figure.add_bar(
            x=[conditions.index(c) + (inside[0] + inside[-1]) / 2 for c in null["condition"]],
            base=null["low"],
            y=null["high"] - null["low"],
            width=inside[-1] - inside[0] + 0.18,
            marker={"color": band(GREY, 0.22), "line": {"width": 0}},
            name="random directions, 95 %",
            showlegend=legend.first("random directions"),
            hovertext=[f"{a:.3f} to {b:.3f}" for a, b in zip(null["low"], null["high"], strict=True)],
            hoverinfo="text+name",
            **place,
        )
    for what, own in given.items():
        rows = table[table["what"] == what]
        if len(rows):
            x = [conditions.index(c) + shift[what] for c in rows["condition"]]
            curve(figure, x, rows, own, what, group=what, legend=legend.first(what), size=11, mode="markers", **place)


def layer_panel(figure: go.Figure, here: pd.DataFrame, given: dict[str, Look], legend: Legend, **place: Any) -> None:
    """Draw one condition: the controls, then a line per method."""
    null = here[here["control"] == "random_directions"]
    if len(null):
        null_band(figure, null, "random directions, 95 %", legend=legend.first("random directions"), **place)
    blank = here[here["control"] == "untrained_model"]
    method = "logistic" if (blank["method"] == "logistic").any() else next(iter(blank["method"]), "")
    rows = blank[blank["method"] == method].sort_values("layer")
    if len(rows):
        name = f"untrained model, {method}"
        _control(figure, rows["layer"], rows["value"], hover(rows), name, "dash", INK, "untrained_model", legend, **place)
    words = strongest_words(here)
    if words is not None:
        layers = sorted(here.loc[here["layer"] >= 0, "layer"].unique())
        name, at = "words alone", hover(here[here["control"] == words.control])
        _control(figure, [layers[0], layers[-1]], [words.value] * 2, at * 2, name, "dashdot", ORANGE, "words", legend, **place)
    slot = {name: k for k, name in enumerate([*METHODS, *(n for n in given if n not in METHODS)])}
    for name, own in given.items():
        rows = here[(here["control"] == "") & (here["method"] == name)].sort_values("layer")
        if len(rows):
            x = rows["layer"] + (slot[name] - 1) * 0.07
            curve(figure, x, rows, own, METHOD_NAMES.get(name, name), group=name, legend=legend.first(name), **place)
    chance_line(figure, named=legend.first("chance"), **place)


def _control(
    figure: go.Figure,
    x: Sequence[Any] | pd.Series,
    y: Sequence[Any] | pd.Series,
    text: list[str],
    name: str,
    dash: str,
    colour: str,
    group: str,
    legend: Legend,
    **place: Any,
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"dash": dash, "color": colour, "width": 1.6},
        name=name,
        legendgroup=group,
        showlegend=legend.first(group),
        hovertext=text,
        hoverinfo="text+name",
        **place,
    )
