"""The figures of surface forms: read in forms that were fitted on and in others, and what being right varies with."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.tables import pick
from .looks import Look
from .marks import bars, dots, hover
from .markup import drawn
from .style import BLUE, GREY, ORANGE, style

READINGS: dict[str, Look] = {"seen": (GREY, "square"), "unseen": (BLUE, "circle")}
NAMES = {"seen": "fitted on this form among others", "unseen": "fitted on other forms only"}


@drawn
def surfaces(table: pd.DataFrame, parts: pd.DataFrame, layer: int, method: str = "logistic") -> go.Figure:
    """Draw what is read in each surface form, with and without it among the fitted ones, and what being right varies with.

    Args:
        table: The first table of `wb.probes.read_surfaces`.
        parts: Its second table.
        layer: The layer that is shown.
        method: The method that is shown.
    """
    here = pick(table, layer=layer, method=method)
    forms = [f for f in dict.fromkeys(here["surface"]) if f != "all"]
    titles = ["order (AUROC)", "accuracy at the fitted threshold", "what being right varies with"]
    figure = make_subplots(rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.09, column_widths=[0.36, 0.36, 0.28])
    for col, metric in enumerate(("auroc", "accuracy"), 1):
        for reading, look in READINGS.items():
            rows = pick(here, reading=reading, metric=metric)
            y = rows["surface"].replace({"all": "all forms"})
            dots(figure, y, rows, look, NAMES[reading], group=reading, legend=col == 1, row=1, col=col)
        order = ["all forms", *forms][::-1]
        figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, dtick=1, showticklabels=col == 1, row=1, col=col)
        figure.add_vline(x=0.5, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=col)  # pyright: ignore[reportArgumentType]
        figure.update_xaxes(range=[-0.03, 1.03], title=metric.replace("auroc", "AUROC"), row=1, col=col)
    of = parts[parts["value"].notna()]
    shown = of.assign(value=of["value"].clip(lower=0))
    figure.add_bar(
        x=shown["value"],
        y=shown["factor"],
        orientation="h",
        marker={"color": ORANGE},
        error_x=bars(shown, 1.2),
        showlegend=False,
        hovertext=hover(shown, ".4f"),
        hoverinfo="text",
        row=1,
        col=3,
    )
    figure.update_yaxes(type="category", autorange="reversed", dtick=1, row=1, col=3)
    figure.update_xaxes(title="variance", rangemode="tozero", row=1, col=3)
    style(figure, f"Other words for the same statements: {method} probe, layer {layer}", height=220 + 24 * max(len(forms), len(of)))
    # the names of the panels stand between the legend and the axes
    figure.update_layout(margin={"l": 100, "t": 125}, legend={"y": 1.14})
    return figure
