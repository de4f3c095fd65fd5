"""The words of a figure, and the same figure with other words: another language, or plainer labels for a post."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

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
    """Return every label of a figure, in order of appearance, each once."""
    found: dict[str, None] = {}

    def note(text: str) -> str:
        if text.strip() and not _is_number(text):
            found.setdefault(text)
        return text

    _walk(figure.to_dict(), note)
    return list(found)


def _is_number(text: str) -> bool:
    return not any(c.isalpha() for c in text)


def reworded(figure: go.Figure, words: Mapping[str, str]) -> go.Figure:
    """Return a figure in which every label that is a key of `words` is exchanged for its value, wherever it stands."""
    if not words:
        return figure
    return go.Figure(_walk(figure.to_dict(), lambda text: words.get(text, text)))


def wrapped(text: str, width: int = 96) -> Iterator[str]:
    """Yield the lines of a text, broken at spaces, for a comment in a captions file."""
    line = ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line
