"""Directions from other draws of the same rows: resampled by cluster, and with labels that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..core.direction import Direction
from ..core.errors import ShapeMismatch, TooFew
from ..core.rows import cluster_codes
from ..core.seeds import numpy_rng
from ..core.stats import cluster_weights
from ..core.types import Float, Tensor


def _paired(positive: Tensor, negative: Tensor, clusters: ArrayLike | None) -> int:
    if positive.shape != negative.shape or positive.ndim != 2:
        raise ShapeMismatch(f"paired rows, row x d_in: {tuple(positive.shape)} and {tuple(negative.shape)}")
    units = cluster_codes(clusters, len(positive))[1]
    if units < 4:
        raise TooFew(f"{units} clusters: 4 at least, to resample them")
    return units


def bootstrap_directions(
    positive: Float[Tensor, "row d_in"],
    negative: Float[Tensor, "row d_in"],
    clusters: ArrayLike | None = None,
    *,
    resamples: int = 39,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> list[Direction]:
    """Return mean differences over resamples of the clusters.

    Args:
        positive, negative: Paired rows.
        clusters: Cluster of each row; `None` for independent rows.
        resamples: How many.
        provenance: Of the directions: model, site, layer.
        seed: Draws the resamples.

    Returns:
        One direction per resample.

    Raises:
        ShapeMismatch: The rows are not paired.
        TooFew: Fewer than four clusters.
    """
    _paired(positive, negative, clusters)
    weights = torch.from_numpy(cluster_weights(clusters, len(positive), resamples, seed))
    means = weights @ (positive - negative).double() / weights.sum(1, keepdim=True)
    return [Direction.of(v, method=f"resample {k}", n=len(positive), provenance=provenance or {}) for k, v in enumerate(means)]


def shuffled_directions(
    positive: Float[Tensor, "row d_in"],
    negative: Float[Tensor, "row d_in"],
    clusters: ArrayLike | None = None,
    *,
    draws: int = 39,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> list[Direction]:
    """Return mean differences after the two rows of half of the pairs have changed places, whole clusters at a time.

    As many rows are turned as are not, as nearly as the clusters' sizes allow. With an uneven number the result would hold a multiple of
    the direction itself, and explained shares do not tell a short direction from a long one.

    Args:
        positive, negative, clusters, provenance: As for `bootstrap_directions`.
        draws: How many.
        seed: Draws which clusters change places.

    Returns:
        One direction per draw. Each keeps what the rows share beside the label.

    Raises:
        ShapeMismatch, TooFew: As for `bootstrap_directions`.
    """
    units = _paired(positive, negative, clusters)
    codes = cluster_codes(clusters, len(positive))[0]
    size = np.bincount(codes, minlength=units)
    rng = numpy_rng(seed, "shuffled directions")
    difference = (positive - negative).double()
    out = []
    for k in range(draws):
        signs, total = np.zeros(units), 0.0
        for cluster in sorted(rng.permutation(units), key=lambda c: -size[c]):  # the largest first, ties in an order drawn at random
            signs[cluster] = -np.sign(total) if total else rng.choice([-1.0, 1.0])
            total += signs[cluster] * size[cluster]
        v = (torch.from_numpy(signs[codes])[:, None] * difference).mean(0)
        out.append(Direction.of(v, method=f"shuffled labels {k}", n=len(positive), provenance=provenance or {}))
    return out
