"""Random halves of clusters, and how well the directions of two halves agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..core.errors import ShapeMismatch
from ..core.seeds import derive, numpy_rng
from ..core.types import Bool, Float, Tensor
from .cells import two_of

Names = np.ndarray


def clusters_of(given: Any, n: int, m: int, together: bool) -> tuple[Names, Names]:
    """Return the cluster of each positive and of each negative row.

    Args:
        given: One sequence for both, or a pair of them; `None`: every row (where rows go in pairs, every pair) is its own.
        n: Positive rows.
        m: Negative rows.
        together: Row i of both is one item.

    Returns:
        The names of the clusters as text, for the positive and for the negative rows.

    Raises:
        ShapeMismatch: Not one cluster per row.
    """
    if given is None:
        return np.arange(n).astype(str), (np.arange(m) + (0 if together else n)).astype(str)
    p, q = (np.asarray(c).astype(str) for c in two_of(given))
    if p.shape != (n,) or q.shape != (m,):
        raise ShapeMismatch(f"clusters of {len(p)} and {len(q)} for {n} and {m} rows")
    return p, q


def half_of(
    rng: np.random.Generator, names: Names, p: Names, q: Names, kinds: Names | None = None
) -> tuple[Bool[np.ndarray, " positive"], Bool[np.ndarray, " negative"]]:
    """Return which rows of both sides lie in a random half of the clusters; with the `kinds` of the clusters, half of each kind."""
    groups = [names] if kinds is None else [names[kinds == kind] for kind in np.unique(kinds)]
    first = np.concatenate([rng.permutation(group)[: len(group) // 2] for group in groups])
    return np.isin(p, first), np.isin(q, first)


def kinds_of(names: Names, p: Names, strata: Any) -> Names | None:
    """Return the kind of each cluster: all that its rows are; `None` where there is one kind only.

    Args:
        names: The clusters.
        p: The cluster of each positive row.
        strata: What each positive row is; `None` for nothing.

    Raises:
        ShapeMismatch: Not one kind per row.
    """
    if strata is None:
        return None
    given = np.asarray(strata).astype(str)
    if given.shape != p.shape:
        raise ShapeMismatch(f"strata of {given.shape} for {len(p)} positive rows")
    held: dict[str, set[str]] = {name: set() for name in names.tolist()}
    for name, kind in zip(p.tolist(), given.tolist(), strict=True):
        held[name].add(kind)
    kinds = np.array(["|".join(sorted(held[name])) for name in names.tolist()])
    return kinds if len(np.unique(kinds)) > 1 else None


def cosine(one: Float[Tensor, " d_model"], two: Float[Tensor, " d_model"]) -> float:
    """Return the cosine of two vectors; 0 where one of them has no length."""
    return float(one @ two / (one.norm() * two.norm()).clamp(min=1e-300))


def half_cosine(
    fit: Callable[[Tensor, Tensor, int], Tensor],
    x: Float[Tensor, "positive d_model"],
    y: Float[Tensor, "negative d_model"],
    p: Names,
    q: Names,
    halves: int,
    seed: int,
    strata: Any = None,
) -> float:
    """Return the mean cosine between fits on two halves of the clusters; `nan` where there are too few rows for halves."""
    rng = numpy_rng(seed, "halves")
    names = np.unique(np.concatenate([p, q]))
    kinds = kinds_of(names, p, strata)
    cosines = []
    for k in range(halves):
        a, b = half_of(rng, names, p, q, kinds)
        if min(a.sum(), (~a).sum(), b.sum(), (~b).sum()) < 2:
            continue
        one, two = (fit(x[torch.as_tensor(s)], y[torch.as_tensor(t)], derive(seed, k)).double() for s, t in ((a, b), (~a, ~b)))
        cosines.append(cosine(one, two))
    return float(np.mean(cosines)) if cosines else math.nan
