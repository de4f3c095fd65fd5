"""A study as a value: what it asks, its settings, which models it takes, what computes it and what reports it.

    STUDY = Study(
        name="echo", asks="does the model repeat what it is told?", settings=EchoSettings, fast={"items": 16},
        compute=compute, report=report, main=Main(table="echo", labels=("condition",), axis="share of repeated answers", zero=0.5),
        tables={"echo": "condition metric | value low high n"},
    )

The command line, plans, sweeps, comparisons, documentation and the contract (`check_study`) read this declaration and nothing else.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, BrokenStudy

NAME = r"[a-z][a-z0-9_]*"


@dataclass(frozen=True, kw_only=True)
class Main:
    """The main result of a study, as sweeps and comparisons show it.

    Attributes:
        table: The table that holds it, with the columns `value, low, high, n`.
        labels: Columns that name its rows.
        axis: What `value` is, in words.
        where: Only rows with these values (column: value).
        zero: The value of no effect, drawn as a line.
    """

    table: str
    labels: tuple[str, ...]
    axis: str
    where: Mapping[str, Any] = field(default_factory=dict)
    zero: float | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table.

    Attributes:
        about: Columns that say what a row is about; two runs are compared row by row along them.
        says: Columns that say what was found there.
    """

    about: tuple[str, ...]
    says: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Columns:
        """Return columns from a line such as "layer method | value low high n".

        Args:
            text: The line.

        Returns:
            The columns before and behind the bar.

        Raises:
            BadInput: There is no bar.
        """
        about, bar, says = text.partition("|")
        if not bar:
            raise BadInput(f"columns {text!r}: what a row is about, a bar, what it says, as in 'layer method | value low high n'")
        return cls(about=tuple(about.split()), says=tuple(says.split()))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study, declared once.

    Attributes:
        name: Its name on the command line: lower case, digits and underscores.
        asks: Its question, in one line.
        settings: A frozen dataclass with a default for every field; it refuses what cannot work in `__post_init__`.
        compute: `compute(models, settings, run)`: computes by steps of the run (`run.table`, `run.activations`, `run.folder`) and returns
            whatever the report needs. `models` maps each role to a handle; `handle.load()` gives the model, inside a step only.
        report: `report(run, computed)`: returns a `Report`; by default one made of the main table.
        fast: Settings of `--fast`.
        models: Roles of the models that it takes, such as `("model",)`, `("weak", "strong")` or `()`.
        main: Its main result.
        tables: The tables that it may make, each with its columns ("layer method | value low high n"): what a row is about, a bar, what
            it says.
        inside: Settings of several values that a sweep takes inside each cell (under their own name in the sweep's file).
        inputs: Settings that name a file or a folder. They count by what the files hold, and a copy of a single file is kept with the run.
        across: `across(run, sweep, axes)`: further figures for the report of a sweep over this study.
        checked: Settings under which `check_study` runs it, over those of `--fast`.
        file: Where it was declared; found by itself.

    Raises:
        BrokenStudy: The declaration cannot work; the message says why.
    """

    name: str
    asks: str
    settings: type
    compute: Callable[[Any, Any, Any], Any]
    report: Callable[[Any, Any], Any] | None = None
    fast: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ("model",)
    main: Main | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    across: Callable[[Any, Any, Sequence[str]], list[Any]] | None = None
    checked: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise BrokenStudy(f"a study named {self.name!r}: lower-case letters, digits and underscores, beginning with a letter")
        if not self.asks.strip() or "\n" in self.asks:
            raise BrokenStudy(f"{self.name}: asks= is its question, in one line")
        if not is_dataclass(self.settings) or not self.settings.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise BrokenStudy(f"{self.name}: settings= is a frozen dataclass (@dataclass(frozen=True, kw_only=True))")
        open_ended = [f.name for f in fields(self.settings) if f.default is MISSING and f.default_factory is MISSING]
        if open_ended:
            raise BrokenStudy(f"{self.name}: every setting has a default; {', '.join(open_ended)} has none")
        known = self.fields
        for where, names in (("fast", self.fast), ("checked", self.checked), ("inside", self.inside), ("inputs", self.inputs)):
            if stray := sorted(set(names) - set(known)):
                raise BrokenStudy(f"{self.name}: {where}= names {', '.join(stray)}, which {self.settings.__name__} does not have")
        if len(set(self.models)) < len(self.models) or not all(re.fullmatch(NAME, r) for r in self.models):
            raise BrokenStudy(f"{self.name}: models={self.models!r}: roles with different names, such as ('model',) or ('weak', 'strong')")
        if both := sorted(set(self.models) & set(known)):
            raise BrokenStudy(f"{self.name}: {both[0]} is a role of a model and a setting; name one of them differently")
        for table in self.tables:
            self.columns(table)
        if self.main is not None and self.tables and self.main.table not in self.tables:
            raise BrokenStudy(f"{self.name}: its main table {self.main.table!r} is not among tables=")

    @property
    def fields(self) -> dict[str, Any]:
        """The type of each setting."""
        hints = typing.get_type_hints(self.settings)
        return {f.name: hints[f.name] for f in fields(self.settings)}

    def columns(self, table: str) -> Columns | None:
        """Return the declared columns of a table, `None` for a table that is not declared."""
        return Columns.of(self.tables[table]) if table in self.tables else None

    def told(self) -> dict[str, str]:
        """Return what each setting means, from `Attributes:` of the docstrings of the settings' class and of what it extends."""
        out: dict[str, str] = {}
        for kind in reversed(self.settings.__mro__):
            section = (kind.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
            for names, text in re.findall(r"(?m)^ {4,8}(\w[\w, ]*): (.*(?:\n {9,}.*)*)", section):
                out |= {name: re.sub(r"\s+", " ", text).strip() for name in re.split(r",\s*", names)}
        return out
