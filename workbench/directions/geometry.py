"""Opposite, orthogonal, or something else: the angle between two concepts with an interval, a null and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from ..core.errors import BadInput, ZeroDirection
from ..core.stats import permutation_p
from ..core.types import Float, Tensor
from .cells import Cells
from .cross import Cross, Pair, cross, fieller, pair, resampled
from .null import permuted
from .report import MARGINS, GeometryReport, verdict


def between(
    cells: Cells,
    weights: Float[Tensor, "2 cell"],
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
        weights: Of each contrast on the cells' means, `2 x cell`; each row sums to 0.
        names: Of the two contrasts.
        margins: The class edges of the verdict.
        level: Confidence level of the intervals, between 0 and 1.
        variance: "auto", "jackknife" or "jackknife - degenerate" (see `pair`).
        draws: Permutations for the null; 0 for none.
        resamples: Bootstrap draws for a second interval; 0 for none.
        seed: Draws permutations and resamples.
        metric: Name of the inner product, for the report.
        massive: Number of massive dimensions and the cosine without them, for the report.

    Returns:
        The report; a cosine above 0 means that both contrasts point to one side.

    Raises:
        ZeroDirection: The means of a contrast cancel.
        BadInput: Margins, level or variance out of range, or weights that do not sum to 0.
    """
    verdict((0.0, 0.0), margins)
    if not 0 < level < 1:
        raise BadInput(f"level={level}: between 0 and 1")
    for name, w in zip(names, weights, strict=True):
        check_direction(cells, w, name)
    products = cross(cells, weights)
    both = pair(products, variance=variance)
    q = float(student.ppf(0.5 + level / 2, freedom(cells)))
    bounds = {name: _reliable(products, k, both.alone[k], q) for k, name in enumerate(names)}
    common = _facts(cells, products, both, names) | {
        "metric": metric,
        "level": level,
        "margins": margins,
        "massive": massive,
        "reliability_interval": bounds,
    }
    if torch.equal(weights[0], weights[1]) or torch.equal(weights[0], -weights[1]):
        sign = 1.0 if torch.equal(weights[0], weights[1]) else -1.0
        why = f"Both are one contrast: the cosine is {sign:+.0f} by construction."
        return GeometryReport(verdict="refused", reason=why, cosine=sign, interval=(sign, sign), **common)
    interval = fieller(both.n, both.r, both.covariance, q)
    cosine = both.n / both.r if both.r == both.r and both.r > 0 else math.nan
    word, why = _judge(names, cosine, interval, bounds, margins)
    null, p = _null(cells, weights, products, both.r, names, draws, seed, level)
    again = _bootstrap(resampled(cells, weights, resamples=resamples, seed=seed), level) if resamples else (math.nan, math.nan)
    return GeometryReport(verdict=word, reason=why, cosine=cosine, interval=interval, p=p, null=null, bootstrap=again, **common)


def _facts(cells: Cells, products: Cross, both: Pair, names: tuple[str, str]) -> dict[str, Any]:
    """What a report says of rows and directions, whatever its verdict."""
    return {
        "names": names,
        "naive_cosine": _cosine(products.naive),
        "n": {k: int((cells.cell == i).sum()) for i, k in enumerate(cells.names)},
        "clusters": products.clusters,
        "independent": freedom(cells) + 1,
        "reliability": {name: products.reliability(k) for k, name in enumerate(names)},
        "lengths": {name: math.sqrt(max(0.0, float(products.value[k, k]))) for k, name in enumerate(names)},
        "rank": dict(zip(names, both.rank, strict=True)),
        "variance": both.method,
    }


def check_direction(cells: Cells, w: Float[Tensor, " cell"], name: str) -> None:
    """Raise unless a contrast has a length.

    Raises:
        ZeroDirection: Its means cancel.
    """
    means = torch.stack([cells.rows[torch.as_tensor(cells.cell == k)].mean(0) for k in range(len(cells.names))])
    if float((w @ means).norm()) <= 1e-10 * float(cells.rows.norm(dim=1).max()):
        raise ZeroDirection(f"{name}: rows and baseline have the same mean; there is no direction")


def _cosine(products: Float[Tensor, "2 2"]) -> float:
    return float(products[0, 1] / (products[0, 0] * products[1, 1]).sqrt())


def freedom(cells: Cells) -> int:
    """Return the degrees of freedom of an interval: clusters of the cell with the fewest, less one."""
    return min(len(np.unique(cells.cluster[cells.cell == k])) for k in range(len(cells.names))) - 1


def _reliable(products: Cross, k: int, variance: float, q: float) -> tuple[float, float]:
    """Interval of a reliability: of the cross-fitted square, the noise taken as known."""
    square, noise = float(products.value[k, k]), float(products.naive[k, k] - products.value[k, k])
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
    """The verdict, and why, in words."""
    weak = [name for name in names if not bounds[name][0] > 0]
    if weak:
        lost = " and none of ".join(weak)
        return "refused", f"No direction of {lost} that other rows would show again (lower bound of its reliability: 0 or less)."
    word = verdict(interval, margins)
    text = f"Cosine {cosine:.2f}, interval [{interval[0]:.2f}, {interval[1]:.2f}]"
    if word == "undetermined":
        return word, f"{text}, meets more than one class: more clusters are needed."
    return word, f"{text}, all of it {word}."


def _null(
    cells: Cells, weights: Float[Tensor, "2 cell"], found: Cross, r: float, names: tuple[str, str], draws: int, seed: int, level: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Angles of noise under permuted labels, and the permutation p-values."""
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


def _bootstrap(products: Float[Tensor, "resample 2 2"], level: float) -> tuple[float, float]:
    """Percentile interval of the cosine; without end where a length is too often not above 0."""
    a, b = products[:, 0, 0], products[:, 1, 1]
    good = (a > 0) & (b > 0)
    if float(good.double().mean()) < level:
        return -math.inf, math.inf
    cosines = (products[:, 0, 1] / (a * b).sqrt())[good]
    low, high = cosines.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=cosines.dtype))
    return float(low), float(high)
