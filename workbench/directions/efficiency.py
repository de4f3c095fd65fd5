"""How many rows a direction needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.seeds import derive, numpy_rng
from ..core.types import Float, Tensor
from ..probes.scaling import matrix
from .halves import clusters_of, cosine, half_of
from .methods import PAIRED, Fit, method_of


def direction_efficiency(
    positive: Any,
    negative: Any,
    *,
    methods: Sequence[str | Callable[..., Any]] = ("mean_difference", "logistic"),
    sizes: Sequence[int] | None = None,
    paired: bool | None = None,
    clusters: Any = None,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how near a direction from few rows comes to one from other rows: cosine with a fit on the other half of the clusters.

    Args:
        positive: Rows with the concept, `row x d_model`.
        negative: Rows without it, of the same width.
        methods: To compare: names of `METHODS`, or functions of your own, as for `extract_direction`.
        sizes: Rows of each side; by default doubling from 4 to half of them.
        paired: Row i of both is one item; by default so where the method needs it.
        clusters: Cluster of each row, as for `extract_direction`.
        repeats: Draws of rows for each size, 1 or more.
        seed: Draws the rows.

    Returns:
        One row per method and number of `items`: the mean cosine `value` (1: the same direction) with the central 95 % of draws.

    Raises:
        UnknownName: No such method.
        ShapeMismatch, NotFinite: Rows that cannot be used.
    """
    x, y = matrix(positive, "positive"), matrix(negative, "negative")
    rows = []
    most = min(len(x), len(y)) // 2
    sizes = sizes or [int(4 * 2**k) for k in range(12) if 4 * 2**k <= most]
    for method in methods:
        name, fit = method_of(method)
        together = name in PAIRED if paired is None else paired
        p, q = clusters_of(clusters, len(x), len(y), together)
        for size in sizes:
            cosines = _cosines(fit, x, y, p, q, size, together, repeats, seed)
            if cosines:
                low, high = np.quantile(cosines, [0.025, 0.975])
                place = {"method": name, "items": size, "metric": "cosine with the other half"}
                rows.append(place | {"value": float(np.mean(cosines)), "low": low, "high": high, "n": len(cosines)})
    return pd.DataFrame(rows)


def _cosines(
    fit: Fit,
    x: Float[Tensor, "positive d_model"],
    y: Float[Tensor, "negative d_model"],
    p: np.ndarray,
    q: np.ndarray,
    size: int,
    together: bool,
    repeats: int,
    seed: int,
) -> list[float]:
    """Cosines between a fit on a few rows of one half of the clusters and a fit on all of the other half."""
    names = np.unique(np.concatenate([p, q]))
    cosines = []
    for k in range(repeats):
        rng = numpy_rng(seed, "efficiency", size, k)
        a, b = half_of(rng, names, p, q)
        i = rng.permutation(np.flatnonzero(a))[:size]
        j = i if together else rng.permutation(np.flatnonzero(b))[:size]
        if min(len(i), len(j)) < size:
            continue
        few = fit(x[i], y[j], derive(seed, k)).double()
        rest = fit(x[np.flatnonzero(~a)], y[np.flatnonzero(~b)], derive(seed, k)).double()
        cosines.append(cosine(few, rest))
    return cosines
