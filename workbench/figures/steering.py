"""Figures of steering: dose and response against random pushes, where a push works, what it costs, what undoes refusal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, band, style

COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
NAMES = {
    "safe_score": "share of safe answers", "p_positive": "P(positive ending)", "log_odds": "log-odds of the positive ending", "kl": "KL from the unpushed model, nats",
    "p_matching": "P(answer matching behaviour)", "accuracy": "accuracy", "perplexity_ratio": "perplexity over that without a push",
}  # fmt: skip


def bars(rows: pd.DataFrame) -> dict[str, object]:
    """Return plotly's error bars from `value, low, high`; none where an end is not known."""
    up, down = (rows["high"] - rows["value"]).clip(lower=0), (rows["value"] - rows["low"]).clip(lower=0)
    return {"type": "data", "symmetric": False, "array": up.fillna(0), "arrayminus": down.fillna(0), "thickness": 1.3, "width": 3}


def hover(rows: pd.DataFrame) -> list[str]:
    """Return what is shown when a point is pointed at."""
    return [f"{r['value']:.3g} [{r['low']:.3g}, {r['high']:.3g}], n={int(r['n'])}" for r in rows.to_dict("records")]


def doses(
    table: pd.DataFrame,
    metric: str,
    title: str,
    *,
    panels: str = "prompts",
    unit: str = "coefficient (multiples of the direction's own length)",
) -> go.Figure:
    """Draw a metric by coefficient, one panel per value of a column, with a line per condition and the band of random pushes."""
    some = table[table["metric"] == metric]
    names = list(dict.fromkeys(some[panels])) if panels in some else [""]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[str(n) for n in names], shared_yaxes=True, horizontal_spacing=0.05)
    for k, name in enumerate(names):
        here = some[some[panels] == name] if panels in some else some
        place = {"row": 1, "col": k + 1}
        chance = here[(here["method"] == "random") & (here["condition"] == "all")].sort_values("coefficient")
        own = here[here["method"] == "direction"]
        if len(chance):
            zero = own[(own["coefficient"] == 0) & (own["condition"] == "all")].assign(low=lambda t: t["value"], high=lambda t: t["value"])
            ends = pd.concat([chance, zero]).sort_values("coefficient")
            figure.add_scatter(
                x=[*ends["coefficient"], *ends["coefficient"][::-1]], y=[*ends["high"], *ends["low"][::-1]], fill="toself", fillcolor=band(GREY, 0.25),
                mode="none", name=f"{int(chance['n'].iloc[0])} random directions, middle 95 %", legendgroup="random", showlegend=k == 0, hoverinfo="skip", **place,
            )  # fmt: skip
        conditions = [c for c in dict.fromkeys(own["condition"]) if c != "all"] or ["all"]
        for j, condition in enumerate(conditions):
            rows = own[own["condition"] == condition].sort_values("coefficient")
            label = {"grant": "statements that grant", "deny": "statements that deny"}.get(condition, condition)
            figure.add_scatter(
                x=rows["coefficient"], y=rows["value"], error_y=bars(rows), mode="lines+markers", name=label, legendgroup=condition, showlegend=k == 0,
                marker={"color": COLOURS[j], "symbol": ("circle", "diamond", "square")[j % 3], "size": 8}, line={"color": COLOURS[j], "width": 2, "dash": ("solid", "dash")[j % 2]},
                hovertext=hover(rows), hoverinfo="text+name", **place,
            )  # fmt: skip
        figure.add_vline(x=0, line={"color": FAINT, "width": 1}, **place)  # pyright: ignore[reportArgumentType]
    style(figure, title, height=430)
    figure.update_xaxes(title=unit)
    figure.update_yaxes(title=NAMES.get(metric, metric), row=1, col=1)
    if metric in ("safe_score", "p_positive", "p_matching", "accuracy"):
        figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_layout(margin={"t": 112}, legend={"y": 1.12})
    if len(names) > 1:
        figure.update_xaxes(title=unit.split(" (")[0])
    return figure


def choice(table: pd.DataFrame, kind: str = "stance") -> go.Figure:
    """Draw what validation saw: the worse polarity's share of safe answers by layer and coefficient, one panel per site; a ring marks the choice."""
    some = table[table["direction"] == kind]
    sites = list(dict.fromkeys(some["site"]))
    figure = make_subplots(rows=1, cols=len(sites), subplot_titles=sites, shared_yaxes=True, horizontal_spacing=0.05)
    for k, site in enumerate(sites):
        grid = some[some["site"] == site].pivot(index="coefficient", columns="layer", values="worse")
        figure.add_heatmap(
            z=grid.to_numpy(), x=[str(c) for c in grid.columns], y=[f"{c:g}" for c in grid.index], zmin=0, zmax=1, colorscale="Viridis", showscale=k == len(sites) - 1,
            colorbar={"title": {"text": "safe"}, "thickness": 12}, text=grid.round(2).astype(str).to_numpy(), texttemplate="%{text}", textfont={"size": 11},
            hovertemplate="layer %{x}, coefficient %{y}: %{z:.2f}<extra></extra>", row=1, col=k + 1,
        )  # fmt: skip
        mark = some[(some["site"] == site) & some["chosen"]]
        if len(mark):
            figure.add_scatter(
                x=[str(int(mark["layer"].iloc[0]))], y=[f"{mark['coefficient'].iloc[0]:g}"], mode="markers", showlegend=False, hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 34, "color": RED, "line": {"width": 3}}, row=1, col=k + 1,
            )  # fmt: skip
    style(figure, "Chosen on validation: share of safe answers under the claim, in the worse polarity", height=380, legend=False)
    figure.update_xaxes(title="layer", type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="coefficient", row=1, col=1)
    return figure


def places(table: pd.DataFrame) -> go.Figure:
    """Draw the share of safe answers by layer for every direction, one panel per polarity."""
    polarities = ["grant", "deny"]
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["statements that grant", "statements that deny"], shared_yaxes=True, horizontal_spacing=0.05
    )
    groups = list(dict.fromkeys(zip(table["direction"], table["site"], strict=True)))
    kinds = list(dict.fromkeys(table["direction"]))
    sites = list(dict.fromkeys(table["site"]))
    for k, polarity in enumerate(polarities):
        for j, (kind, site) in enumerate(groups):
            rows = table[(table["direction"] == kind) & (table["site"] == site) & (table["polarity"] == polarity)].sort_values("layer")
            colour = COLOURS[kinds.index(kind)]
            first = site == sites[0]
            figure.add_scatter(
                x=rows["layer"] + (j - len(groups) / 2) * 0.05, y=rows["value"], error_y=bars(rows), mode="lines+markers", name=f"{kind}, {site}",
                legendgroup=f"{kind}{site}", showlegend=k == 0, marker={"color": colour, "size": 8, "symbol": "circle-open" if first and len(sites) > 1 else "circle"},
                line={"color": colour, "width": 2, "dash": "dot" if first and len(sites) > 1 else "solid"}, hovertext=hover(rows), hoverinfo="text+name", row=1, col=k + 1,
            )  # fmt: skip
    style(figure, "Where a push repairs the answers: every direction at every layer, held-out prompts", height=460)
    figure.update_xaxes(title="layer", dtick=1)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share of safe answers", row=1, col=1)
    figure.update_layout(margin={"t": 140}, legend={"y": 1.12, "font": {"size": 11}})
    return figure


def points(
    table: pd.DataFrame, x: str, group: str, title: str, *, axis: str, zero: float | None = None, order: Sequence[str] | None = None
) -> go.Figure:
    """Draw values with intervals, one row per name, one colour per group."""
    names = list(order or dict.fromkeys(table[x]))[::-1]
    groups = list(dict.fromkeys(table[group]))
    figure = go.Figure()
    for j, one in enumerate(groups):
        rows = table[table[group] == one]
        y = [names.index(n) + ((len(groups) - 1) / 2 - j) * 0.22 for n in rows[x]]
        figure.add_scatter(
            x=rows["value"], y=y, error_x=bars(rows), mode="markers", name=str(one), marker={"color": COLOURS[j % len(COLOURS)], "symbol": ("circle", "diamond", "square")[j % 3], "size": 9},
            hovertext=hover(rows), hoverinfo="text+name",
        )  # fmt: skip
    if zero is not None:
        figure.add_vline(x=zero, line={"dash": "dot", "color": GREY})
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names)
    figure.update_xaxes(title=axis)
    style(figure, title, height=150 + 38 * len(names))
    figure.update_layout(margin={"l": 250, "t": 100})
    return figure


def placement(table: pd.DataFrame) -> go.Figure:
    """Draw a claim before the question against the same inside the answer: what is said, and what is read of the truth by layer."""
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.4, 0.6], subplot_titles=["what it says", "what a probe reads of the truth"], horizontal_spacing=0.1
    )
    claims = list(dict.fromkeys(table["claim"]))
    stands = [p for p in dict.fromkeys(table["place"]) if p != "no claim"]
    said = table[table["metric"] == "safe_score"]
    for j, place in enumerate([*stands, "no claim"]):
        rows = said[said["place"] == place]
        colour, symbol = (GREY, "circle-open") if place == "no claim" else (COLOURS[j], ("circle", "diamond")[j % 2])
        figure.add_scatter(
            x=[claims.index(c) + (0 if place == "no claim" else (j - 0.5) * 0.2) for c in rows["claim"]], y=rows["value"], error_y=bars(rows), mode="markers", name=place,
            legendgroup=place, marker={"color": colour, "symbol": symbol, "size": 10}, hovertext=hover(rows), hoverinfo="text+name", row=1, col=1,
        )  # fmt: skip
    read = table[table["metric"] == "truth read"]
    dashes = dict(zip(claims, ("dot", "dash", "dashdot", "solid"), strict=False))
    for (claim, place), rows in read.groupby(["claim", "place"], sort=False):
        rows = rows.sort_values("layer")
        colour = GREY if place == "no claim" else COLOURS[stands.index(place)]
        figure.add_scatter(
            x=rows["layer"], y=rows["value"], error_y=bars(rows), mode="lines+markers", name=f"{claim}, {place}" if claim != "none" else "no claim (read)",
            line={"color": colour, "dash": dashes[claim], "width": 1.8}, marker={"color": colour, "size": 6}, hovertext=hover(rows), hoverinfo="text+name", row=1, col=2,
        )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    style(figure, "The claim before the question, and inside the answer", height=500)
    figure.update_xaxes(tickvals=list(range(len(claims))), ticktext=claims, title="claim", row=1, col=1)
    figure.update_xaxes(title="layer", dtick=max(1, int(read["layer"].max()) // 6), row=1, col=2)
    figure.update_yaxes(range=[-0.04, 1.04])
    figure.update_yaxes(title="share", row=1, col=1)
    figure.update_layout(margin={"t": 170}, legend={"y": 1.1, "font": {"size": 11}})
    return figure


def tax(table: pd.DataFrame) -> go.Figure:
    """Draw what each edit costs: the change of accuracy without a claim, and of perplexity."""
    some = table[table["edit"] != "none"]
    tasks = [
        t for t in dict.fromkeys(some["task"]) if (some[some["task"] == t]["metric"] == "accuracy").all() and not t.startswith("under")
    ]
    texts = [t for t in dict.fromkeys(some["task"]) if (some[some["task"] == t]["metric"] == "perplexity").all()]
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=["accuracy, change in points", "perplexity, change in %"]
    )
    names = list(dict.fromkeys(some["edit"]))[::-1]
    for k, (kind, factor, offset) in enumerate(((tasks, 100.0, 0.0), (texts, 100.0, 1.0))):
        for j, task in enumerate(kind):
            rows = some[some["task"] == task]
            value = (rows["change"] - offset) * factor
            figure.add_scatter(
                x=value, y=[names.index(e) + ((len(kind) - 1) / 2 - j) * 0.25 for e in rows["edit"]], mode="markers", name=task,
                error_x={"type": "data", "symmetric": False, "array": ((rows["change_high"] - rows["change"]) * factor).clip(lower=0).fillna(0),
                         "arrayminus": ((rows["change"] - rows["change_low"]) * factor).clip(lower=0).fillna(0), "thickness": 1.3, "width": 3},
                marker={"color": COLOURS[j + 2 * k], "symbol": ("circle", "diamond", "square")[j % 3], "size": 9},
                hovertext=[f"{v:.2f}" for v in value], hoverinfo="text+name", row=1, col=k + 1,
            )  # fmt: skip
        figure.add_vline(x=0, line={"dash": "dot", "color": GREY}, row=1, col=k + 1)  # pyright: ignore[reportArgumentType]
    figure.add_vline(x=-2, line={"dash": "dash", "color": ORANGE, "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.add_vline(x=5, line={"dash": "dash", "color": ORANGE, "width": 1}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, row=1, col=1)
    style(figure, "What a push costs where no claim is made (orange: the most that was to be paid)", height=190 + 36 * len(names))
    figure.update_layout(margin={"l": 190, "t": 130}, legend={"y": 1.08})
    if len(texts) and some[some["task"].isin(texts)]["change"].max() > 3:
        figure.update_xaxes(type="linear", row=1, col=2)
    return figure


def components(table: pd.DataFrame, title: str, colour: str = "letter") -> go.Figure:
    """Draw contrast activations on their two first principal components, one panel per layer: symbols are the variants."""
    layers = list(dict.fromkeys(table["layer"]))
    columns = min(3, len(layers))
    lines = -(-len(layers) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=[f"layer {n}" for n in layers], horizontal_spacing=0.07, vertical_spacing=0.14
    )
    groups = list(dict.fromkeys(table[colour])) if colour in table else [""]
    for k, layer in enumerate(layers):
        here = table[table["layer"] == layer]
        place = {"row": k // columns + 1, "col": k % columns + 1}
        for j, group in enumerate(groups):
            for variant, symbol in ((1, "circle"), (0, "x-thin")):
                rows = here[(here["variant"] == variant) & ((here[colour] == group) if group != "" else True)]
                what = "matching" if variant else "not matching"
                figure.add_scatter(
                    x=rows["component_1"], y=rows["component_2"], mode="markers", name=f"{what}, matching letter {group}" if group != "" else what,
                    legendgroup=f"{group}{variant}", showlegend=k == 0, hoverinfo="skip",
                    marker={"color": COLOURS[j], "symbol": symbol, "size": 5, "opacity": 0.7, "line": {"width": 1.4, "color": COLOURS[j]}}, **place,
                )  # fmt: skip
    style(figure, title, height=170 + 240 * lines)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    figure.update_layout(margin={"t": 120}, legend={"y": 1 + 34 / (240 * lines), "font": {"size": 11}})
    return figure


def matrix(table: pd.DataFrame, first: str, second: str, title: str) -> go.Figure:
    """Draw a matrix of cosines."""
    rows, columns = list(dict.fromkeys(table[first])), list(dict.fromkeys(table[second]))
    grid = table.pivot_table(index=first, columns=second, values="cosine", sort=False).reindex(index=rows, columns=columns)
    figure = go.Figure()
    figure.add_heatmap(
        z=grid.to_numpy(), x=[str(c) for c in columns], y=[str(r) for r in rows], zmin=-1, zmax=1, colorscale="RdBu", reversescale=True,
        text=np.vectorize(lambda v: f"{v:.2f}")(grid.to_numpy()) if grid.size <= 150 else None, texttemplate="%{text}" if grid.size <= 150 else None,
        colorbar={"title": {"text": "cosine"}, "thickness": 12},
    )  # fmt: skip
    style(figure, title, height=170 + 26 * max(6, len(rows)), legend=False)
    figure.update_xaxes(type="category", tickangle=-30)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_layout(margin={"l": 170, "b": 90})
    return figure


__all__ = ["INK", "choice", "components", "doses", "matrix", "placement", "places", "points", "tax"]


def sweep(table: pd.DataFrame, title: str) -> go.Figure:
    """Draw a value by layer with a line per coefficient, one panel per behaviour."""
    names = list(dict.fromkeys(table["behaviour"]))
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.06, vertical_spacing=0.25 / lines
    )
    for k, name in enumerate(names):
        here = table[table["behaviour"] == name]
        for j, (dose, rows) in enumerate(here.groupby("line", sort=False)):
            rows = rows.sort_values("layer")
            figure.add_scatter(
                x=rows["layer"], y=rows["value"], error_y=bars(rows), mode="lines+markers", name=str(dose), legendgroup=str(dose), showlegend=k == 0,
                marker={"color": COLOURS[j % len(COLOURS)], "size": 7}, line={"color": COLOURS[j % len(COLOURS)]}, hovertext=hover(rows), hoverinfo="text+name",
                row=k // columns + 1, col=k % columns + 1,
            )  # fmt: skip
    style(figure, title, height=170 + 230 * lines)
    figure.update_xaxes(title="layer", dtick=max(1, int(table["layer"].max()) // 6))
    figure.update_yaxes(title="P(matching)", col=1)
    figure.update_layout(margin={"t": 120}, legend={"y": 1 + 40 / (230 * lines), "title": {"text": "coefficient"}})
    return figure
