"""A number with its interval, and the one interval in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.stats import norm

from .errors import BadInput
from .show import ShownEstimate


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(ShownEstimate):
    """A number with its interval.

    Attributes:
        value: The estimate; `nan` where it is undefined.
        low, high: Ends of the interval.
        n: Number of rows behind the estimate.
        clusters: Independent units among them.
        level: Confidence level of the interval.
        method: How the interval was made.
        note: Why a value is `nan`, or what limits the estimate.
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
    """Return an estimate of a quantity that is undefined here.

    Args:
        note: Why it is undefined, for tables and captions.
        n: Rows that were given.

    Returns:
        An estimate whose value and interval are `nan`.
    """
    return Estimate(value=math.nan, low=math.nan, high=math.nan, n=n, clusters=0, note=note)


def not_told(low: float, high: float, at: float = 0.5) -> str:
    """Return, in words, that an interval holds a value and what would have been seen; "" where it does not hold it.

    Args:
        low, high: Ends of the interval.
        at: The value of no effect.

    Returns:
        Such as "not told from 0.5; a distance of 0.08 would have been seen".
    """
    if not low <= at <= high:
        return ""
    return f"not told from {at:g}; a distance of {(high - low) / 2:.2f} would have been seen"


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Args:
        successes: Number of successes, 0 to `n`; need not be whole (an effective sample).
        n: Number of trials.
        level: Confidence level, between 0 and 1; raising it widens the interval.

    Returns:
        The lower and the upper end, each between 0 and 1; `nan` for both without trials.

    Raises:
        BadInput: The successes are negative or more than the trials.

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


def agreeing(value: float, clusters: int, level: float = 0.95, reach: float = 0.0) -> tuple[float, float]:
    """Return the interval of a statistic that no resample changes: each says the same of as many agreeing clusters (Wilson).

    Args:
        value: The statistic.
        clusters: How many agree.
        level: Confidence level.
        reach: 0 for a share between 0 and 1, 1 for a difference of two shares, 2 for a ratio of excesses over one half.

    Returns:
        The ends: a difference and a ratio reach to both sides.
    """
    if reach:
        least = wilson(clusters, clusters, level)[0]
        return value - reach * (1 - least), value + reach * (1 - least)
    return wilson(value * clusters, clusters, level)


def no_narrower(e: Estimate, ends: tuple[float, float]) -> Estimate:
    """Return an estimate whose interval is widened to hold another; without one of its own it has the other.

    Args:
        e: The estimate.
        ends: The other interval, as from `agreeing`: what is nearly perfect in few clusters is known no better than what is perfect.

    Returns:
        The same estimate with its wider interval; an undefined one as it is.
    """
    if math.isnan(e.value):
        return e
    if math.isnan(e.low):
        return replace(e, low=ends[0], high=ends[1], method="agreeing clusters", note="")
    return replace(e, low=min(e.low, ends[0]), high=max(e.high, ends[1]))
