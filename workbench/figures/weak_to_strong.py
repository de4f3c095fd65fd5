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
REACH = (-1.0, 2.0)  # of the share recovered that is drawn at least: no value is left out, but the far end of an interval may be


def _sets(table: pd.DataFrame, title: str, axis: str) -> tuple[go.Figure, Any]:
    """A panel per set, a row per student and what taught it; and a function that draws rows into them."""
    sets = list(dict.fromkeys(table["set"]))
    rows = list(dict.fromkeys(zip(table["student"], table["trained"], strict=True)))[::-1]
    columns = min(3, len(sets))
    count = -(-len(sets) // columns)
    height = 130 + count * (90 + 24 * len(rows))
    figure = make_subplots(
        rows=count, cols=columns, subplot_titles=sets, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=70 / height,
    )  # fmt: skip
    legend, names = Legend(), [f"{s}: {t}" if t else str(s) for s, t in rows]
    place_of: Mapping[Any, dict[str, Any]] = {s: {"row": k // columns + 1, "col": k % columns + 1} for k, s in enumerate(sets)}

    def draw(name: str, some: pd.DataFrame, look: Look, info: str = "text+name", named: bool = False, shift: float = 0.0) -> None:
        for one, place in place_of.items():
            here = some[some["set"] == one]
            if len(here):
                y = [rows.index(pair) + shift for pair in zip(here["student"], here["trained"], strict=True)]
                dots(figure, y, here, look, name, group=name, legend=named and legend.first(name), info=info, **place)

    style(figure, title, height=height)
    for k in range(columns):
        figure.update_xaxes(title=axis, row=-(-(len(sets) - k) // columns), col=k + 1)
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(rows))), ticktext=names, range=[-0.7, len(rows) - 0.3])
    figure.update_layout(margin={"t": 112, "l": 230}, legend={"y": 1 + 34 / (height - 200), "yanchor": "bottom", "x": 0})
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
    figure, draw = _sets(here, "How much of the gap to the truth does the student recover?", "share of the gap")
    for name, look in looks(here["trained"], TRAINED).items():
        draw(str(name), here[(here["trained"] == name) & here["value"].notna()], look)
    refused = here[here["value"].isna()]
    draw("refused: there is no gap to recover", refused.assign(value=0.5, low=0.5, high=0.5), (GREY, "x-open"), "name", True)
    for x, dash in ((0, "dot"), (1, "dash")):
        figure.add_vline(x=x, line={"color": GREY, "width": 1, "dash": dash})
    known = here["value"].dropna()
    figure.update_xaxes(range=[min(REACH[0], known.min() - 0.2), max(REACH[1], known.max() + 0.2)] if len(known) else list(REACH))
    return figure


@drawn
def accuracies(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of teacher, students, ceilings and controls, a panel per set.

    Args:
        table: `set, student, trained, metric, value, low, high, n`.

    Returns:
        The figure, with a line at chance.
    """
    here = pick(table, metric="accuracy")
    figure, draw = _sets(here, "Who is right, and how often?", "share right")
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

    Returns:
        The figure: diamonds where the teacher is wrong, circles over all statements.
    """
    here = table[table["metric"].isin(["agrees", "expected"]) & table["value"].notna()]
    figure, draw = _sets(here, "Does the student repeat the teacher's errors?", "share wrong")
    draw("where the teacher is wrong", pick(here, metric="agrees"), (RED, "diamond"), named=True, shift=0.12)
    draw("expected if errors were independent", pick(here, metric="expected"), (GREY, "circle-open"), named=True, shift=-0.12)
    figure.update_xaxes(range=[-0.04, 1.04])
    return figure
