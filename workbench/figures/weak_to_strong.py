"""The figures of weak teachers and strong students: the gap recovered, accuracy, and the teacher's errors repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import Look, looks
from .marks import Legend, dots
from .markup import drawn
from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, style

TRAINED: dict[str, Look] = {
    "truth": (INK, "diamond"),
    "plain": (RED, "circle"),
    "confidence": (BLUE, "square"),
    "log_confidence": (PURPLE, "cross"),
    "random errors": (ORANGE, "triangle-up"),
    "empty labels": (SKY, "triangle-down"),
    "nothing": (GREEN, "x"),
}
REACH = (-1.0, 2.0)  # of the share recovered that is drawn: an interval that reaches farther leaves the panel


def _sets(table: pd.DataFrame, title: str, axis: str, *, taught: bool = True) -> tuple[go.Figure, Any]:
    """A panel per set, a row per student and what taught it; and a function that draws rows into them."""
    sets = list(dict.fromkeys(table["set"]))
    rows = list(dict.fromkeys(zip(table["student"], table["trained"], strict=True)))[::-1]
    columns = min(3, len(sets))
    count = -(-len(sets) // columns)
    height = 130 + count * (90 + 24 * len(rows))
    figure = make_subplots(
        rows=count, cols=columns, subplot_titles=sets, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=70 / height,
    )  # fmt: skip
    legend, names = Legend(), [f"{s}, {t}" if t else str(s) for s, t in rows]
    place_of: Mapping[Any, dict[str, int]] = {s: {"row": k // columns + 1, "col": k % columns + 1} for k, s in enumerate(sets)}

    def draw(name: str, some: pd.DataFrame, look: Look, info: str = "text+name") -> None:
        for one, place in place_of.items():
            here = some[some["set"] == one]
            if len(here):
                y = [rows.index(pair) for pair in zip(here["student"], here["trained"], strict=True)]
                dots(figure, y, here, look, name, group=name, legend=legend.first(name), info=info, **place)

    style(figure, title, height=height)
    for k in range(columns):
        figure.update_xaxes(title=axis, row=-(-(len(sets) - k) // columns), col=k + 1)
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(rows))), ticktext=names, range=[-0.7, len(rows) - 0.3])
    figure.update_layout(margin={"t": 116, "l": 230}, legend={"font": {"size": 11}})
    return figure, draw


@drawn
def recovered(table: pd.DataFrame) -> go.Figure:
    """Draw how much of the gap between teacher and ceiling each student recovers, a panel per set; what is refused is said.

    Args:
        table: `set, student, trained, metric, value, low, high, n`.

    Returns:
        The figure, with lines at the teacher (0) and at the ceiling (1).
    """
    here = pick(table, metric="gap recovered")
    figure, draw = _sets(here, "How much of the gap to the truth does the student recover?", "share of the gap: 0 teacher, 1 ceiling")
    for name, look in looks(here["trained"], TRAINED).items():
        draw(str(name), here[(here["trained"] == name) & here["value"].notna()], look)
    refused = here[here["value"].isna()]
    draw("refused: no gap", refused.assign(value=0.5, low=0.5, high=0.5), (GREY, "x-open"), "name")
    for x, dash in ((0, "dot"), (1, "dash")):
        figure.add_vline(x=x, line={"color": GREY, "width": 1, "dash": dash})
    figure.update_xaxes(range=list(REACH))
    return figure


@drawn
def accuracies(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of teacher, students, ceilings and controls, a panel per set.

    Args:
        table: `set, student, trained, metric, value, low, high, n`.
    """
    here = pick(table, metric="accuracy")
    figure, draw = _sets(here, "Who is right, and how often?", "share of statements judged right")
    for name, look in looks(here["trained"], {"": (GREY, "circle"), **TRAINED}).items():
        draw(f"taught by {name}" if name else "teacher", here[here["trained"] == name], look)
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[-0.04, 1.04])
    return figure


@drawn
def repeated(table: pd.DataFrame) -> go.Figure:
    """Draw how often each student gives its teacher's wrong answer, beside what independent errors would give.

    Args:
        table: `set, student, trained, metric, value, low, high, n`.
    """
    here = table[table["metric"].isin(["agrees", "expected"]) & table["value"].notna()]
    figure, draw = _sets(here, "Does the student repeat the teacher's errors?", "share of the teacher's wrong answers")
    draw("the student's answer, where the teacher is wrong", pick(here, metric="agrees"), (RED, "diamond"))
    draw("expected of independent errors", pick(here, metric="expected"), (GREY, "circle-open"))
    figure.update_xaxes(range=[-0.04, 1.04])
    return figure
