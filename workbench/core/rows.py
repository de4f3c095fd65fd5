"""What statistics require of their rows: one finite number per row, one cluster per row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import NotFinite, ShapeMismatch

Array = NDArray[np.float64]


def cluster_codes(clusters: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], int]:
    """Return the clusters of rows as numbers.

    Args:
        clusters: Cluster of each row, of any type that sorts; `None` makes every row a cluster of its own.
        n: Number of rows.

    Returns:
        The number of each row's cluster (0 to the number of clusters minus 1), and the number of clusters.

    Raises:
        ShapeMismatch: There is not one cluster per row.
    """
    if clusters is None:
        return np.arange(n), n
    names = np.asarray(clusters)
    if names.shape != (n,):
        raise ShapeMismatch(f"{n} rows and clusters of shape {names.shape}")
    _, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), int(codes.max(initial=-1)) + 1


def groups_of(within: ArrayLike | None, n: int) -> list[NDArray[np.int64]]:
    """Return the places of the rows of each name; without names all rows together.

    Args:
        within: One name per row, or `None`.
        n: Number of rows.

    Returns:
        Places, a row of them per name.

    Raises:
        ShapeMismatch: There is not one name per row.
    """
    codes, m = (np.zeros(n, dtype=np.int64), 1) if within is None else cluster_codes(within, n)
    return [np.flatnonzero(codes == k) for k in range(m)]


def finite_rows(values: ArrayLike) -> Array:
    """Return one finite number per row, as float64.

    Args:
        values: Numbers, one per row.

    Returns:
        The same numbers as an array.

    Raises:
        ShapeMismatch: The values have more than one axis.
        NotFinite: A value is NaN or infinite; the message gives the first row.
    """
    x = np.asarray(values, float)
    if x.ndim != 1:
        raise ShapeMismatch(f"one number per row, got shape {x.shape}")
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise NotFinite(f"{len(bad)} of {len(x)} values are not finite, the first in row {bad[0]}")
    return x
