"""Rows with a known angle, and how many of them a verdict needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.errors import BadInput
from ..core.seeds import numpy_rng
from ..core.stats import wilson
from .cells import FEWEST
from .compare import compare_directions
from .report import MARGINS, GeometryReport, verdict

Rows = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Rows of two concepts with known directions.

    Attributes:
        harm, safety: (rows, baseline) each.
        a, b: The directions, with their lengths.
        clusters: Of each row, or `None`.
    """

    harm: tuple[Rows, Rows]
    safety: tuple[Rows, Rows]
    a: Rows
    b: Rows
    clusters: list[str] | None = None


def plant(
    rng: np.random.Generator,
    *,
    cosine: float,
    signal: float,
    n: int,
    d: int = 256,
    spread: Sequence[float] | Rows = (),
    tails: str = "normal",
    construction: str = "shared",
    rows_per_cluster: int = 1,
    shared_variance: float = 0.0,
    paired: float = 0.0,
) -> Planted:
    """Draw rows with a planted angle.

    Args:
        rng: Draws everything.
        cosine: Of the two directions in units of the noise (of `spread`), -1 to 1: the angle that whitening sees.
        signal: Length of each direction in those units, 0 or more; 0 for none. Raising it makes reliabilities higher.
        n: Rows of each cell.
        d: Dimensions, 2 or more.
        spread: Standard deviation of each dimension's noise; 1 by default. Where it is given, directions lie in the unscaled space.
        tails: "normal", or "heavy" (Student with 3 degrees of freedom, of unit variance).
        construction: "shared" baseline, "disjoint" ones, "chain" (harm - neutral, neutral - safety) or "one contrast" twice.
        rows_per_cluster: Rows of a cell that share a part of their noise, 1 or more.
        shared_variance: That part of the variance, 0 to 1, common to all rows of a cluster in a cell.
        paired: Part of the variance that row i of every cell shares, 0 to 1.

    Returns:
        The rows of both concepts and their baselines, the two directions, and the clusters where there are any.
    """
    u, v = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    a, b = signal * u, signal * (cosine * u + math.sqrt(max(0.0, 1 - cosine**2)) * v)
    scale = np.asarray(spread, float) if len(spread) else np.ones(d)
    common = math.sqrt(paired) * rng.standard_normal((n, d))
    people = np.arange(n) // rows_per_cluster

    def draw() -> Rows:
        x = rng.standard_t(3, (n, d)) / math.sqrt(3) if tails == "heavy" else rng.standard_normal((n, d))
        if rows_per_cluster > 1:
            x = math.sqrt(1 - shared_variance) * x + math.sqrt(shared_variance) * rng.standard_normal((people[-1] + 1, d))[people]
        return (math.sqrt(1 - paired) * x + common) * scale + 5.0

    base = draw()
    x = draw() + a
    if construction == "one contrast":
        return Planted(harm=(x, base), safety=(base, x), a=a, b=-a)
    if construction == "chain":
        return Planted(harm=(x, base), safety=(base, draw() - b), a=a, b=b)
    other = base if construction == "shared" else draw()
    named = [f"c{p}" for p in people] if rows_per_cluster > 1 else None
    return Planted(harm=(x, base), safety=(draw() + b, other), a=a, b=b, clusters=named)


def geometry_power(
    pilot: GeometryReport | None = None,
    *,
    cosine: float | None = None,
    reliability: float | None = None,
    n: int | None = None,
    rank: float | None = None,
    ns: Sequence[int] = (32, 64, 128, 256, 512, 1024),
    runs: int = 100,
    margins: tuple[float, float] = MARGINS,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how often a verdict would be reached with so many clusters, by drawing rows with this angle, signal and noise.

    Args:
        pilot: A report to start from: its cosine (cut to [-1, 1]), lower reliability, clusters in a cell and effective rank.
        cosine: Instead of the pilot's: the true cosine, -1 to 1.
        reliability: Instead of the pilot's: the half-sample reliability at `n` clusters in a cell, between 0 and 1.
        n: Instead of the pilot's: clusters in a cell that the reliability belongs to, 1 or more.
        rank: Instead of the pilot's: the effective rank of the noise.
        ns: Numbers of clusters in a cell to try, 16 at least.
        runs: Draws for each number, 1 or more; raising it narrows the intervals.
        margins: Class edges; a pilot's own where there is one.
        seed: Draws the rows.

    Returns:
        By `clusters`: `value`, the share of draws with the right verdict, with a Wilson interval; the shares `wrong`,
        `undetermined` and `refused`; and the median `width` of the interval.

    Raises:
        BadInput: Neither a pilot nor all four numbers, or a number out of range.

    Note:
        Drawn with a shared baseline and equal noise in `rank` dimensions. A pilot's cosine is itself uncertain: try its ends too.

    Example:
        >>> import workbench as wb
        >>> table = wb.geometry_power(cosine=0.0, reliability=0.5, n=64, rank=100, ns=(32, 256), runs=20)
        >>> bool(table["value"].iloc[0] < 0.2 < 0.8 < table["value"].iloc[1])
        True
    """
    if pilot is not None:
        if cosine is None and math.isnan(pilot.cosine):
            raise BadInput("the pilot has no cosine (it was refused): give cosine= and reliability= to plan for")
        cosine = min(1.0, max(-1.0, pilot.cosine)) if cosine is None else cosine
        reliability = min(pilot.reliability.values()) if reliability is None else reliability
        n = pilot.independent if n is None else n
        rank = min(pilot.rank.values()) if rank is None else rank
        margins = pilot.margins
    if cosine is None or reliability is None or n is None or rank is None:
        raise BadInput("geometry_power needs a report, or cosine=, reliability=, n= and rank=")
    if n < 1 or runs < 1:
        raise BadInput(f"n={n}, runs={runs}: 1 at least")
    if not -1 <= cosine <= 1 or not 0 < reliability < 1:
        raise BadInput(f"a cosine in [-1, 1] and a reliability between 0 and 1; got {cosine} and {reliability}")
    d = int(min(1024, max(3, round(rank))))
    # reliability = A / (A + 2 noise), and the noise of a difference of means of n rows each is 2 d / n
    signal = math.sqrt(reliability / (1 - reliability) * 4 * d / n)
    right = verdict((cosine, cosine), margins)
    rows = []
    for size in ns:
        if size < FEWEST:
            raise BadInput(f"ns: {FEWEST} at least, got {size}")
        rows.append({"clusters": size, "verdict": right, **_share(right, cosine, signal, size, d, runs, margins, seed)})
    return pd.DataFrame(rows)


def _share(
    right: str, cosine: float, signal: float, size: int, d: int, runs: int, margins: tuple[float, float], seed: int
) -> dict[str, Any]:
    """How often drawn rows get the right verdict, a wrong one or none."""
    reports = []
    for run in range(runs):
        rows = plant(numpy_rng(seed, "power", size, run), cosine=cosine, signal=signal, n=size, d=d)
        reports.append(compare_directions(harm=rows.harm, safety=rows.safety, margins=margins, draws=0))
    words = [r.verdict for r in reports]
    hits, undetermined, refused = (words.count(word) for word in (right, "undetermined", "refused"))
    low, high = wilson(hits, runs)
    return {
        "metric": "share of right verdicts",
        "value": hits / runs,
        "low": low,
        "high": high,
        "n": runs,
        "wrong": (runs - hits - undetermined - refused) / runs,
        "undetermined": undetermined / runs,
        "refused": refused / runs,
        "width": float(np.median([r.interval[1] - r.interval[0] for r in reports])),
    }
