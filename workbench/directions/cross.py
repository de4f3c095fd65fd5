"""Inner products of contrasts without the noise that two of them share, and their variances, in closed form.

A contrast is a weighted sum of cell means, a = sum_g w_g mean_g. The plain product a.b of two estimates holds the noise of every
row that enters both; a.a always does. Leaving out the pairs of rows of one cluster leaves an unbiased product: it is the average
over all ways of fitting a on some clusters and b on the others. Everything follows from the sums of each cluster in each cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..core.errors import BadInput
from ..core.seeds import numpy_rng
from ..core.types import Float, Tensor
from .cells import Cells, joined

ENOUGH_RANK = 30.0  # below it the noise is so far from Gaussian in its products that the plain jackknife is the honest one


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Cross-fitted inner products of contrasts, with what their variances need.

    Attributes:
        value: Inner products of the contrasts, `contrast x contrast`, unbiased.
        naive: The same over all pairs of rows, noise included.
        left: The value without each cluster, `cluster x contrast x contrast`.
        factor: Of each cluster in a jackknife variance, (m - 1) / m of its stratum.
        strata: Code of each cluster's stratum: cells that share clusters belong together, with all their clusters.
        noise: What each cluster adds to each contrast beyond its expectation, `contrast x cluster x d`.
        clusters: How many there are.
    """

    value: Float[Tensor, "k k"]
    naive: Float[Tensor, "k k"]
    left: Float[Tensor, "m k k"]
    factor: Float[Tensor, " m"]
    strata: np.ndarray
    noise: Float[Tensor, "k m d"]
    clusters: int

    def reliability(self, k: int) -> float:
        """Half-sample cosine of a contrast: a1.a2 / |a1||a2| over all splits in halves, as a ratio of averages."""
        signal, noise = float(self.value[k, k]), float(self.naive[k, k] - self.value[k, k])
        return signal / (signal + 2 * noise) if signal + 2 * noise > 0 else 0.0

    def middle(self, left: np.ndarray) -> np.ndarray:
        """Return the mean of leave-one-cluster-out values, `cluster x …`, over each cluster's stratum."""
        sums = np.zeros((self.strata.max() + 1, *left.shape[1:]))
        np.add.at(sums, self.strata, left)
        return (sums.T / np.bincount(self.strata)).T[self.strata]

    def jackknife(self, left: np.ndarray) -> np.ndarray:
        """Return the jackknife covariance of statistics from their leave-one-cluster-out values, `cluster x statistic`."""
        x = left - self.middle(left)
        return (x * self.factor.numpy()[:, None]).T @ x

    def error(self, left: np.ndarray) -> float:
        """Return the jackknife standard error of one statistic."""
        return math.sqrt(float(self.jackknife(left[:, None])[0, 0]))


def _strata(counts: Float[Tensor, "cluster cell"]) -> np.ndarray:
    """Code of each cluster's group of cells: two cells are of one group where a cluster, or a chain of them, lies in both."""
    there = (counts > 0).numpy()
    return joined(there)[there.argmax(1)]


def _products(sums: Float[Tensor, "cluster cell d"]) -> Float[Tensor, "cluster cell cell"]:
    """S_cg . S_ch of every cluster, `cluster x cell x cell`."""
    return torch.einsum("cgd,chd->cgh", sums, sums)


def cross(cells: Cells, weights: Float[Tensor, "contrast cell"]) -> Cross:
    """Return the cross-fitted products of contrasts.

    Args:
        cells: The rows.
        weights: Weight of each cell's mean in each contrast, `contrast x cell`; each row sums to 0.

    Returns:
        The products, with what their variances need.

    Raises:
        BadInput: A contrast does not sum to zero.
    """
    w = weights.double()
    if not torch.allclose(w.sum(1), torch.zeros(len(w), dtype=w.dtype), atol=1e-9):
        raise BadInput("the weights of a contrast sum to 0")
    sums, counts = cells.sums()
    total, number = sums.sum(0), counts.sum(0)
    own, pairs = _products(sums), counts[:, :, None] * counts[:, None, :]
    means = total / number[:, None]
    value = (total @ total.T - own.sum(0)) / (number[:, None] * number - pairs.sum(0))
    # the same without each cluster in turn
    with_total = torch.einsum("cgd,hd->cgh", sums, total)
    upper = total @ total.T - with_total - with_total.transpose(1, 2) + 2 * own - own.sum(0)
    remaining = number - counts
    left = upper / (remaining[:, :, None] * remaining[:, None, :] - (pairs.sum(0) - pairs))
    strata = _strata(counts)
    size = torch.as_tensor(np.bincount(strata)[strata]).double()
    present = (counts > 0).sum(0).double()
    scale = (present / (present - 1)).sqrt() / number
    noise = torch.einsum("kg,cgd->kcd", w, (sums - counts[..., None] * means) * scale[:, None])
    return Cross(
        value=w @ value @ w.T,
        naive=(w @ means) @ (w @ means).T,
        left=w @ left @ w.T,
        factor=(size - 1) / size,
        strata=strata,
        noise=noise,
        clusters=len(sums),
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two contrasts: N = a.b, R = sqrt(a.a b.b) and the covariance of (N, R).

    Attributes:
        n, r: Cross-fitted; `r` is nan where a product of a contrast with itself is not positive.
        covariance: `2 x 2`.
        alone: Variances of a.a and b.b.
        rank: Effective rank (tr S)^2 / tr S^2 of the noise of a and of b, the squares taken over pairs of different clusters.
        method: Which variance.
    """

    n: float
    r: float
    covariance: np.ndarray
    alone: tuple[float, float]
    rank: tuple[float, float]
    method: str


def pair(products: Cross, i: int = 0, j: int = 1, *, variance: str = "auto") -> Pair:
    """Return the numerator and denominator of a disattenuated cosine with their covariance.

    The jackknife counts the variance of the products of noise with noise twice; where noise has many dimensions that part is known
    (2 sum_{c != c'} k_cc'^2 of the linearised kernel k) and one of the two is taken off again.

    Args:
        products: From `cross`.
        i: Index of the first contrast.
        j: Index of the second contrast.
        variance: "jackknife", "jackknife - degenerate", or "auto": the second where both effective ranks are 30 or more.

    Returns:
        Numerator a.b, denominator sqrt(a.a b.b) and their covariance; the cosine is their ratio, above 0 where both contrasts
        point to one side.

    Raises:
        BadInput: No such variance.
    """
    if variance not in ("auto", "jackknife", "jackknife - degenerate"):
        raise BadInput(f"variance={variance!r}: auto, jackknife or jackknife - degenerate")
    n, a, b = (float(products.value[p]) for p in ((i, j), (i, i), (j, j)))
    ok = a > 0 and b > 0
    ga, gb = (0.5 * (b / a) ** 0.5, 0.5 * (a / b) ** 0.5) if ok else (0.5, 0.5)
    left = products.left
    jack = products.jackknife(
        torch.stack([left[:, i, j], ga * left[:, i, i] + gb * left[:, j, j], left[:, i, i], left[:, j, j]], 1).numpy()
    )
    basis, rank = _kernels(products.noise[i], products.noise[j])
    if variance == "auto":
        variance = "jackknife - degenerate" if min(rank) >= ENOUGH_RANK else "jackknife"
    if variance != "jackknife":
        mix = np.array([[1, 0, 0], [0, ga, gb], [0, 1, 0], [0, 0, 1]])
        jack = _less(jack, 2 * mix @ basis @ mix.T)
    r = (a * b) ** 0.5 if ok else float("nan")
    return Pair(n=n, r=r, covariance=jack[:2, :2], alone=(float(jack[2, 2]), float(jack[3, 3])), rank=rank, method=variance)


def _kernels(x: Float[Tensor, "cluster d"], y: Float[Tensor, "cluster d"]) -> tuple[Float[np.ndarray, "3 3"], tuple[float, float]]:
    """Sums over c != c' of products of two of the kernels of a.b, a.a and b.b, `3 x 3`; and the effective ranks of both."""
    if len(x) > x.shape[1]:  # in the space of the rows or in that of the clusters, whichever is smaller
        sx, sy, sxy = x.T @ x, y.T @ y, x.T @ y
        square = (
            ((sx * sy).sum() + (sxy * sxy.T).sum()) / 2,
            (sx * sxy).sum(),
            (sy * sxy).sum(),
            (sx * sx).sum(),
            (sy * sy).sum(),
            (sxy * sxy).sum(),
        )
    else:
        kab, kaa, kbb = x @ y.T, x @ x.T, y @ y.T
        kab = (kab + kab.T) / 2
        square = (kab * kab).sum(), (kab * kaa).sum(), (kab * kbb).sum(), (kaa * kaa).sum(), (kbb * kbb).sum(), (kaa * kbb).sum()
    dx, dy, dxy = (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)
    own = (dxy * dxy).sum(), (dxy * dx).sum(), (dxy * dy).sum(), (dx * dx).sum(), (dy * dy).sum(), (dx * dy).sum()
    pp, pa, pb, aa, bb, ab = (float(s - o) for s, o in zip(square, own, strict=True))
    ranks = []
    for d, squares in ((dx, aa), (dy, bb)):
        m = int((d > 0).sum())
        ranks.append(float(d.sum()) ** 2 / max(squares, 1e-300) * (m - 1) / m if m > 1 else 0.0)
    return np.array([[pp, pa, pb], [pa, aa, ab], [pb, ab, bb]]), (ranks[0], ranks[1])


def _less(jack: np.ndarray, degenerate: np.ndarray) -> np.ndarray:
    """Jackknife minus degenerate part, and never less than half of the jackknife (of which it is at most one half)."""
    out = np.zeros_like(jack)
    for part in (slice(0, 2), slice(2, 3), slice(3, 4)):
        values, vectors = np.linalg.eigh(jack[part, part] / 2 - degenerate[part, part])
        out[part, part] = jack[part, part] / 2 + (vectors * values.clip(min=0)) @ vectors.T
    return out


def fieller(n: float, r: float, covariance: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return the c with (n - c r)^2 <= q^2 Var(n - c r); unbounded where r cannot be told from 0.

    Args:
        n: Numerator.
        r: Denominator.
        covariance: Of both, `2 x 2`.
        quantile: Student's or the normal quantile, q.

    Returns:
        The two ends.

    References:
        Fieller 1954, J. R. Stat. Soc. B 16:175.
    """
    q = quantile**2
    a, b, c = r * r - q * covariance[1, 1], n * r - q * covariance[0, 1], n * n - q * covariance[0, 0]
    root = b * b - a * c
    if math.isnan(r) or a <= 0 or root < 0:
        return -np.inf, np.inf
    return float((b - root**0.5) / a), float((b + root**0.5) / a)


def resampled(cells: Cells, weights: Float[Tensor, "k cell"], *, resamples: int = 2000, seed: int = 0) -> Float[Tensor, "resample k k"]:
    """Return the cross-fitted products under a bootstrap over clusters, stratum by stratum.

    A cluster that is drawn twice meets itself: these pairs are left out too.
    """
    sums, counts = cells.sums()
    strata = _strata(counts)
    draws = _draws(strata.tobytes(), resamples, seed)
    u = torch.as_tensor(draws)
    _, k, d = sums.shape
    w = weights.double()
    number = u @ counts
    pairs = number[:, :, None] * number[:, None, :] - ((u * u) @ (counts[:, :, None] * counts[:, None, :]).flatten(1)).view(-1, k, k)
    total = (u.float() @ sums.flatten(1).float()).view(-1, k, d)
    products = (total @ total.transpose(1, 2)).double() - ((u * u) @ _products(sums).flatten(1)).view(-1, k, k)
    return w @ (products / pairs) @ w.T


@lru_cache(maxsize=4)  # the same for every layer and metric of one data set
def _draws(codes: bytes, resamples: int, seed: int) -> np.ndarray:
    strata = np.frombuffer(codes, dtype=np.int64)
    rng = numpy_rng(seed, "geometry bootstrap")
    draws = np.zeros((resamples, len(strata)))
    for s in range(strata.max() + 1):
        mine = np.flatnonzero(strata == s)
        draws[:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=resamples)
    return draws
