"""The figures of the probe bench: each takes a table and returns a figure, and needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.text_controls import TEXT_CONTROLS
from .looks import Look, looks
from .marks import Legend, bars, cells_with_intervals, chance_line, curve, dots, hover, layer_step
from .markup import drawn
from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, band, null_band, style

KINDS: dict[str, Look] = {
    "linear": (GREEN, "square"),
    "nonlinear": (ORANGE, "diamond"),
    "without labels": (BLUE, "circle"),
    "control": (GREY, "x"),
}
LINES: dict[str, Look] = {
    "logistic": (GREEN, "square"),
    "mass_mean": (PURPLE, "diamond"),
    "lda": (SKY, "triangle-up"),
    "mlp": (ORANGE, "cross"),
    "ccs": (BLUE, "circle"),
    "rrc": (INK, "star"),
    "crc": (RED, "triangle-down"),
}
# methods of the house that `curves` leaves to `methods`, where all are side by side
LOSSES = ("ccs_circle", "infonce", "spin", "hinge", "bimodal")
OTHERS = ("svm", "ridge", "difference_in_means", "quadratic", "rbf", "knn", "drc", "polarity_ccs", "vinc", "kmeans")
REST = frozenset((*OTHERS, *LOSSES, *(f"{loss}:mlp" for loss in ("ccs", *LOSSES))))
AGREES: dict[str, Look] = {"label": (BLUE, "circle"), "distractor": (RED, "diamond")}
AGREES_WITH = {"label": "agrees with the truth", "distractor": "agrees with the distractor"}
TRAINED: dict[str, Look] = {"logistic": (GREEN, "square"), "ccs": (BLUE, "circle"), "answer": (RED, "diamond")}


@drawn
def curves(table: pd.DataFrame, conditions: list[str]) -> go.Figure:
    """Draw accuracy by layer for a few methods, one panel per condition, with random directions and the untrained model behind.

    Args:
        table: What `wb.probe_layers` returns. Of the house's methods those of `LINES` are drawn; a method of your own is always drawn, in a
            colour or with a symbol of its own.
        conditions: Which conditions, in the order of the panels.
    """
    right = table[(table["metric"] == "accuracy") & (table["against"] == "label")]
    figure = make_subplots(
        rows=1, cols=len(conditions), subplot_titles=[f"read under: {c}" for c in conditions], shared_yaxes=True, horizontal_spacing=0.05
    )
    drawn = right[(right["control"] == "") & right["condition"].isin(conditions)]
    given = looks((m for m in drawn["method"] if m not in REST), LINES, avoid=(INK,))
    slot = {name: k for k, name in enumerate([*LINES, *(n for n in given if n not in LINES)])}
    legend = Legend()
    for k, condition in enumerate(conditions):
        place: dict[str, Any] = {"row": 1, "col": k + 1}
        here = right[right["condition"] == condition]
        null_band(figure, here[here["control"] == "random_directions"], "random directions, 95 %", legend=k == 0, **place)
        blank = here[(here["control"] == "untrained_model") & (here["method"] == "logistic")].sort_values("layer")
        if len(blank):
            figure.add_scatter(
                x=blank["layer"],
                y=blank["value"],
                mode="lines",
                line={"dash": "dash", "color": INK, "width": 1.6},
                name="untrained model, logistic",
                hovertext=hover(blank),
                hoverinfo="text+name",
                **place,
            )
        for method, own in given.items():
            rows = here[(here["control"] == "") & (here["method"] == method)].sort_values("layer")
            if len(rows):
                x = rows["layer"] + (slot[method] - len(LINES) / 2 + 0.5) * 0.05
                curve(figure, x, rows, own, method, group=method, legend=legend.first(method), width=1.8, **place)
        chance_line(figure, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="accuracy", row=1, col=1)
    figure.update_xaxes(title="layer", dtick=layer_step(right[right["layer"] >= 0]))
    style(figure, "Truth by layer and method: fitted without a claim", height=460)
    figure.update_layout(margin={"t": 140}, legend={"y": 1.14})
    return figure


@drawn
def methods(table: pd.DataFrame, layer: int, conditions: list[str]) -> go.Figure:
    """Draw every method at one layer, one panel per condition.

    Args:
        table: What `wb.probe_layers` returns, with a column `kind`: "linear", "nonlinear", "without labels", "control", or one of your own.
        layer: Which layer.
        conditions: Which conditions, in the order of the panels.
    """
    right = table[(table["metric"] == "accuracy") & (table["against"] == "label") & (table["layer"].isin((layer, -1)))]
    figure = make_subplots(
        rows=1, cols=len(conditions), subplot_titles=[f"read under: {c}" for c in conditions], shared_yaxes=True, horizontal_spacing=0.03
    )
    controls = ("random_directions", *TEXT_CONTROLS)
    names = [*dict.fromkeys(right.loc[right["kind"] != "control", "method"]), *(c.replace("_", " ") for c in controls)]
    kinds = looks([*KINDS, *right["kind"]], KINDS)
    for k, condition in enumerate(conditions):
        here = right[right["condition"] == condition]
        for kind, own in kinds.items():
            if kind == "control":
                rows = here[here["control"].isin(controls)]
                y = rows["control"].str.replace("_", " ")
            else:
                rows = here[(here["kind"] == kind) & (here["control"] == "")]
                y = rows["method"]
            dots(figure, y, rows, own, kind, group=kind, legend=k == 0, row=1, col=k + 1)
        figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=k + 1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1], dtick=1)
    figure.update_xaxes(range=[-0.03, 1.03], title="accuracy")
    style(figure, f"Every method at layer {layer}: fitted without a claim", height=190 + 22 * len(names))
    figure.update_layout(margin={"l": 150, "t": 118}, legend={"y": 1 + 36 / (22 * len(names))})
    return figure


@drawn
def transfer(table: pd.DataFrame) -> go.Figure:
    """Draw the transfer matrix as a heat map, the interval in each cell; one panel per method.

    Args:
        table: What `wb.transfer_matrix` returns: `method, layer, fit_condition, condition, metric, value, low, high`.
    """
    right = table[table["metric"] == "accuracy"]
    names = list(dict.fromkeys(right["method"]))
    order = list(dict.fromkeys(right["fit_condition"]))
    size = 60 + 44 * len(order)
    figure = make_subplots(
        rows=len(names),
        cols=1,
        subplot_titles=[f"{m}, layer {int(right['layer'].iloc[0])}" for m in names],
        shared_xaxes=True,
        vertical_spacing=0.1 if len(names) > 1 else 0,
    )
    for k, method in enumerate(names):
        rows = right[right["method"] == method]
        values, text = cells_with_intervals(rows, "fit_condition", "condition", order, order)
        figure.add_heatmap(
            z=values,
            x=order,
            y=order,
            text=text,
            texttemplate="%{text}",
            textfont={"size": 10.5},
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorscale=[[0, RED], [0.5, "#ffffff"], [1, BLUE]],
            showscale=k == 0,
            hoverinfo="text",
            row=k + 1,
            col=1,
            colorbar={"title": {"text": "accuracy"}, "thickness": 12},
        )
        figure.update_yaxes(type="category", autorange="reversed", title="fitted on", row=k + 1, col=1)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title="read under", row=len(names), col=1)
    style(figure, "Does it carry over? Fitted on one condition, read under another", height=130 + size * len(names), legend=False)
    figure.update_layout(margin={"l": 130, "t": 84})
    return figure


@drawn
def efficiency(table: pd.DataFrame, threshold: float = 0.9) -> go.Figure:
    """Draw accuracy and stability against the number of training items; dotted: planted data of the same shape.

    Args:
        table: What `wb.sample_efficiency` returns: `method, layer, items, metric, world, value, low, high, n`.
        threshold: Accuracy at which a line is drawn.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["accuracy on held-out items", "|cosine| between repeats"], horizontal_spacing=0.09
    )
    given = looks(table["method"], LINES)
    for k, metric in enumerate(("accuracy", "stability")):
        for method in dict.fromkeys(table["method"]):
            colour, symbol = given[method]
            for world, dash in (("measured", "solid"), ("perfect", "dot")):
                rows = table[(table["metric"] == metric) & (table["method"] == method) & (table["world"] == world)].sort_values("items")
                if not len(rows):
                    continue
                figure.add_scatter(
                    x=rows["items"],
                    y=rows["value"],
                    error_y=bars(rows) if world == "measured" else None,
                    mode="lines+markers",
                    name=method if world == "measured" else f"{method}, planted",
                    legendgroup=f"{method}{world}",
                    showlegend=k == 0,
                    line={"color": colour, "dash": dash, "width": 2 if world == "measured" else 1.4},
                    marker={"color": colour, "symbol": symbol if world == "measured" else f"{symbol}-open", "size": 7},
                    hovertext=hover(rows),
                    hoverinfo="text+name",
                    row=1,
                    col=k + 1,
                )
    chance_line(figure, row=1, col=1)
    figure.add_hline(y=threshold, line={"color": FAINT, "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(type="log", title="training items", dtick=np.log10(4))
    figure.update_yaxes(range=[-0.04, 1.04])
    style(figure, f"How few are enough? (layer {int(table['layer'].iloc[0])})", height=460)
    figure.update_layout(margin={"t": 150}, legend={"y": 1.12, "font": {"size": 11}})
    return figure


@drawn
def honesty(table: pd.DataFrame) -> go.Figure:
    """Draw the honesty panel: CCS beside what it should be compared with, agreement with the distractor in red.

    Args:
        table: What `wb.ccs_honesty` returns: `what, against, metric, value, low, high, n`; `against` is "label", "distractor", or a name
            of your own.
    """
    rows = table[(table["metric"] == "accuracy") & table["value"].notna()].iloc[::-1]
    figure = go.Figure()
    for against, own in looks(rows["against"], AGREES).items():
        here = rows[rows["against"] == against]
        dots(figure, here["what"], here, own, AGREES_WITH.get(against, f"agrees with: {against}"), size=10)
    figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(title="share of held-out items", range=[-0.03, 1.03])
    names = list(dict.fromkeys(rows["what"]))
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names, dtick=1, tickfont={"size": 11})
    style(figure, "What did CCS find?", height=140 + 28 * len(names))
    figure.update_layout(margin={"l": 330, "t": 84})
    return figure


@drawn
def tampering(curve: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Draw detection against false alarms for each kind of push, with the calibrated threshold as a mark.

    Args:
        curve: `condition, false_alarms, detected`: the whole curve of each kind of push.
        table: `condition, metric, value, low, high, n` with the metrics "auroc", "detected" and "false alarms".
    """
    figure = go.Figure()
    auroc = table[table["metric"] == "auroc"].set_index("condition")
    detected = table[table["metric"] == "detected"].set_index("condition")
    alarms = table[table["metric"] == "false alarms"].iloc[0]
    names = list(dict.fromkeys(curve["condition"]))
    order = (RED, ORANGE, BLUE, GREEN, PURPLE, SKY, INK)
    symbols = ("circle", "square", "diamond", "cross", "x", "star", "hexagon")
    known = dict(zip(names, zip(order, symbols, strict=True), strict=False))  # an eighth push and those after it get a look of their own
    for name, (colour, symbol) in looks(names, known).items():
        rows, area, share = curve[curve["condition"] == name], auroc.loc[name], detected.loc[name]
        label = f"{name}: {area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}]"
        figure.add_scatter(
            x=rows["false_alarms"], y=rows["detected"], mode="lines", line={"color": colour, "width": 2}, name=label, legendgroup=name
        )
        figure.add_scatter(
            x=[alarms["value"]],
            y=[share["value"]],
            error_y=bars(detected.loc[[name]]),
            mode="markers",
            showlegend=False,
            legendgroup=name,
            marker={"color": colour, "symbol": symbol, "size": 10, "line": {"color": "white", "width": 1}},
            name=f"{name}, at the threshold",
            hovertext=hover(detected.loc[[name]]),
            hoverinfo="text+name",
        )
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, showlegend=False, hoverinfo="skip")
    figure.update_xaxes(title="false alarms (share of unpushed prompts flagged)", range=[-0.03, 1.03])
    figure.update_yaxes(title="detected (share of pushed prompts flagged)", range=[-0.03, 1.03])
    style(figure, "Broken from outside? Disagreement of probe and answer", height=520)
    legend = {"orientation": "v", "x": 0.98, "xanchor": "right", "y": 0.03, "yanchor": "bottom", "bgcolor": "rgba(255,255,255,.85)"}
    figure.update_layout(margin={"t": 56}, legend=legend | {"title": {"text": "AUROC; marks: at the calibrated threshold"}})
    return figure


@drawn
def training(table: pd.DataFrame, changes: pd.DataFrame) -> go.Figure:
    """Draw what is readable at each checkpoint, with the change points and their intervals as bands.

    Args:
        table: `step, method, what, value, low, high, n`; `what` names the line in the legend.
        changes: Change points: `method, value, low, high`, in training steps.

    Returns:
        The figure.
    """
    figure = go.Figure()
    for method, own in looks(table["method"], TRAINED).items():
        rows = table[table["method"] == method].sort_values("step")
        curve(figure, rows["step"], rows, own, rows["what"].iloc[0], size=8)
        change = changes[(changes["method"] == method) & changes["value"].notna()]
        for low, value, high in zip(change["low"], change["value"], change["high"], strict=True):
            if high > low:
                figure.add_vrect(x0=low, x1=high, fillcolor=band(own[0], 0.12), line_width=0)
            figure.add_vline(x=value, line={"color": own[0], "dash": "dash", "width": 1.4})
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(type="log", title="training step")
    figure.update_yaxes(title="share of held-out items", range=[-0.04, 1.04])
    style(figure, "When does it become readable? (dashed: change points)", height=450)
    figure.update_layout(margin={"t": 108})
    return figure
