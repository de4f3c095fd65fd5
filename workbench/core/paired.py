"""Differences of proportions over the same rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .errors import BadInput, ShapeMismatch
from .stats import Estimate, proportion, undefined


def paired_proportions(first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Estimate the difference of two proportions over the same rows, first minus second, also where nothing or everything differs.

    The rows that gain (first only) and those that lose (second only) have a clustered Wilson interval each; the two are joined by their
    distances from the estimate, with the correlation of two shares of one sample.

    Args:
        first, second: Zeros and ones, one per row.
        clusters: Cluster of each row; `None` for independent rows.
        level: Confidence level.

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
