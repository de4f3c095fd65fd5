"""Are a probe's probabilities what they say? Platt scaling, calibration error, Brier score, reliability table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ..core.clustered import Spread, spread
from ..core.errors import BadInput, ShapeMismatch
from ..core.stats import Estimate, mean, proportion, undefined

Array = np.ndarray


def platt(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the slope a >= 0 that makes expit(a score) the likeliest probability (no intercept: pairs are antisymmetric).

    Args:
        scores: One score per row, on any scale; above 0 speaks for class 1. Rows that the probe was not fitted on.
        labels: Class of each row, 0 or 1.

    Returns:
        The slope, 0 or more, per unit of the score; 0 where the scores say nothing of the labels. At most 100 divided by the
        mean |score|.

    References:
        Platt 1999, Advances in Large Margin Classifiers, with the smoothed targets of its section 2.2.
    """
    s, y = np.asarray(scores, float), np.asarray(labels)
    scale = float(np.abs(s).mean()) or 1.0
    targets = np.where(y == 1, (np.sum(y == 1) + 1) / (np.sum(y == 1) + 2), 1 / (np.sum(y == 0) + 2))

    def loss(a: float) -> float:
        z = a * s / scale
        return float(np.mean(np.logaddexp(0, z) - targets * z))

    return float(minimize_scalar(loss, bounds=(0, 100), method="bounded").x) / scale  # pyright: ignore[reportAttributeAccessIssue]


def _check(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    if p.shape != y.shape or p.ndim != 1:
        raise ShapeMismatch(f"one probability and one label per row: {p.shape} and {y.shape}")
    if len(p) and not ((p >= 0) & (p <= 1)).all():
        raise BadInput("probabilities lie between 0 and 1")
    return p, y


def equal_bins(probabilities: ArrayLike, most: int = 10, rows: int = 10) -> Array:
    """Return each row's bin: bins of about equal size by probability; equal probabilities share one. Labels are not looked at.

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        most: Bins at most.
        rows: Rows of a bin, about, at least.

    Returns:
        The bin of each row, counted from 0 at the smallest probabilities.
    """
    p = np.asarray(probabilities, float)
    _values, inverse, size = np.unique(p, return_inverse=True, return_counts=True)
    count = max(1, min(most, len(p) // rows))
    middle = np.cumsum(size) - size / 2
    return np.unique((middle * count / max(len(p), 1)).astype(int), return_inverse=True)[1][inverse]


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate the root mean square calibration error over bins of equal size, without the noise that counts as error.

    The square of a bin's gap (share of positives less mean probability) exceeds the true square by the gap's variance, on average. That
    variance is taken off, so a calibrated probe has an error of 0 at any number of rows.

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.
        clusters: Cluster of each row (identity), or `row x factor`. `None`: every row is its own.
        level: Confidence level of the interval, between 0 and 1.

    Returns:
        The error, 0 (calibrated) to 1, with its interval; undefined without rows, or with fewer than two clusters in a bin.

    Raises:
        ShapeMismatch: Not one probability and one label per row.
        BadInput: A probability lies outside 0 to 1.

    References:
        Kumar, Liang and Ma 2019, arXiv 1909.10155 (the debiased estimator).
    """
    p, y = _check(probabilities, labels)
    n = len(p)
    if not n:
        return undefined("no rows")
    bins, gap = equal_bins(p), y - p
    square, noise, influence = 0.0, 0.0, np.zeros(n)
    for b in range(bins.max() + 1):
        rows = bins == b
        share, own = rows.mean(), gap[rows] - gap[rows].mean()
        within = spread(own / rows.sum(), None if clusters is None else np.asarray(clusters)[rows])
        if not np.isfinite(within.variance):
            return undefined("one cluster in a bin", n)
        square += share * (gap[rows].mean() ** 2 - within.variance)
        noise += 2 * share**2 * within.variance**2
        influence[rows] = 2 * gap[rows].mean() * own / n
    across = spread(influence, clusters)
    reach = Spread(across.variance + noise, across.freedom, across.clusters).reach(level)
    value, low, high = (float(np.sqrt(max(0.0, q))) for q in (square, square - reach, square + reach))
    return Estimate(value=value, low=low, high=min(1.0, high), n=n, clusters=across.clusters, level=level, method="debiased, clustered t")


def brier(probabilities: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate the Brier score, the mean of (p - y)^2 (Brier 1950).

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.
        clusters: Cluster of each row (identity); whole clusters are resampled. `None`: every row is its own.
        level: Confidence level of the interval, between 0 and 1.

    Returns:
        The score with its interval: 0 is perfect, .25 is what a probability of one half reaches, 1 is certain and always wrong.

    Raises:
        ShapeMismatch: Not one probability and one label per row.
        BadInput: A probability lies outside 0 to 1.
    """
    p, y = _check(probabilities, labels)
    return mean((p - y) ** 2, clusters, level=level)


def reliability(probabilities: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None) -> pd.DataFrame:
    """Say bin by bin how often class 1 occurs where it is given such a probability.

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.
        clusters: Cluster of each row (identity), for the intervals. `None`: every row is its own.

    Returns:
        One row per monotone bin, smallest probabilities first: `bin`, mean `probability`, `metric` ("share of positives"),
        `value, low, high, n`. A calibrated probe has `value` equal to `probability` in every bin.

    Raises:
        ShapeMismatch: Not one probability and one label per row.
        BadInput: A probability lies outside 0 to 1.
    """
    p, y = _check(probabilities, labels)
    bins = equal_bins(p)
    names = None if clusters is None else np.asarray(clusters)
    rows = []
    for k in range(bins.max(initial=-1) + 1):
        here = bins == k
        share = proportion(y[here], None if names is None else names[here])
        rows.append({"bin": k, "probability": float(p[here].mean()), "metric": "share of positives", **share.row()})
    return pd.DataFrame(rows)


def probabilities(scores: ArrayLike, slope: float) -> Array:
    """Return expit(slope score)."""
    return expit(slope * np.asarray(scores, float))
