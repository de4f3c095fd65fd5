"""Estimates with intervals: proportions, means and AUROC of clustered rows, nulls and false discovery.

Rows about one identity are not independent. Wherever clusters are given, they, not the rows, are what is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from .errors import BadInput, NotFinite, OneClass, ShapeMismatch
from .seeds import numpy_rng
from .show import ShownEstimate

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(ShownEstimate):
    """A number with its interval.

    Attributes:
        value: The estimate; `nan` where it is undefined.
        low, high: Ends of the interval.
        n: Rows that went in.
        clusters: Independent units among them.
        level: Confidence level of the interval.
        method: How the interval was made.
        note: Why a value is `nan`, or what to mind.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int
    level: float = 0.95
    method: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if math.isfinite(self.low) and math.isfinite(self.high) and self.low > self.high:
            raise BadInput(f"an interval from {self.low} to {self.high}")
        if math.isnan(self.value) and not self.note:
            raise BadInput("an undefined estimate says why: give a note")

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"undefined ({self.note})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"

    def row(self) -> dict[str, float | int]:
        """Return the columns `value, low, high, n` of a table."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def undefined(note: str, n: int = 0) -> Estimate:
    """Return an estimate that could not be made, and why."""
    return Estimate(value=math.nan, low=math.nan, high=math.nan, n=n, clusters=0, note=note)


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Args:
        successes: Number of successes, 0 to `n`; need not be whole (an effective sample).
        n: Number of trials.
        level: Confidence level; raising it widens the interval.

    References:
        Wilson 1927, J. Am. Stat. Assoc. 22:209.
    """
    if n <= 0:
        return math.nan, math.nan
    if not 0 <= successes <= n:
        raise BadInput(f"{successes} successes of {n}")
    z = float(norm.ppf(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half))


def _codes(clusters: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], int]:
    if clusters is None:
        return np.arange(n), n
    names = np.asarray(clusters)
    if names.shape != (n,):
        raise ShapeMismatch(f"{n} rows and clusters of shape {names.shape}")
    _, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), int(codes.max(initial=-1)) + 1


def proportion(hits: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Estimate a proportion of clustered rows with a Wilson interval at the effective sample size.

    The effective n is p(1-p) / v, where v is the between-cluster variance of the mean, and never more than the rows. Where
    fewer than five clusters hold the rarer outcome v says little, and the effective n is at most the number of clusters.
    The factor (z/t)^2 pays for few clusters.

    Args:
        hits: Zeros and ones (or booleans), one per row.
        clusters: Cluster of each row; `None` for independent rows (then it is the plain Wilson interval).
        level: Confidence level.

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
    codes, m = _codes(clusters, n)
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
    """Return how often each cluster is drawn in each bootstrap resample, `resample x cluster`, and each row's cluster."""
    codes, m = _codes(clusters, n)
    return numpy_rng(seed, "bootstrap").multinomial(m, np.full(m, 1 / m), size=resamples).astype(float), codes


def cluster_weights(clusters: ArrayLike | None, n: int, resamples: int, seed: int) -> Array:
    """Return how often each row is drawn in each bootstrap resample of whole clusters, `resample x row`."""
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
        level: Confidence level.
        seed: Draws the resamples.
        bounded: The statistic is a share between 0 and 1. Where it is 0 or 1 in every resample the interval is then that
            of as many agreeing clusters (Wilson).

    Note:
        With one cluster, or a statistic that no resample changes, an interval of no width would claim certainty: its ends
        are then undefined (`nan`), and the note says why.
    """
    value = float(statistic(np.ones((1, n)))[0])
    _, m = _codes(clusters, n)
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
    """Estimate a mean with a bootstrap over clusters."""
    x = _finite(values)
    if not len(x):
        return undefined("no rows")
    draws, codes = cluster_draws(clusters, len(x), resamples, seed)
    m = draws.shape[1]
    means = (draws @ np.bincount(codes, x, m)) / (draws @ np.bincount(codes, minlength=m))
    return _percentiles(float(x.mean()), means, len(x), m, resamples, level, False)


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate the mean of first minus second over the same rows, bootstrapped over clusters."""
    a, b = _finite(first), _finite(second)
    if a.shape != b.shape:
        raise ShapeMismatch(f"paired rows: {a.shape} and {b.shape}")
    return mean(a - b, clusters, resamples=resamples, level=level, seed=seed)


def _finite(values: ArrayLike) -> Array:
    x = np.asarray(values, float)
    if x.ndim != 1:
        raise ShapeMismatch(f"one number per row, got shape {x.shape}")
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise NotFinite(f"{len(bad)} of {len(x)} values are not finite, the first in row {bad[0]}")
    return x


def auroc_weighted(scores: ArrayLike, labels: ArrayLike, weights: Array) -> Array:
    """Return the AUROC under each row of weights; a tie counts one half.

    Args:
        scores: One score per row.
        labels: 0 or 1 per row.
        weights: `resample x row`, not negative.
    """
    s = _finite(scores)
    y = np.asarray(labels).astype(bool)
    order = np.argsort(s, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(s[order]) != 0])
    positive = np.add.reduceat(weights[:, order] * y[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~y[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    total = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * (below + negative / 2)).sum(1) / np.where(total > 0, total, np.nan)


def auroc(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate the area under the ROC curve, ties counted one half, with a bootstrap over clusters.

    Raises:
        OneClass: The labels are all of one class.
    """
    y = np.asarray(labels)
    if len(np.unique(y)) < 2:
        raise OneClass(f"AUROC needs both classes; all {len(y)} labels are {y[0] if len(y) else 'missing'}")
    draws, codes = cluster_draws(clusters, len(y), resamples, seed)
    m = draws.shape[1]
    if m > 1000:  # a table of cluster by cluster would be larger than the resamples
        return bootstrap(
            lambda w: auroc_weighted(scores, y, w), len(y), clusters, resamples=resamples, level=level, seed=seed, bounded=True
        )
    wins, pairs = _wins(_finite(scores), y.astype(bool), codes, m)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.einsum("rm,rm->r", draws @ wins, draws) / np.einsum("rm,rm->r", draws @ pairs, draws)
    return _percentiles(float(wins.sum() / pairs.sum()), values, len(y), m, resamples, level, True)


def _wins(scores: Array, positive: NDArray[np.bool_], codes: NDArray[np.int64], m: int) -> tuple[Array, Array]:
    """Pairs that a positive row of one cluster wins over a negative of another, and all: the AUROC of a resample is their ratio."""
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


def permutation_p(observed: float, null: ArrayLike, *, two_sided: bool = False) -> float:
    """Return the share of null draws at least as large as the observed value, counting the observed one itself.

    (1 + #{null >= observed}) / (1 + draws); the smallest value that `draws` permits is 1 / (1 + draws), never 0.

    References:
        Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    draws = _finite(null)
    if two_sided:
        centre = draws.mean()
        return float((1 + (np.abs(draws - centre) >= abs(observed - centre)).sum()) / (1 + len(draws)))
    return float((1 + (draws >= observed).sum()) / (1 + len(draws)))


def permutation_null(
    statistic: Callable[[NDArray], float], labels: ArrayLike, clusters: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0
) -> Array:
    """Return a statistic under permuted labels; with clusters, labels move only among the rows of one cluster."""
    y = np.asarray(labels)
    codes, m = _codes(clusters, len(y)) if clusters is not None else (np.zeros(len(y), np.int64), 1)
    rng = numpy_rng(seed, "permutation")
    rows = [np.flatnonzero(codes == c) for c in range(m)]
    out = np.empty(draws)
    for k in range(draws):
        shuffled = y.copy()
        for r in rows:
            shuffled[r] = y[rng.permutation(r)]
        out[k] = statistic(shuffled)
    return out


def benjamini_hochberg(p_values: ArrayLike) -> Array:
    """Return adjusted p-values: rejecting those at or below q keeps the expected false discovery rate at q.

    References:
        Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57:289.
    """
    p = _finite(p_values)
    if ((p < 0) | (p > 1)).any():
        raise BadInput("p-values lie between 0 and 1")
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return out
