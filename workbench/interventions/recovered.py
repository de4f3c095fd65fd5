"""What patching gives: the metric at every place, item by item, and the table of what each place recovers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.stats import ratio


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place to patch: a block, a head of it or all (-1), and a named part of the prompt."""

    layer: int
    head: int
    position: str


@dataclass(kw_only=True)
class Patched:
    """Values of the metric, before they become a table.

    Attributes:
        cells: The places.
        values: `cell x item`; `nan` where an item has no such part.
        clean, corrupted: The metric of both runs, `item`.
        tokens: Per position, the token that stands there most often.
    """

    cells: list[Cell]
    values: np.ndarray
    clean: np.ndarray
    corrupted: np.ndarray
    tokens: dict[str, str] = field(default_factory=dict)


def to_table(measured: Patched, clusters: Sequence[str], extra: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per place: what it recovers, as a ratio of mean differences with Student's interval over clusters of items."""
    names, rows = np.asarray(clusters), []
    for cell, values in zip(measured.cells, measured.values, strict=True):
        here = np.isfinite(values)
        patched, clean, corrupted = (v[here] for v in (values, measured.clean, measured.corrupted))
        share = ratio(patched - corrupted, clean - corrupted, names[here])
        if share.clusters > 1 and math.isnan(share.low):  # every item recovers the same share, to the last digit
            share = replace(share, low=share.value, high=share.value)
        rows.append(
            {
                "layer": cell.layer,
                "site": extra["site"],
                "head": cell.head,
                "position": cell.position,
                "token": measured.tokens.get(cell.position, ""),
                "way": extra["way"],
                "method": extra["method"],
                "metric": extra["metric"],
                "value": share.value,
                "low": share.low,
                "high": share.high,
                "n": int(here.sum()),
                "clean": _mean(clean),
                "corrupted": _mean(corrupted),
                "patched": _mean(patched),
            }
        )
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
