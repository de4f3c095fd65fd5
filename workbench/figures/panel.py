"""What a report shows: findings with the tables that they come from, and figures with their captions and the rows behind them.

A figure is kept as a recipe: the name of a drawing function, the rows that it draws and its other arguments. So a run folder holds
everything that a figure is made of, and `workbench redraw` draws it again without a model, in another theme or another language.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..core.errors import BadInput
from ..core.tables import read_csv, write_csv
from .markup import draws
from .theme import themed
from .words import reworded


def drawings(room: str) -> dict[str, Callable[..., go.Figure]]:
    """Return the drawing functions of a module of `figures`: those that are `drawn`.

    Args:
        room: The module ("udhr", "steering", …).

    Returns:
        Functions by name.

    Raises:
        BadInput: There is no such module; the message names those that draw.
    """
    here = Path(__file__).parent
    if not re.fullmatch(r"[a-z]\w*", room) or not (here / f"{room}.py").is_file():
        raise BadInput(f"no module {room!r} of drawings; there are: {', '.join(_rooms(here))}")
    module = importlib.import_module(f".{room}", __package__)
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__ == module.__name__ and draws(function)
    }


def _rooms(folder: Path) -> list[str]:
    names = [p.stem for p in sorted(folder.glob("*.py")) if p.stem not in ("__init__", "panel")]
    return [n for n in names if drawings(n)]


class Finding(str):
    """A sentence with its numbers, and the tables that they can be looked up in."""

    tables: tuple[str, ...]

    def __new__(cls, text: str, *tables: str) -> Finding:
        out = super().__new__(cls, text)
        out.tables = tables
        return out


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing function by name ("udhr.says_and_knows"), with the rows that it draws and its other arguments.

    Attributes:
        name: Module of `figures` and function.
        rows: Tables among the arguments, by argument.
        options: The other arguments; JSON-like.
    """

    name: str
    rows: Mapping[str, pd.DataFrame]
    options: Mapping[str, Any] = field(default_factory=dict)

    def figure(self, theme: str = "light", words: Mapping[str, str] | None = None) -> go.Figure:
        """Draw it.

        Args:
            theme: "light" or "dark".
            words: Other words in place of those of the labels.

        Returns:
            The figure.

        Raises:
            BadInput: `figures` has no such function: the run was made by another version.
        """
        room, _, function = self.name.partition(".")
        draw = drawings(room).get(function)
        if draw is None:
            raise BadInput(f"figures.{room} has no drawing {function!r}: the run was made by another version")
        return reworded(themed(draw(**self.rows, **self.options), theme), words or {})

    def save(self, folder: Path, name: str) -> Drawing:
        """Write the rows as csv and return the drawing as it is read back: what is drawn now is what is redrawn later."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, table in zip(self.files(name), self.rows.values(), strict=True):
            write_csv(folder / file, table)
        return Drawing.load(folder, name, self.spec())

    def files(self, name: str) -> list[str]:
        """Return the names of the csv files of a figure of this name."""
        return [_file(name, argument, k) for k, argument in enumerate(self.rows)]

    def spec(self) -> dict[str, Any]:
        """What `load` needs beside the csv files."""
        return {"draw": self.name, "rows": list(self.rows), "options": dict(self.options)}

    @classmethod
    def load(cls, folder: Path, name: str, spec: Mapping[str, Any]) -> Drawing:
        """Read a drawing from its csv files.

        Args:
            folder: Where they lie.
            name: The figure.
            spec: What `spec` returned.

        Returns:
            The drawing.

        Raises:
            DamagedRun: A file is missing.
        """
        rows = {argument: read_csv(folder / _file(name, argument, k)) for k, argument in enumerate(spec["rows"])}
        return cls(name=spec["draw"], rows=rows, options=dict(spec["options"]))


def _file(name: str, argument: str, k: int) -> str:
    return f"{name}.csv" if k == 0 else f"{name}-{argument}.csv"


class _Recipes:
    """Stands for a module of drawing functions: a call makes a `Drawing` instead of a figure."""

    def __init__(self, room: str) -> None:
        self._room = room

    def __getattr__(self, function: str) -> Callable[..., Drawing]:
        draw = getattr(importlib.import_module(f".{self._room}", __package__), function)

        def make(*args: Any, **kwargs: Any) -> Drawing:
            given = inspect.signature(draw).bind(*args, **kwargs).arguments
            rows = {k: v for k, v in given.items() if isinstance(v, pd.DataFrame)}
            options = json.loads(json.dumps({k: v for k, v in given.items() if k not in rows}))
            return Drawing(name=f"{self._room}.{function}", rows=rows, options=options)

        return make


def recipes(room: str) -> Any:
    """Return a stand-in for a module of drawing functions whose calls make recipes ("udhr", "probes", …)."""
    return _Recipes(room)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure of the report with its caption and the table it was drawn from.

    Attributes:
        name: Name of its files.
        drawing: How it is drawn.
        caption: What it shows, with n and the interval.
        table: The result table that its rows were taken from.
        theme: "light" or "dark".
        words: Other words in place of those of the labels.
    """

    name: str
    drawing: Drawing
    caption: str
    table: str
    theme: str = "light"
    words: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def figure(self) -> go.Figure:
        """The figure, drawn once."""
        return self.drawing.figure(self.theme, self.words)
