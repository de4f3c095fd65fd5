"""The figures of contrasts: how many directions contradict themselves, and how often a probe does."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from ..core.tables import pick
from .looks import Look, looks
from .marks import bars, curve, dots, hover, layer_step
from .markup import drawn
from .style import BLUE, GREY, METHOD_NAMES, ORANGE, PURPLE, SKY, band, style

RANKS: dict[str, Look] = {"1": (BLUE, "circle"), "2": (ORANGE, "square"), "3": (PURPLE, "diamond"), "4": (SKY, "triangle-up")}


@drawn
def spectrum(table: pd.DataFrame) -> go.Figure:
    """Draw the relative contrast of the first four eigenvectors by layer, in rows that they were not fitted on, and of broken pairs.

    Args:
        table: `layer, rank, control, value, low, high, n`, as of `wb.probes.contrast_spectrum` at several layers.
    """
    figure = go.Figure()
    broken = table[table["control"] != ""]
    if len(broken):
        ends = broken.groupby("layer").agg(low=("low", "min"), high=("high", "max")).reset_index()
        figure.add_scatter(
            x=[*ends["layer"], *ends["layer"][::-1]],
            y=[*ends["high"], *ends["low"][::-1]],
            fill="toself",
            fillcolor=band(GREY, 0.25),
            mode="none",
            name="variants of different statements",
            hoverinfo="skip",
        )
    for k, (rank, look) in enumerate(RANKS.items()):
        rows = table[(table["control"] == "") & (table["rank"] == int(rank))].sort_values("layer")
        if len(rows):
            curve(figure, rows["layer"] + (k - 1.5) * 0.06, rows, look, f"eigenvector {rank}")
    figure.add_hline(y=0, line={"dash": "dot", "color": GREY, "width": 1})
    figure.update_xaxes(title="layer", dtick=layer_step(table))
    figure.update_yaxes(title="relative contrast (1 opposite, -1 the same)", range=[-1.06, 1.06])
    style(figure, "How many directions contradict themselves?", height=440)
    figure.update_layout(margin={"t": 108})
    return figure


@drawn
def contradictions(table: pd.DataFrame, layer: int) -> go.Figure:
    """Draw how often each method says the same of a statement and of its opposite, beside opposites drawn at random.

    Args:
        table: `layer, method, metric, control, value, low, high, n`, as of `wb.probes.polarity_consistency` for several methods.
        layer: The layer that is shown.
    """
    here = pick(table, layer=layer, metric="contradictions")
    names = list(dict.fromkeys(here["method"]))
    figure = go.Figure()
    random = here[here["control"] != ""]
    figure.add_scatter(
        x=random["value"],
        y=random["method"].replace(METHOD_NAMES),
        error_x=bars(random, 7),
        mode="markers",
        marker={"color": GREY, "symbol": "line-ns-open", "size": 9},
        opacity=0.55,
        name="opposites drawn at random, 95 %",
        hovertext=hover(random),
        hoverinfo="text+name",
    )
    own = here[here["control"] == ""]
    (look,) = looks(["pairs"], {"pairs": (BLUE, "circle")}).values()
    dots(figure, own["method"].replace(METHOD_NAMES), own, look, "a statement and its opposite", size=10)
    figure.update_xaxes(title="share of pairs held both true or both false (a coin: .5)", range=[-0.03, 1.03])
    order = [METHOD_NAMES.get(m, m) for m in names][::-1]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, dtick=1)
    style(figure, f"Does a probe contradict itself? Layer {layer}", height=170 + 34 * len(names))
    figure.update_layout(margin={"l": 330, "t": 100})
    return figure
