"""Do two models (or layers) hold alike representations? Similarities of their rows on the same prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.stats import t

from ..activations import Activations
from ..core.clustered import Codes, factors
from ..core.errors import BadInput, ShapeMismatch, TooFew
from ..core.seeds import numpy_rng
from ..core.stats import Estimate, undefined
from ..core.tables import units_of
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


def _apart(of: list[Codes]) -> Tensor:
    """Which pairs of rows share no cluster of any factor, `row x row`: rows of one identity resemble each other in every model."""
    alike = np.zeros((len(of[0][0]),) * 2, bool)
    for codes, _ in of:
        alike |= codes[:, None] == codes
    return torch.as_tensor(~alike)


def _hsic(k: Float[Tensor, "row row"], m: Float[Tensor, "row row"], apart: Float[Tensor, "row row"]) -> float:
    """HSIC over the pairs that are `apart`; the other entries of both Gram matrices are 0.

    Every term is a mean over pairs, triples or quadruples of rows, so that it is 0 on average for unrelated rows. With all pairs of
    different rows it is the unbiased form of Song et al. 2012, JMLR 13:1393, equation 5.
    """
    both, row, a, b = (k * m).sum(), k.sum(0) @ m.sum(0), k.sum(), m.sum()
    degree = apart.sum(0)
    pairs, paths = degree.sum(), degree @ degree
    return float(both / pairs + (a * b - 4 * row + 2 * both) / (pairs**2 - 4 * paths + 2 * pairs) - 2 * (row - both) / (paths - pairs))


def _cka(k: Float[Tensor, "row row"], m: Float[Tensor, "row row"], apart: Float[Tensor, "row row"]) -> float:
    """Alignment of two Gram matrices; `nan` where one of them does not vary."""
    down = _hsic(k, k, apart) * _hsic(m, m, apart)
    return _hsic(k, m, apart) / down**0.5 if down > 0 else float("nan")


def _jackknife(
    value: float, less: Callable[[Tensor], float], of: list[Codes], level: float, seed: int, name: str, note: str = ""
) -> Estimate:
    """The interval of a value from the statistic of what remains when a twentieth of the clusters is left out, factor by factor."""
    counts = [m for _, m in of]
    if counts[0] < 4 or min(counts) < 3:
        raise TooFew(f"{min(counts)} clusters; four at least, and three of a further factor")
    variance, freedom = 0.0, GROUPS
    for place, (codes, count) in enumerate(of):
        parts = min(GROUPS, count)
        deal = (numpy_rng(seed, name, *((place,) if place else ())).permutation(count) % parts)[codes]
        left = np.array([less(torch.as_tensor(np.flatnonzero(deal != g))) for g in range(parts)])
        variance += (parts - 1) / parts * ((left - left.mean()) ** 2).sum()
        freedom = min(freedom, parts - 1)
    half = float(t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance))
    method = "jackknife of " + " and ".join(f"{min(GROUPS, m)} groups" for m in counts)
    n = len(of[0][0])
    return Estimate(value=value, low=value - half, high=value + half, n=n, clusters=counts[0], level=level, method=method, note=note)


def linear_cka(first: Any, second: Any, *, clusters: ArrayLike | None = None, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate linear centred kernel alignment of two sets of rows about the same items, without its small-sample bias.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), each HSIC over pairs of rows that share no cluster: 0 on average for unrelated rows
    however few there are, also where rows of one cluster are alike in each.

    Args:
        first: Rows of the first model, `row x d_first`, 16 at least.
        second: Rows of the second model about the same items, in the same order, of any width.
        clusters: Cluster of each row, or `row x factor` (identities, rights): pairs of one cluster are left out, and the interval is a
            jackknife that leaves out a twentieth of the clusters at a time. `None`: every row is its own.
        level: Confidence level of the interval, between 0 and 1.
        seed: Deals the clusters into twentieths.

    Returns:
        The alignment with its interval: 1 for rows that are equal up to rotation and scale, 0 on average for unrelated ones
        (single estimates may lie below). Undefined where one of the two sets does not vary between clusters.

    Raises:
        ShapeMismatch: The two do not have equally many rows, or not one cluster each.
        TooFew: Under 16 rows or four clusters (three of a further factor).

    References:
        Kornblith et al. 2019, arXiv 1905.00414; the unbiased form: Song et al. 2012, JMLR 13:1393.
    """
    x, y = two_sets(first, second)
    of = factors(clusters, len(x))
    apart = _apart(of).double()
    k, m = ((z - z.mean(0)) @ (z - z.mean(0)).T * apart for z in (x, y))

    def less(keep: Tensor) -> float:
        return _cka(*(g[keep][:, keep] for g in (k, m, apart)))

    value = _cka(k, m, apart)
    if math.isnan(value):
        return undefined("one of the two sets of rows does not vary", len(x))
    return _jackknife(value, less, of, level, seed, "cka")


def mutual_knn(first: Any, second: Any, *, k: int = 10, clusters: ArrayLike | None = None, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate the mean share of a row's k nearest neighbours (by cosine) that both models agree on; k / (n - 1) by chance.

    Args:
        first: Rows of the first model, `row x d_first`, 16 at least.
        second: Rows of the second model about the same items, in the same order, of any width.
        k: Neighbours, 1 or more, and fewer than a row has candidates. Raising it compares coarser neighbourhoods.
        clusters: Cluster of each row, or `row x factor`: rows of one cluster are no candidates for neighbours, and the interval is a
            jackknife that leaves out a twentieth of the clusters at a time. `None`: every row is its own.
        level: Confidence level of the interval, between 0 and 1.
        seed: Deals the clusters into twentieths.

    Returns:
        The share, 0 to 1, with its interval; its note says what unrelated rows share.

    Raises:
        BadInput: `k` is too small or too large.
        ShapeMismatch, TooFew, NotFinite: Rows that cannot be used.

    References:
        Huh et al. 2024, arXiv 2405.07987, appendix A.
    """
    x, y = two_sets(first, second)
    of = factors(clusters, len(x))
    apart = _apart(of)
    fewest = int(apart.sum(1).min())
    if k < 1 or k >= fewest:
        raise BadInput(f"k={k}: there are {fewest} candidates for neighbours")
    near = []
    for z in (x, y):
        z = z - z.mean(0)
        z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
        near.append((z @ z.T).masked_fill(~apart, -2))

    def beyond(keep: Tensor) -> float:
        """Agreement of some of the rows, less what unrelated ones would have."""
        few, some = min(k, len(keep)), apart[keep][:, keep]
        one, two = (z[keep][:, keep].topk(few, 1).indices for z in near)
        agree = torch.zeros(some.shape, dtype=torch.bool).scatter_(1, one, True).gather(1, two).double().mean()
        return float(agree) - _chance(some, few)

    chance = _chance(apart, k)
    e = _jackknife(beyond(torch.arange(len(x))) + chance, beyond, of, level, seed, "neighbours", f"unrelated rows share {chance:.3f}")
    return replace(e, low=max(0.0, e.low), high=min(1.0, e.high))


def _chance(apart: Tensor, k: int) -> float:
    """Share of neighbours that two unrelated sets of rows agree on: k of those that are candidates."""
    return float((k / apart.sum(1).double().clamp(min=k)).mean())


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
        One row per `layer` x `other_layer` x metric ("linear CKA", "mutual k-neighbours"); `chance` is what unrelated rows would
        have. Rows about one identity (or right, where these vary) are not compared with each other, so that what both models share is
        more than telling identities apart.

    Raises:
        BadInput: The prompts differ.
    """
    if len(first) != len(second) or first.rows["stem"].tolist() != second.rows["stem"].tolist():
        raise BadInput("both models must have read the same prompts in the same order")
    units = units_of(first.rows)
    ours = {a: first.layer(a)[:, variant] for a in (layers or first.layers)}
    rows, chance = [], _chance(_apart(factors(units, len(first))), k)
    for b in second.layers:
        y = second.layer(b)[:, variant]
        for a, x in ours.items():
            place = {"layer": a, "other_layer": b, "site": first.site}
            rows.append(place | {"metric": "linear CKA", "chance": 0.0, **linear_cka(x, y, clusters=units, seed=seed).row()})
            alike = mutual_knn(x, y, k=k, clusters=units, seed=seed)
            rows.append(place | {"metric": f"mutual {k}-neighbours", "chance": chance, **alike.row()})
    return pd.DataFrame(rows)
