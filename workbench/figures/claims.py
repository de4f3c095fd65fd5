"""What claims do, by layer and by prompt form: each takes a table and returns a figure, and needs no model."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import Look, looks
from .marks import Legend, chance_line, curve, dots, layer_step
from .markup import BREAK, drawn
from .style import BLUE, CLAIM_COLOURS, CLAIM_SYMBOLS, GREEN, GREY, INK, LABEL_FREE, ORANGE, PURPLE, SKY, null_band, style

CLAIMS: dict[str, Look] = {claim: (colour, CLAIM_SYMBOLS[claim]) for claim, colour in CLAIM_COLOURS.items()} | {"no claim": (INK, "x")}
METRICS = {
    "auroc": "AUROC",
    "accuracy": "accuracy, fitted threshold",
    "accuracy_centred": "accuracy, median as threshold",
}
FREE: dict[str, Look] = {
    "ccs": (BLUE, "circle"),
    "drc": (SKY, "triangle-up"),
    "rrc": (INK, "star"),
    "polarity_ccs": (PURPLE, "diamond"),
    "crc": (ORANGE, "square"),
}
EFFECTS = {"yes": "share of “yes” (bias)", "auroc": "AUROC of the answers (discrimination)"}


@drawn
def read_curves(table: pd.DataFrame, method: str = "logistic") -> go.Figure:
    """Draw what a probe reads under each claim, by layer: a row of panels per prompt form, a column per measure.

    Args:
        table: The readings of `wb.probes.read_forms`, of one kind of reading.
        method: Whose readings.
    """
    here = table[(table["method"] == method) & (table["control"] == "") & (table["minus"] == "")]
    forms = list(dict.fromkeys(here["form"]))
    titles = [f"{form}{BREAK}{METRICS[m]}" for form in forms for m in METRICS]
    figure = make_subplots(
        rows=max(1, len(forms)),
        cols=len(METRICS),
        subplot_titles=titles,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=min(0.16, 0.5 / max(1, len(forms) - 1)),
    )
    claims, legend = looks(here["claim"], CLAIMS), Legend()
    for i, form in enumerate(forms):
        for j, metric in enumerate(METRICS):
            place: dict[str, Any] = {"row": i + 1, "col": j + 1}
            null = table[(table["control"] == "random_directions") & (table["form"] == form) & (table["metric"] == metric)]
            if len(null):
                first = null[null["claim"] == null["claim"].iloc[0]].sort_values("layer")
                null_band(figure, first, "random directions, 95 %", legend=legend.first("random directions"), **place)
            for k, (claim, own) in enumerate(claims.items()):
                rows = here[(here["form"] == form) & (here["metric"] == metric) & (here["claim"] == claim)].sort_values("layer")
                if len(rows):
                    x = rows["layer"] + (k - len(claims) / 2) * 0.06
                    curve(figure, x, rows, own, f"{claim} claim", group=claim, legend=legend.first(claim), **place)
            chance_line(figure, named=i + j == 0, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_xaxes(dtick=layer_step(here) if len(here) else None)
    for j in range(len(METRICS)):
        figure.update_xaxes(title="layer", row=max(1, len(forms)), col=j + 1)
    style(figure, "Truth read under each claim: fitted and read in the same prompt form", height=210 + 260 * max(1, len(forms)))
    figure.update_layout(margin={"t": 150}, legend={"y": 1 + 56 / (260 * max(1, len(forms)))})
    return figure


@drawn
def effects(table: pd.DataFrame) -> go.Figure:
    """Draw what each claim does to the answers, against the neutral sentence: bias on the left, discrimination on the right.

    Args:
        table: What `wb.evaluation.claim_effects` returns.
    """
    templates = list(dict.fromkeys(table["template"]))[::-1]
    claims = looks(table["claim"], CLAIMS)
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(EFFECTS.values()), shared_yaxes=True, horizontal_spacing=0.05)
    legend = Legend()
    for j, metric in enumerate(EFFECTS):
        place: dict[str, Any] = {"row": 1, "col": j + 1}
        for k, (claim, own) in enumerate(claims.items()):
            rows = table[(table["metric"] == metric) & (table["claim"] == claim)]
            y = [templates.index(t) + (len(claims) / 2 - k) * 0.16 for t in rows["template"]]
            dots(figure, y, rows, own, f"{claim} claim", legend=legend.first(claim), size=10, **place)
        figure.add_vline(x=0, line={"dash": "dot", "color": GREY, "width": 1}, **place)
    figure.update_yaxes(tickvals=list(range(len(templates))), ticktext=templates)
    figure.update_xaxes(title="change from the neutral sentence", range=[-1.05, 1.05])
    style(figure, "What a claim does to the answers: to one word, or to telling statements apart", height=170 + 52 * max(1, len(templates)))
    figure.update_layout(margin={"l": 190, "t": 118}, legend={"y": 1 + 60 / (52 * max(1, len(templates)) + 60)})
    return figure


@drawn
def answer_curves(table: pd.DataFrame) -> go.Figure:
    """Draw the answer by layer: the order of the statements and the share of "yes", read off each layer's stream.

    Args:
        table: `form, condition, layer, metric, value, low, high, n`, from `wb.lens`, of one lens; what was asked without a claim is
            drawn beside each form.
    """
    shown = {"auroc": "AUROC of the margin", "yes": "share of “yes”"}
    free = table["condition"] == "no claim"
    forms = list(dict.fromkeys(table.loc[~free, "form"])) or list(dict.fromkeys(table["form"]))
    titles = [f"{form}: {text}" for form in forms for text in shown.values()]
    figure = make_subplots(rows=max(1, len(forms)), cols=2, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.12)
    claims, legend = looks(table["condition"], CLAIMS), Legend()
    for i, form in enumerate(forms):
        for j, metric in enumerate(shown):
            place: dict[str, Any] = {"row": i + 1, "col": j + 1}
            here = table[((table["form"] == form) | free) & (table["metric"] == metric)]
            for k, (claim, own) in enumerate(claims.items()):
                rows = here[here["condition"] == claim].sort_values("layer")
                name = claim if claim == "no claim" else f"{claim} claim"
                x = rows["layer"] + (k - len(claims) / 2) * 0.06
                curve(figure, x, rows, own, name, group=claim, legend=legend.first(claim), **place)
            chance_line(figure, named=i == j == 0, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_xaxes(dtick=layer_step(table))
    for j in range(len(shown)):
        figure.update_xaxes(title="layer", row=max(1, len(forms)), col=j + 1)
    style(figure, "Where the answer turns: the answer words read off each layer", height=180 + 260 * max(1, len(forms)))
    figure.update_layout(margin={"t": 118}, legend={"y": 1 + 34 / (260 * max(1, len(forms)))})
    return figure


@drawn
def answer_and_truth(table: pd.DataFrame) -> go.Figure:
    """Draw what each layer would answer beside the truth that is read there: a row of panels per form, a column per claim.

    Args:
        table: `form, condition, line, layer, value, low, high, n`, AUROC against the label; of the lines "shuffled labels" is drawn as a
            band.
    """
    forms, claims = (list(dict.fromkeys(table[name])) for name in ("form", "condition"))
    figure = make_subplots(
        rows=max(1, len(forms)),
        cols=max(1, len(claims)),
        subplot_titles=[f"{form}{BREAK}{claim} claim" for form in forms for claim in claims],
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=min(0.18, 0.5 / max(1, len(forms) - 1)),
    )
    band = table["line"] == "shuffled labels"
    lines, legend = looks(table.loc[~band, "line"], {"layers exchanged": (GREY, "x-open")}), Legend()
    for i, form in enumerate(forms):
        for j, claim in enumerate(claims):
            place: dict[str, Any] = {"row": i + 1, "col": j + 1}
            here = (table["form"] == form) & (table["condition"] == claim)
            if (here & band).any():
                null_band(
                    figure,
                    table[here & band].sort_values("layer"),
                    "shuffled labels, 95 %",
                    legend=legend.first("shuffled labels"),
                    **place,
                )
            for k, (line, own) in enumerate(lines.items()):
                rows = table[here & (table["line"] == line)].sort_values("layer")
                if len(rows):
                    x = rows["layer"] + (k - len(lines) / 2) * 0.06
                    curve(figure, x, rows, own, str(line), group=line, legend=legend.first(line), **place)
            chance_line(figure, named=i + j == 0, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="AUROC against the label", col=1)
    figure.update_xaxes(dtick=layer_step(table) if len(table) else None)
    for j in range(max(1, len(claims))):
        figure.update_xaxes(title="layer", row=max(1, len(forms)), col=j + 1)
    style(figure, "Where does the answer turn, and where is truth read?", height=210 + 260 * max(1, len(forms)))
    figure.update_layout(margin={"t": 150}, legend={"y": 1 + 56 / (260 * max(1, len(forms)))})
    return figure


@drawn
def elicited(table: pd.DataFrame) -> go.Figure:
    """Draw the forms in which a model was asked: whether it answers, whether it gives one word, whether it says the same twice.

    Args:
        table: What `wb.evaluation.eliciting` returns.
    """
    shown = {
        "answered": f"probability of{BREAK}the two answers",
        "yes": f"share of the{BREAK}positive answer",
        "agreement": f"agreement of{BREAK}two wordings",
    }
    score = table[table["metric"] == "score"].sort_values("value")
    order = score["form"].tolist()
    best = set(table.loc[(table["metric"] == "chosen") & (table["value"] == 1), "form"])
    figure = make_subplots(rows=1, cols=len(shown), subplot_titles=list(shown.values()), shared_yaxes=True, horizontal_spacing=0.03)
    for j, metric in enumerate(shown):
        rows = table[table["metric"] == metric]
        for flag, colour, name in ((True, GREEN, "chosen"), (False, BLUE, "other forms")):
            here = rows[rows["form"].isin(best) == flag]
            dots(figure, here["form"], here, (colour, "diamond" if flag else "circle"), name, legend=j == 0, row=1, col=j + 1)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, dtick=1, tickfont={"size": 11})
    figure.update_xaxes(range=[-0.05, 1.05])
    figure.update_xaxes(range=[-1.05, 1.05], row=1, col=3)
    style(figure, "In which form the model can be asked, judged without labels", height=190 + 19 * len(order))
    figure.update_layout(margin={"l": 210, "t": 140}, legend={"y": 1 + 60 / (60 + 19 * len(order))})
    return figure


@drawn
def without_labels(table: pd.DataFrame) -> go.Figure:
    """Draw what methods without labels read by layer, beside what random directions read: a panel per setting.

    Args:
        table: `setting, layer, method, control, metric, value, low, high, n`.
    """
    here = table[(table["metric"] == "accuracy") & (table["against"] == "label")]
    settings = list(dict.fromkeys(here["setting"]))
    figure = make_subplots(rows=1, cols=max(1, len(settings)), subplot_titles=settings, shared_yaxes=True, horizontal_spacing=0.03)
    methods = looks(here.loc[here["control"] == "", "method"], FREE)
    legend = Legend()
    names = {**LABEL_FREE, "crc": "first component of the differences"}
    for k, setting in enumerate(settings):
        place: dict[str, Any] = {"row": 1, "col": k + 1}
        rows = here[here["setting"] == setting]
        null = rows[rows["control"] == "random_directions"].sort_values("layer")
        if len(null):
            null_band(figure, null, "random directions, 95 %", legend=legend.first("random directions"), **place)
        for method, own in methods.items():
            one = rows[(rows["method"] == method) & (rows["control"] == "")].sort_values("layer")
            if len(one):
                curve(figure, one["layer"], one, own, names.get(method, method), group=method, legend=legend.first(method), **place)
        chance_line(figure, named=k == 0, **place)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="accuracy", row=1, col=1)
    figure.update_xaxes(title="layer", dtick=layer_step(here) if len(here) else None)
    style(figure, "Read without labels, without a claim’s push", height=420)
    figure.update_layout(margin={"t": 118}, legend={"y": 1.15})
    return figure
