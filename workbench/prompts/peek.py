"""A first look at a source: what is it called, and what does it hold?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from .cells import Place
from .formats import Row, checked_path, read_text
from .lists import numbered_lines
from .rows import ENDINGS, ending_of, hub_rows, placed_rows
from .table import Source, Table, open_table

# data sets of the hub whose configuration or split has another name
HUB = {
    "Paul/XSTest": ("", "train"),
    "truthfulqa/truthful_qa": ("multiple_choice", "validation"),
    "cais/mmlu": ("all", "test"),
    "wentingzhao/WildHallucinations": ("", "train"),
    "LLM-Tuning-Safety/HEx-PHI": ("", "train"),
}
TEXT = (".txt", ".md", ".prompt")


@dataclass(frozen=True, kw_only=True)
class Peek:
    """A source and what can be seen of it without reading it all in some layout.

    Attributes:
        source: The source itself: a path, or a table in memory.
        path: Its path; `None` in memory and on the hub.
        columns: The columns that the caller names, by field.
        hub: Name of a data set on the hub; "" for none.
    """

    source: Any
    path: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    hub: str = ""

    @classmethod
    def at(cls, source: Source, columns: Mapping[str, str] | None = None) -> Peek:
        """Look at a source.

        Raises:
            BadInput: There is no such file or folder, and it is no name of the hub's form.
        """
        named = dict(columns or {})
        if not isinstance(source, str | Path):
            return cls(source=source, columns=named)
        path = checked_path(source)
        if path.exists():
            return cls(source=source, path=path, columns=named)
        if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")) and not path.suffix:
            return cls(source=source, columns=named, hub=source)
        raise BadInput(f"no file or folder {path.name!r}")

    @property
    def name(self) -> str:
        """What the source is called."""
        if self.hub:
            return self.hub.split("/")[1]
        return "table" if self.path is None else self.path.name.split(".")[0] if self.path.is_file() else self.path.resolve().name

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one."""
        return self.path if self.path is not None and self.path.is_dir() else None

    @property
    def file(self) -> Path | None:
        """The file, where it is one."""
        return self.path if self.path is not None and self.path.is_file() else None

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text file that are no comments; none of anything else."""
        return [line for _, line in numbered_lines(self.file)] if self.file is not None and self.is_text else []

    @property
    def is_text(self) -> bool:
        """Whether it is a text file, without columns."""
        return self.file is not None and self.file.suffix.lower() in TEXT

    @cached_property
    def text(self) -> str:
        """The whole text of a text file."""
        return read_text(self.file, self.file.name) if self.file is not None and self.is_text else ""

    @cached_property
    def rows(self) -> list[tuple[Place, Row]]:
        """The rows of a file, of a table in memory, or of a data set on the hub; none of a folder or a text."""
        if self.hub:
            config, split = HUB.get(self.hub, ("", "test"))
            return hub_rows(self.hub, config or None, split=split)
        if self.file is not None:
            return [] if self.is_text else placed_rows(self.file)
        return [] if self.folder is not None else [(place, dict(row)) for place, row in open_table(self.source).rows]

    @cached_property
    def table(self) -> Table:
        """The rows with their columns."""
        names = tuple(dict.fromkeys(column for _, row in self.rows for column in row))
        csv = self.file is not None and ending_of(self.file) == ".csv"
        return Table(name=self.name, columns=names, rows=self.rows, csv=csv)

    @cached_property
    def has(self) -> set[str]:
        """The names of the columns, those that the caller named by their fields."""
        renamed = {column: field for field, column in self.columns.items()}
        return {renamed.get(str(c), str(c)) for c in self.table.columns}

    def inside(self, *patterns: str) -> list[Path]:
        """The files in the folder that fit a pattern, by name; of the first pattern that any fits."""
        for pattern in patterns if self.folder is not None else ():
            if found := sorted(p for p in self.folder.glob(pattern) if p.is_file()):  # pyright: ignore[reportOptionalMemberAccess]
                return found
        return []

    @property
    def tables(self) -> list[Path]:
        """The files of rows in the folder."""
        return [] if self.folder is None else sorted(p for p in self.folder.iterdir() if p.is_file() and ending_of(p) in ENDINGS)

    @property
    def says(self) -> str:
        """What it holds, for an error."""
        if self.folder is not None:
            return ", ".join(sorted(p.name for p in self.folder.iterdir())[:12]) or "nothing"
        return f"the columns {', '.join(sorted(self.has))}" if self.rows else f"{len(self.lines)} lines of text"
