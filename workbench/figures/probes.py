"""The figures of the probe bench: each takes a table and returns a figure, and needs no model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, band, null_band, style
from .udhr import _bars, _hover, _step

KINDS = {"linear": (GREEN, "square"), "nonlinear": (ORANGE, "diamond"), "without labels": (BLUE, "circle"), "control": (GREY, "x")}
LINES = {
    "logistic": (GREEN, "square"), "mass_mean": (PURPLE, "diamond"), "lda": (SKY, "triangle-up"), "mlp": (ORANGE, "cross"),
    "ccs": (BLUE, "circle"), "crc": (RED, "triangle-down"),
}  # fmt: skip


def _chance(figure: go.Figure, **place: int) -> None:
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY, "width": 1}, **place)  # pyright: ignore[reportArgumentType]


def curves(table: pd.DataFrame, conditions: list[str]) -> go.Figure:
    """Draw accuracy by layer for a few methods, one panel per condition, with random directions and the untrained model behind."""
    some = table[(table["metric"] == "accuracy") & (table["against"] == "label")]
    figure = make_subplots(
        rows=1, cols=len(conditions), subplot_titles=[f"read under: {c}" for c in conditions], shared_yaxes=True, horizontal_spacing=0.05
    )  # fmt: skip
    for k, condition in enumerate(conditions):
        place = {"row": 1, "col": k + 1}
        here = some[some["condition"] == condition]
        null_band(figure, here[here["control"] == "random_directions"], "random directions, 95 %", legend=k == 0, **place)
        blank = here[(here["control"] == "untrained_model") & (here["method"] == "logistic")].sort_values("layer")
        if len(blank):
            figure.add_scatter(
                x=blank["layer"], y=blank["value"], mode="lines", line={"dash": "dash", "color": INK, "width": 1.6},
                name="untrained model, logistic", hovertext=_hover(blank), hoverinfo="text+name", **place,
            )  # fmt: skip
        for j, (method, (colour, symbol)) in enumerate(LINES.items()):
            rows = here[(here["control"] == "") & (here["method"] == method)].sort_values("layer")
            if len(rows):
                figure.add_scatter(
                    x=rows["layer"] + (j - 2.5) * 0.06, y=rows["value"], error_y=_bars(rows), mode="lines+markers", name=method,
                    marker={"color": colour, "symbol": symbol, "size": 7}, line={"color": colour, "width": 1.8}, legendgroup=method,
                    showlegend=k == 0, hovertext=_hover(rows), hoverinfo="text+name", **place,
                )  # fmt: skip
        _chance(figure, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="accuracy", row=1, col=1)
    figure.update_xaxes(title="layer", dtick=_step(some[some["layer"] >= 0]))
    style(figure, "Truth by layer and method: fitted without a claim", height=460)
    figure.update_layout(margin={"t": 140}, legend={"y": 1.14})
    return figure


def methods(table: pd.DataFrame, layer: int, conditions: list[str]) -> go.Figure:
    """Draw every method at one layer, one panel per condition."""
    some = table[(table["metric"] == "accuracy") & (table["against"] == "label") & (table["layer"].isin((layer, -1)))]
    figure = make_subplots(
        rows=1, cols=len(conditions), subplot_titles=[f"read under: {c}" for c in conditions], shared_yaxes=True, horizontal_spacing=0.03
    )  # fmt: skip
    names = [*list(dict.fromkeys(some.loc[some["kind"] != "control", "method"])), "random directions", "bag of words"]
    for k, condition in enumerate(conditions):
        here = some[some["condition"] == condition]
        for kind, (colour, symbol) in KINDS.items():
            if kind == "control":
                rows = here[here["control"].isin(("random_directions", "bag_of_words"))]
                y = rows["control"].str.replace("_", " ")
            else:
                rows = here[(here["kind"] == kind) & (here["control"] == "")]
                y = rows["method"]
            figure.add_scatter(
                x=rows["value"], y=y, error_x=_bars(rows), mode="markers", name=kind, legendgroup=kind, showlegend=k == 0,
                marker={"color": colour, "symbol": symbol, "size": 9}, hovertext=_hover(rows), hoverinfo="text+name", row=1, col=k + 1,
            )  # fmt: skip
        figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=k + 1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], dtick=1)
    figure.update_xaxes(range=[-0.03, 1.03], title="accuracy")
    style(figure, f"Every method at layer {layer}: fitted without a claim", height=190 + 22 * len(names))
    figure.update_layout(margin={"l": 150, "t": 118}, legend={"y": 1 + 36 / (22 * len(names))})
    return figure


def transfer(table: pd.DataFrame) -> go.Figure:
    """Draw the transfer matrix as a heat map, the interval in each cell; one panel per method."""
    some = table[table["metric"] == "accuracy"]
    found = list(dict.fromkeys(some["method"]))
    order = list(dict.fromkeys(some["fit_condition"]))
    size = 60 + 44 * len(order)
    figure = make_subplots(
        rows=len(found), cols=1, subplot_titles=[f"{m}, layer {int(some['layer'].iloc[0])}" for m in found], shared_xaxes=True,
        vertical_spacing=0.1 if len(found) > 1 else 0,
    )  # fmt: skip
    for k, method in enumerate(found):
        rows = some[some["method"] == method]
        grids = [
            rows.pivot(index="fit_condition", columns="condition", values=c).loc[order, order].to_numpy() for c in ("value", "low", "high")
        ]
        text = [[f"<b>{v:.2f}</b><br>{a:.2f} to {b:.2f}" for v, a, b in zip(*line, strict=True)] for line in zip(*grids, strict=True)]
        figure.add_heatmap(
            z=grids[0], x=order, y=order, text=text, texttemplate="%{text}", textfont={"size": 10.5}, zmin=0, zmax=1, xgap=1, ygap=1,
            colorscale=[[0, RED], [0.5, "#ffffff"], [1, BLUE]], showscale=k == 0, hoverinfo="text", row=k + 1, col=1,
            colorbar={"title": {"text": "accuracy"}, "thickness": 12},
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", title="fitted on", row=k + 1, col=1)
    figure.update_xaxes(title="read under", row=len(found), col=1)
    style(figure, "Does it carry over? Fitted on one condition, read under another", height=130 + size * len(found), legend=False)
    figure.update_layout(margin={"l": 130, "t": 84})
    return figure


def efficiency(table: pd.DataFrame, threshold: float = 0.9) -> go.Figure:
    """Draw accuracy and stability against the number of training items; dashed: planted data of the same shape."""
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["accuracy on held-out items", "|cosine| between repeats"], horizontal_spacing=0.09
    )
    for k, metric in enumerate(("accuracy", "stability")):
        for method in dict.fromkeys(table["method"]):
            colour, symbol = LINES.get(method, (INK, "circle"))
            for world, dash in (("measured", "solid"), ("perfect", "dot")):
                rows = table[(table["metric"] == metric) & (table["method"] == method) & (table["world"] == world)].sort_values("items")
                if not len(rows):
                    continue
                figure.add_scatter(
                    x=rows["items"], y=rows["value"], error_y=_bars(rows) if world == "measured" else None, mode="lines+markers",
                    name=method if world == "measured" else f"{method}, planted", legendgroup=f"{method}{world}", showlegend=k == 0,
                    line={"color": colour, "dash": dash, "width": 2 if world == "measured" else 1.4},
                    marker={"color": colour, "symbol": symbol if world == "measured" else f"{symbol}-open", "size": 7},
                    hovertext=_hover(rows), hoverinfo="text+name", row=1, col=k + 1,
                )  # fmt: skip
    _chance(figure, row=1, col=1)
    figure.add_hline(y=threshold, line={"color": FAINT, "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(type="log", title="training items", dtick=np.log10(4))
    figure.update_yaxes(range=[-0.04, 1.04])
    style(figure, f"How few are enough? (layer {int(table['layer'].iloc[0])})", height=460)
    figure.update_layout(margin={"t": 150}, legend={"y": 1.12, "font": {"size": 11}})
    return figure


def honesty(table: pd.DataFrame) -> go.Figure:
    """Draw the honesty panel: CCS beside what it should be compared with, agreement with the distractor in red."""
    rows = table[(table["metric"] == "accuracy") & table["value"].notna()].iloc[::-1]
    figure = go.Figure()
    for against, name, colour, symbol in (
        ("label", "agrees with the truth", BLUE, "circle"), ("distractor", "agrees with the distractor", RED, "diamond")
    ):  # fmt: skip
        some = rows[rows["against"] == against]
        if len(some):
            figure.add_scatter(
                x=some["value"], y=some["what"], error_x=_bars(some), mode="markers", name=name,
                marker={"color": colour, "symbol": symbol, "size": 10}, hovertext=_hover(some), hoverinfo="text+name",
            )  # fmt: skip
    figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(title="share of held-out items", range=[-0.03, 1.03])
    names = list(dict.fromkeys(rows["what"]))
    figure.update_yaxes(categoryorder="array", categoryarray=names, dtick=1, tickfont={"size": 11})
    style(figure, "What did CCS find?", height=140 + 28 * len(names))
    figure.update_layout(margin={"l": 330, "t": 84})
    return figure


def tampering(curve: pd.DataFrame, table: pd.DataFrame) -> go.Figure:
    """Draw detection against false alarms for each kind of push, with the calibrated threshold as a mark."""
    figure = go.Figure()
    auroc = table[table["metric"] == "auroc"].set_index("condition")
    detected = table[table["metric"] == "detected"].set_index("condition")
    alarms = table[table["metric"] == "false alarms"].iloc[0]
    for colour, symbol, name in zip(
        (RED, ORANGE, BLUE, GREEN, PURPLE, SKY, INK), ("circle", "square", "diamond", "cross", "x", "star", "hexagon"),
        dict.fromkeys(curve["condition"]), strict=False,
    ):  # fmt: skip
        rows, area, share = curve[curve["condition"] == name], auroc.loc[name], detected.loc[name]
        label = f"{name}: {area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}]"
        figure.add_scatter(
            x=rows["false_alarms"], y=rows["detected"], mode="lines", line={"color": colour, "width": 2}, name=label, legendgroup=name
        )
        figure.add_scatter(
            x=[alarms["value"]], y=[share["value"]], error_y=_bars(detected.loc[[name]]), mode="markers", showlegend=False, legendgroup=name,
            marker={"color": colour, "symbol": symbol, "size": 10, "line": {"color": "white", "width": 1}}, name=f"{name}, at the threshold",
            hovertext=_hover(detected.loc[[name]]), hoverinfo="text+name",
        )  # fmt: skip
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, showlegend=False, hoverinfo="skip")
    figure.update_xaxes(title="false alarms (share of unpushed prompts flagged)", range=[-0.03, 1.03])
    figure.update_yaxes(title="detected (share of pushed prompts flagged)", range=[-0.03, 1.03])
    style(figure, "Broken from outside? Disagreement of probe and answer", height=520)
    figure.update_layout(
        margin={"t": 56},
        legend={"orientation": "v", "x": 0.98, "xanchor": "right", "y": 0.03, "yanchor": "bottom", "bgcolor": "rgba(255,255,255,.85)",
                "title": {"text": "AUROC; marks: at the calibrated threshold"}},
    )  # fmt: skip
    return figure


def training(table: pd.DataFrame, changes: pd.DataFrame) -> go.Figure:
    """Draw what is readable at each checkpoint, with the change points and their intervals as bands."""
    figure = go.Figure()
    looks = {"logistic": (GREEN, "square"), "ccs": (BLUE, "circle"), "answer": (RED, "diamond")}
    for what, (colour, symbol) in looks.items():
        rows = table[table["method"] == what].sort_values("step")
        if not len(rows):
            continue
        figure.add_scatter(
            x=rows["step"], y=rows["value"], error_y=_bars(rows), mode="lines+markers", name=rows["what"].iloc[0],
            line={"color": colour, "width": 2}, marker={"color": colour, "symbol": symbol, "size": 8}, hovertext=_hover(rows), hoverinfo="text+name",
        )  # fmt: skip
        change = changes[(changes["method"] == what) & changes["value"].notna()]
        for low, value, high in zip(change["low"], change["value"], change["high"], strict=True):
            if high > low:
                figure.add_vrect(x0=low, x1=high, fillcolor=band(colour, 0.12), line_width=0)
            figure.add_vline(x=value, line={"color": colour, "dash": "dash", "width": 1.4})
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(type="log", title="training step")
    figure.update_yaxes(title="share of held-out items", range=[-0.04, 1.04])
    style(figure, "When does it become readable? (dashed: change points)", height=450)
    figure.update_layout(margin={"t": 108})
    return figure
