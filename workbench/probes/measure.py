"""The rows of a table of readings: accuracy, AUROC, calibration, and what a nonlinear probe reads beyond a linear one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..core.stats import Estimate, auroc, paired_difference, proportion
from ..core.types import Bool, Float, Int
from .calibration import brier, calibration_error
from .linear import LINEAR
from .methods import Fit
from .options import Resampling

METRICS = ("accuracy", "auroc", "ece", "brier")
Hits = dict[tuple[str, int, str, str], np.ndarray]  # right or wrong per held-out item, by method, layer, condition and column


def measure(
    scores: Float[np.ndarray, " item"],
    rows: pd.DataFrame,
    against: Sequence[str],
    metrics: Sequence[str],
    how: Resampling,
    seed: int,
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
        how: Draws and level of the intervals.
        seed: Draws the resamples.
        probability: What the probe states, where its scores are probabilities; needed for "ece" and "brier".
        layers: How many layers the bands hold for at once.

    Returns:
        One row of a table per column and metric.
    """
    out = []
    clusters = rows["identity"].to_numpy()
    for name in against:
        y = rows[name].to_numpy()
        estimates: dict[str, Estimate] = {}
        if "accuracy" in metrics:
            estimates["accuracy"] = proportion((scores > 0) == y, clusters, how.level)
        if how.resamples:
            estimates |= _resampled(scores, probability, y, clusters, metrics, how, seed)
        out += [{"against": name, "metric": metric, **e.row(), "note": e.note} for metric, e in estimates.items()]
        if "accuracy" in metrics and how.bands:
            wide = proportion((scores > 0) == y, clusters, level=1 - how.outside / layers)
            out[-len(estimates)] |= {"band_low": wide.low, "band_high": wide.high}
    return out


def _resampled(
    scores: Float[np.ndarray, " item"],
    probability: Float[np.ndarray, " item"] | None,
    y: Int[np.ndarray, " item"],
    clusters: np.ndarray,
    metrics: Sequence[str],
    how: Resampling,
    seed: int,
) -> dict[str, Estimate]:
    """The metrics whose interval is a bootstrap."""
    draws: dict[str, Any] = {"resamples": how.resamples, "level": how.level, "seed": seed}
    estimates: dict[str, Estimate] = {}
    if "auroc" in metrics and len(np.unique(y)) == 2:
        estimates["auroc"] = auroc(scores, y, clusters, **draws)
    if probability is not None and "ece" in metrics:
        estimates["ece"] = calibration_error(probability, y, clusters, **draws)
    if probability is not None and "brier" in metrics:
        estimates["brier"] = brier(probability, y, clusters, **draws)
    return estimates


def gaps(
    fits: Mapping[str, Fit],
    nonlinear: Sequence[str],
    read: Mapping[str, Activations],
    hits: Mapping[tuple[str, int, str, str], Bool[np.ndarray, " item"]],
    how: Resampling,
    seed: int,
) -> Iterable[dict[str, Any]]:
    """Yield the accuracy of each nonlinear method minus that of the linear one that validation rows prefer, on the same items."""
    linear = [name for name in fits if name in LINEAR]
    for method, layer, where, name in list(hits):
        if method not in nonlinear or not linear:
            continue
        best = max(linear, key=lambda m: fits[m].validation[layer])
        people = read[where].rows["identity"].to_numpy()
        ours, theirs = hits[method, layer, where, name], hits[best, layer, where, name]
        gap = paired_difference(ours, theirs, people, resamples=how.resamples, level=how.level, seed=seed)
        note = f"over {best}, which validation rows prefer" + (f"; {gap.note}" if gap.note else "")
        place = {"layer": layer, "method": method, "control": "", "condition": where, "against": name, "metric": "gap"}
        yield place | gap.row() | {"note": note}
