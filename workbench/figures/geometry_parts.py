"""The layers of a figure of angles: the null band and the naive cosine, cross-fitted cosines, the strip of verdicts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from .looks import Look
from .style import BLUE, FAINT, GREEN, INK, ORANGE, RED, SKY, null_band

VERDICT_COLOURS = {
    "opposite": RED,
    "partly opposite": ORANGE,
    "orthogonal": GREEN,
    "partly aligned": SKY,
    "aligned": BLUE,
    "undetermined": FAINT,
    "refused": "#ffffff",
}
SHORT = {
    "opposite": "opp.",
    "partly opposite": "p. opp.",
    "orthogonal": "orth.",
    "partly aligned": "p. al.",
    "aligned": "al.",
    "undetermined": "?",
    "refused": "–",
}
CLIP = 1.15


def naive_cosines(figure: go.Figure, base: pd.DataFrame, metric: str, *, first: bool, **place: Any) -> None:
    """Draw the band of permuted labels and the naive cosine, both of the first metric."""
    if "null_low" in base and base["null_low"].notna().any():
        spots = base.dropna(subset=["null_low", "null_high"])
        ends = spots.assign(low=spots["null_low"].clip(-CLIP, CLIP), high=spots["null_high"].clip(-CLIP, CLIP))
        null_band(figure, ends, f"labels permuted, 95 % ({metric})", legend=first, **place)
    figure.add_scatter(
        x=base["layer"],
        y=base["naive_cosine"],
        mode="markers",
        name=f"naive cosine ({metric})",
        showlegend=first,
        legendgroup="naive",
        marker={"symbol": "x-thin", "size": 9, "color": RED, "line": {"width": 2, "color": RED}},
        **place,
    )


def cross_fitted(figure: go.Figure, rows: pd.DataFrame, metric: str, look: Look, shift: float, *, first: bool, **place: Any) -> None:
    """Draw the cross-fitted cosines of one metric; what was refused or is undefined is left to the strip of verdicts."""
    rows = rows[rows["value"].notna() & ~rows["verdict"].eq("refused")].sort_values("layer")
    value = rows["value"].clip(-CLIP, CLIP)
    figure.add_scatter(
        x=rows["layer"] + shift,
        y=value,
        mode="markers+lines",
        name=f"cross-fitted, {metric}",
        showlegend=first,
        legendgroup=metric,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (rows["high"].clip(upper=CLIP) - value).clip(lower=0),
            "arrayminus": (value - rows["low"].clip(lower=-CLIP)).clip(lower=0),
            "thickness": 1.3,
            "width": 3,
        },
        marker={"color": look[0], "symbol": look[1], "size": 8},
        line={"color": look[0], "width": 1, "dash": "dot"},
        hovertext=[f"{r.verdict}: {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()],
        hoverinfo="text+name",
        **place,
    )


def verdicts(figure: go.Figure, rows: pd.DataFrame, metric: str, **place: Any) -> None:
    """Draw a strip of coloured squares; a verdict that has no colour of its own is written out on white."""
    figure.add_scatter(
        x=rows["layer"],
        y=[metric] * len(rows),
        mode="markers+text",
        text=[SHORT.get(v, v) for v in rows["verdict"]],
        textfont={"size": 9.5, "color": INK},
        marker={
            "symbol": "square",
            "size": 26 if len(rows) <= 8 else 18,
            "color": [VERDICT_COLOURS.get(v, VERDICT_COLOURS["refused"]) for v in rows["verdict"]],
            "line": {"color": FAINT, "width": 1},
            "opacity": 0.55,
        },
        hovertext=rows["verdict"],
        hoverinfo="text",
        showlegend=False,
        **place,
    )
