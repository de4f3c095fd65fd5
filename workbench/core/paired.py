"""Proportions of the same rows: their difference, and the share of right ones when half of the rows are called 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .errors import BadInput, ShapeMismatch
from .rows import Array, groups_of
from .stats import Estimate, proportion, undefined


def paired_proportions(first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Estimate the difference of two proportions over the same rows, first minus second.

    The share of rows that gain (1 in the first only) and the share that lose (1 in the second only) have a clustered Wilson
    interval each. The interval of their difference adds the distances of the ends from the estimates in quadrature, with the
    correlation of two shares of one sample. It has a width also where no row or every row differs.

    Args:
        first, second: Zeros and ones, one per row, both of the same rows in the same order.
        clusters: Cluster of each row; `None` for independent rows.
        level: Confidence level, between 0 and 1; raising it widens the interval.

    Returns:
        The difference, -1 to 1; positive where `first` holds more ones. Undefined without rows.

    Raises:
        ShapeMismatch: The two have different numbers of rows, or more than one axis.
        BadInput: A value is neither 0 nor 1.

    References:
        Newcombe 1998, Stat. Med. 17:2635; Zou and Donner 2008, Stat. Med. 27:1693 (variance recovered from limits).
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ShapeMismatch(f"paired rows: {a.shape} and {b.shape}")
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise BadInput("a proportion is of zeros and ones")
    if not len(a):
        return undefined("no rows")
    gain, loss = (proportion(x, clusters, level) for x in (a * (1 - b), b * (1 - a)))
    value = gain.value - loss.value
    # a row that gains does not lose: the two shares are negatively correlated, and their difference varies more than if they were not
    spread = gain.value * (1 - gain.value) * loss.value * (1 - loss.value)
    r = -gain.value * loss.value / math.sqrt(spread) if spread > 0 else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a + b * b - 2 * r * a * b))

    low = value - reach(gain.value - gain.low, loss.high - loss.value)
    high = value + reach(gain.high - gain.value, loss.value - loss.low)
    return Estimate(
        value=value, low=max(-1.0, low), high=min(1.0, high), n=len(a), clusters=gain.clusters, level=level, method="paired, Newcombe"
    )


def centred_hits(scores: ArrayLike, y: ArrayLike, within: ArrayLike | None = None) -> Array:
    """Return which items are right with the median score as threshold; what ties with it counts one half.

    Args:
        scores: One score per item.
        y: 0 or 1 per item.
        within: One name per item: each name has a median of its own. By default all items share one.

    Returns:
        1, one half or 0 per item; their mean is the accuracy.
    """
    s, truth, hits = np.asarray(scores, float), np.asarray(y) == 1, np.zeros(len(np.asarray(y)))
    for rows in groups_of(within, len(s)):
        threshold = np.quantile(s[rows], 0.5, method="lower")
        hits[rows] = np.where(s[rows] == threshold, 0.5, (s[rows] > threshold) == truth[rows])
    return hits
