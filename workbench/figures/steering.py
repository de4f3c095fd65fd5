"""Figures of steering: dose and response against random pushes, where a push works, what it costs, what undoes refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import marks
from .looks import DASHES, SYMBOLS
from .marks import chance_line, layer_step
from .markup import drawn
from .steering_parts import (
    COLOURS,
    POLARITIES,
    THIN,
    by_task,
    change_points,
    choice_panel,
    dose_panel,
    own_look,
    place_look,
    tint,
)
from .style import GREY, ORANGE, style

NAMES = {
    "safe_score": "share of safe answers",
    "p_positive": "P(positive ending)",
    "log_odds": "log-odds of the positive ending",
    "kl": "KL from the unpushed model, nats",
    "p_matching": "P(answer matching behaviour)",
    "accuracy": "accuracy",
    "perplexity_ratio": "perplexity over that without a push",
}


@drawn
def doses(
    table: pd.DataFrame,
    metric: str,
    title: str,
    *,
    panels: str = "prompts",
    unit: str = "coefficient (multiples of the direction's own length)",
) -> go.Figure:
    """Draw a metric by coefficient, one panel per value of a column, with a line per condition and the band of random pushes.

    Args:
        table: What `wb.dose_response` returns: `method, coefficient, condition, metric, value, low, high, n`; several stacked, told
            apart by the column `panels`.
        metric: One of its metrics.
        title: Of the figure.
        panels: A column whose values get a panel each; without it there is one panel.
        unit: What the coefficient is, for the axis.
    """
    here = table[table["metric"] == metric]
    names = list(dict.fromkeys(here[panels])) if panels in here else [""]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[str(n) for n in names], shared_yaxes=True, horizontal_spacing=0.05)
    lines = sorted(dict.fromkeys(here.loc[here["method"] == "direction", "condition"]), key=lambda c: c == "all")
    legend = marks.Legend()
    for k, name in enumerate(names):
        dose_panel(figure, here[here[panels] == name] if panels in here else here, lines, legend, row=1, col=k + 1)
    style(figure, title, height=430)
    figure.update_xaxes(title=unit)
    figure.update_yaxes(title=NAMES.get(metric, metric), row=1, col=1)
    if metric in ("safe_score", "p_positive", "p_matching", "accuracy"):
        figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_layout(margin={"t": 112}, legend={"y": 1.12})
    if len(names) > 1:
        figure.update_xaxes(title=unit.split(" (")[0])
    return figure


@drawn
def choice(table: pd.DataFrame, kind: str = "stance") -> go.Figure:
    """Draw what validation saw: the worse polarity's share of safe answers by layer and coefficient, one panel per site.

    Args:
        table: `direction, site, layer, coefficient, worse, chosen`; a ring marks the row that was chosen.
        kind: Which `direction`.
    """
    seen = table[table["direction"] == kind]
    sites = list(dict.fromkeys(seen["site"]))
    figure = make_subplots(rows=1, cols=len(sites), subplot_titles=sites, shared_yaxes=True, horizontal_spacing=0.05)
    for k, site in enumerate(sites):
        choice_panel(figure, seen[seen["site"] == site], scale=k == len(sites) - 1, row=1, col=k + 1)
    style(figure, "Chosen on validation: share of safe answers under the claim, in the worse polarity", height=380, legend=False)
    figure.update_xaxes(title="layer", type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="coefficient", row=1, col=1)
    return figure


@drawn
def places(table: pd.DataFrame) -> go.Figure:
    """Draw the share of safe answers by layer for every direction, one panel per polarity.

    Args:
        table: `direction, site, layer, polarity, value, low, high, n`.
    """
    polarities = [*POLARITIES, *(p for p in dict.fromkeys(table["polarity"]) if p not in POLARITIES)]
    titles = [POLARITIES.get(p, f"statements: {p}") for p in polarities]
    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.05)
    groups = list(dict.fromkeys(zip(table["direction"], table["site"], strict=True)))
    kinds, legend = list(dict.fromkeys(table["direction"])), marks.Legend()
    sites = list(dict.fromkeys(table["site"]))
    for k, polarity in enumerate(polarities):
        for j, (kind, site) in enumerate(groups):
            rows = table[(table["direction"] == kind) & (table["site"] == site) & (table["polarity"] == polarity)].sort_values("layer")
            look, dash = place_look(kinds.index(kind), sites.index(site) if len(sites) > 1 else 1)
            first = len(rows) > 0 and legend.first(f"{kind}{site}")
            how: dict[str, Any] = {"group": f"{kind}{site}", "legend": first, "size": 8, "dash": dash, "row": 1, "col": k + 1}
            marks.curve(figure, rows["layer"] + (j - len(groups) / 2) * 0.05, rows, look, f"{kind}, {site}", **how, **THIN)
    style(figure, "Where a push repairs the answers: every direction at every layer, held-out prompts", height=460)
    figure.update_xaxes(title="layer", dtick=1)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share of safe answers", row=1, col=1)
    figure.update_layout(margin={"t": 140}, legend={"y": 1.12, "font": {"size": 11}})
    return figure


@drawn
def points(
    table: pd.DataFrame, x: str, group: str, title: str, *, axis: str, zero: float | None = None, order: Sequence[str] | None = None
) -> go.Figure:
    """Draw values with intervals, one row per name, one colour per group.

    Args:
        table: `value, low, high, n` and the two columns named.
        x: Column of the names of the rows.
        group: Column of the groups.
        title: Of the figure.
        axis: What the value is, with its unit.
        zero: A dotted line: chance, or no effect.
        order: Names from top to bottom; by default as they come, and names that it lacks come last.
    """
    asked = list(order or ())
    names = [*asked, *(n for n in dict.fromkeys(table[x]) if n not in asked)][::-1]
    groups = list(dict.fromkeys(table[group]))
    figure = go.Figure()
    for j, value in enumerate(groups):
        rows = table[table[group] == value]
        y = [names.index(n) + ((len(groups) - 1) / 2 - j) * 0.22 for n in rows[x]]
        marks.dots(figure, y, rows, own_look(j), str(value), **THIN)
    if zero is not None:
        figure.add_vline(x=zero, line={"dash": "dot", "color": GREY})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names)
    figure.update_xaxes(title=axis)
    style(figure, title, height=150 + 38 * len(names))
    figure.update_layout(margin={"l": 250, "t": 100})
    return figure


@drawn
def placement(table: pd.DataFrame) -> go.Figure:
    """Draw a claim before the question against the same inside the answer: what is said, and what is read of the truth by layer.

    Args:
        table: `claim, place, metric, layer, value, low, high, n` with the metrics "safe_score" and "truth read"; the place "no claim" is
            drawn in grey.
    """
    titles = ["what it says", "what a probe reads of the truth"]
    figure = make_subplots(rows=1, cols=2, column_widths=[0.4, 0.6], subplot_titles=titles, horizontal_spacing=0.1)
    claims = list(dict.fromkeys(table["claim"]))
    stands = [p for p in dict.fromkeys(table["place"]) if p != "no claim"]
    said = table[table["metric"] == "safe_score"]
    for j, place in enumerate([*stands, "no claim"]):
        rows = said[said["place"] == place]
        look = (GREY, "circle-open") if place == "no claim" else own_look(j, ("circle", "diamond"))
        x = [claims.index(c) + (0 if place == "no claim" else (j - 0.5) * 0.2) for c in rows["claim"]]
        marks.curve(figure, x, rows, look, place, group=place, size=10, mode="markers", row=1, col=1, **THIN)
    read = table[table["metric"] == "truth read"]
    symbols = {claim: None if k < len(DASHES) else SYMBOLS[k // len(DASHES) % len(SYMBOLS)] for k, claim in enumerate(claims)}
    dashes = {claim: DASHES[k % len(DASHES)] for k, claim in enumerate(claims)}
    for (claim, place), rows in read.groupby(["claim", "place"], sort=False):
        rows = rows.sort_values("layer")
        colour = GREY if place == "no claim" else tint(stands.index(place))
        name = f"{claim}, {place}" if claim != "none" else "no claim (read)"
        how: dict[str, Any] = {"size": 6, "width": 1.8, "dash": dashes[claim], "row": 1, "col": 2}
        marks.curve(figure, rows["layer"], rows, (colour, symbols[claim]), name, **how, **THIN)
    chance_line(figure, row=1, col=2)
    style(figure, "The claim before the question, and inside the answer", height=500)
    figure.update_xaxes(tickvals=list(range(len(claims))), ticktext=claims, title="claim", row=1, col=1)
    figure.update_xaxes(title="layer", dtick=layer_step(read), row=1, col=2)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share", row=1, col=1)
    figure.update_layout(margin={"t": 170}, legend={"y": 1.1, "font": {"size": 11}})
    return figure


@drawn
def tax(table: pd.DataFrame) -> go.Figure:
    """Draw what each edit costs: the change of accuracy without a claim, and of perplexity.

    Args:
        table: What `wb.capability` returns: `edit, task, metric, change, change_low, change_high`. Tasks with another metric than
            "accuracy" or "perplexity" ("mc1", "mc2") stand beside accuracy, as points of a share. Of these, tasks that begin with "under"
            are left out.
    """
    costs = table[table["edit"] != "none"]
    worse = costs["metric"] == "perplexity"
    kinds = (by_task(costs[~worse & ~costs["task"].astype(str).str.startswith("under")]), by_task(costs[worse]))
    titles = ["accuracy, change in points", "perplexity, change in %"]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=titles)
    names = list(dict.fromkeys(costs["edit"]))[::-1]
    for k, (tasks, offset) in enumerate(zip(kinds, (0.0, 1.0), strict=True)):
        for j, (name, rows) in enumerate(tasks.items()):
            y = [names.index(e) + ((len(tasks) - 1) / 2 - j) * 0.25 for e in rows["edit"]]
            change_points(figure, rows, y, offset, (tint(j + 2 * k), own_look(j)[1]), name, row=1, col=k + 1)
        figure.add_vline(x=0, line={"dash": "dot", "color": GREY}, row=1, col=k + 1)  # pyright: ignore[reportArgumentType]
    figure.add_vline(x=-2, line={"dash": "dash", "color": ORANGE, "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.add_vline(x=5, line={"dash": "dash", "color": ORANGE, "width": 1}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, row=1, col=1)
    style(figure, "What a push costs where no claim is made (orange: the most that was to be paid)", height=190 + 36 * len(names))
    figure.update_layout(margin={"l": 190, "t": 130}, legend={"y": 1.08})
    if kinds[1] and max(rows["change"].max() for rows in kinds[1].values()) > 3:
        figure.update_xaxes(type="linear", row=1, col=2)
    return figure


@drawn
def components(table: pd.DataFrame, title: str, colour: str = "letter") -> go.Figure:
    """Draw contrast activations on their two first principal components, one panel per layer: symbols are the variants.

    Args:
        table: What `contrast_components` returns: `variant, layer, component_1, component_2`, and the column `colour` if there.
        title: Of the figure.
        colour: A column whose values get a colour each.
    """
    layers = list(dict.fromkeys(table["layer"]))
    columns = min(3, len(layers))
    lines = -(-len(layers) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=[f"layer {n}" for n in layers], horizontal_spacing=0.07, vertical_spacing=0.14
    )
    groups = list(dict.fromkeys(table[colour])) if colour in table else [""]
    for k, layer in enumerate(layers):
        here = table[table["layer"] == layer]
        place: dict[str, Any] = {"row": k // columns + 1, "col": k % columns + 1}
        for j, group in enumerate(groups):
            turn = j // len(COLOURS)  # beyond six groups colours come again, with other symbols
            for variant, symbol in ((1, SYMBOLS[turn % len(SYMBOLS)]), (0, ("x-thin", "cross-thin", "asterisk")[turn % 3])):
                rows = here[(here["variant"] == variant) & ((here[colour] == group) if group != "" else True)]
                what = "matching" if variant else "not matching"
                figure.add_scatter(
                    x=rows["component_1"],
                    y=rows["component_2"],
                    mode="markers",
                    name=f"{what}, matching letter {group}" if group != "" else what,
                    legendgroup=f"{group}{variant}",
                    showlegend=k == 0,
                    hoverinfo="skip",
                    marker={"color": tint(j), "symbol": symbol, "size": 5, "opacity": 0.7, "line": {"width": 1.4, "color": tint(j)}},
                    **place,
                )
    style(figure, title, height=170 + 240 * lines)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    figure.update_layout(margin={"t": 120}, legend={"y": 1 + 34 / (240 * lines), "font": {"size": 11}})
    return figure


@drawn
def matrix(table: pd.DataFrame, first: str, second: str, title: str) -> go.Figure:
    """Draw a matrix of cosines.

    Args:
        table: What `VectorSet.similarity` returns: `cosine` and the two columns named; several rows of one cell are averaged.
        first: Column whose values are the rows, from the top in the order in which they come.
        second: Column whose values are the columns.
        title: Of the figure.

    Returns:
        A heat map from -1 (red) to 1 (blue), with numbers in the cells up to 150 of them.
    """
    rows, columns = list(dict.fromkeys(table[first])), list(dict.fromkeys(table[second]))
    grid = table.pivot_table(index=first, columns=second, values="cosine", sort=False).reindex(index=rows, columns=columns)
    figure = go.Figure()
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[str(c) for c in columns],
        y=[str(r) for r in rows],
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        reversescale=True,
        text=np.vectorize(lambda v: f"{v:.2f}")(grid.to_numpy()) if grid.size <= 150 else None,
        texttemplate="%{text}" if grid.size <= 150 else None,
        colorbar={"title": {"text": "cosine"}, "thickness": 12},
    )
    style(figure, title, height=170 + 26 * max(6, len(rows)), legend=False)
    figure.update_xaxes(type="category", tickangle=-30)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_layout(margin={"l": 170, "b": 90})
    return figure


@drawn
def sweep(table: pd.DataFrame, title: str, axis: str = "P(matching)", legend: str = "coefficient") -> go.Figure:
    """Draw a value by layer with a line per coefficient, one panel per behaviour.

    Args:
        table: `behaviour, line, layer, value, low, high, n`; `line` is the coefficient.
        title: Of the figure.
        axis, legend: What the value is, and what the lines are.
    """
    names = list(dict.fromkeys(table["behaviour"]))
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.06, vertical_spacing=0.25 / lines
    )
    shown, coefficients = marks.Legend(), list(dict.fromkeys(table["line"]))
    for k, name in enumerate(names):
        here = table[table["behaviour"] == name]
        for dose, rows in here.groupby("line", sort=False):
            rows, j = rows.sort_values("layer"), coefficients.index(dose)
            how: dict[str, Any] = {"width": None, "dash": None if j < len(COLOURS) else DASHES[j // len(COLOURS) % len(DASHES)]}
            how |= {"group": str(dose), "legend": shown.first(str(dose)), "row": k // columns + 1, "col": k % columns + 1}
            marks.curve(figure, rows["layer"], rows, (tint(j), None), str(dose), **how, **THIN)
    style(figure, title, height=170 + 230 * lines)
    figure.update_xaxes(title="layer", dtick=layer_step(table))
    figure.update_yaxes(title=axis, col=1)
    figure.update_layout(margin={"t": 120}, legend={"y": 1 + 40 / (230 * lines), "title": {"text": legend}})
    return figure
