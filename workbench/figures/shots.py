"""The figures of many shots: answers and their likelihood by the number of demonstrations, and what is read along the way."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import Look, looks
from .marks import Legend, chance_line, curve, dots
from .markup import drawn
from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, style

KINDS: dict[str, Look] = {
    "harmful": (RED, "diamond"),
    "benign": (GREEN, "circle"),
    "shuffled": (ORANGE, "square"),
    "prose": (GREY, "circle-open"),
}
INTERVENTIONS: dict[str, Look] = {
    "none": (RED, "diamond"),
    "system": (BLUE, "circle"),
    "steer": (PURPLE, "square"),
    "steer, random": (INK, "x"),
}
NLL, SHARE = "nll of the harmful answer", "harmful answers"
TITLES = {NLL: "-log P(harmful answer), nats", SHARE: "share of harmful answers"}


@drawn
def answers(table: pd.DataFrame, by: str = "kind") -> go.Figure:
    """Draw likelihood and share of harmful answers by the number of demonstrations, a line per kind or per intervention.

    Args:
        table: `kind, intervention, shots, metric, value, low, high, n`.
        by: "kind" (without intervention) or "intervention" (of the first kind).

    Returns:
        The figure: the likelihood on the left, on logarithmic axes, and the share on the right.
    """
    rows = table[table["intervention"] == "none"] if by == "kind" else table[table["kind"] == table["kind"].iloc[0]]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.11)
    legend = Legend()
    for col, metric in enumerate((NLL, SHARE), 1):
        here = pick(rows, metric=metric)
        for k, (name, look) in enumerate(looks(here[by], KINDS if by == "kind" else INTERVENTIONS).items()):
            line = here[here[by] == name].sort_values("shots")
            curve(figure, _at(line["shots"], k), line, look, name, group=name, legend=legend.first(name), row=1, col=col)
        _shots(figure, here["shots"], col)
        figure.update_yaxes(title=TITLES[metric], row=1, col=col)
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_yaxes(range=[-0.04, 1.04], row=1, col=2)
    chance_line(figure, row=1, col=2)
    what = "Demonstrations of each kind" if by == "kind" else "Demonstrations of harm, and what is done against them"
    style(figure, f"{what}: what is answered next?", height=440)
    figure.update_layout(margin={"t": 96})
    return figure


@drawn
def along(table: pd.DataFrame) -> go.Figure:
    """Draw what a probe reads behind demonstrations, and the tamper score, by their number.

    Args:
        table: `kind, layer, shots, metric, value, low, high, n`.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    figure = make_subplots(rows=1, cols=len(metrics), horizontal_spacing=0.11)
    legend = Legend()
    for col, metric in enumerate(metrics, 1):
        here = pick(table, metric=metric)
        for k, (kind, look) in enumerate(looks(here["kind"], KINDS).items()):
            line = here[here["kind"] == kind].sort_values("shots")
            curve(figure, _at(line["shots"], k), line, look, kind, group=kind, legend=legend.first(kind), row=1, col=col)
        _shots(figure, here["shots"], col)
        figure.update_yaxes(title=metric, range=[-0.04, 1.04], row=1, col=col)
        chance_line(figure, row=1, col=col)
    layer = int(table["layer"].iloc[0])
    style(figure, f"Behind demonstrations: what is still read inside? Layer {layer}", height=440)
    figure.update_layout(margin={"t": 96})
    return figure


@drawn
def laws(table: pd.DataFrame) -> go.Figure:
    """Draw how far each law misses the numbers of shots that it was not fitted on.

    Args:
        table: `kind, intervention, law, parameter, value, low, high, n, share, chosen`.
    """
    here = pick(table, parameter="held-out error")
    here = here[here["value"].notna()].assign(case=lambda t: t["kind"] + ", " + t["intervention"])
    figure = go.Figure()
    given: dict[str, Look] = {"power": (RED, "diamond"), "exponential": (SKY, "square"), "bayesian": (BLUE, "circle")}
    for law, look in looks(here["law"], given).items():
        rows = here[here["law"] == law]
        dots(figure, rows["case"], rows, look, law)
    order = list(dict.fromkeys(here["case"]))[::-1]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, dtick=1)
    figure.update_xaxes(title="held-out error, root mean square of log(foretold / seen)", type="log")
    style(figure, "Power law or a floor? Error on numbers of shots that no law was fitted on", height=190 + 40 * len(order))
    figure.update_layout(margin={"l": 190, "t": 96})
    return figure


def _at(shots: pd.Series, line: int) -> pd.Series:
    """Where a number of shots stands on a logarithmic axis: 0 has a place of its own, half of 1; lines stand side by side."""
    return shots.astype(float).where(shots > 0, 0.5) * 1.05 ** (line - 1.5)


def _shots(figure: go.Figure, shots: pd.Series, col: int) -> None:
    ticks = [0.5, *(t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= shots.max())]
    figure.update_xaxes(
        title="demonstrations", type="log", tickvals=ticks, ticktext=["0", *(str(int(t)) for t in ticks[1:])], row=1, col=col
    )
