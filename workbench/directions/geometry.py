"""Opposite, orthogonal, or something else: the angle between two concepts with an interval, a null and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from torch import Tensor

from ..core.errors import BadInput, ZeroDirection
from ..core.show import Shown, number, some
from ..core.show import between as between_text
from ..core.stats import permutation_p
from .cells import Cells
from .cross import Cross, cross, fieller, pair, resampled
from .null import permuted

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
        """Return one row of a table."""
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


def between(
    cells: Cells,
    weights: Tensor,
    names: tuple[str, str],
    *,
    margins: tuple[float, float] = MARGINS,
    level: float = 0.95,
    variance: str = "auto",
    draws: int = 1000,
    resamples: int = 0,
    seed: int = 0,
    metric: str = "raw",
    massive: tuple[int, float] = (0, math.nan),
) -> GeometryReport:
    """Say how two contrasts of cells lie to each other; see `compare_directions`.

    Args:
        cells: The rows, in the inner product asked for.
        weights: `2 x cell`.
        names: Of the two contrasts.
        margins, level, variance, draws, resamples, seed: As there.
        metric, massive: What the report says of them.

    Raises:
        ZeroDirection: The means of a contrast cancel.
    """
    verdict((0.0, 0.0), margins)
    if not 0 < level < 1:
        raise BadInput(f"level={level}: between 0 and 1")
    sizes = {k: int((cells.cell == i).sum()) for i, k in enumerate(cells.names)}
    for name, w in zip(names, weights, strict=True):
        check_direction(cells, w, name)
    found = cross(cells, weights)
    naive = _cosine(found.naive)
    common: dict[str, Any] = {
        "names": names,
        "naive_cosine": naive,
        "metric": metric,
        "n": sizes,
        "clusters": found.clusters,
        "independent": freedom(cells) + 1,
        "level": level,
        "margins": margins,
        "massive": massive,
        "reliability": {name: found.reliability(k) for k, name in enumerate(names)},
        "lengths": {name: math.sqrt(max(0.0, float(found.value[k, k]))) for k, name in enumerate(names)},
    }
    both = pair(found, variance=variance)
    common["rank"] = dict(zip(names, both.rank, strict=True))
    q = float(student.ppf(0.5 + level / 2, freedom(cells)))
    bounds = {name: _reliable(found, k, both.alone[k], q) for k, name in enumerate(names)}
    if torch.equal(weights[0], weights[1]) or torch.equal(weights[0], -weights[1]):
        sign = 1.0 if torch.equal(weights[0], weights[1]) else -1.0
        why = f"Both are one contrast: the cosine is {sign:+.0f} by construction."
        return GeometryReport(
            verdict="refused", reason=why, cosine=sign, interval=(sign, sign), reliability_interval=bounds, variance=both.method, **common
        )
    interval = fieller(both.n, both.r, both.covariance, q)
    cosine = both.n / both.r if both.r == both.r and both.r > 0 else math.nan
    word, why = _judge(names, cosine, interval, bounds, margins)
    null, p = _null(cells, weights, found, both.r, names, draws, seed, level)
    again = _bootstrap(resampled(cells, weights, resamples=resamples, seed=seed), level) if resamples else (math.nan, math.nan)
    return GeometryReport(
        verdict=word,
        reason=why,
        cosine=cosine,
        interval=interval,
        reliability_interval=bounds,
        p=p,
        null=null,
        bootstrap=again,
        variance=both.method,
        **common,
    )


def check_direction(cells: Cells, w: Tensor, name: str) -> None:
    """Raise unless a contrast has a length.

    Raises:
        ZeroDirection: Its means cancel.
    """
    means = torch.stack([cells.rows[torch.as_tensor(cells.cell == k)].mean(0) for k in range(len(cells.names))])
    if float((w @ means).norm()) <= 1e-10 * float(cells.rows.norm(dim=1).max()):
        raise ZeroDirection(f"{name}: rows and baseline have the same mean; there is no direction")


def _cosine(products: Tensor) -> float:
    return float(products[0, 1] / (products[0, 0] * products[1, 1]).sqrt())


def freedom(cells: Cells) -> int:
    """Return the degrees of freedom of an interval: clusters of the cell with the fewest, less one."""
    return min(len(np.unique(cells.cluster[cells.cell == k])) for k in range(len(cells.names))) - 1


def _reliable(found: Cross, k: int, variance: float, q: float) -> tuple[float, float]:
    """Interval of a reliability: of the cross-fitted square, the noise taken as known."""
    square, noise = float(found.value[k, k]), float(found.naive[k, k] - found.value[k, k])
    ends = [square - q * variance**0.5, square + q * variance**0.5]
    low, high = (e / (e + 2 * noise) if e + 2 * noise > 0 else -1.0 for e in ends)
    return max(-1.0, low), high


def _judge(
    names: tuple[str, str],
    cosine: float,
    interval: tuple[float, float],
    bounds: Mapping[str, tuple[float, float]],
    margins: tuple[float, float],
) -> tuple[str, str]:
    weak = [name for name in names if not bounds[name][0] > 0]
    if weak:
        return (
            "refused",
            f"No direction of {' and none of '.join(weak)} that other rows would show again (lower bound of its reliability: 0 or less).",
        )
    word = verdict(interval, margins)
    text = f"Cosine {cosine:.2f}, interval [{interval[0]:.2f}, {interval[1]:.2f}]"
    if word == "undetermined":
        return word, f"{text}, meets more than one class: more clusters are needed."
    return word, f"{text}, all of it {word}."


def _null(
    cells: Cells, weights: Tensor, found: Cross, r: float, names: tuple[str, str], draws: int, seed: int, level: float
) -> tuple[dict[str, float], dict[str, float]]:
    if not draws:
        return {}, {}
    crossed, naive = permuted(cells, weights, draws=draws, seed=seed)
    cosines = naive[:, 0, 1] / (naive[:, 0, 0] * naive[:, 1, 1]).sqrt()
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=cosines.dtype)
    low, high = (float(v) for v in cosines.quantile(ends))
    band = crossed[:, 0, 1].quantile(ends) / r
    p = {name: permutation_p(float(found.value[k, k]), crossed[:, k, k].numpy()) for k, name in enumerate(names)}
    p["relation"] = permutation_p(float(found.value[0, 1]), crossed[:, 0, 1].numpy(), two_sided=True)
    return {
        "naive": float(cosines.median()),
        "naive_low": low,
        "naive_high": high,
        "low": float(band[0]),
        "high": float(band[1]),
    }, p


def _bootstrap(products: Tensor, level: float) -> tuple[float, float]:
    a, b = products[:, 0, 0], products[:, 1, 1]
    good = (a > 0) & (b > 0)
    if float(good.double().mean()) < level:
        return -math.inf, math.inf
    cosines = (products[:, 0, 1] / (a * b).sqrt())[good]
    low, high = cosines.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=cosines.dtype))
    return float(low), float(high)


def table_of(reports: Mapping[Any, GeometryReport], index: str = "layer") -> pd.DataFrame:
    """Return the rows of several reports, by layer or by anything else."""
    return pd.DataFrame([{index: k} | r.row() for k, r in reports.items()])
