"""Contrast-consistent search: a direction found without labels (Burns et al. 2022, arXiv 2212.03827).

Nothing here sees a label. Restarts are chosen by loss alone, and the sign of the direction is left open: a separate,
named step, `resolve_sign`, sets it from rows and labels that the caller names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..core.errors import BadInput, ShapeMismatch
from ..core.seeds import torch_rng
from ..core.types import Float
from .scaling import Scaler, pair, two_classes


@dataclass(frozen=True, kw_only=True)
class CCSProbe:
    """The result of a contrast-consistent search.

    Attributes:
        weight, bias: Of the best restart, in normalised units.
        scalers: Training normalisations of the negative and the positive variant.
        loss: Its loss (consistency + confidence).
        losses: The loss of every restart.
        sign: +1 or -1; arbitrary until `oriented_on` says from which rows it was set.
        oriented_on: What `resolve_sign` used, "" before.
        n: Training pairs.
    """

    weight: Tensor
    bias: float
    scalers: tuple[Scaler, Scaler]
    loss: float
    losses: tuple[float, ...]
    n: int
    sign: int = 1
    oriented_on: str = ""
    method: str = "ccs"

    @property
    def vector(self) -> Tensor:
        """The oriented direction in raw activation units, `d_model`, not normalised (mean scale of the variants)."""
        return self.sign * self.weight / torch.stack([s.scale for s in self.scalers]).mean(0)

    def score(self, positive: Any, negative: Any) -> np.ndarray:
        """Return sign x (p(x+) + 1 - p(x-) - 1) / 2 per pair: above 0 means that the positive variant is true."""
        x, y = pair(positive, negative)
        p = torch.sigmoid(self.scalers[1](x) @ self.weight + self.bias)
        q = torch.sigmoid(self.scalers[0](y) @ self.weight + self.bias)
        return (self.sign * (p - q) / 2).numpy()

    def predict(self, positive: Any, negative: Any) -> np.ndarray:
        """Return 1 where the score is above 0."""
        return (self.score(positive, negative) > 0).astype(np.int64)


def fit_ccs(
    positive: Any, negative: Any, *, restarts: int = 10, epochs: int = 1000, lr: float = 1e-2, weight_decay: float = 1e-2,
    normalise: str = "mean_std", seed: int = 0,
) -> CCSProbe:  # fmt: skip
    """Search for a direction along which the two variants of a pair contradict each other confidently.

    Minimises the mean of (p(x+) - (1 - p(x-)))^2 + min(p(x+), p(x-))^2 with p(x) = sigmoid(w . s(x) + b).

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        restarts: Random starts; the one of lowest loss is kept. Raising it costs time and finds lower losses.
        epochs: Full-batch AdamW steps.
        lr, weight_decay: Of AdamW.
        normalise: Per variant, with the statistics of these rows.
        seed: Draws the starts.

    Returns:
        The best restart, its sign still open: see `resolve_sign`.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    Note:
        It finds the most prominent consistent feature, which need not be truth (Farquhar et al. 2023, arXiv 2312.10029).

    References:
        Burns et al. 2022, arXiv 2212.03827, equations 1-3.
    """
    x, y = pair(positive, negative)
    return fit_ccs_layers(
        x[:, None], y[:, None], restarts=restarts, epochs=epochs, lr=lr, weight_decay=weight_decay, normalise=normalise, seed=seed
    )[0]  # fmt: skip


def fit_ccs_layers(
    positive: Float[Tensor, "item layer d_model"], negative: Float[Tensor, "item layer d_model"], *, restarts: int = 10,
    epochs: int = 1000, lr: float = 1e-2, weight_decay: float = 1e-2, normalise: str = "mean_std", seed: int = 0,
) -> list[CCSProbe]:  # fmt: skip
    """Run `fit_ccs` for all layers and restarts at once; arguments and results as there, one result per layer."""
    if restarts < 1 or epochs < 1:
        raise BadInput(f"restarts and epochs are at least 1, got {restarts} and {epochs}")
    if positive.ndim != 3:
        raise ShapeMismatch(f"item x layer x d_model, got {tuple(positive.shape)}")
    scalers, xs, ys = [], [], []
    for layer in range(positive.shape[1]):
        x, y = pair(positive[:, layer], negative[:, layer])
        both = Scaler.fit(y, normalise), Scaler.fit(x, normalise)
        scalers.append(both)
        xs.append(both[1](x))
        ys.append(both[0](y))
    x, y = torch.stack(xs), torch.stack(ys)  # layer, item, d_model
    layers, n, width = x.shape
    # every layer starts alike, so that a layer's result does not depend on which others are fitted with it
    bound = width**-0.5
    start = torch.empty(restarts, width + 1).uniform_(-bound, bound, generator=torch_rng(seed, "ccs"))
    w = start[None, :, :width].repeat(layers, 1, 1)
    b = start[None, :, width:].repeat(layers, 1, 1)
    moments = [torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(b), torch.zeros_like(b)]
    loss = torch.zeros(layers, restarts)
    for step in range(1, epochs + 1):
        loss, grad_w, grad_b = _loss(x, y, w, b)
        for parameter, grad, first, second in ((w, grad_w, *moments[:2]), (b, grad_b, *moments[2:])):
            first.mul_(0.9).add_(grad, alpha=0.1)
            second.mul_(0.999).addcmul_(grad, grad, value=0.001)
            parameter.mul_(1 - lr * weight_decay)
            size = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
            parameter.sub_(lr / (1 - 0.9**step) * first / size)
    loss = _loss(x, y, w, b)[0]
    best = loss.argmin(1)
    return [
        CCSProbe(
            weight=w[k, i].clone(), bias=float(b[k, i, 0]), scalers=scalers[k], loss=float(loss[k, i]),
            losses=tuple(loss[k].tolist()), n=n,
        )
        for k, i in enumerate(best.tolist())
    ]  # fmt: skip


def _loss(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of every layer and restart, and its gradient, written out (no autograd: it is called thousands of times)."""
    p = torch.sigmoid(torch.baddbmm(b, w, x.transpose(1, 2)))  # layer, restart, item
    q = torch.sigmoid(torch.baddbmm(b, w, y.transpose(1, 2)))
    gap, least = p + q - 1, torch.minimum(p, q)
    loss = (gap**2 + least**2).mean(2)
    n = p.shape[2]
    # the least probability is p where p < q; at a tie either side is a subgradient
    dp = 2 / n * (gap + p * (p < q)) * p * (1 - p)
    dq = 2 / n * (gap + q * (p >= q)) * q * (1 - q)
    return loss, dp @ x + dq @ y, (dp + dq).sum(2, keepdim=True)


def resolve_sign(result: CCSProbe, acts: Any, labels: ArrayLike, *, rows: str = "training rows") -> CCSProbe:
    """Set the sign of a search from labelled rows: the one step that sees labels.

    Args:
        result: What `fit_ccs` returned.
        acts: Activations of labelled pairs, `item x variant x d_model` (for example `acts.layer(3)`), or a pair
            (positive, negative). Use *training* rows *of the unpushed condition*: a claim that flips every answer
            makes truth and answer two names of one thing.
        labels: Which variant is true.
        rows: Which rows these are, in words; tables show it.

    Returns:
        The same search with its sign set.

    Raises:
        OneClass, ShapeMismatch: The labels do not serve.
    """
    positive, negative = _variants(acts)
    y = two_classes(labels, len(positive))
    right = (replace(result, sign=1).predict(positive, negative) == y).mean()
    return replace(result, sign=1 if right >= 0.5 else -1, oriented_on=f"{len(y)} {rows}")


def _variants(acts: Any) -> tuple[Any, Any]:
    if not isinstance(acts, tuple | list):
        if getattr(acts, "ndim", 0) == 3 and acts.shape[1] == 2:
            return acts[:, 1], acts[:, 0]
    elif len(acts) == 2:
        return acts[0], acts[1]
    raise ShapeMismatch("give item x variant x d_model (acts.layer(l)), or a pair (positive, negative)")
