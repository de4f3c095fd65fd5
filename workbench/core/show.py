"""How results show themselves: one line in a terminal, a small table in a notebook. Whatever comes from outside is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 240
CELL = 600
_STYLE = "text-align:left;vertical-align:top"


def short(text: object, most: int = WIDTH) -> str:
    """Return a text on one line of at most so many characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def number(value: Any, digits: int = 3) -> str:
    """Return a number to so many significant digits; `nan` is "undefined", since it always stands for that here."""
    v = float(value)
    return "undefined" if math.isnan(v) else f"{v:.{digits}g}"


def between(value: Any, low: Any, high: Any, digits: int = 3) -> str:
    """Return "value [low, high]" with decimals that line up; an interval that nobody could make is left out."""
    v, a, b = float(value), float(low), float(high)
    if math.isnan(v):
        return "undefined"
    return f"{v:.{digits}f}" + ("" if math.isnan(a) or math.isnan(b) else f" [{a:.{digits}f}, {b:.{digits}f}]")


def some(values: Iterable[Any], most: int = 8, joint: str = ", ") -> str:
    """Return the first few of some values, and how many there are where they are more."""
    every = [str(v) for v in values]
    return joint.join(every[:most]) + (f"{joint}… ({len(every)})" if len(every) > most else "")


def axes(**sizes: int) -> str:
    """Return a shape with the names of its axes, "item 4 x d_model 128"."""
    return " x ".join(f"{name} {size:,}" for name, size in sizes.items())


def origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows that say where something comes from, as far as its provenance does: model, place, prompts."""
    model = provenance.get("model")
    out: dict[str, str] = {}
    if isinstance(model, Mapping):
        more = [str(model[k]) for k in ("revision", "dtype") if model.get(k)]
        more += [f"processing {model['processing']}"] if model.get("processing") not in (None, "", "none") else []
        more += [f"weights {model['digest']}"] if model.get("digest") else []
        out["model"] = f"{model.get('name', '?')}" + (f" ({', '.join(more)})" if more else "")
    elif model:
        out["model"] = str(model)
    place = [f"{k} {provenance[k]}" for k in ("site", "layer", "position") if provenance.get(k) is not None]
    if place:
        out["read at"] = ", ".join(place)
    if provenance.get("prompts"):
        out["prompts"] = short(provenance["prompts"], 80)
    return out


def card(title: object, rows: Mapping[str, Any], *, tables: Iterable[Any] = (), notes: Iterable[object] = ()) -> str:
    """Return a small HTML table: what it is, then a row per fact, then tables and remarks.

    Only the page's own colours are used, so that it can be read on light and on dark themes.

    Args:
        title: What it is.
        rows: Facts; one without a text is left out.
        tables: Tables of pandas, shown below to 40 rows at most.
        notes: Remarks below.
    """
    body = "".join(
        f'<tr><th style="{_STYLE}">{html.escape(str(k))}</th><td style="{_STYLE}">{html.escape(short(v, CELL))}</td></tr>'
        for k, v in rows.items()
        if v is not None and str(v)
    )
    more = "".join(t.to_html(index=False, escape=True, max_rows=40, border=0, float_format="{:.4g}".format) for t in tables if len(t))
    said = "".join(f"<li>{html.escape(str(n))}</li>" for n in notes)
    return (
        f"<p><b>{html.escape(short(title, CELL))}</b></p>"
        + (f"<table><tbody>{body}</tbody></table>" if body else "")
        + more
        + (f"<ul>{said}</ul>" if said else "")
    )


class Shown:
    """A value that says in one place what it shows: its line (`repr`) and its table (in notebooks) are made of that.

    A dataclass that is one has `repr=False`: its own would print every number that it holds.
    """

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        """Return a line, and the facts of the table. Nothing is computed or read for it that is not at hand."""
        raise NotImplementedError

    def _shown_tables(self) -> Iterable[Any]:
        """Return tables to show below the facts."""
        return ()

    def _shown_notes(self) -> Iterable[object]:
        """Return remarks to show below."""
        return ()

    def __repr__(self) -> str:
        return short(f"{type(self).__name__}({short(self._shown()[0], WIDTH - len(type(self).__name__) - 2)})")

    def _repr_html_(self) -> str:
        line, rows = self._shown()
        return card(f"{type(self).__name__}: {line}", rows, tables=self._shown_tables(), notes=self._shown_notes())


class ShownEstimate(Shown):
    """What `stats.Estimate` shows."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    level: float
    method: str
    note: str

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        line = between(self.value, self.low, self.high) + f", n={self.n:,}" + (f", {self.clusters:,} clusters" if self.clusters else "")
        return line + (f": {self.note}" if self.note else ""), {
            "value": number(self.value, 4),
            f"{self.level:.0%} interval": f"{number(self.low, 4)} to {number(self.high, 4)}",
            "rows": f"{self.n:,}",
            "independent clusters": f"{self.clusters:,}" if self.clusters else "",
            "interval by": self.method,
            "mind": self.note,
        }
