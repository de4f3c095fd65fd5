"""What the `make` of a step returned, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..core.errors import BrokenStudy


def as_tables(doing: str, names: tuple[str, ...], computed: Any, single: bool) -> dict[str, pd.DataFrame]:
    """Return what a step's `make` returned, as tables by name, without the attributes that a file does not keep."""
    tables = {names[0]: computed} if single else computed
    if not isinstance(tables, Mapping) or set(tables) != set(names):
        raise BrokenStudy(f"the step {doing!r} is to make the tables {', '.join(names)}; its make returned {_kind(tables)}")
    for name, table in tables.items():
        if not isinstance(table, pd.DataFrame):
            raise BrokenStudy(f"the step {doing!r} is to make the table {name}; its make returned {_kind(table)}")
    bare = {name: table.copy(deep=False) for name, table in tables.items()}
    for table in bare.values():
        table.attrs = {}
    return bare


def _kind(value: Any) -> str:
    return f"a mapping with {', '.join(map(str, value)) or 'nothing'}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
