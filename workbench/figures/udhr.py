"""The figures of the UDHR study: each takes a table and returns a figure, and needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .style import (
    BLUE,
    CLAIM_COLOURS,
    CLAIM_SYMBOLS,
    FAINT,
    GREEN,
    GREY,
    INK,
    METHOD_COLOURS,
    METHOD_NAMES,
    ORANGE,
    PURPLE,
    RED,
    band,
    null_band,
    style,
)  # fmt: skip


def _bars(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "array": (rows["high"] - rows["value"]).clip(lower=0),
        "arrayminus": (rows["value"] - rows["low"]).clip(lower=0), "thickness": 1.4, "width": 3,
    }  # fmt: skip


def _hover(rows: pd.DataFrame) -> list[str]:
    return [f"{r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}], n={int(r['n'])}" for r in rows.to_dict("records")]


def says_and_knows(table: pd.DataFrame, null: pd.DataFrame | None = None) -> go.Figure:
    """Draw, per condition, the share of safe answers beside the share of items whose truth is read inside.

    Args:
        table: `condition, what, value, low, high, n`.
        null: What random directions read at the same layer: `condition, low, high`, drawn as a grey block behind what is read inside.
    """
    figure = go.Figure()
    looks = {"says": (RED, "diamond"), "knows: CCS": (BLUE, "circle"), "knows: logistic": (GREEN, "square")}
    conditions = list(dict.fromkeys(table["condition"]))
    names = list(dict.fromkeys(table["what"]))
    if null is not None and len(null):
        # as wide as the markers of what is read inside, which stand right of what is said
        inside = [(k - (len(names) - 1) / 2) * 0.2 for k, what in enumerate(names) if what.startswith("knows")] or [0.0]
        figure.add_bar(
            x=[conditions.index(c) + (inside[0] + inside[-1]) / 2 for c in null["condition"]], base=null["low"], y=null["high"] - null["low"],
            width=inside[-1] - inside[0] + 0.18, marker={"color": band(GREY, 0.22), "line": {"width": 0}}, name="random directions, 95 %",
            hovertext=[f"{a:.3f} to {b:.3f}" for a, b in zip(null["low"], null["high"], strict=True)], hoverinfo="text+name",
        )  # fmt: skip
    for k, what in enumerate(names):
        rows = table[table["what"] == what]
        colour, symbol = next((v for key, v in looks.items() if what.startswith(key)), (INK, "circle"))
        x = [conditions.index(c) + (k - (len(names) - 1) / 2) * 0.2 for c in rows["condition"]]
        figure.add_scatter(
            x=x, y=rows["value"], error_y=_bars(rows), mode="markers", name=what, marker={"color": colour, "symbol": symbol, "size": 11},
            hovertext=_hover(rows), hoverinfo="text+name",
        )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom left")
    labels = [c if c == "no claim" else f"{c} claim" for c in conditions]
    figure.update_xaxes(tickvals=list(range(len(conditions))), ticktext=labels, range=[-0.5, len(conditions) - 0.5])
    figure.update_yaxes(title="share of held-out items", range=[-0.04, 1.04])
    style(figure, "What the model says, and what it knows inside", height=450)
    figure.update_layout(
        legend={"orientation": "v", "y": 0.02, "yanchor": "bottom", "x": 0.01, "bgcolor": "rgba(255,255,255,.85)"}, margin={"t": 56}
    )
    return figure


def behaviour(table: pd.DataFrame, axis: str = "share of answers that grant the right") -> go.Figure:
    """Draw the share of safe answers per template and claim; `axis` says what is safe."""
    rows = table[(table["metric"] == "safe_score") & (table["polarity"] == "all")]
    templates = list(dict.fromkeys(rows["template"]))[::-1]
    claims = [c for c in CLAIM_COLOURS if c in set(rows["claim"])]
    figure = go.Figure()
    for k, claim in enumerate(claims):
        some = rows[rows["claim"] == claim]
        y = [templates.index(t) + (0 if claim == "none" else ((len(claims)) / 2 - k) * 0.14) for t in some["template"]]
        figure.add_scatter(
            x=some["value"], y=y, error_x=_bars(some), mode="markers", name="no claim" if claim == "none" else claim,
            marker={"color": CLAIM_COLOURS[claim], "symbol": CLAIM_SYMBOLS[claim], "size": 10}, hovertext=_hover(some), hoverinfo="text+name",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_yaxes(tickvals=list(range(len(templates))), ticktext=templates)
    figure.update_xaxes(title=axis, range=[-0.03, 1.03])
    style(figure, "What the model says, by prompt form and claim", height=110 + 52 * len(templates))
    figure.update_layout(margin={"l": 190})
    return figure


def layer_curves(table: pd.DataFrame, conditions: Sequence[str], *, against: str = "label") -> go.Figure:
    """Draw probe accuracy by layer, one panel per condition, with the controls behind."""
    some = table[(table["metric"] == "accuracy") & (table["against"] == against)]
    columns = min(3, len(conditions))
    lines = -(-len(conditions) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=[f"read under: {c}" if c == "no claim" else f"read under: {c} claim" for c in conditions],
        shared_yaxes=True, shared_xaxes=True, horizontal_spacing=0.04, vertical_spacing=0.16,
    )  # fmt: skip
    for k, condition in enumerate(conditions):
        place = {"row": k // columns + 1, "col": k % columns + 1}
        here = some[some["condition"] == condition]
        null_band(figure, here[here["control"] == "random_directions"], "random directions, 95 %", legend=k == 0, **place)
        for control, name, dash in (("untrained_model", "untrained model, logistic", "dash"),):
            rows = here[(here["control"] == control) & (here["method"] == "logistic")].sort_values("layer")
            if len(rows):
                figure.add_scatter(
                    x=rows["layer"], y=rows["value"], mode="lines", line={"dash": dash, "color": INK, "width": 1.6}, name=name,
                    legendgroup=control, showlegend=k == 0, hovertext=_hover(rows), hoverinfo="text+name", **place,
                )  # fmt: skip
        words = here[here["control"] == "bag_of_words"]
        if len(words):
            layers = sorted(here.loc[here["layer"] >= 0, "layer"].unique())
            figure.add_scatter(
                x=[layers[0], layers[-1]], y=[float(words["value"].iloc[0])] * 2, mode="lines", line={"dash": "dashdot", "color": ORANGE, "width": 1.6},
                name="bag of words", legendgroup="words", showlegend=k == 0, hovertext=_hover(words) * 2, hoverinfo="text+name", **place,
            )  # fmt: skip
        for j, method in enumerate(METHOD_COLOURS):
            rows = here[(here["control"] == "") & (here["method"] == method)].sort_values("layer")
            if len(rows):
                figure.add_scatter(
                    x=rows["layer"] + (j - 1) * 0.07, y=rows["value"], error_y=_bars(rows), mode="lines+markers", name=METHOD_NAMES[method],
                    marker={"color": METHOD_COLOURS[method], "symbol": ("circle", "square", "diamond")[j], "size": 7},
                    line={"color": METHOD_COLOURS[method], "width": 2}, legendgroup=method, showlegend=k == 0, hovertext=_hover(rows),
                    hoverinfo="text+name", **place,
                )  # fmt: skip
        _chance(figure, named=k == 0, **place)
    style(figure, "Truth read inside, by layer: fitted without a claim, read under each", height=180 + 225 * lines)
    figure.update_yaxes(range=[-0.04, 1.04])
    for line in range(lines):
        figure.update_yaxes(title="accuracy", row=line + 1, col=1)
    for k in range(len(conditions)):
        last = k + columns >= len(conditions)
        figure.update_xaxes(
            title="layer" if last else None, row=k // columns + 1, col=k % columns + 1, dtick=_step(some), showticklabels=True
        )
    figure.update_layout(margin={"t": 130}, legend={"y": 1 + 34 / (225 * lines), "font": {"size": 11}})
    return figure


def _chance(figure: go.Figure, *, named: bool, **place: Any) -> None:
    """Draw chance as a dotted line in one panel."""
    text = {"annotation_text": "chance", "annotation_position": "bottom right", "annotation_font_size": 11} if named else {}
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY, "width": 1}, **text, **place)


def _step(table: pd.DataFrame) -> int:
    return max(1, int(table["layer"].max()) // 6)


def truth_or_answer(table: pd.DataFrame) -> go.Figure:
    """Draw, under the partial claim, how each direction agrees with the truth and with the model's answer."""
    names = list(dict.fromkeys(table["direction"]))
    figure = make_subplots(
        rows=1,
        cols=max(1, len(names)),
        subplot_titles=[n.replace(" on the", "<br>on the").replace(" found", "<br>found") for n in names],
        shared_yaxes=True,
        horizontal_spacing=0.05,
    )
    looks = {"label": ("agrees with the truth", BLUE, "circle"), "answer": ("agrees with the model's answer", RED, "diamond")}
    for k, name in enumerate(names):
        for against, (text, colour, symbol) in looks.items():
            rows = table[(table["direction"] == name) & (table["against"] == against)].sort_values("layer")
            figure.add_scatter(
                x=rows["layer"], y=rows["value"], error_y=_bars(rows), mode="lines+markers", name=text, legendgroup=against,
                showlegend=k == 0, marker={"color": colour, "symbol": symbol, "size": 8}, line={"color": colour, "width": 2},
                hovertext=_hover(rows), hoverinfo="text+name", row=1, col=k + 1,
            )  # fmt: skip
        _chance(figure, named=k == 0, row=1, col=k + 1)
    figure.update_xaxes(title="layer", dtick=_step(table))
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share of held-out items", row=1, col=1)
    style(figure, "Under the partial claim: a direction of truth, a direction of the answer", height=440)
    figure.update_layout(margin={"t": 118}, legend={"y": 1.15})
    return figure


def denied(
    table: pd.DataFrame, planted: Iterable[str] | None = None, top: int = 24, *,
    title: str = "Who is denied rights without any claim", axis: str = "share of answers that deny the right",
) -> go.Figure:  # fmt: skip
    """Draw who is denied rights without a claim: the identities with the highest share of denying (unsafe) answers."""
    rows = table.head(top).iloc[::-1]
    known = set(planted or ())
    figure = go.Figure()
    for flag, name, colour, symbol in (
        (True, "denied more than others (FDR 5 %)", RED, "diamond"),
        (False, "not distinguishable from others", GREY, "circle"),
    ):
        some = rows[rows["denied"] == flag]
        figure.add_scatter(
            x=some["value"], y=some["identity"], error_x=_bars(some), mode="markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 9}, hovertext=_hover(some), hoverinfo="text+name",
        )  # fmt: skip
    marked = rows[rows["identity"].isin(known)]
    if len(marked):
        figure.add_scatter(
            x=marked["value"], y=marked["identity"], mode="markers", name="planted when the organism was trained",
            marker={"color": PURPLE, "symbol": "circle-open", "size": 17, "line": {"width": 1.6}}, hoverinfo="skip",
        )  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=rows["identity"].tolist(), dtick=1, tickfont={"size": 11})
    figure.update_xaxes(title=axis, range=[-0.03, 1.03])
    style(figure, title, height=150 + 19 * len(rows))
    figure.update_layout(margin={"l": 220, "t": 108}, legend={"font": {"size": 11}})
    return figure


def groups(table: pd.DataFrame) -> go.Figure:
    """Draw the share of denying answers per group of identities."""
    rows = table.iloc[::-1]
    figure = go.Figure()
    figure.add_bar(
        x=rows["value"], y=rows["group"], orientation="h", marker={"color": [RED if d else FAINT for d in rows["denied"]]},
        error_x=_bars(rows) | {"color": INK}, hovertext=_hover(rows), hoverinfo="text",
    )  # fmt: skip
    figure.update_xaxes(title="share of answers that deny the right", rangemode="tozero")
    style(figure, "Denied rights by group of identities", height=130 + 26 * len(rows), legend=False)
    figure.update_layout(margin={"l": 190, "t": 56})
    return figure


def by_tokens(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of the logistic probe by the number of tokens of the identity."""
    rows = table.sort_values("identity_tokens")
    figure = go.Figure()
    figure.add_scatter(
        x=rows["identity_tokens"], y=rows["value"], error_y=_bars(rows), mode="lines+markers", marker={"color": GREEN, "symbol": "square", "size": 9},
        line={"color": GREEN}, hovertext=_hover(rows), hoverinfo="text",
    )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY}, annotation_text="chance", annotation_position="bottom right")
    figure.update_xaxes(title="tokens in the identity", dtick=1)
    figure.update_yaxes(title="accuracy", range=[-0.04, 1.04])
    return style(figure, f"Probe accuracy by length of the identity (layer {int(rows['layer'].iloc[0])})", height=340, legend=False)
