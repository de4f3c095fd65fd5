"""Supervised linear probes: logistic and mass-mean, on rows of two classes or on contrast pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..core.errors import BadInput, ShapeMismatch
from .scaling import Scaler, matrix, pair, two_classes


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted linear probe.

    On pairs the score is w . (s+(x+) - s-(x-)), where s are the training normalisations of the two variants: it changes
    sign when the variants are exchanged. On rows it is w . s(x) + b.

    Attributes:
        method: "logistic" or "mass_mean".
        weight: `d_model`, in normalised units.
        bias: 0 on pairs.
        scalers: One for rows, two (negative, positive) for pairs.
        n: Training rows or pairs.
    """

    method: str
    weight: Tensor
    bias: float
    scalers: tuple[Scaler, ...]
    n: int

    @property
    def paired(self) -> bool:
        """Whether it reads contrast pairs."""
        return len(self.scalers) == 2

    @property
    def vector(self) -> Tensor:
        """The direction in raw activation units, `d_model`, not normalised (mean scale of the variants)."""
        return self.weight / torch.stack([s.scale for s in self.scalers]).mean(0)

    def score(self, positive: Any, negative: Any = None) -> np.ndarray:
        """Return one score per pair (or row); above 0 means that the positive variant is true (or class 1).

        Raises:
            ShapeMismatch: Pairs given to a probe of rows, or the reverse, or another width.
        """
        if self.paired != (negative is not None):
            raise ShapeMismatch(f"this probe reads {'pairs: give positive and negative' if self.paired else 'rows: give one matrix'}")
        if not self.paired:
            return (self.scalers[0](matrix(positive, "rows")) @ self.weight + self.bias).numpy()
        x, y = pair(positive, negative)
        return ((self.scalers[1](x) - self.scalers[0](y)) @ self.weight).numpy()

    def predict(self, positive: Any, negative: Any = None) -> np.ndarray:
        """Return 1 where the score is above 0."""
        return (self.score(positive, negative) > 0).astype(np.int64)


def _prepare(positive: Any, negative: Any, labels: ArrayLike | None, normalise: str) -> tuple[Tensor, np.ndarray, tuple[Scaler, ...]]:
    if labels is None:
        x, y = matrix(positive, "positive"), matrix(negative, "negative")
        if x.shape[1] != y.shape[1]:
            raise ShapeMismatch(f"the two classes have widths {x.shape[1]} and {y.shape[1]}")
        rows = torch.cat([x, y])
        scaler = Scaler.fit(rows, normalise)
        return scaler(rows), np.r_[np.ones(len(x), np.int64), np.zeros(len(y), np.int64)], (scaler,)
    x, y = pair(positive, negative)
    classes = two_classes(labels, len(x))
    scalers = Scaler.fit(y, normalise), Scaler.fit(x, normalise)
    return scalers[1](x) - scalers[0](y), classes, scalers


def fit_logistic(
    positive: Any, negative: Any, labels: ArrayLike | None = None, *, c: float = 1.0, normalise: str = "mean_std"
) -> LinearProbe:  # fmt: skip
    """Fit a logistic probe.

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        c: Inverse strength of the L2 penalty on normalised features; raising it fits training rows more closely.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.

    Returns:
        A probe; its score is above 0 where class 1 (or the positive variant) is likelier.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.

    Example:
        >>> import torch, workbench as wb
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> probe = wb.fit_logistic(x + 2, x - 2)
        >>> int(probe.predict(x + 2).sum())
        100
    """
    if not c > 0:
        raise BadInput(f"c is the inverse strength of the penalty, above 0; got {c}")
    features, y, scalers = _prepare(positive, negative, labels, normalise)
    model = LogisticRegression(C=c, fit_intercept=labels is None, max_iter=2000, tol=1e-6)
    model.fit(features.double().numpy(), y)
    bias = float(np.ravel(model.intercept_)[0]) if labels is None else 0.0
    return LinearProbe(method="logistic", weight=torch.tensor(model.coef_[0]).float(), bias=bias, scalers=scalers, n=len(y))


def fit_mass_mean(positive: Any, negative: Any, labels: ArrayLike | None = None, *, normalise: str = "mean_std") -> LinearProbe:
    """Fit a mass-mean probe: the difference of the class means.

    Args:
        positive, negative, labels, normalise: As for `fit_logistic`.

    Returns:
        A probe; on rows the threshold lies half-way between the class means.

    References:
        Marks and Tegmark 2023, arXiv 2310.06824, section 5 (without their whitening).
    """
    features, y, scalers = _prepare(positive, negative, labels, normalise)
    keep = torch.as_tensor(y == 1)
    one, zero = features[keep].mean(0), features[~keep].mean(0)
    weight = one - zero
    bias = float(-(weight @ (one + zero)) / 2) if labels is None else 0.0
    return LinearProbe(method="mass_mean", weight=weight, bias=bias, scalers=scalers, n=len(y))
