"""Means and shares over the seeds of toy models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.stats import mean, proportion


def over_seeds(rows: pd.DataFrame, by: Sequence[str], *, bounded: bool = False) -> pd.DataFrame:
    """Return means over seeds with Student's intervals.

    Args:
        rows: One row per instance (or replicate), with the columns `by` and `value`.
        by: What seeds are averaged within, in order of the rows.
        bounded: The values are shares, 0 to 1.

    Returns:
        Per combination `value, low, high, n, note`; n counts instances. Where no seed differs there is no interval, and the note says so.
    """
    out = []
    for name, group in rows.groupby(list(by), sort=False):
        e = mean(group["value"].to_numpy(float), bounded=bounded)
        note = f"the same in all {e.n} seeds" if np.isnan(e.low) and e.n > 1 else e.note
        out.append({**dict(zip(by, name, strict=True)), **e.row(), "note": note})
    return pd.DataFrame(out)


def shares(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return shares over seeds with Wilson intervals.

    Args:
        rows: One row per replicate, with the columns `by` and `value`, 0 or 1.
        by: What replicates are counted within, in order of the rows.

    Returns:
        Per combination `value, low, high, n`.
    """
    return pd.DataFrame(
        [dict(zip(by, name, strict=True)) | proportion(g["value"].to_numpy()).row() for name, g in rows.groupby(by, sort=False)]
    )
