"""Null distributions: permuted labels, the range of a control's draws, permutation p-values, and p-values adjusted for many tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInput
from .rows import Array, cluster_codes, finite_rows
from .seeds import numpy_rng


@dataclass(frozen=True)
class Central:
    """The central part of the draws of a control: an interval that holds one further draw with a known probability.

    Attributes:
        low, high: The k-th smallest and the k-th largest draw.
        middle: The median.
        level: The probability with which a further draw of the same kind lies from `low` to `high`: 1 - 2 k / (draws + 1). It is below
            the level that was asked for where the draws are too few for it.
        draws: How many there are.
        meant: The level that was asked for.
    """

    low: float
    high: float
    middle: float
    level: float
    draws: int
    meant: float

    @property
    def note(self) -> str:
        """What the ends are, for tables and captions."""
        if self.level > self.meant - 1e-9:
            return f"middle and central {100 * self.meant:.4g} % of {self.draws} draws"
        return f"middle, least and most of {self.draws} draws: a further one lies between in {100 * self.level:.3g} %"


def central(draws: ArrayLike, level: float = 0.95) -> Central:
    """Return the interval of a control's draws that holds a further draw with a probability of at least `level`.

    Quantiles that are interpolated between few draws hold less: 86 % of further draws at 20 where 95 % are meant. Here the ends are the
    k-th smallest and the k-th largest of B draws, with k = floor((B + 1) (1 - level) / 2). Fewer than 2 / (1 - level) - 1 draws (39 for
    95 %) do not reach `level`: the ends are then the least and the most, and the result says which level they have.

    Args:
        draws: One number per draw, 1 or more.
        level: Between 0 and 1; raising it widens the interval.

    Returns:
        The interval, with the level that it has.

    Raises:
        BadInput: No draw, or a level out of range.
        NotFinite: A draw is NaN or infinite.

    References:
        Wilks 1941, Ann. Math. Stat. 12:91 (order statistics as limits of prediction).
    """
    x = np.sort(finite_rows(draws))
    b = len(x)
    if not b or not 0 < level < 1:
        raise BadInput(f"{b} draws and level={level}: one draw at least, and a level between 0 and 1")
    k = max(1, math.floor((b + 1) * (1 - level) / 2 + 1e-9))
    return Central(float(x[k - 1]), float(x[b - k]), float(np.median(x)), 1 - 2 * k / (b + 1), b, level)


def permutation_p(observed: float, null: ArrayLike, *, two_sided: bool = False) -> float:
    """Return the share of null draws at least as large as the observed value, counting the observed one itself.

    (1 + #{null >= observed}) / (1 + draws); the smallest value that `draws` permits is 1 / (1 + draws), never 0.

    Args:
        observed: The statistic of the real labels.
        null: The statistic of each null draw.
        two_sided: Count the draws that lie at least as far from the mean of the null, on either side.

    Returns:
        A p-value, above 0 and at most 1; a small one says that the null rarely reaches the observed value.

    Raises:
        NotFinite: A null draw is NaN or infinite.

    References:
        Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    draws = finite_rows(null)
    if two_sided:
        centre = draws.mean()
        return float((1 + (np.abs(draws - centre) >= abs(observed - centre)).sum()) / (1 + len(draws)))
    return float((1 + (draws >= observed).sum()) / (1 + len(draws)))


def permutation_null(
    statistic: Callable[[NDArray], float], labels: ArrayLike, clusters: ArrayLike | None = None, *, draws: int = 1000, seed: int = 0
) -> Array:
    """Return a statistic under permuted labels; with clusters, labels move only among the rows of one cluster.

    Args:
        statistic: Maps the labels of all rows to one number.
        labels: One label per row.
        clusters: Cluster of each row; `None` lets labels move among all rows.
        draws: Number of permutations; raising it lowers the smallest p-value that the null permits.
        seed: Draws the permutations.

    Returns:
        The statistic of each permutation, `draw`.

    Raises:
        ShapeMismatch: There is not one cluster per row.
    """
    y = np.asarray(labels)
    codes, m = cluster_codes(clusters, len(y)) if clusters is not None else (np.zeros(len(y), np.int64), 1)
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

    Args:
        p_values: One p-value per test, 0 to 1.

    Returns:
        The adjusted p-values, in the order given; each is at least as large as the p-value itself, and at most 1.

    Raises:
        BadInput: A p-value lies outside 0 to 1.
        NotFinite: A p-value is NaN.

    References:
        Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57:289.
    """
    p = finite_rows(p_values)
    if ((p < 0) | (p > 1)).any():
        raise BadInput("p-values lie between 0 and 1")
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return out
