"""The variance of an estimate over rows that share identities, rights, texts: from what each row adds to it.

An estimate is written as a sum over rows (its influence values). Rows of one cluster are added first. Residuals of a cluster are divided
by the root of what the cluster leaves to the others, so that a cluster with half of the rows does not hide its own distance, and the
degrees of freedom are Satterthwaite's. With several factors (identities x rights x sentences) the variances of all are added, and that of
the cells which they share is taken off.

References:
    Bell and McCaffrey 2002, Surv. Methodol. 28:169; Imbens and Kolesar 2016, Rev. Econ. Stat. 98:701 (small samples);
    Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29:238 (several factors); Obuchowski 1997, Biometrics 53:567 (AUROC).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import t

from .errors import ShapeMismatch
from .estimate import Estimate, wilson
from .rows import Array, cluster_codes

Codes = tuple[NDArray[np.int64], int]
FEW = 5  # fewer clusters than this, where they alone hold what departs from the rest, say little about the spread


@dataclass(frozen=True)
class Spread:
    """How far an estimate varies.

    Attributes:
        variance: Of the estimate; `nan` with one cluster.
        freedom: Degrees of freedom of the variance.
        clusters: Independent units: those of the first factor.
    """

    variance: float
    freedom: float
    clusters: int

    def reach(self, level: float) -> float:
        """Return half the length of the interval, in the unit of the estimate.

        Args:
            level: Confidence level, between 0 and 1; raising it widens the interval.
        """
        return float(t.ppf(0.5 + level / 2, max(self.freedom, 1.0)) * np.sqrt(self.variance))


def factors(clusters: ArrayLike | None, n: int) -> list[Codes]:
    """Return the clusters of rows as numbers, for each factor.

    Args:
        clusters: Cluster of each row, `row`; or of several factors, `row x factor`; `None` makes every row a cluster of its own.
        n: Number of rows.

    Returns:
        Per factor, the number of each row's cluster, and the number of clusters.

    Raises:
        ShapeMismatch: There is not one cluster per row.
    """
    names = None if clusters is None else np.asarray(clusters)
    if names is None or names.ndim == 1:
        return [cluster_codes(names, n)]
    if names.ndim != 2 or len(names) != n or not names.shape[1]:
        raise ShapeMismatch(f"{n} rows and clusters of shape {names.shape}")
    return [cluster_codes(column.astype(str) if column.dtype == object else column, n) for column in names.T]


def cells(of: list[Codes]) -> Codes:
    """Return the crossing of all factors as one.

    Args:
        of: From `factors`.
    """
    codes, m = of[0]
    for more, k in of[1:]:
        codes, m = cluster_codes(codes * k + more, len(codes))
    return codes, m


def spread(influence: ArrayLike, clusters: ArrayLike | None = None, strata: ArrayLike | None = None) -> Spread:
    """Return the variance of an estimate from the influence of each row, and its degrees of freedom.

    Args:
        influence: What each row adds to the estimate's distance from the truth; sums to 0. For a mean, (x - mean) / rows.
        clusters: Cluster of each row, or `row x factor`.
        strata: Which mean each row goes into, where the estimate compares several, as the class of an AUROC.

    Returns:
        The variance in the unit of the estimate squared; `nan` where a factor has one value.

    Raises:
        ShapeMismatch: There is not one cluster per row.
    """
    u = np.asarray(influence, float)
    of = factors(clusters, len(u))
    kind = np.zeros(len(u), np.int64) if strata is None else cluster_codes(strata, len(u))[0]
    units = of[0][1]
    if min(m for _, m in of) < 2:
        return Spread(np.nan, 1.0, min(units, 1))
    parts = [_one(u, codes, m, kind) for codes, m in of]
    variance = sum(v for v, _ in parts)
    for size in range(2, len(of) + 1):  # what several factors share was counted more than once
        shared = [float((np.bincount(cells(list(some))[0], u) ** 2).sum()) for some in combinations(of, size)]
        variance += (-1) ** (size + 1) * sum(shared)
    if variance <= 0:  # a difference of estimates can be
        variance = max(v for v, _ in parts)
    noise = sum(v**2 / f for v, f in parts)
    return Spread(variance, max(min(f for _, f in parts), variance**2 / noise if noise > 0 else 1.0), units)


def _one(u: Array, codes: NDArray[np.int64], m: int, kind: NDArray[np.int64]) -> tuple[float, float]:
    """One factor: the sum of squared cluster residuals, and (sum of eigenvalues)^2 / sum of their squares under equal rows."""
    total, diagonals, vectors = np.zeros(m), [], []
    for k in range(int(kind.max(initial=0)) + 1):
        rows = kind == k
        size = np.bincount(codes[rows], minlength=m).astype(float)
        n = size.sum()
        left = 1 - size / n
        scale = np.where(left > 1e-9, 1 / np.sqrt(np.maximum(left, 1e-9)), 1.0)
        total += scale * np.bincount(codes[rows], u[rows], m)
        diagonals.append(scale**2 * size / n**2)
        vectors.append(scale * size / n**1.5)
    trace = sum(d.sum() - (v**2).sum() for d, v in zip(diagonals, vectors, strict=True))
    square = 0.0
    for d, v in zip(diagonals, vectors, strict=True):
        for e, w in zip(diagonals, vectors, strict=True):
            square += float((d * e).sum() - (d * w**2).sum() - (e * v**2).sum() + (v @ w) ** 2)
    return float((total**2).sum()), float(trace**2 / square) if square > 0 else 1.0


def kish(codes: NDArray[np.int64], m: int) -> float:
    """Return how many clusters of equal size carry as much: (rows)^2 / sum of squared sizes.

    Args:
        codes, m: From `factors`.

    References:
        Kish 1965, Survey Sampling.
    """
    size = np.bincount(codes, minlength=m).astype(float)
    return float(size.sum() ** 2 / (size**2).sum())


def few(departs: ArrayLike, clusters: ArrayLike | None) -> bool:
    """Return whether fewer than five clusters (of the first factor) hold a row that departs.

    Args:
        departs: Whether each row departs from what the others say, or how much (0 where it does not).
        clusters: As for `spread`.
    """
    codes, m = factors(clusters, len(np.asarray(departs)))[0]
    return int((np.bincount(codes, np.abs(np.asarray(departs, float)), m) > 0).sum()) < FEW


def constant(value: float, n: int, m: int, level: float, bounded: bool) -> Estimate:
    """Return what no cluster changes: a share of 0 or 1 has the interval of as many agreeing clusters, any other statistic none."""
    low, high, note = math.nan, math.nan, "no resample changes it"
    if bounded and value in (0.0, 1.0):
        (low, high), note = wilson(value * m, m, level), ""
    return Estimate(value=value, low=low, high=high, n=n, clusters=m, level=level, method="agreeing clusters", note=note)


def student(value: float, variance: float, freedom: float, n: int, m: int, level: float, bounded: bool, method: str) -> Estimate:
    """Return Student's interval; for a share inside 0 to 1 that of its log-odds (`bounded`)."""
    reach = Spread(variance, freedom, m).reach(level)
    low, high = value - reach, value + reach
    if bounded and 0 < value < 1:
        centre, reach = math.log(value / (1 - value)), reach / (value * (1 - value))
        low, high = (float(expit(centre + side * reach)) for side in (-1, 1))
    elif bounded:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(value=value, low=low, high=high, n=n, clusters=m, level=level, method=method)


def linearised(
    value: float, influence: Array, clusters: ArrayLike | None, level: float, bounded: bool, strata: ArrayLike | None = None
) -> Estimate:
    """Return the interval of a statistic from the influence of each row.

    Args:
        value: The estimate.
        influence, clusters, strata: As for `spread`.
        level: Confidence level, between 0 and 1; raising it widens the interval.
        bounded: The statistic is a share between 0 and 1; the interval is then that of its log-odds.

    Returns:
        The estimate with Student's interval; without one where there is one cluster, or where no row changes it.
    """
    n, v = len(influence), spread(influence, clusters, strata)
    if v.clusters < 2:
        return Estimate(
            value=value, low=math.nan, high=math.nan, n=n, clusters=v.clusters, level=level, method="one cluster", note="one cluster"
        )
    if v.variance <= 1e-24 * max(1.0, value**2):
        return constant(value, n, v.clusters, level, bounded)
    return student(value, v.variance, v.freedom, n, v.clusters, level, bounded, f"clustered t, {v.freedom:.0f} df")
