"""Estimates with intervals: proportions, means and AUROC of clustered rows, nulls and false discovery.

Rows about one identity are not independent. Wherever clusters are given, they, not the rows, are what is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from .clustered import constant, factors, few, kish, linearised, spread, student
from .errors import BadInput, ShapeMismatch
from .estimate import Estimate, agreeing, no_narrower, undefined, wilson
from .nulls import benjamini_hochberg, permutation_null, permutation_p
from .ranking import auroc, auroc_difference, auroc_influence
from .rows import Array, cluster_codes, finite_rows
from .seeds import numpy_rng

__all__ = [
    "Array",
    "Estimate",
    "auroc",
    "auroc_difference",
    "auroc_influence",
    "benjamini_hochberg",
    "bootstrap",
    "cluster_draws",
    "cluster_weights",
    "exp_ratio",
    "mean",
    "paired_difference",
    "permutation_null",
    "permutation_p",
    "proportion",
    "ratio",
    "undefined",
    "wilson",
]


def proportion(hits: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Estimate a proportion of clustered rows with a Wilson interval at the effective sample size.

    The effective n is p(1-p) / v, where v is the variance of the mean between clusters (`clustered.spread`), and never more than
    the rows. Where fewer than five clusters hold the rarer outcome v says little, and the effective n is at most the number of
    clusters (Kish's, where they are of uneven size). The factor (z/t)^2 pays for few clusters.

    Args:
        hits: Zeros and ones (or booleans), one per row.
        clusters: Cluster of each row; or of two factors that cross, `row x factor` (identities, rights); `None` for independent
            rows (then it is the plain Wilson interval).
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
    p, of = float(x.mean()), factors(clusters, n)
    m = of[0][1]
    effective = float(n)
    if clusters is not None and (m < n or len(of) > 1):
        if min(k for _, k in of) < 2:
            return Estimate(value=p, low=0.0, high=1.0, n=n, clusters=m, level=level, method="one cluster", note="one cluster")
        codes, units = of[0]
        if 0 < p < 1:
            v = spread((x - p) / n, clusters)
            z, student = float(norm.ppf(0.5 + level / 2)), float(t.ppf(0.5 + level / 2, max(v.freedom, 1.0)))
            effective = min(float(n), p * (1 - p) / v.variance * (z / student) ** 2) if v.variance > 0 else float(n)
        effective = min(effective, kish(codes, units)) if few(x if p < 0.5 else 1 - x, clusters) else effective
    low, high = wilson(p * effective, effective, level)
    return Estimate(
        value=p, low=low, high=high, n=n, clusters=m, level=level, method="Wilson, clustered" if m < n or len(of) > 1 else "Wilson"
    )


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
        clusters: Cluster of each row; or of two factors that cross, `row x factor`; `None` for independent rows.
        n, resamples, seed: As for `cluster_draws`.

    Returns:
        How often each row is drawn, `resample x row`: the count of its cluster; of two factors the product of both counts.

    References:
        Owen 2007, Ann. Appl. Stat. 1:386 (two factors).
    """
    of = factors(clusters, n)
    out = np.ones((resamples, n))
    for k, (codes, m) in enumerate(of):
        name = ("bootstrap",) if len(of) == 1 else ("bootstrap", k)
        out *= numpy_rng(seed, *name).multinomial(m, np.full(m, 1 / m), size=resamples)[:, codes]
    out[out.sum(1) == 0] = 1.0  # factors can miss each other where a cell has one row
    return out


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
    """Estimate any weighted statistic with a bootstrap over clusters: Student's interval with the spread of the resamples.

    Args:
        statistic: Maps row weights `resample x row` to one value per resample; all-one weights give the estimate.
        n: Number of rows.
        clusters: Cluster of each row; `None` for independent rows.
        resamples: Bootstrap draws; raising it steadies the ends of the interval.
        level: Confidence level, between 0 and 1; raising it widens the interval.
        seed: Draws the resamples.
        bounded: The statistic is a share between 0 and 1; the interval is then that of its log-odds. Where it is 0 or 1 in every
            resample the interval is that of as many agreeing clusters (Wilson).

    Returns:
        The statistic of all rows, in its own unit, with its interval.

    Raises:
        ShapeMismatch: There is not one cluster per row.

    Note:
        With one cluster, or a statistic that no resample changes, an interval of no width would claim certainty: its ends
        are then undefined (`nan`), and the note says why.
    """
    value, m = float(statistic(np.ones((1, n)))[0]), min(k for _, k in factors(clusters, n))
    return _draws_interval(value, statistic(cluster_weights(clusters, n, resamples, seed)), n, m, level, bounded)


def _draws_interval(value: float, draws: Array, n: int, m: int, level: float, bounded: bool) -> Estimate:
    """The interval from the spread of resamples, with Student's t for few clusters; of shares on the scale of log-odds."""
    known, method = draws[np.isfinite(draws)], f"cluster bootstrap, {len(draws)}, t"
    if math.isnan(value) or m < 2 or len(known) < len(draws) / 2:
        why = "one cluster" if m < 2 else "the statistic is undefined"
        return Estimate(value=value, low=math.nan, high=math.nan, n=n, clusters=m, level=level, method="bootstrap", note=why)
    if np.ptp(known) == 0:
        return constant(value, n, m, level, bounded)
    return student(value, float(known.var(ddof=1)) * m / (m - 1), m - 1, n, m, level, bounded, method)


def mean(values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, bounded: bool = False) -> Estimate:
    """Estimate a mean with Student's interval over clusters, at Satterthwaite's degrees of freedom.

    Args:
        values: Numbers, one per row; the estimate has their unit.
        clusters: Cluster of each row, the units that are sampled; or of two factors that cross, `row x factor` (identities, rights);
            `None` for independent rows.
        level: Confidence level, between 0 and 1; raising it widens the interval.
        bounded: The values are shares or probabilities, 0 to 1; the interval is then that of the mean's log-odds. Where fewer than
            five clusters hold a value that is not 1 (or not 0) it is no narrower than that of as many agreeing clusters.

    Returns:
        The mean over all rows, every row weighing the same.

    Raises:
        NotFinite: A value is NaN or infinite.
        ShapeMismatch: There is not one cluster per row.

    References:
        Bell and McCaffrey 2002; Cameron, Gelbach and Miller 2011 (`core.clustered`).
    """
    x = finite_rows(values)
    if not len(x):
        return undefined("no rows")
    e = linearised(float(x.mean()), (x - x.mean()) / len(x), clusters, level, bounded)
    end = float(e.value > 0.5)
    if bounded and not math.isnan(e.low) and few(x - end, clusters):
        low, high = agreeing(end, e.clusters, level)
        return no_narrower(e, (min(low, e.value), max(high, e.value)))
    return e


def ratio(over: ArrayLike, under: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate sum of one column / sum of another over the same rows, linearised, with Student's interval over clusters.

    Args:
        over, under: One number per row.
        clusters, level: As for `mean`.

    Returns:
        The ratio of sums; undefined where the sum below the line is 0.

    Raises:
        NotFinite: A score is NaN or infinite.

    References:
        Cochran 1977, Sampling Techniques, section 6.3.
    """
    a, b = finite_rows(over), finite_rows(under)
    if not len(b) or abs(b.mean()) <= 1e-9:
        return undefined("the sum below the line is 0", len(b))
    value = float(a.sum() / b.sum())
    return linearised(value, (a - value * b) / b.sum(), clusters, level, False)


def exp_ratio(over: ArrayLike, under: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate exp(sum of one column / sum of another), as a perplexity: the interval is that of the exponent.

    Args:
        over, under: One number per row; those below the line are positive.
        clusters, level: As for `mean`.

    Returns:
        The exponential of the ratio of sums.

    Raises:
        NotFinite: A value is NaN or infinite.
    """
    log = ratio(over, under, clusters, level=level)
    return replace(log, value=math.exp(log.value), low=math.exp(log.low), high=math.exp(log.high))


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, reach: float = 0.0
) -> Estimate:
    """Estimate the mean of first minus second over the same rows.

    Args:
        first, second: One number per row, both of the same rows in the same order.
        clusters, level: As for `mean`.
        reach: The largest difference that can be: 1 for shares. Where it is given, and fewer than five clusters hold a row that
            differs, or none differs from the others, the interval is no narrower than that of as many clusters in which nothing differs.

    Returns:
        The mean difference, in the unit of the values; positive where `first` is larger.

    Raises:
        ShapeMismatch: The two have different numbers of rows.
        NotFinite: A value is NaN or infinite.
    """
    a, b = finite_rows(first), finite_rows(second)
    if a.shape != b.shape:
        raise ShapeMismatch(f"paired rows: {a.shape} and {b.shape}")
    e = mean(a - b, clusters, level=level)
    if not reach:
        return e
    if e.clusters > 1 and (math.isnan(e.low) or few(a - b, clusters)):  # gains and losses can cancel in every cluster
        e = no_narrower(e, agreeing(e.value, e.clusters, level, reach))
    return replace(e, low=max(-reach, e.low), high=min(reach, e.high)) if e.low <= e.high else e
