"""Directions without labels in closed form: principal component of differences, VINC, two means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans

from ..core.errors import BadInput, ShapeMismatch
from ..core.seeds import derive
from ..core.types import Float, Tensor
from .ccs import ContrastProbe, fit_contrast
from .losses import LOSSES
from .scaling import Normaliser, pair
from .solve import Axes

Prepared = tuple[Float[Tensor, "item d_model"], Float[Tensor, "item d_model"], Normaliser]


def _prepare(positive: Any, negative: Any, normalise: str, how: dict[str, Any]) -> Prepared:
    """Both variants normalised, and the normalisation."""
    x, y = pair(positive, negative)
    if len(x) < 2:
        raise BadInput("a search needs two pairs at least")
    scaler = Normaliser.fit(x, y, normalise=normalise, **how)
    return *scaler(x, y, how.get("groups")), scaler


def _probe(
    weight: Float[Tensor, " d_model"],
    x: Float[Tensor, "item d_model"],
    y: Float[Tensor, "item d_model"],
    scaler: Normaliser,
    method: str,
    losses: Sequence[float],
) -> ContrastProbe:
    """A probe whose differences u+ - u- have spread 1 in training, centred between the variants."""
    weight = weight.float()
    spread = float(((x - y) @ weight).std()) or 1.0
    weight = weight / spread
    bias = -float(((x + y) @ weight).mean()) / 2
    return ContrastProbe(weight=weight, bias=bias, scaler=scaler, loss=min(losses), losses=tuple(losses), n=len(x), method=method)


def fit_crc(positive: Any, negative: Any, *, normalise: str = "mean_std", seed: int = 0, **how: Any) -> ContrastProbe:
    """Take the first principal component of the differences of the normalised variants (CRC-TPC).

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Not used: it is in closed form.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The direction as a probe, its sign still open (`resolve_sign`); its loss is minus the component's share of the variance.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    References:
        Burns et al. 2022, arXiv 2212.03827, section 3.3.
    """
    x, y, scaler = _prepare(positive, negative, normalise, how)
    axes = Axes.of(x - y)
    return _probe(axes.basis[:, -1], x, y, scaler, "crc", [-float(axes.values[-1] / axes.values.sum().clamp(min=1e-30))])


def fit_vinc(
    positive: Any,
    negative: Any,
    *,
    items: ArrayLike | None = None,
    variance: float = 1.0,
    invariance: float = 1.0,
    covariance: float = 1.0,
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> ContrastProbe:
    """Find the direction of large variance, small variance among wordings of one item, and negative covariance of the variants.

    The first eigenvector of variance (S+ + S-) / 2 - covariance (S+- + S-+) / 2 - invariance S_within.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        items: Which rows are wordings of one statement, one name per pair; by default each row is its own and the third
            term is 0.
        variance: Weight of the variance of both variants, 0 or more; raising it prefers what varies among pairs.
        invariance: Weight of the variance among wordings of one item; raising it prefers what all wordings agree on.
        covariance: Weight of the covariance of the variants; raising it prefers what the two variants contradict in.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Not used: it is in closed form.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The direction as a probe, its sign still open (`resolve_sign`); its loss is minus the largest eigenvalue.

    Raises:
        ShapeMismatch: The variants do not go in pairs, or there is not one item per pair.
        NotFinite, BadInput: Before fitting.

    References:
        Mallen and Belrose 2023, EleutherAI, "VINC-S: closed-form optimally-supervised knowledge elicitation with paraphrase
        invariance".
    """
    x, y, scaler = _prepare(positive, negative, normalise, how)
    n = len(x)
    a, b = (x - x.mean(0)).double(), (y - y.mean(0)).double()
    cross = a.T @ b / n
    matrix = variance * (a.T @ a + b.T @ b) / (2 * n) - covariance * (cross + cross.T) / 2
    if items is not None:
        names = np.asarray(items)
        if names.shape != (n,):
            raise ShapeMismatch(f"{n} pairs and items of shape {names.shape}")
        codes = torch.as_tensor(np.unique(names, return_inverse=True)[1])
        size = torch.bincount(codes).double()
        for z in (a, b):
            middle = torch.zeros(len(size), z.shape[1], dtype=z.dtype).index_add_(0, codes, z) / size[:, None]
            own = z - middle[codes]
            matrix -= invariance * own.T @ own / (2 * n)
    values, vectors = torch.linalg.eigh(matrix)
    return _probe(vectors[:, -1], x, y, scaler, "vinc", [-float(values[-1])])


def fit_kmeans(
    positive: Any, negative: Any, *, restarts: int = 10, normalise: str = "mean_std", seed: int = 0, **how: Any
) -> ContrastProbe:
    """Cut the differences of the normalised variants into two clusters; the direction joins their middles.

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        restarts: Random starts, 1 or more; the one of least inertia is kept. Raising it costs time.
        normalise: "mean_std", "mean" or "none", with the statistics of these rows, each variant by itself.
        seed: Draws the starts.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        The direction as a probe, its sign still open (`resolve_sign`); its loss is the inertia of the clusters.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.
    """
    x, y, scaler = _prepare(positive, negative, normalise, how)
    difference = x - y
    axes = Axes.of(difference)
    inside = axes.rotated[:, -min(64, axes.rotated.shape[1]) :].double().cpu().numpy()
    clusterings = [
        KMeans(2, n_init=1, random_state=derive(seed, "kmeans", k) % 2**31).fit(inside)  # pyright: ignore[reportArgumentType]
        for k in range(restarts)
    ]
    losses = [float(f.inertia_) for f in clusterings]  # pyright: ignore[reportArgumentType]
    best = clusterings[int(np.argmin(losses))]
    first, second = (difference[torch.as_tensor(best.labels_ == k)].mean(0) for k in (1, 0))
    return _probe(first - second, x, y, scaler, "kmeans", losses)


def _named(name: str) -> Callable[..., ContrastProbe]:
    return lambda positive, negative, **options: fit_contrast(positive, negative, loss=name, **options)


UNSUPERVISED: dict[str, Callable[..., ContrastProbe]] = {
    **{name: _named(name) for name in LOSSES},
    "crc": fit_crc,
    "vinc": fit_vinc,
    "kmeans": fit_kmeans,
}
NATIVE = ("ccs", "ccs_circle")  # what they say is a probability
