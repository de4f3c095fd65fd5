"""`report.json`: what a run's report says, and of each figure the function that draws it, its arguments and where its rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DamagedRun, WorkbenchError
from ..figures import Drawing, Panel
from .inside import check_name
from .run import Run
from .shape import Maybe, misfit, read_json

DOCUMENT = "report.json"
_SHAPE: Mapping[str, Any] = {
    "title": str,
    "subtitle": str,
    "convention": str,
    "warning": str,
    "limits": [str],
    "made": [str],
    "settings": dict,
    "links": Maybe([[str]]),
    "findings": [{"text": str, "tables": [str]}],
    "panels": [{"name": str, "caption": str, "table": str, "draw": str, "rows": [str], "options": dict}],
}


def load_document(folder: str | Path) -> tuple[Run, dict[str, Any], list[Panel]]:
    """Open a finished run with its report and its figures, without a model.

    Args:
        folder: The run.

    Returns:
        The run, what its report says, and its figures.

    Raises:
        DamagedRun: There is none, it was not finished, something is missing from it, or it is none that a study could have written.
    """
    run = Run.load(folder)
    try:
        document = read_json(run.folder / DOCUMENT)
    except (OSError, ValueError) as error:
        raise DamagedRun(
            f"{run.folder.name} has no readable {DOCUMENT} ({error}); runs of before this version have none: run the study again"
        ) from None
    fault = misfit(document, _SHAPE) or _stray(document, run)
    if fault:
        raise DamagedRun(f"{DOCUMENT} in {run.folder.name} is not a report's document: {fault}")
    document["links"] = [tuple(link) for link in document.get("links", ())]
    return run, document, [_panel(p, run) for p in document["panels"]]


def _stray(document: Mapping[str, Any], run: Run) -> str:
    """What a document names that is not there."""
    tables = [t for f in document["findings"] for t in f["tables"]] + [p["table"] for p in document["panels"]]
    for name in (*tables, *(p["name"] for p in document["panels"]), *(r for p in document["panels"] for r in p["rows"])):
        check_name(name, run.folder)
    if lost := [t for t in tables if t not in run.tables]:
        return f"it names the table {lost[0]!r}, which the run has not"
    if len({p["name"] for p in document["panels"]}) < len(document["panels"]):
        return "two figures have one name"
    for link in document.get("links", ()):
        if len(link) != 2 or link[1].startswith(("/", "\\")) or ".." in link[1] or ":" in link[1]:
            return f"the link {link[:2]} does not lead to a page inside the folder"
    return ""


def _panel(spec: Mapping[str, Any], run: Run) -> Panel:
    panel = Panel(
        name=spec["name"], caption=spec["caption"], table=spec["table"], drawing=Drawing.load(run.folder / "figures", spec["name"], spec)
    )
    try:
        panel.figure  # noqa: B018 (it is drawn when it is first asked for)
    except WorkbenchError:
        raise
    except Exception as error:
        raise DamagedRun(
            f"{run.folder.name}: the figure {panel.name!r} cannot be drawn from its rows and what {DOCUMENT} says of it "
            f"({type(error).__name__}: {error})"
        ) from error
    return panel
