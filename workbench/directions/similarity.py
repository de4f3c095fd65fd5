"""Do two models (or layers) hold alike representations? Similarities of their rows on the same prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.stats import t

from ..activations import Activations
from ..core.errors import BadInput, ShapeMismatch, TooFew
from ..core.seeds import numpy_rng
from ..core.stats import Estimate, mean, undefined
from ..core.types import Float, Tensor
from ..probes.scaling import matrix

GROUPS = 20  # of clusters, left out in turn


def two_sets(first: Any, second: Any) -> tuple[Float[Tensor, "row d_first"], Float[Tensor, "row d_second"]]:
    """Return both models' rows about the same items, in float64, after checking them.

    Raises:
        ShapeMismatch, TooFew, NotFinite: Rows that do not belong together, or cannot be used.
    """
    x, y = matrix(first, "first").double(), matrix(second, "second").double()
    if len(x) != len(y):
        raise ShapeMismatch(f"both models read the same prompts in the same order: {len(x)} and {len(y)} rows")
    if len(x) < 16:
        raise TooFew(f"{len(x)} rows; 16 at least")
    return x, y


def _hsic(k: Float[Tensor, "row row"], m: Float[Tensor, "row row"]) -> float:
    """Unbiased HSIC of two Gram matrices with empty diagonals (Song et al. 2012, JMLR 13:1393, equation 5)."""
    n = len(k)
    a, b = k.sum(), m.sum()
    return float(((k * m).sum() + a * b / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3)))


def _cka(k: Float[Tensor, "row row"], m: Float[Tensor, "row row"]) -> float:
    """Alignment of two Gram matrices; `nan` where one of them does not vary."""
    down = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / down**0.5 if down > 0 else float("nan")


def _gram(x: Float[Tensor, "row d"]) -> Float[Tensor, "row row"]:
    """Inner products of centred rows, with an empty diagonal."""
    g = (x - x.mean(0)) @ (x - x.mean(0)).T
    g.fill_diagonal_(0)
    return g


def linear_cka(first: Any, second: Any, *, clusters: ArrayLike | None = None, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate linear centred kernel alignment of two sets of rows about the same items, without its small-sample bias.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), each HSIC unbiased: 0 on average for unrelated rows however few there are.

    Args:
        first: Rows of the first model, `row x d_first`, 16 at least.
        second: Rows of the second model about the same items, in the same order, of any width.
        clusters: Cluster of each row; the interval is a jackknife that leaves out a twentieth of them at a time. `None`: every
            row is its own.
        level: Confidence level of the interval, between 0 and 1.
        seed: Deals the clusters into twentieths.

    Returns:
        The alignment with its interval: 1 for rows that are equal up to rotation and scale, 0 on average for unrelated ones
        (single estimates may lie below). Undefined where one of the two sets does not vary.

    Raises:
        ShapeMismatch: The two do not have equally many rows, or not one cluster each.
        TooFew: Under 16 rows or four clusters.

    References:
        Kornblith et al. 2019, arXiv 1905.00414; the unbiased form: Song et al. 2012, JMLR 13:1393.
    """
    x, y = two_sets(first, second)
    k, m = _gram(x), _gram(y)
    names = np.unique(np.arange(len(x)) if clusters is None else np.asarray(clusters), return_inverse=True)[1]
    if names.shape != (len(x),):
        raise ShapeMismatch(f"{len(x)} rows and clusters of shape {names.shape}")
    count = int(names.max()) + 1
    parts = min(GROUPS, count)
    if parts < 4:
        raise TooFew(f"{count} clusters; four at least")
    deal = (numpy_rng(seed, "cka").permutation(count) % parts)[names]
    value = _cka(k, m)
    if math.isnan(value):
        return undefined("one of the two sets of rows does not vary", len(x))
    left = []
    for g in range(parts):
        keep = torch.as_tensor(np.flatnonzero(deal != g))
        left.append(_cka(k[keep][:, keep], m[keep][:, keep]))
    half = float(t.ppf(0.5 + level / 2, parts - 1) * np.sqrt((parts - 1) / parts * ((np.array(left) - np.mean(left)) ** 2).sum()))
    return Estimate(
        value=value, low=value - half, high=value + half, n=len(x), clusters=count, level=level, method=f"jackknife of {parts} groups"
    )


def mutual_knn(first: Any, second: Any, *, k: int = 10, clusters: ArrayLike | None = None) -> Estimate:
    """Estimate the mean share of a row's k nearest neighbours (by cosine) that both models agree on; k / (n - 1) by chance.

    Args:
        first: Rows of the first model, `row x d_first`, 16 at least.
        second: Rows of the second model about the same items, in the same order, of any width.
        k: Neighbours, 1 or more, and fewer than a row has candidates. Raising it compares coarser neighbourhoods.
        clusters: Cluster of each row: rows of one cluster are no candidates for neighbours, and the interval resamples
            clusters. `None`: every row is its own.

    Returns:
        The share, 0 to 1, with its interval.

    Raises:
        BadInput: `k` is too small or too large.
        ShapeMismatch, TooFew, NotFinite: Rows that cannot be used.

    References:
        Huh et al. 2024, arXiv 2405.07987, appendix A.
    """
    x, y = two_sets(first, second)
    names = np.arange(len(x)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    own = torch.as_tensor(names[:, None] == names[None])
    if k < 1 or k >= int((~own).sum(1).min()):
        raise BadInput(f"k={k}: there are {int((~own).sum(1).min())} candidates for neighbours")
    near = []
    for z in (x, y):
        z = z - z.mean(0)
        z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
        near.append((z @ z.T).masked_fill(own, -2).topk(k, 1).indices)
    agree = torch.zeros(len(x), len(x), dtype=torch.bool).scatter_(1, near[0], True).gather(1, near[1]).double().mean(1)
    return mean(agree.numpy(), names)


def _chance(clusters: np.ndarray, k: int) -> float:
    """Share of neighbours that two unrelated sets of rows agree on: k of those that are candidates."""
    _, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return float((k / (len(codes) - sizes[codes])).mean())


def compare_spaces(
    first: Activations, second: Activations, *, variant: int = 1, k: int = 10, layers: Iterable[int] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return CKA and mutual-neighbour alignment of every layer of one model with every layer of another, on the same prompts.

    Args:
        first: Activations of one model.
        second: Activations of the other, of the same prompts in the same order.
        variant: Which variant of each pair is read: 0 (negative) or 1 (positive).
        k: Neighbours, as for `mutual_knn`.
        layers: Layers of the first model, counted from 0; all by default. Of the second all are read.
        seed: For the intervals.

    Returns:
        One row per `layer` x `other_layer` x metric ("linear CKA", "mutual k-neighbours"), clustered by identity; `chance` is
        what unrelated rows would have.

    Raises:
        BadInput: The prompts differ.
    """
    if len(first) != len(second) or first.rows["stem"].tolist() != second.rows["stem"].tolist():
        raise BadInput("both models must have read the same prompts in the same order")
    people = first.rows["identity"].to_numpy()
    ours = {a: first.layer(a)[:, variant] for a in (layers or first.layers)}
    rows, chance = [], _chance(people, k)
    for b in second.layers:
        y = second.layer(b)[:, variant]
        for a, x in ours.items():
            place = {"layer": a, "other_layer": b, "site": first.site}
            rows.append(place | {"metric": "linear CKA", "chance": 0.0, **linear_cka(x, y, clusters=people, seed=seed).row()})
            alike = mutual_knn(x, y, k=k, clusters=people)
            rows.append(place | {"metric": f"mutual {k}-neighbours", "chance": chance, **alike.row()})
    return pd.DataFrame(rows)
