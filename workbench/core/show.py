"""How results are displayed: one line in a terminal, a small table in a notebook. Texts from outside are escaped."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 240
CELL = 600
_STYLE = "text-align:left;vertical-align:top"
# Control characters, marks and overrides of writing direction, fillers, invisible characters, tags, halves of a pair, what is no character:
# nothing to see, much to hide. The joiners U+200C and U+200D and the selectors U+FE00 to U+FE0F stay: Persian and emoji need them.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: object) -> str:
    """Return a text in which what cannot be seen but acts is written out.

    Args:
        text: Anything.

    Returns:
        The text, with each control character (but tab and line feed), direction override, invisible character and lone surrogate as
        "⟪U+202E⟫". A carriage return before a line feed is left out.
    """
    return HIDDEN.sub(lambda hit: f"⟪U+{ord(hit[0]):04X}⟫", str(text).replace("\r\n", "\n"))


def short(text: object, most: int = WIDTH) -> str:
    """Return a text on one line of limited length.

    Args:
        text: Anything; runs of white space become one space, and what cannot be seen is written out.
        most: The largest number of characters, the ellipsis of a shortened text included.

    Returns:
        The line.
    """
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def number(value: Any, digits: int = 3) -> str:
    """Return a number as text.

    Args:
        value: The number.
        digits: Significant digits.

    Returns:
        The number; "undefined" for `nan`, which always stands for an undefined result here.
    """
    v = float(value)
    return "undefined" if math.isnan(v) else f"{v:.{digits}g}"


def between(value: Any, low: Any, high: Any, digits: int = 3) -> str:
    """Return an estimate and its interval as text.

    Args:
        value: The estimate.
        low, high: Ends of the interval; where one is `nan` the interval is left out.
        digits: Decimals of all three.

    Returns:
        "value [low, high]", "value", or "undefined" where the value is `nan`.
    """
    v, a, b = float(value), float(low), float(high)
    if math.isnan(v):
        return "undefined"
    return f"{v:.{digits}f}" + ("" if math.isnan(a) or math.isnan(b) else f" [{a:.{digits}f}, {b:.{digits}f}]")


def some(values: Iterable[Any], most: int = 8, joint: str = ", ") -> str:
    """Return the first few of a list of values as text.

    Args:
        values: Any values.
        most: How many are shown.
        joint: What stands between them.

    Returns:
        The first values, and "… (number of values)" behind them where there are more than `most`.
    """
    texts = [str(v) for v in values]
    return joint.join(texts[:most]) + (f"{joint}… ({len(texts)})" if len(texts) > most else "")


def axes(**sizes: int) -> str:
    """Return a shape with the names of its axes, "item 4 x d_model 128"."""
    return " x ".join(f"{name} {size:,}" for name, size in sizes.items())


def origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of a value's origin that its provenance holds: model, place, prompts.

    Args:
        provenance: As a direction or activations carry it.

    Returns:
        Texts by name, for the rows of `card`.
    """
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
    """Return what a notebook shows of a value: a title, a row per fact, then tables and remarks.

    Only the page's own colours are used, so that it can be read on light and on dark themes.

    Args:
        title: What the value is.
        rows: Facts by name; one without a text is left out.
        tables: Tables of pandas, shown to 40 rows at most.
        notes: Remarks, shown last.

    Returns:
        HTML, with every text escaped, and none of it read as a formula.
    """
    body = "".join(
        f'<tr><th style="{_STYLE}">{html.escape(str(k))}</th><td style="{_STYLE}">{html.escape(short(v, CELL))}</td></tr>'
        for k, v in rows.items()
        if v is not None and str(v)
    )
    more = "".join(t.to_html(index=False, escape=True, max_rows=40, border=0, float_format="{:.4g}".format) for t in tables if len(t))
    remarks = "".join(f"<li>{html.escape(str(n))}</li>" for n in notes)
    return framed(
        f"<p><b>{html.escape(short(title, CELL))}</b></p>"
        + (f"<table><tbody>{body}</tbody></table>" if body else "")
        + more
        + (f"<ul>{remarks}</ul>" if remarks else "")
    )


def framed(page: str) -> str:
    r"""Return HTML for a notebook so that no text in it is read as a formula, and with what cannot be seen written out.

    A notebook sets what stands between two dollar signs, or after a backslash, with MathJax; a formula can load a picture.

    Args:
        page: HTML, its texts escaped.

    Returns:
        The page; one `<div>` that MathJax leaves out where it holds a `$` or a backslash.
    """
    page = visible(page)
    return f'<div class="tex2jax_ignore mathjax_ignore">{page}</div>' if "$" in page or "\\" in page else page


class Shown:
    """A value with a `repr` of one line and a table for notebooks, both made from `_shown`.

    A dataclass that inherits from it has `repr=False`: the generated one would print every number that it holds.
    """

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        """Return a line, and the facts of the table. It computes nothing and reads no file."""
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
