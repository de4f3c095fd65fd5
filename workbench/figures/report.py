"""One html page that opens without a network: findings first, then figures, limits, tables, how it was made.

All text goes through an escaping template: prompts and model output may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

SHOWN = 400


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure of the report with its caption and the table it was drawn from."""

    name: str
    figure: go.Figure
    caption: str
    table: str


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def _table(name: str, table: pd.DataFrame) -> dict[str, Any]:
    shown = table.head(SHOWN)
    return {
        "name": name, "rows": len(table), "columns": list(table.columns), "more": max(0, len(table) - SHOWN),
        "numeric": {c for c in table.columns if pd.api.types.is_numeric_dtype(table[c])},
        "body": [[(c, _cell(v)) for c, v in row.items()] for row in shown.to_dict("records")],
    }  # fmt: skip


def write_report(
    path: str | Path, *, title: str, subtitle: str, findings: Sequence[str], convention: str, panels: Sequence[Panel],
    limits: Sequence[str], tables: Mapping[str, pd.DataFrame], made: Sequence[str], steps: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any], warning: str = "", stills: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write the report.

    Args:
        path: The html file.
        title, subtitle: Its head.
        findings: Sentences with their numbers.
        convention: The sign convention, in words.
        panels: Figures in order.
        limits: What the results do not show.
        tables: Result tables by name.
        made: How it was made, in paragraphs.
        steps: Name, seconds and whether cached, per step.
        settings: What decided the run.
        warning: Shown above the findings.
        stills: Formats that lie beside each figure ("png", "svg").
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(resources.files("workbench.figures").joinpath("report.html.j2").read_text(encoding="utf-8"))
    figures = [
        {
            "name": p.name, "caption": p.caption, "table": p.table, "stills": stills,
            "html": Markup(p.figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})),
        }
        for p in panels
    ]  # fmt: skip
    text = template.render(
        title=title, subtitle=subtitle, findings=findings, convention=convention, figures=figures, limits=limits,
        tables=[_table(n, t) for n, t in tables.items()], made=made, steps=steps, settings=list(settings.items()), warning=warning,
        plotly_js=Markup(get_plotlyjs()),
    )  # fmt: skip
    path = Path(path)
    path.write_text(text, encoding="utf-8")
    return path
