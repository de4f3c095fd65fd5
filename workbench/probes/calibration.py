"""Are a probe's probabilities what they say? Platt scaling, expected calibration error, Brier score, reliability table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ..core.errors import BadInput, ShapeMismatch
from ..core.stats import Estimate, bootstrap, mean, proportion, undefined

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


def monotone_bins(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Return each row's bin: as many bins of equal size as keep the share of positives rising from bin to bin.

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.

    Returns:
        The bin of each row, counted from 0 at the smallest probabilities.

    References:
        Roelofs et al. 2022, arXiv 2012.08668, algorithm 1 (equal-mass sweep).
    """
    p, y = _check(probabilities, labels)
    order = np.argsort(p, kind="stable")
    rank = np.empty(len(p), int)
    rank[order] = np.arange(len(p))
    best = np.zeros(len(p), int)
    for count in range(2, len(p) + 1):
        bins = rank * count // len(p)
        size = np.bincount(bins, minlength=count)
        shares = np.bincount(bins, y, count) / size
        if (np.diff(shares) < 0).any():
            break
        best = bins
    return best


def calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate the expected calibration error: the mean of |share of positives - mean probability| over monotone bins.

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.
        clusters: Cluster of each row (identity); whole clusters are resampled. `None`: every row is its own.
        resamples: Bootstrap draws; raising it steadies the ends of the interval.
        level: Confidence level of the interval, between 0 and 1.
        seed: Draws the resamples.

    Returns:
        The error, 0 (calibrated) to 1, with its interval; undefined without rows.

    Raises:
        ShapeMismatch: Not one probability and one label per row.
        BadInput: A probability lies outside 0 to 1.

    Note:
        The bins are those of the rows given; the interval is a bootstrap over clusters with these bins. It is biased
        upwards in small samples, since noise is counted as error.
    """
    p, y = _check(probabilities, labels)
    if not len(p):
        return undefined("no rows")
    bins = monotone_bins(p, y)
    in_bin = np.eye(bins.max() + 1)[bins]
    gap = (y - p)[:, None] * in_bin

    def statistic(w: Array) -> Array:
        return np.abs(w @ gap).sum(1) / w.sum(1)

    error = bootstrap(statistic, len(p), clusters, resamples=resamples, level=level, seed=seed)
    if not np.isfinite(error.low):
        return error
    # the bootstrap adds noise that the rows have already: its middle lies above the estimate
    return Estimate(
        value=error.value,
        low=min(error.low, error.value),
        high=max(error.high, error.value),
        n=error.n,
        clusters=error.clusters,
        level=level,
        method=error.method,
    )


def brier(
    probabilities: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate the Brier score, the mean of (p - y)^2 (Brier 1950).

    Args:
        probabilities: Probability of class 1 of each row, 0 to 1.
        labels: Class of each row, 0 or 1.
        clusters: Cluster of each row (identity); whole clusters are resampled. `None`: every row is its own.
        resamples: Bootstrap draws; raising it steadies the ends of the interval.
        level: Confidence level of the interval, between 0 and 1.
        seed: Draws the resamples.

    Returns:
        The score with its interval: 0 is perfect, .25 is what a probability of one half reaches, 1 is certain and always wrong.

    Raises:
        ShapeMismatch: Not one probability and one label per row.
        BadInput: A probability lies outside 0 to 1.
    """
    p, y = _check(probabilities, labels)
    return mean((p - y) ** 2, clusters, resamples=resamples, level=level, seed=seed)


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
    bins = monotone_bins(p, y)
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
