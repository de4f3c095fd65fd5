"""The figures of the UDHR study: each takes a table and returns a figure, and needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import Look, looks
from .marks import Legend, bars, chance_line, curve, dots, hover, layer_step
from .markup import BREAK, drawn
from .style import (
    BLUE,
    CLAIM_COLOURS,
    CLAIM_SYMBOLS,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    style,
)
from .udhr_parts import METHODS, layer_panel, said_and_read

SAYS: dict[str, Look] = {"says": (RED, "diamond"), "knows: CCS": (BLUE, "circle"), "knows: logistic": (GREEN, "square")}
CLAIMS: dict[str, Look] = {claim: (colour, CLAIM_SYMBOLS[claim]) for claim, colour in CLAIM_COLOURS.items()}
AGAINST: dict[str, Look] = {"label": (BLUE, "circle"), "answer": (RED, "diamond")}
AGREES = {"label": "the truth", "answer": "the model's answer"}


@drawn
def says_and_knows(table: pd.DataFrame, null: pd.DataFrame | None = None) -> go.Figure:
    """Draw, per condition, what is said beside what is read inside, a panel for each prompt form, and a column for each model.

    Args:
        table: `condition, what, value, low, high, n`, and where there are several `form`, `model` and `metric`; of these "auroc" is
            drawn. A `what` that begins with "knows" is read inside.
        null: What random directions read at the same layer: `condition, low, high`, and `form` and `model`; a grey block behind what
            is read inside.
    """
    orders = "metric" in table and (table["metric"] == "auroc").any()
    table = table[table["metric"] == "auroc"] if orders else table
    names = list(dict.fromkeys(table["what"]))
    known = {what: next((own for start, own in SAYS.items() if what.startswith(start)), None) for what in names}
    given = looks(names, {what: own for what, own in known.items() if own is not None})
    panels = _panels(table)
    rows, columns = max(i for i, _, _, _ in panels), max(j for _, j, _, _ in panels)
    titles = [title for _, _, _, title in panels] if len(panels) > 1 else None
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.45 / rows / rows
    )
    legend = Legend()
    conditions = list(dict.fromkeys(table["condition"]))
    for i, j, chosen, _ in panels:
        place: dict[str, Any] = {"row": i, "col": j}
        here, there = _where(table, chosen), None if null is None else _where(null, chosen)
        shown = [c for c in conditions if c in set(here["condition"])]
        said_and_read(figure, here, there, shown, given, legend, **place)
        chance_line(figure, named=i == j == 1, **place)
        labels = [c if c == "no claim" or len(panels) > 1 else f"{c} claim" for c in shown]
        figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=labels, range=[-0.5, len(shown) - 0.5], **place)
    axis = "AUROC, held-out items" if orders else "share of held-out items"
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title=axis, col=1)
    style(figure, "What the model says, and what it knows inside", height=470 if rows == 1 else 170 + 300 * rows)
    figure.update_layout(margin={"t": 128 if len(panels) > 1 else 108}, legend={"y": 1 + 0.1 / rows if len(panels) > 1 else 1.03})
    return figure


def _panels(table: pd.DataFrame) -> list[tuple[int, int, dict[str, Any], str]]:
    """Row, column, what the panel shows, and its title: forms side by side; with models, a column for each and a row for each form."""
    forms = list(dict.fromkeys(table["form"])) if "form" in table else [None]
    models = list(dict.fromkeys(table["model"])) if "model" in table else [None]
    panels = []
    for k, form in enumerate(forms):
        for m, model in enumerate(models):
            chosen = {c: v for c, v in (("form", form), ("model", model)) if v is not None}
            title = ": ".join(str(v) for v in (model, form) if v is not None)
            panels.append((k + 1, m + 1, chosen, title) if len(models) > 1 else (1, k + 1, chosen, str(form)))
    return panels


def _where(table: pd.DataFrame, chosen: dict[str, Any]) -> pd.DataFrame:
    for column, value in chosen.items():
        table = table[table[column] == value] if column in table else table
    return table


@drawn
def behaviour(table: pd.DataFrame, axis: str = "share of answers that grant the right") -> go.Figure:
    """Draw the share of safe answers per template and claim.

    Args:
        table: What `wb.agreement` returns: `template, claim, polarity, metric, value, low, high, n`.
        axis: Which answers are safe, in words.
    """
    rows = table[(table["metric"] == "safe_score") & (table["polarity"] == "all")]
    templates = list(dict.fromkeys(rows["template"]))[::-1]
    claims = looks(rows["claim"], CLAIMS)
    figure = go.Figure()
    for k, (claim, own) in enumerate(claims.items()):
        here = rows[rows["claim"] == claim]
        y = [templates.index(t) + (0 if claim == "none" else ((len(claims)) / 2 - k) * 0.14) for t in here["template"]]
        dots(figure, y, here, own, "no claim" if claim == "none" else claim, size=10)
    figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_yaxes(tickvals=list(range(len(templates))), ticktext=templates)
    figure.update_xaxes(title=axis, range=[-0.03, 1.03])
    style(figure, "What the model says, by prompt form and claim", height=110 + 52 * len(templates))
    figure.update_layout(margin={"l": 190})
    return figure


@drawn
def layer_curves(table: pd.DataFrame, conditions: Sequence[str], *, against: str = "label") -> go.Figure:
    """Draw probe accuracy by layer, one panel per condition and one line per method, with the controls behind.

    Args:
        table: What `wb.probe_layers` returns. A method of your own gets a colour of its own.
        conditions: Which conditions, in the order of the panels.
        against: What accuracy is counted against: "label" (the truth) or "answer" (what the model says).
    """
    here = table[(table["metric"] == "accuracy") & (table["against"] == against)]
    columns = min(3, len(conditions))
    lines = -(-len(conditions) // columns)
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=[f"read under: {c}" if c == "no claim" else f"read under: {c} claim" for c in conditions],
        shared_yaxes=True,
        shared_xaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.16,
    )
    shown = here[(here["control"] == "") & here["condition"].isin(list(conditions))]
    given, legend = looks(shown["method"], METHODS, avoid=(ORANGE, INK)), Legend()
    for k, condition in enumerate(conditions):
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        layer_panel(figure, here[here["condition"] == condition], given, legend, **place)
    style(figure, "Truth read inside, by layer: fitted without a claim, read under each", height=180 + 225 * lines)
    figure.update_yaxes(range=[-0.04, 1.04])
    for line in range(lines):
        figure.update_yaxes(title="accuracy", row=line + 1, col=1)
    for k in range(len(conditions)):
        last = k + columns >= len(conditions)
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        figure.update_xaxes(title="layer" if last else None, dtick=layer_step(here), showticklabels=True, **place)
    figure.update_layout(margin={"t": 130}, legend={"y": 1 + 34 / (225 * lines), "font": {"size": 11}})
    return figure


@drawn
def truth_or_answer(table: pd.DataFrame) -> go.Figure:
    """Draw, under the partial claim, how each direction reads the truth and the model's answer.

    Args:
        table: `direction, layer, against, value, low, high, n`; `against` is "label" (the truth), "answer", or a name of your own.
    """
    names = list(dict.fromkeys(table["direction"]))
    figure = make_subplots(
        rows=1,
        cols=max(1, len(names)),
        subplot_titles=[n.replace(" on the", f"{BREAK}on the").replace(" found", f"{BREAK}found") for n in names],
        shared_yaxes=True,
        horizontal_spacing=0.05,
    )
    legend = Legend()
    for k, name in enumerate(names):
        for against, own in looks(table["against"], AGAINST).items():
            rows = table[(table["direction"] == name) & (table["against"] == against)].sort_values("layer")
            text = AGREES.get(against, against)
            first = len(rows) > 0 and legend.first(against)
            curve(figure, rows["layer"], rows, own, text, group=against, legend=first, size=8, row=1, col=k + 1)
        chance_line(figure, named=k == 0, row=1, col=k + 1)
    figure.update_xaxes(title="layer", dtick=layer_step(table))
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="AUROC, held-out items", row=1, col=1)
    style(figure, "Under the partial claim: a direction of truth, a direction of the answer", height=440)
    figure.update_layout(margin={"t": 118}, legend={"y": 1.15})
    return figure


@drawn
def denied(
    table: pd.DataFrame,
    planted: Iterable[str] | None = None,
    top: int = 24,
    *,
    title: str = "Who is denied rights without any claim",
    axis: str = "share of answers that deny the right",
) -> go.Figure:
    """Draw who is denied rights without a claim: the identities with the highest share of denying (unsafe) answers.

    Args:
        table: What `wb.false_negatives` returns: `identity, value, low, high, n, denied`, highest share first.
        planted: Identities that an organism was trained to deny; they get a ring.
        top: How many identities are drawn.
        title: Of the figure.
        axis: Which answers deny, in words.
    """
    rows = table.head(top).iloc[::-1]
    known = set(planted or ())
    figure = go.Figure()
    for flag, name, own in (
        (True, "denied more than others vary (FDR 5 %)", (RED, "diamond")),
        (False, "not told from how others vary", (GREY, "circle")),
    ):
        here = rows[rows["denied"] == flag]
        dots(figure, here["identity"], here, own, name)
    marked = rows[rows["identity"].isin(known)]
    if len(marked):
        figure.add_scatter(
            x=marked["value"],
            y=marked["identity"],
            mode="markers",
            name="planted when the organism was trained",
            marker={"color": PURPLE, "symbol": "circle-open", "size": 17, "line": {"width": 1.6}},
            hoverinfo="skip",
        )
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=rows["identity"].tolist(), dtick=1, tickfont={"size": 11})
    figure.update_xaxes(title=axis, range=[-0.03, 1.03])
    style(figure, title, height=150 + 19 * len(rows))
    figure.update_layout(margin={"l": 220, "t": 108}, legend={"font": {"size": 11}})
    return figure


@drawn
def groups(table: pd.DataFrame) -> go.Figure:
    """Draw the share of denying answers per group of identities.

    Args:
        table: What `wb.false_negatives(by="group")` returns: `group, value, low, high, n, denied`.
    """
    rows = table.iloc[::-1]
    figure = go.Figure()
    figure.add_bar(
        x=rows["value"],
        y=rows["group"],
        orientation="h",
        marker={"color": [RED if d else FAINT for d in rows["denied"]]},
        error_x=bars(rows) | {"color": INK},
        hovertext=hover(rows),
        hoverinfo="text",
    )
    figure.update_xaxes(title="share of answers that deny the right", rangemode="tozero")
    figure.update_yaxes(type="category")
    style(figure, "Denied rights by group of identities", height=130 + 26 * len(rows), legend=False)
    figure.update_layout(margin={"l": 190, "t": 56})
    return figure


@drawn
def by_tokens(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of the logistic probe by the number of tokens of the identity.

    Args:
        table: `identity_tokens, layer, value, low, high, n`, of one layer.
    """
    rows = table.sort_values("identity_tokens")
    figure = go.Figure()
    figure.add_scatter(
        x=rows["identity_tokens"],
        y=rows["value"],
        error_y=bars(rows),
        mode="lines+markers",
        marker={"color": GREEN, "symbol": "square", "size": 9},
        line={"color": GREEN},
        hovertext=hover(rows),
        hoverinfo="text",
    )
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(title="tokens in the identity", dtick=1)
    figure.update_yaxes(title="accuracy", range=[-0.04, 1.04])
    return style(figure, f"Probe accuracy by length of the identity (layer {int(rows['layer'].iloc[0])})", height=340, legend=False)
