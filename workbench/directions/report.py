"""What the comparison of two directions reports, and the words of its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..core.errors import BadInput
from ..core.show import Shown, number, some
from ..core.show import between as between_text

VERDICTS = ("opposite", "partly opposite", "orthogonal", "partly aligned", "aligned")
MARGINS = (0.2, 0.9)


@dataclass(frozen=True, kw_only=True, repr=False)
class GeometryReport(Shown):
    """What two directions have to do with each other.

    Attributes:
        names: The two concepts.
        verdict: One of `VERDICTS`, "undetermined" or "refused".
        reason: Why, in words.
        cosine: Cross-fitted and disattenuated; `nan` where a direction has no measurable length. May leave [-1, 1] by its error.
        interval: Of the cosine; without end where the directions are too noisy.
        naive_cosine: Of the two mean differences, noise and all.
        reliability: Half-sample cosine of each direction, by concept.
        reliability_interval: Of these.
        p: Permutation p-values: each concept's signal (one-sided), and "relation", the two-sided one of their product.
        null: Of the naive cosine under permuted labels (middle, low, high), and the band of the cross-fitted product over the measured
            lengths: what noise alone makes of this construction.
        bootstrap: The interval by resampling, as a check (`nan` where it was not asked for).
        rank: Effective rank of each direction's noise, by concept.
        massive: How many dimensions vary over 100 times as much as the middle one, and the cosine without them.
        lengths: Cross-fitted length of each direction, by concept.
        metric, variance: In which inner product; which variance.
        n: Rows, by cell.
        clusters: Independent units; `independent`: of them, those in the cell that has the fewest.
        level: Confidence level.
        margins: The class edges.
    """

    names: tuple[str, str]
    verdict: str
    reason: str
    cosine: float
    interval: tuple[float, float]
    naive_cosine: float
    reliability: Mapping[str, float]
    reliability_interval: Mapping[str, tuple[float, float]]
    p: Mapping[str, float] = field(default_factory=dict)
    null: Mapping[str, float] = field(default_factory=dict)
    bootstrap: tuple[float, float] = (math.nan, math.nan)
    rank: Mapping[str, float] = field(default_factory=dict)
    massive: tuple[int, float] = (0, math.nan)
    lengths: Mapping[str, float] = field(default_factory=dict)
    metric: str = "raw"
    variance: str = ""
    n: Mapping[str, int] = field(default_factory=dict)
    clusters: int = 0
    independent: int = 0
    level: float = 0.95
    margins: tuple[float, float] = MARGINS

    @property
    def angle(self) -> float:
        """In degrees, of the cosine cut to [-1, 1]."""
        return math.degrees(math.acos(min(1.0, max(-1.0, self.cosine)))) if self.cosine == self.cosine else math.nan

    def row(self) -> dict[str, Any]:
        """Return the report as one row of a table: `first, second, metric, verdict, value, low, high, n, clusters, …`."""
        a, b = self.names
        return {
            "first": a,
            "second": b,
            "metric": self.metric,
            "verdict": self.verdict,
            "value": self.cosine,
            "low": self.interval[0],
            "high": self.interval[1],
            "n": min(self.n.values(), default=0),
            "clusters": self.clusters,
            "naive_cosine": self.naive_cosine,
            "null_naive": self.null.get("naive", math.nan),
            "null_low": self.null.get("low", math.nan),
            "null_high": self.null.get("high", math.nan),
            "p": self.p.get("relation", math.nan),
            "reliability_first": self.reliability[a],
            "reliability_second": self.reliability[b],
            "effective_rank": min(self.rank.values(), default=math.nan),
            "massive": self.massive[0],
            "without_massive": self.massive[1],
            "variance": self.variance,
            "note": self.reason,
        }

    def __str__(self) -> str:
        a, b = self.names
        return f"{a} and {b}: {self.verdict}. {self.reason}"

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        a, b = self.names
        n, low, high = min(self.n.values(), default=0), *self.interval
        return f"{a} and {b}: {self.verdict}, cosine {self.cosine:.2f} [{low:.2f}, {high:.2f}], n={n:,}, {self.clusters:,} clusters", {
            "verdict": f"{self.verdict}. {self.reason}",
            "cosine, cross-fitted and disattenuated": between_text(self.cosine, low, high),
            "naive cosine (not corrected)": number(self.naive_cosine),
            "naive cosine of noise, same construction": number(self.null["naive"]) if self.null else "",
            **{
                f"reliability of {k}": between_text(v, *self.reliability_interval.get(k, (math.nan, math.nan)), digits=2)
                for k, v in self.reliability.items()
            },
            "p, two-sided, that they are unrelated": number(self.p["relation"]) if "relation" in self.p else "",
            "metric": self.metric,
            "clusters": f"{self.clusters:,}, {self.independent:,} in the smallest cell",
            "variance": self.variance,
            "rows": some(f"{k} {v:,}" for k, v in self.n.items()),
        }

    def _shown_notes(self) -> Iterable[str]:
        count, without = self.massive
        return [f"{count} massive dimensions; without them the cosine is {number(without)}"] if count else []


def verdict(interval: tuple[float, float], margins: tuple[float, float] = MARGINS) -> str:
    """Return the class that holds the whole interval, or "undetermined".

    opposite: c < -.9; partly opposite: -.9 to -.2; orthogonal: |c| < .2; partly aligned: .2 to .9; aligned: c > .9.

    Args:
        interval: Lower and upper end of a cosine's interval; infinite ends where there is none.
        margins: The class edges, 0 < first < second < 1; raising the first makes "orthogonal" wider, raising the second makes
            "opposite" and "aligned" narrower.

    Returns:
        One of `VERDICTS`, or "undetermined" where the interval meets two classes.

    Raises:
        BadInput: Margins out of order.
    """
    near, far = margins if len(margins) == 2 else (1.0, 0.0)
    if not 0 < near < far < 1:
        raise BadInput(f"margins={margins}: 0 < first < second < 1")
    low, high = interval
    edges = [-math.inf, -far, -near, near, far, math.inf]
    for name, left, right in zip(VERDICTS, edges, edges[1:], strict=False):
        closed = name in ("opposite", "aligned") and math.isfinite(low + high)
        if (left < low and high < right) or (closed and left <= low and high <= right):
            return name
    return "undetermined"


def table_of(reports: Mapping[Any, GeometryReport], index: str = "layer") -> pd.DataFrame:
    """Put several reports into one table.

    Args:
        reports: Reports by layer, or by anything else.
        index: Name of the column for what they go by.

    Returns:
        One row per report, in order: the column `index` and the columns of `GeometryReport.row`.
    """
    return pd.DataFrame([{index: k} | r.row() for k, r in reports.items()])
