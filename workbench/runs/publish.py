"""A study's report: findings, figures and words, written into the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ..core.tables import pick, span
from ..core.whole import write_whole
from ..figures import Finding, Panel, recipes
from .document import DOCUMENT
from .render import render
from .run import Run
from .study import Main, Study

RERUN = "Rerunning the command repeats nothing that is cached; run.json holds settings, versions and times."


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report says. Figures and numbers come from the run's tables.

    Attributes:
        title, subtitle: Its head.
        findings: Sentences with their numbers; a `Finding` names the tables that they stand in.
        panels: Figures in order.
        convention: The sign convention, in words.
        limits: What the results do not show.
        made: How it was made, in paragraphs.
        warning: Shown above the findings.
        links: Further pages, as (text, relative address).
    """

    title: str
    findings: Sequence[str]
    panels: Sequence[Panel] = ()
    subtitle: str = ""
    convention: str = ""
    limits: Sequence[str] = ()
    made: Sequence[str] = ()
    warning: str = ""
    links: Sequence[tuple[str, str]] = field(default_factory=tuple)


def publish(run: Run, report: Report, settings: Mapping[str, Any]) -> None:
    """Write a run's figures and report, and the document that `redraw` draws them from again.

    Args:
        run: The run, with its tables.
        report: What the report says.
        settings: What decided the run, for the report's last section.
    """
    run.findings = [str(f) for f in report.findings]
    (run.folder / "figures").mkdir(exist_ok=True)
    # drawn from what is read back: what is drawn now is what is redrawn later
    panels = [replace(p, caption=_with_n(p), drawing=p.drawing.save(run.folder / "figures", p.name)) for p in report.panels]
    document = {
        "title": report.title,
        "subtitle": report.subtitle,
        "convention": report.convention,
        "limits": list(report.limits),
        "warning": report.warning,
        "made": [*report.made, RERUN],
        "settings": {k: _plain(v) for k, v in settings.items()},
        "links": [list(link) for link in report.links],
        "findings": [{"text": str(f), "tables": list(getattr(f, "tables", ()))} for f in report.findings],
        "panels": [{"name": p.name, "caption": p.caption, "table": p.table, **p.drawing.spec()} for p in panels],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
    write_whole(run.folder / DOCUMENT, text + "\n")
    if note := render(run, document, panels, formats=run.formats):
        run.record["figures"] = note


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, ensure_ascii=False, default=str))


def _with_n(panel: Panel) -> str:
    """A figure's caption with the number of items behind its points, where the rows say it and the caption does not."""
    rows = next(iter(panel.drawing.rows.values()), pd.DataFrame())
    if "n=" in panel.caption or "n" not in rows or not len(rows["n"].dropna()):
        return panel.caption
    return f"{panel.caption} n={span(rows)} per point."


def by_main_table(study: Study, run: Run) -> Report:
    """Return the report of a study that declares none: a finding per row of its main table, and one figure of it.

    Args:
        study: The study.
        run: The run, with its tables.

    Returns:
        The report.
    """
    main, rows = main_rows(run.tables, study.main)
    findings: list[str] = []
    panels: list[Panel] = []
    if main is not None:
        findings = [Finding(f"{_named(row, main)}: {main.axis} {_measured(row)}.", main.table) for row in rows.to_dict("records")]
        drawing = recipes("sweep").points(rows, list(main.labels), study.asks[0].upper() + study.asks[1:], main.axis, main.zero, "")
        caption = f"{main.axis[0].upper()}{main.axis[1:]}; bars are 95 % intervals, n={span(rows)} per point."
        panels = [Panel(name=main.table, table=main.table, drawing=drawing, caption=caption)]
    nothing = "The study declares no main table; see the tables."
    if study.main is not None:
        nothing = f"The main table {study.main.table!r} was not made, or holds no value with low, high and n; see the tables."
    return Report(title=study.name, subtitle=study.asks, findings=findings or [nothing], panels=panels)


def _named(row: Mapping[Any, Any], main: Main) -> str:
    name = ", ".join(str(row[c]) for c in main.labels if str(row[c])) or main.table
    return name[0].upper() + name[1:]


def _measured(row: Mapping[Any, Any]) -> str:
    if row["low"] != row["low"] or row["high"] != row["high"]:
        why = f": {row['note']}" if row.get("note") else ""
        return f"{row['value']:.3g} without an interval{why}, n={int(row['n'])}"
    return f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}], n={int(row['n'])}"


def main_rows(tables: Mapping[str, pd.DataFrame], main: Main | None) -> tuple[Main | None, pd.DataFrame]:
    """Return the rows of a study's main result, and its declaration with the labels that these rows have.

    Args:
        tables: Tables of a run.
        main: The study's declaration.

    Returns:
        (`None`, an empty table) where there is no such table, or it has no values with intervals.
    """
    table = tables.get(main.table) if main is not None else None
    if main is None or table is None or not {"value", "low", "high", "n"} <= set(table.columns):
        return None, pd.DataFrame()
    rows = pick(table, **{k: v for k, v in main.where.items() if k in table})
    rows = rows[rows["value"].notna()]
    return (replace(main, labels=tuple(c for c in main.labels if c in rows)), rows) if len(rows) else (None, rows)
