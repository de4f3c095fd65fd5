"""Null distributions: permuted labels, permutation p-values, and p-values adjusted for many tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInput
from .rows import Array, cluster_codes, finite_rows
from .seeds import numpy_rng


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
