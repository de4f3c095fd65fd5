"""What patching gives: the metric at every place, item by item, and the table of what each place recovers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..core.stats import cluster_weights


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


def to_table(measured: Patched, clusters: Sequence[str], extra: Mapping[str, Any], *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return one row per place: what it recovers, with an interval over clusters of items."""
    n = len(measured.clean)
    weights = np.concatenate([np.ones((1, n)), cluster_weights(list(clusters), n, resamples, seed)])
    rows = []
    for cell, values in zip(measured.cells, measured.values, strict=True):
        here = np.isfinite(values)
        w = weights[:, here]
        total = np.maximum(w.sum(1), 1e-12)
        patched, clean, corrupted = ((w @ v[here]) / total for v in (values, measured.clean, measured.corrupted))
        gap = clean - corrupted
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = (patched - corrupted) / np.where(np.abs(gap) > 1e-9, gap, np.nan)
        rest = draws[1:][np.isfinite(draws[1:])]
        low, high = (
            np.quantile(rest, [0.025, 0.975])
            if len(rest) > resamples / 2 and len(set(np.asarray(clusters)[here])) > 1
            else (np.nan, np.nan)
        )
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
                "value": float(draws[0]),
                "low": float(low),
                "high": float(high),
                "n": int(here.sum()),
                "clean": float(clean[0]),
                "corrupted": float(corrupted[0]),
                "patched": float(patched[0]),
            }
        )
    return pd.DataFrame(rows)
