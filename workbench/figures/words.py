"""The words of a figure, and the same figure with other words: another language, or plainer labels for a post."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from .markup import marked

# where plotly keeps what a reader reads; data of the axes hold words where an axis is one of categories
_SHOWN = {"text", "name", "ticktext", "categoryarray", "x", "y"}
_SKIP = {"template", "hovertext", "hovertemplate", "customdata"}


def _walk(value: Any, change: Callable[[str], str], shown: bool = False) -> Any:
    if isinstance(value, dict):
        return {k: v if k in _SKIP else _walk(v, change, k in _SHOWN) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value if value.dtype != object else _walk(value.tolist(), change, shown)
    if isinstance(value, list | tuple):
        return [_walk(v, change, shown) for v in value]
    return change(value) if shown and isinstance(value, str) else value


def words_of(figure: go.Figure) -> list[str]:
    """Return every label of a figure as a reader reads it, in order of appearance, each once; a line break is "<br>"."""
    words: dict[str, None] = {}

    def note(text: str) -> str:
        read = html.unescape(text)
        if read.strip() and not _is_number(read):
            words.setdefault(read)
        return text

    _walk(figure.to_dict(), note)
    return list(words)


def title_of(figure: go.Figure) -> str:
    """Return the title of a figure as `words_of` lists it; "" where it has none."""
    return html.unescape(figure.layout.title.text or "")


def _is_number(text: str) -> bool:
    return not any(c.isalpha() for c in text)


def reworded(figure: go.Figure, words: Mapping[str, str]) -> go.Figure:
    """Exchange the labels of a figure for others: another language, or plainer words.

    Args:
        figure: Any plotly figure; it stays as it is.
        words: New labels by old ones, whole labels as `words_of` lists them. A key that the figure does not show changes nothing. In a new
            label `<br>` breaks a line and `<b>`, `<i>`, `<sub>` and `<sup>` do what they do in a page.

    Returns:
        Another figure with the new labels wherever the old ones stood: title, axes, legend, annotations, names of categories.
    """
    if not words:
        return figure

    def change(text: str) -> str:
        shown = html.unescape(text)
        new = words.get(text, words.get(shown, shown))
        return text if new in (shown, text) else marked(new)

    return go.Figure(_walk(figure.to_dict(), change))


def wrapped(text: str, width: int = 96) -> Iterator[str]:
    """Yield the lines of a text, broken at spaces, for a comment in a captions file.

    Args:
        text: White space of any kind counts as one space.
        width: Characters of a line at most; only a word that is longer makes a longer line.

    Yields:
        Line by line, without line breaks; none for an empty text.
    """
    line = ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line
