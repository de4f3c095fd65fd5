"""One html page that opens without a network: findings first, then figures, limits, tables, how it was made.

Prompts and model output may hold anything. So every text is made visible (`visible`) and escaped by the template, figures travel as
JSON that is read, never run, and a content security policy lets the browser run the two scripts of this page (by their hash) and fetch
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from ..core.errors import BadInput, UnknownName, unknown
from ..core.show import HIDDEN, visible
from ..core.whole import write_whole
from .markup import plain, tamed
from .page import as_data, hashed, library, policy
from .panel import Panel
from .theme import DARK, INK, PAPER, THEMES

SHOWN = 400
CLIPPED, LONGEST = 300, 5000
TITLE = 26
_NUMBER = r"[+\-−]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?"
# a number, perhaps with a unit of one word, then its interval "[low, high]" or its range "(low to high)", then perhaps n
_MEASURED = re.compile(
    rf"(?<![\w.]){_NUMBER}(?:\s?%|\s[^\W\d_]+)?\s"
    rf"(?:\[{_NUMBER}\s?%?,\s?{_NUMBER}\s?%?\]|\({_NUMBER}\s?%?\sto\s{_NUMBER}\s?%?\))(?:,?\s(?:\(n\s?=\s?\d+\)|n\s?=\s?\d+))?"
)


def _ids(prefix: str, names: Iterable[str]) -> list[str]:
    """Return an id per name that is safe in html, in an address and in css, and different from the others."""
    out: list[str] = []
    for name in names:
        stem = slug = f"{prefix}-{re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'unnamed'}"
        k = 1
        while slug in out:
            k += 1
            slug = f"{stem}-{k}"
        out.append(slug)
    return out


def _address(folder: str, name: str, kind: str) -> str:
    return f"{folder}/{quote(name, safe='', errors='replace')}.{kind}"


def _further(text: str, address: str) -> tuple[str, str]:
    """Return a link to a further page if its address cannot leave this computer."""
    odd = not address.strip() or HIDDEN.search(address) or "\\" in address or re.search(r"\s", address)
    if odd or address.startswith("/") or ":" in re.split(r"[/?#]", address)[0]:
        raise BadInput(f"link {text!r} to {address!r}: further pages need a relative address, such as 'cell-1/index.html'")
    return text, address


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Cut a sentence into (text, whether it is a number with its interval)."""
    out, end = [], 0
    for hit in _MEASURED.finditer(text):
        out += [(text[end : hit.start()], False), (hit[0], True)]
        end = hit.end()
    return [(part, number) for part, number in [*out, (text[end:], False)] if part]


def _finding(finding: str, ids: Mapping[str, str]) -> dict[str, Any]:
    names = list(dict.fromkeys(getattr(finding, "tables", ())))
    lead, colon, rest = str(finding).partition(": ")
    if not colon or len(lead) >= 30:
        lead, rest = "", str(finding)
    return {"lead": visible(lead), "pieces": _pieces(visible(rest)), "tables": [(n, _known(n, ids)) for n in names]}


def _known(name: str, ids: Mapping[str, str]) -> str:
    if name not in ids:
        raise unknown(UnknownName, "table of this report", name, ids)
    return ids[name]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _readable(value: float) -> str:
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _cell(value: Any, numeric: bool) -> dict[str, Any]:
    """Return what a cell shows, what it is sorted by if that is another number, and the rest of a long text."""
    if _missing(value):
        return {"text": "nan" if numeric else "", "key": None, "full": ""}
    if isinstance(value, float | np.floating):
        text = _readable(float(value))
        key = str(float(value)).replace("inf", "Infinity")
        return {"text": text, "key": key if numeric and key != text else None, "full": ""}
    text = visible(value)
    if len(text) <= CLIPPED:
        return {"text": text, "key": None, "full": ""}
    rest = f" … {len(text) - LONGEST} further characters in the csv" if len(text) > LONGEST else ""
    return {"text": text[:CLIPPED].rstrip() + " …", "key": None, "full": text[:LONGEST] + rest}


def _table(name: str, table: pd.DataFrame, slug: str) -> dict[str, Any]:
    # by place and not by name: two columns may have one name
    columns = [table.iloc[:SHOWN, k].tolist() for k in range(table.shape[1])]
    numeric = []
    for values in columns:
        known = [v for v in values if not _missing(v)]
        numeric.append(bool(known) and all(_is_number(v) for v in known))
    cells = [[_cell(v, n) for v in values] for values, n in zip(columns, numeric, strict=True)]
    return {
        "name": name,
        "id": slug,
        "rows": len(table),
        "shown": min(SHOWN, len(table)),
        "csv": _address("tables", name, "csv"),
        "columns": list(zip([str(c) for c in table.columns], numeric, strict=True)),
        "body": [list(zip(row, numeric, strict=True)) for row in zip(*cells, strict=True)],
    }


def _figure(panel: Panel, slug: str, stills: Sequence[str], ids: Mapping[str, str]) -> dict[str, Any]:
    spec = tamed(panel.figure)
    layout = spec.setdefault("layout", {})
    # a fixed width cannot shrink to a phone; the page says how narrow it may get
    layout.pop("width", None)
    layout["autosize"] = True
    # the title is a heading of the page: there it wraps, and is found and read aloud; the room that it took goes with it
    title = layout.pop("title", None) or {}
    title = plain((title.get("text") or "") if isinstance(title, dict) else title).strip()
    height, margin = int(layout.get("height") or 450), dict(layout.get("margin") or {})
    if title:
        top = max(int(margin.get("t", 100)) - TITLE, 24)
        height -= int(margin.get("t", 100)) - top
        layout["margin"] = {**margin, "t": top}
    layout["height"] = height
    files = [("rows (csv)", _address("figures", panel.name, "csv")), *((k, _address("figures", panel.name, k)) for k in stills)]
    return {
        "id": slug,
        "title": title or panel.name,
        "caption": panel.caption,
        "files": files,
        "height": height,
        "table": panel.table,
        "table_id": _known(panel.table, ids),
        "data": Markup(as_data({"data": spec.get("data", []), "layout": layout})),
    }


def read_own(name: str) -> str:
    """Return the text of a file of this room: style, script or template of its pages."""
    return resources.files("workbench.figures").joinpath(name).read_text(encoding="utf-8")


def write_report(
    path: str | Path,
    *,
    title: str,
    subtitle: str,
    findings: Sequence[str],
    convention: str,
    panels: Sequence[Panel],
    limits: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    made: Sequence[str],
    steps: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    warning: str = "",
    stills: Sequence[str] = (),
    theme: str = "light",
    links: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the report.

    Args:
        path: The html file. Links lead to `tables/NAME.csv` and `figures/NAME.*` beside it.
        title, subtitle: Its head.
        findings: Sentences with their numbers; those that are a `Finding` link their numbers to the first table they name.
        convention: The sign convention, in words.
        panels: Figures in order.
        limits: What the results do not show.
        tables: Result tables by name; the page holds the first 400 rows of each.
        made: How it was made, in paragraphs.
        steps: Name, seconds and whether cached, per step.
        settings: What decided the run.
        warning: Shown above the findings.
        stills: Formats that lie beside each figure ("png", "svg").
        theme: "light" or "dark"; figures come in it already.
        links: Further pages of this run, as (text, relative address): reports of a sweep's cells.

    Returns:
        The path written.

    Raises:
        BadInput: No such theme, or a link that is not relative.
        UnknownName: A finding or a figure names a table that is not among `tables`.
    """
    if theme not in THEMES:
        raise BadInput(f"theme {theme!r}: there are {', '.join(THEMES)}")
    ids = dict(zip(tables, _ids("table", tables), strict=True))
    slugs = _ids("figure", (p.name for p in panels))
    (drawing, allowed), own = library(), read_own("report.js")
    # `finalize` sees every text that the template writes, so that no field can be forgotten
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
    )
    text = environment.from_string(read_own("report.html.j2")).render(
        title=title,
        subtitle=subtitle,
        warning=warning,
        convention=convention,
        limits=limits,
        made=made,
        steps=steps,
        theme=theme,
        findings=[_finding(f, ids) for f in findings],
        links=[_further(*link) for link in links],
        figures=[_figure(p, slug, stills, ids) for p, slug in zip(panels, slugs, strict=True)],
        tables=[_table(name, table, ids[name]) for name, table in tables.items()],
        settings=list(settings.items()),
        ink=DARK[INK] if theme == "dark" else INK,
        paper=DARK[PAPER] if theme == "dark" else PAPER,
        css=Markup(read_own("report.css")),
        scripts=[Markup(drawing), Markup(own)],
        policy=Markup(policy(allowed, hashed(own))),
    )
    path = Path(path)
    # bytes: a system that writes line ends of its own would change the scripts, and with them their hashes
    write_whole(path, text.encode("utf-8"))
    return path
