"""Directions without labels in closed form: principal component of differences, VINC, two means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans

from ..core.errors import ShapeMismatch
from ..core.seeds import derive
from .ccs import ContrastProbe, fit_contrast
from .eigen import fit_drc, fit_rrc
from .losses import LOSSES
from .polarity import fit_polarity_ccs
from .prepared import centred_probe, prepare
from .solve import Axes


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
    of = prepare(positive, negative, normalise, how)
    axes = Axes.of(of.positive - of.negative)
    return centred_probe(axes.basis[:, -1], of, "crc", [-float(axes.values[-1] / axes.values.sum().clamp(min=1e-30))])


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
    of = prepare(positive, negative, normalise, how)
    x, y = of.positive, of.negative
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
    return centred_probe(vectors[:, -1], of, "vinc", [-float(values[-1])])


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
    of = prepare(positive, negative, normalise, how)
    difference = of.positive - of.negative
    axes = Axes.of(difference)
    inside = axes.rotated[:, -min(64, axes.rotated.shape[1]) :].double().cpu().numpy()
    clusterings = [
        KMeans(2, n_init=1, random_state=derive(seed, "kmeans", k) % 2**31).fit(inside)  # pyright: ignore[reportArgumentType]
        for k in range(restarts)
    ]
    losses = [float(f.inertia_) for f in clusterings]  # pyright: ignore[reportArgumentType]
    best = clusterings[int(np.argmin(losses))]
    first, second = (difference[torch.as_tensor(best.labels_ == k)].mean(0) for k in (1, 0))
    return centred_probe(first - second, of, "kmeans", losses)


def _named(name: str) -> Callable[..., ContrastProbe]:
    return lambda positive, negative, **options: fit_contrast(positive, negative, loss=name, **options)


UNSUPERVISED: dict[str, Callable[..., ContrastProbe]] = {
    **{name: _named(name) for name in LOSSES},
    "drc": fit_drc,
    "rrc": fit_rrc,
    "polarity_ccs": fit_polarity_ccs,
    "crc": fit_crc,
    "vinc": fit_vinc,
    "kmeans": fit_kmeans,
}
NATIVE = ("ccs", "ccs_circle", "polarity_ccs")  # what they say is a probability
# what stands beside CCS, with names for tables
KIN = {
    "drc": "CCS in closed form, difference-relative",
    "rrc": "CCS in closed form, ratio-relative",
    "crc": "first component of differences",
    "vinc": "VINC",
    "kmeans": "two means",
}
