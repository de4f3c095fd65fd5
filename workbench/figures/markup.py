"""The text of figures: what comes from data is drawn as it is written, and the house's own markup stands apart from it.

plotly reads every text as markup: tags (with styles that may load a picture from a network), entities, `$formulas$` and `%{placeholders}`.
So each drawing function is `drawn`: every text of its figure is escaped when it returns. What the house wants bold or on a new line is
written with `bold` and `BREAK`, which are characters that no text has. What is exported goes through `tamed`, whoever drew it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import plotly.graph_objects as go

from ..core.show import visible

BREAK, _BOLD, _PLAIN = "\ufdd0", "\ufdd1", "\ufdd2"  # noncharacters: Unicode keeps them for use inside a program
_MARKS = {BREAK: "<br>", _BOLD: "<b>", _PLAIN: "</b>"}
LONG = 92  # characters of a label beside an axis or in a legend; the csv beside a figure has all of them
LONGEST = 600  # characters of any other text
WIDE = 44  # a label of more characters may need more room than a figure leaves for labels
_PLACES = frozenset({"x", "y", "x0", "x1", "y0", "y1", "ticktext", "categoryarray"})
# what stands in these is no text that is read: an escape would change what is drawn
_CODES = frozenset({"bdata", "source", "family"})
_TAGS = ("b", "br", "em", "i", "s", "sub", "sup", "u")
_TAG = re.compile(r"<[^<>]*>")
_BARE = re.compile(rf"<(/?)({'|'.join(_TAGS)}|span|extra)>", re.IGNORECASE)
# plotly.js looks labels up in objects, which have these already
_INHERITED = frozenset(
    (
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf", "__proto__"),
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
    )
)


F = TypeVar("F", bound=Callable[..., go.Figure])


def bold(text: str) -> str:
    """Return a text that a figure shows bold."""
    return f"{_BOLD}{text}{_PLAIN}"


def escaped(text: str) -> str:
    """Return a text so that plotly draws it as it is written; what cannot be seen but acts is written out.

    Args:
        text: Any text.

    Returns:
        The text in plotly's markup. A text without `<`, `>`, `&`, `%{`, two `$` or characters that cannot be seen is returned as it is.
    """
    out = html.escape(visible(text), quote=False).replace("%{", "%&#123;")
    if out.count("$") > 1:
        out = out.replace("$", "&#36;")
    return f"&#{ord(out[0])};{out[1:]}" if out in _INHERITED else out


def plain(text: str) -> str:
    """Return what a reader reads of a text in plotly's markup: no tags, a space for a line break."""
    return html.unescape(_TAG.sub("", re.sub(r"<br\s*/?>", " ", text, flags=re.IGNORECASE)))


def marked(text: str) -> str:
    """Return a text in which bare tags (`<b>`, `<br>`, …) are markup if all its tags are bare and closed; else as it is written.

    Args:
        text: Any text; what `escaped` or `marked` returned stays as it is.

    Returns:
        The text in plotly's markup, without attributes and so without styles and links.
    """
    text = visible(text)
    return text if _well_formed(text) and text not in _INHERITED else escaped(text)


def _well_formed(text: str) -> bool:
    """Whether every `<` begins a bare tag, and every tag is closed in the order in which it was opened."""
    if "<" not in text and ">" not in text:
        return True
    if not re.fullmatch(r"[^<>]*(?:<[^<>]*>[^<>]*)*", text):
        return False
    opened: list[str] = []
    for tag in _TAG.findall(text):
        hit = _BARE.fullmatch(tag)
        if hit is None:
            return False
        closes, name = hit[1], hit[2].lower()
        if not closes and name != "br":
            opened.append(name)
        elif closes and (not opened or opened.pop() != name):
            return False
    return not opened


def _own(text: str) -> str:
    """Escape a text of a drawing function, and turn the house's marks into tags."""
    parts = re.split(f"([{BREAK}{_BOLD}{_PLAIN}])", text)
    if len(parts) == 1:
        return escaped(text)
    out = "".join(_MARKS.get(part) or escaped(part) for part in parts)
    return out if _well_formed(out) else escaped(text)  # a mark that came with the data


class _Shortened:
    """Cuts long texts of one figure in their middle, so that texts that differ stay different."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, int], str] = {}

    def __call__(self, text: str, most: int) -> str:
        if len(text) <= most:
            return text
        if (text, most) not in self._given:
            head, tail, k = text[: most * 2 // 3].rstrip(), text[-(most // 3) + 3 :].lstrip(), 1
            short = f"{head} … {tail}"
            while short in self._given.values():
                k += 1
                short = f"{head} … ({k}) … {tail}"
            self._given[text, most] = short
        return self._given[text, most]


def _changed(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Return a value of a figure with every text in it changed; `change` is given the text and the key that it stands under."""
    if isinstance(value, str):
        return value if key in _CODES else change(value, key)
    if isinstance(value, Mapping):
        return {k: _changed(v, change, str(k)) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "biufM" else _changed(value.tolist(), change, key)
    if isinstance(value, list | tuple):
        return [v if isinstance(v, int | float) else _changed(v, change, key) for v in value]
    return value


def _differences(old: Any, new: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield (place, new value) wherever texts differ: a list of plain values as a whole, a list of objects object by object."""
    if isinstance(old, Mapping):
        for k, v in old.items():
            yield from _differences(v, new[k], (*path, k))
    elif isinstance(old, list | tuple) and any(isinstance(v, Mapping) for v in old):
        for k, v in enumerate(old):
            yield from _differences(v, new[k], (*path, k))
    elif isinstance(old, np.ndarray):
        if old.dtype.kind not in "biufM" and old.tolist() != new:
            yield path, new
    elif isinstance(old, tuple):
        if list(old) != new:
            yield path, new
    elif isinstance(old, str | list) and old != new:
        yield path, new


def _code(text: str, key: str) -> str | None:
    """Escape the tags of a template or a number format, which is code and no text; `None` for a text."""
    if not ("template" in key and key != "template") and not key.endswith("format"):
        return None
    if not _TAG.search(text):
        return text
    parts = re.split(f"({_TAG.pattern})", visible(text))
    return "".join(part if _BARE.fullmatch(part) else html.escape(part, quote=False).replace("&amp;", "&") for part in parts)


def drawn(function: F) -> F:
    """Declare a function of `figures` that returns a figure: every text of the figure is drawn as it is written.

    Args:
        function: Takes tables and words as they come. It writes markup with `bold` and `BREAK` only, and never data into a template.

    Returns:
        The function, whose figures hold escaped texts; of a text beyond `LONG` (labels) or `LONGEST` characters the middle is left out.
    """

    @wraps(function)
    def draw(*args: Any, **kwargs: Any) -> go.Figure:
        figure, shortened = function(*args, **kwargs), _Shortened()
        wide = False

        def change(text: str, key: str) -> str:
            nonlocal wide
            wide |= key in _PLACES and len(text) > WIDE
            code = _code(text, key)
            return _own(shortened(text, LONG if key in _PLACES or key == "name" else LONGEST)) if code is None else code

        spec = figure.to_dict()
        for (root, *path), value in _differences(spec, _changed(spec, change)):
            part = getattr(figure, str(root))
            (part if root == "layout" else part[path.pop(0)])[tuple(path)] = value
        if wide:
            figure.update_xaxes(automargin=True)
            figure.update_yaxes(automargin=True)
        if any("&" in (getattr(trace, "name", None) or "") for trace in figure.data):
            figure.update_layout(hoverlabel={"namelength": -1})  # plotly.js would cut within an entity
        return figure

    draw.draws = True  # pyright: ignore[reportAttributeAccessIssue]
    return cast(F, draw)


def draws(function: Callable[..., Any]) -> bool:
    """Whether a function is `drawn`."""
    return getattr(function, "draws", False)


def tamed(figure: go.Figure | Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure's data and layout, in which no text does more than bare tags do.

    Args:
        figure: From a drawing function, whose texts stay as they are, or any other, whose texts become what `marked` makes of them.

    Returns:
        What `to_dict` returns; the figure stays as it is.
    """

    def change(text: str, key: str) -> str:
        code = _code(text, key)
        return marked(text) if code is None else code

    return _changed(figure.to_dict() if isinstance(figure, go.Figure) else figure, change)
