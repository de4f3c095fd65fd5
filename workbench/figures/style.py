"""One plotly style: readable at blog width, in the colours of `theme`."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from .theme import BLUE, FAINT, GREEN, GREY, GRID, INK, ORANGE, PAPER, PURPLE, RED, SKY

__all__ = [
    "BLUE",
    "CLAIM_COLOURS",
    "CLAIM_SYMBOLS",
    "FAINT",
    "GREEN",
    "GREY",
    "INK",
    "METHOD_COLOURS",
    "METHOD_NAMES",
    "ORANGE",
    "PAPER",
    "PURPLE",
    "RED",
    "SKY",
    "band",
    "null_band",
    "style",
]
CLAIM_COLOURS = {"no claim": GREY, "none": GREY, "neutral": SKY, "good": GREEN, "partial": ORANGE, "harm": RED}
CLAIM_SYMBOLS = {
    "no claim": "circle-open",
    "none": "circle-open",
    "neutral": "diamond-open",
    "good": "circle",
    "partial": "square",
    "harm": "diamond",
}
METHOD_COLOURS = {"ccs": BLUE, "logistic": GREEN, "mass_mean": PURPLE}
METHOD_NAMES = {
    "ccs": "CCS (no labels)",
    "drc": "CCS in closed form, difference-relative (no labels)",
    "rrc": "CCS in closed form, ratio-relative (no labels)",
    "polarity_ccs": "polarity-aware CCS (no labels)",
    "logistic": "logistic probe",
    "mass_mean": "mass-mean probe",
}
LABEL_FREE = {
    "ccs": "CCS",
    "drc": "CCS in closed form, difference",
    "rrc": "CCS in closed form, ratio",
    "polarity_ccs": "polarity-aware CCS",
}
FONT = "Inter, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"


def style(figure: go.Figure, title: str, *, height: int = 420, legend: bool = True) -> go.Figure:
    """Apply the style and the title to a figure.

    Args:
        figure: Any plotly figure; it is changed in place.
        title: Above it, at the left.
        height: In pixels; the width is 760, that of a blog's column.
        legend: Show a legend, above the panels.

    Returns:
        The same figure.
    """
    figure.update_layout(
        title={
            "text": title,
            "x": 0.012,
            "xanchor": "left",
            "xref": "container",
            "font": {"size": 17},
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 14},
        },
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        width=760,
        height=height,
        margin={"l": 70, "r": 24, "t": 78, "b": 60},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left", "font": {"size": 12}},
        hoverlabel={"font": {"family": FONT}},
    )
    figure.update_annotations(font={"size": 13})
    axis = {"title": {"font": {"size": 13.5}, "standoff": 10}}
    figure.update_layout(template=go.layout.Template(layout={"xaxis": axis, "yaxis": axis}))
    figure.update_xaxes(showline=True, linecolor=INK, ticks="outside", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(showline=True, linecolor=INK, ticks="outside", gridcolor=GRID, zeroline=False)
    return figure


def null_band(figure: go.Figure, rows: pd.DataFrame, name: str, *, legend: bool = True, **place: int) -> None:
    """Draw the central range of a control over layers as a grey band.

    Args:
        figure: Where.
        rows: `layer, low, high`; without rows nothing is drawn.
        name: For the legend.
        legend: Whether it has an entry there.
        place: Row and column of a panel.
    """
    if not len(rows):
        return
    rows = rows.sort_values("layer")
    figure.add_scatter(
        x=[*rows["layer"], *rows["layer"][::-1]],
        y=[*rows["high"], *rows["low"][::-1]],
        fill="toself",
        fillcolor=band(GREY, 0.22),
        mode="none",
        name=name,
        legendgroup="null",
        showlegend=legend,
        hoverinfo="skip",
        **place,
    )


def band(colour: str, alpha: float = 0.18) -> str:
    """Return a colour with opacity, as "rgba(…)".

    Args:
        colour: Six hexadecimal digits after a "#".
        alpha: 0 (not to be seen) to 1 (opaque).
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
