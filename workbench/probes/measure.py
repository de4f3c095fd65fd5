"""The rows of a table of readings: accuracy, AUROC, calibration, and what a nonlinear probe reads beyond a linear one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..core.stats import Estimate, auroc, paired_difference, proportion
from ..core.tables import units_of
from ..core.types import Bool, Float, Int
from .calibration import brier, calibration_error
from .linear import LINEAR
from .methods import Fit
from .options import Resampling

METRICS = ("accuracy", "auroc", "calibration_error", "brier")
Hits = dict[tuple[str, int, str, str], np.ndarray]  # right or wrong per held-out item, by method, layer, condition and column


def measure(
    scores: Float[np.ndarray, " item"],
    rows: pd.DataFrame,
    against: Sequence[str],
    metrics: Sequence[str],
    how: Resampling,
    *,
    probability: Float[np.ndarray, " item"] | None = None,
    layers: int = 1,
) -> list[dict[str, Any]]:
    """Compare the scores of one probe with columns of the held-out rows.

    Args:
        scores: One score per held-out item; above 0 says 1.
        rows: Row table of the held-out items.
        against: 0/1 columns to compare with.
        metrics: Of `METRICS`.
        how: Level of the intervals, and whether every metric is reported.
        probability: What the probe states, where its scores are probabilities; needed for "calibration_error" and "brier".
        layers: How many layers the bands hold for at once.

    Returns:
        One row of a table per column and metric.
    """
    out = []
    clusters = units_of(rows)
    for name in against:
        y = rows[name].to_numpy()
        estimates: dict[str, Estimate] = {}
        if "accuracy" in metrics:
            estimates["accuracy"] = proportion((scores > 0) == y, clusters, how.level)
        if how.resamples:
            estimates |= _scored(scores, probability, y, clusters, metrics, how)
        out += [{"against": name, "metric": metric, **e.row(), "note": e.note} for metric, e in estimates.items()]
        if "accuracy" in metrics and how.bands:
            wide = proportion((scores > 0) == y, clusters, level=1 - how.outside / layers)
            out[-len(estimates)] |= {"band_low": wide.low, "band_high": wide.high}
    return out


def _scored(
    scores: Float[np.ndarray, " item"],
    probability: Float[np.ndarray, " item"] | None,
    y: Int[np.ndarray, " item"],
    clusters: np.ndarray,
    metrics: Sequence[str],
    how: Resampling,
) -> dict[str, Estimate]:
    """The metrics that need scores and probabilities."""
    estimates: dict[str, Estimate] = {}
    if "auroc" in metrics and len(np.unique(y)) == 2:
        estimates["auroc"] = auroc(scores, y, clusters, level=how.level)
    if probability is not None and "calibration_error" in metrics:
        estimates["calibration_error"] = calibration_error(probability, y, clusters, level=how.level)
    if probability is not None and "brier" in metrics:
        estimates["brier"] = brier(probability, y, clusters, level=how.level)
    return estimates


def gaps(
    fits: Mapping[str, Fit],
    nonlinear: Sequence[str],
    read: Mapping[str, Activations],
    hits: Mapping[tuple[str, int, str, str], Bool[np.ndarray, " item"]],
    how: Resampling,
) -> Iterable[dict[str, Any]]:
    """Yield the accuracy of each nonlinear method minus that of the linear one that validation rows prefer, on the same items."""
    linear = [name for name in fits if name in LINEAR]
    tests = Counter(where for method, _, where, _ in hits if method in nonlinear)
    for method, layer, where, name in list(hits):
        if method not in nonlinear or not linear:
            continue
        best = max(linear, key=lambda m: fits[m].validation[layer])
        people = units_of(read[where].rows)
        ours, theirs = hits[method, layer, where, name], hits[best, layer, where, name]
        gap = paired_difference(ours, theirs, people, level=how.level, reach=1)
        wide = paired_difference(ours, theirs, people, level=1 - how.outside / tests[where], reach=1)
        note = f"over {best}, which validation rows prefer" + (f"; {gap.note}" if gap.note else "")
        place = {"layer": layer, "method": method, "control": "", "condition": where, "against": name, "metric": "gap"}
        yield place | gap.row() | {"note": note, "band_low": wide.low, "band_high": wide.high}
