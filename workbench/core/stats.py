"""Estimates with intervals: proportions, means and AUROC of clustered rows, nulls and false discovery.

Rows about one identity are not independent. Wherever clusters are given, they, not the rows, are what is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from .errors import BadInput, OneClass, ShapeMismatch
from .estimate import Estimate, undefined, wilson
from .nulls import benjamini_hochberg, permutation_null, permutation_p
from .rows import Array, cluster_codes, finite_rows, groups_of
from .seeds import numpy_rng

__all__ = [
    "Array",
    "Estimate",
    "auroc",
    "auroc_weighted",
    "benjamini_hochberg",
    "bootstrap",
    "cluster_draws",
    "cluster_weights",
    "mean",
    "paired_difference",
    "permutation_null",
    "permutation_p",
    "proportion",
    "undefined",
    "wilson",
]


def proportion(hits: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Estimate a proportion of clustered rows with a Wilson interval at the effective sample size.

    The effective n is p(1-p) / v, where v is the between-cluster variance of the mean, and never more than the rows. Where
    fewer than five clusters hold the rarer outcome v says little, and the effective n is at most the number of clusters.
    The factor (z/t)^2 pays for few clusters.

    Args:
        hits: Zeros and ones (or booleans), one per row.
        clusters: Cluster of each row; `None` for independent rows (then it is the plain Wilson interval).
        level: Confidence level, between 0 and 1; raising it widens the interval.

    Returns:
        The share of ones. With one cluster its interval is 0 to 1; without rows it is undefined.

    Raises:
        ShapeMismatch: The hits have more than one axis, or there is not one cluster per row.
        BadInput: A hit is neither 0 nor 1.

    References:
        Korn and Graubard 1998, Survey Methodology 24:193 (effective sample size); Wilson 1927.
    """
    x = np.asarray(hits, float)
    if x.ndim != 1:
        raise ShapeMismatch(f"one number per row, got shape {x.shape}")
    n = len(x)
    if n == 0:
        return undefined("no rows")
    if not np.isin(x, (0, 1)).all():
        raise BadInput("a proportion is of zeros and ones")
    codes, m = cluster_codes(clusters, n)
    p = float(x.mean())
    effective = float(n)
    if clusters is not None and m < n:
        if m < 2:
            return Estimate(value=p, low=0.0, high=1.0, n=n, clusters=m, level=level, method="one cluster", note="one cluster")
        rarer = x if p < 0.5 else 1 - x
        few = int((np.bincount(codes, rarer, m) > 0).sum()) < 5
        if 0 < p < 1:
            residual = np.bincount(codes, x - p, m)
            v = float(m / (m - 1) * (residual**2).sum() / n**2)
            z, student = float(norm.ppf(0.5 + level / 2)), float(t.ppf(0.5 + level / 2, m - 1))
            effective = min(float(n), p * (1 - p) / v * (z / student) ** 2) if v > 0 else float(n)
        effective = min(effective, float(m)) if few else effective
    low, high = wilson(p * effective, effective, level)
    return Estimate(value=p, low=low, high=high, n=n, clusters=m, level=level, method="Wilson, clustered" if m < n else "Wilson")


def cluster_draws(clusters: ArrayLike | None, n: int, resamples: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Draw bootstrap resamples of whole clusters, counted by cluster.

    Args:
        clusters: Cluster of each row; `None` makes every row a cluster of its own.
        n: Number of rows.
        resamples: Number of resamples; raising it steadies the ends of an interval.
        seed: Draws the resamples; the same seed and clusters give the same resamples.

    Returns:
        How often each cluster is drawn, `resample x cluster`, each row summing to the number of clusters; and the number
        of each row's cluster, `row`.

    Raises:
        ShapeMismatch: There is not one cluster per row.
    """
    codes, m = cluster_codes(clusters, n)
    return numpy_rng(seed, "bootstrap").multinomial(m, np.full(m, 1 / m), size=resamples).astype(float), codes


def cluster_weights(clusters: ArrayLike | None, n: int, resamples: int, seed: int) -> Array:
    """Draw bootstrap resamples of whole clusters, counted by row.

    Args:
        clusters, n, resamples, seed: As for `cluster_draws`.

    Returns:
        How often each row is drawn, `resample x row`: the count of its cluster.
    """
    draws, codes = cluster_draws(clusters, n, resamples, seed)
    return draws[:, codes]


def bootstrap(
    statistic: Callable[[Array], Array],
    n: int,
    clusters: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    bounded: bool = False,
) -> Estimate:
    """Estimate any weighted statistic with a percentile bootstrap over clusters.

    Args:
        statistic: Maps row weights `resample x row` to one value per resample; all-one weights give the estimate.
        n: Number of rows.
        clusters: Cluster of each row; `None` for independent rows.
        resamples: Bootstrap draws; raising it steadies the ends of the interval.
        level: Confidence level, between 0 and 1; raising it widens the interval.
        seed: Draws the resamples.
        bounded: The statistic is a share between 0 and 1. Where it is 0 or 1 in every resample the interval is then that
            of as many agreeing clusters (Wilson).

    Returns:
        The statistic of all rows, in its own unit, with the percentile interval of its resamples.

    Raises:
        ShapeMismatch: There is not one cluster per row.

    Note:
        With one cluster, or a statistic that no resample changes, an interval of no width would claim certainty: its ends
        are then undefined (`nan`), and the note says why.
    """
    value = float(statistic(np.ones((1, n)))[0])
    _, m = cluster_codes(clusters, n)
    draws = statistic(cluster_weights(clusters, n, resamples, seed))
    return _percentiles(value, draws, n, m, resamples, level, bounded)


def _percentiles(value: float, draws: Array, n: int, m: int, resamples: int, level: float, bounded: bool) -> Estimate:
    draws = draws[np.isfinite(draws)]
    if math.isnan(value) or m < 2 or len(draws) < resamples / 2:
        why = "one cluster" if m < 2 else "the statistic is undefined"
        return Estimate(value=value, low=math.nan, high=math.nan, n=n, clusters=m, level=level, method="bootstrap", note=why)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    note = ""
    if low == high and bounded and value in (0.0, 1.0):
        low, high = wilson(value * m, m, level)
    elif low == high:
        low, high, note = math.nan, math.nan, "no resample changes it"
    return Estimate(
        value=value, low=float(low), high=float(high), n=n, clusters=m, level=level, method=f"cluster bootstrap, {resamples}", note=note
    )


def mean(values: ArrayLike, clusters: ArrayLike | None = None, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate a mean with a percentile bootstrap over clusters.

    Args:
        values: One number per row.
        clusters: Cluster of each row; `None` for independent rows.
        resamples: Bootstrap draws; raising it steadies the ends of the interval.
        level: Confidence level, between 0 and 1; raising it widens the interval.
        seed: Draws the resamples.

    Returns:
        The mean over rows, in the unit of the values; undefined without rows, without an interval from one cluster.

    Raises:
        NotFinite: A value is NaN or infinite.
        ShapeMismatch: The values have more than one axis, or there is not one cluster per row.
    """
    x = finite_rows(values)
    if not len(x):
        return undefined("no rows")
    draws, codes = cluster_draws(clusters, len(x), resamples, seed)
    m = draws.shape[1]
    means = (draws @ np.bincount(codes, x, m)) / (draws @ np.bincount(codes, minlength=m))
    return _percentiles(float(x.mean()), means, len(x), m, resamples, level, False)


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate the mean of first minus second over the same rows, bootstrapped over clusters.

    Args:
        first, second: One number per row, both of the same rows in the same order.
        clusters, resamples, level, seed: As for `mean`.

    Returns:
        The mean difference, in the unit of the values; positive where `first` is larger.

    Raises:
        ShapeMismatch: The two have different numbers of rows.
        NotFinite: A value is NaN or infinite.
    """
    a, b = finite_rows(first), finite_rows(second)
    if a.shape != b.shape:
        raise ShapeMismatch(f"paired rows: {a.shape} and {b.shape}")
    return mean(a - b, clusters, resamples=resamples, level=level, seed=seed)


def auroc_weighted(scores: ArrayLike, labels: ArrayLike, weights: Array, within: ArrayLike | None = None) -> Array:
    """Return the AUROC under each row of weights; a tie counts one half.

    Args:
        scores: One score per row.
        labels: 0 or 1 per row.
        weights: `resample x row`, not negative.
        within: One name per row: only rows of one name are compared with each other, as the statements that were shown behind one
            sentence. A shift that all of them share then changes nothing. By default all rows are compared.

    Returns:
        One AUROC per row of weights, `resample`, 0 to 1; `nan` where the weights leave only one class (within every name).

    Raises:
        NotFinite: A score is NaN or infinite.
    """
    s = finite_rows(scores)
    y = np.asarray(labels).astype(bool)
    right, total = np.zeros(len(weights)), np.zeros(len(weights))
    for rows in groups_of(within, len(s)):
        order = rows[np.argsort(s[rows], kind="stable")]
        starts = np.flatnonzero(np.r_[True, np.diff(s[order]) != 0])
        positive = np.add.reduceat(weights[:, order] * y[order], starts, axis=1)
        negative = np.add.reduceat(weights[:, order] * ~y[order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative
        total += positive.sum(1) * negative.sum(1)
        right += (positive * (below + negative / 2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / np.where(total > 0, total, np.nan)


def auroc(
    scores: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    within: ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate the area under the ROC curve, ties counted one half, with a bootstrap over clusters.

    Args:
        scores: One score per row.
        labels: 0 or 1 per row.
        within: As for `auroc_weighted`: only rows of one name are compared with each other.
        clusters, resamples, level, seed: As for `mean`.

    Returns:
        The share of pairs of one row of each class in which the row labelled 1 has the larger score: 0.5 at chance, 1 where
        the scores separate the classes, 0 where they separate them the wrong way round.

    Raises:
        OneClass: The labels are all of one class.
        NotFinite: A score is NaN or infinite.
    """
    y = np.asarray(labels)
    if len(np.unique(y)) < 2:
        raise OneClass(f"AUROC needs both classes; all {len(y)} labels are {y[0] if len(y) else 'missing'}")
    draws, codes = cluster_draws(clusters, len(y), resamples, seed)
    m = draws.shape[1]
    if m > 1000:  # a table of cluster by cluster would be larger than the resamples
        how: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed, "bounded": True}
        return bootstrap(lambda w: auroc_weighted(scores, y, w, within), len(y), clusters, **how)
    s, positive, wins, pairs = finite_rows(scores), y.astype(bool), np.zeros((m, m)), np.zeros((m, m))
    for rows in groups_of(within, len(y)):
        won, all_ = _wins(s[rows], positive[rows], codes[rows], m)
        wins, pairs = wins + won, pairs + all_
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.einsum("rm,rm->r", draws @ wins, draws) / np.einsum("rm,rm->r", draws @ pairs, draws)
        value = float(wins.sum() / pairs.sum())
    return _percentiles(value, values, len(y), m, resamples, level, True)


def _wins(scores: Array, positive: NDArray[np.bool_], codes: NDArray[np.int64], m: int) -> tuple[Array, Array]:
    """Count the pairs of clusters' rows that the positive row wins, and all pairs: the AUROC of a resample is their ratio."""
    order = np.argsort(scores, kind="stable")
    s, y, c = scores[order], positive[order], codes[order]
    start = np.flatnonzero(np.r_[True, np.diff(s) != 0])
    level = np.cumsum(np.r_[True, np.diff(s) != 0]) - 1
    # negatives of each cluster at each level of the score
    counts = np.zeros((len(start), m))
    np.add.at(counts, (level[~y], c[~y]), 1.0)
    below = np.cumsum(counts, 0) - counts / 2  # a tie counts one half
    wins = np.zeros((m, m))
    np.add.at(wins, c[y], below[level[y]])
    return wins, np.outer(np.bincount(c[y], minlength=m), np.bincount(c[~y], minlength=m)).astype(float)
