"""A ratio of two means over the same rows whose interval stays right where the mean below the line is small."""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy.typing import ArrayLike
from scipy.optimize import brentq

from .clustered import spread
from .errors import BadInput, ShapeMismatch
from .estimate import Estimate, undefined
from .rows import Array, finite_rows

FARTHEST = 2.0**60  # in units of the ratio's own scale; a bounded set ends long before


def fieller(over: ArrayLike, under: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Estimate mean of one column / mean of another over the same rows, with Fieller's interval over clusters.

    The interval holds every ratio r for which the mean of over - r under is not told from 0 (Student's t at the variance between
    clusters). It is not symmetric, and it is bounded only where the mean below the line is told from 0: elsewhere any ratio fits, and the
    estimate is undefined. `stats.ratio` linearises instead: it has an interval everywhere, and is too sure where the mean below is small.

    Args:
        over, under: One number per row, both of the same rows in the same order.
        clusters: Cluster of each row, or `row x factor`; `None` for independent rows.
        level: Confidence level, between 0 and 1; raising it widens the interval, and refuses more.

    Returns:
        The ratio; undefined without rows, with one cluster, or where the mean below the line is not told from 0.

    Raises:
        ShapeMismatch: The two have different numbers of rows.
        NotFinite: A value is NaN or infinite.
        BadInput: The level is no share.

    References:
        Fieller 1954, J. R. Stat. Soc. B 16:175; Franz 2007, arXiv 0710.2024 (when the set is bounded).
    """
    a, b = finite_rows(over), finite_rows(under)
    if a.shape != b.shape:
        raise ShapeMismatch(f"paired rows: {a.shape} and {b.shape}")
    if not 0 < level < 1:
        raise BadInput(f"level {level}: between 0 and 1")
    n = len(a)
    if not n:
        return undefined("no rows")
    below = spread((b - b.mean()) / n, clusters)
    if below.clusters < 2:
        return undefined("one cluster", n)
    if abs(b.mean()) <= max(below.reach(level), 1e-12):
        return undefined(f"the difference below the line, {b.mean():+.3f} [+- {below.reach(level):.3f}], is not told from 0", n)
    value = float(a.mean() / b.mean())

    def far(r: float) -> float:
        rest: Array = a - r * b
        return abs(float(rest.mean())) - spread((rest - rest.mean()) / n, clusters).reach(level)

    low, high = (_end(far, value, side) for side in (-1, 1))
    return Estimate(value=value, low=low, high=high, n=n, clusters=below.clusters, level=level, method="Fieller, clustered t")


def _end(far: Callable[[float], float], value: float, side: int) -> float:
    """The first ratio on one side of the estimate that the rows tell from the truth; the estimate itself where none is nearer."""
    if far(value) >= 0:
        return value
    inside, step = value, 0.05
    while step < FARTHEST:
        outside = value + side * step
        if far(outside) > 0:
            return float(brentq(far, *sorted((inside, outside)), xtol=1e-6))  # pyright: ignore[reportArgumentType, reportCallIssue]
        inside, step = outside, 2 * step
    return side * math.inf


__all__ = ["fieller"]
