"""Checks of what goes into a probe, and normalisation with training statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..core.errors import BadInput, NotFinite, OneClass, ShapeMismatch
from ..core.types import Float

NORMALISATIONS = ("mean_std", "mean", "none")


def matrix(x: Any, name: str) -> Float[Tensor, "row d_model"]:
    """Return rows as a float32 matrix on the CPU.

    Raises:
        ShapeMismatch: Not two axes, or no row.
        NotFinite: NaN or infinity, with the count and the first row.
    """
    out = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x).detach().float().cpu()
    if out.ndim != 2 or len(out) == 0:
        raise ShapeMismatch(f"{name}: rows x d_model, one row at least; got {tuple(out.shape)}")
    bad = ~torch.isfinite(out).all(1)
    if bool(bad.any()):
        raise NotFinite(f"{name}: {int(bad.sum())} of {len(out)} rows hold NaN or infinity, the first is row {int(bad.nonzero()[0])}")
    return out


def pair(positive: Any, negative: Any) -> tuple[Tensor, Tensor]:
    """Return both variants of contrast pairs as matrices of one shape.

    Raises:
        ShapeMismatch: The two do not go in pairs.
    """
    x, y = matrix(positive, "positive"), matrix(negative, "negative")
    if x.shape != y.shape:
        raise ShapeMismatch(f"contrast pairs: positive {tuple(x.shape)} and negative {tuple(y.shape)} differ in shape")
    return x, y


def two_classes(labels: ArrayLike, n: int) -> np.ndarray:
    """Return labels as zeros and ones after checking them.

    Raises:
        ShapeMismatch: Not one label per row.
        OneClass: All of one class.
    """
    y = np.asarray(labels)
    if y.shape != (n,):
        raise ShapeMismatch(f"{n} rows and labels of shape {y.shape}")
    if not np.isin(y, (0, 1)).all():
        raise BadInput(f"labels are 0 or 1, got {sorted(set(y.tolist()) - {0, 1})[:3]}")
    if len(np.unique(y)) < 2:
        raise OneClass(f"all {n} labels are {int(y[0])}: a probe needs rows of both classes")
    return y.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Normalisation fitted on training rows: (x - mean) / scale, for one kind of row or per variant.

    Attributes:
        mean, scale: `d_model` each.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Tensor, normalise: str = "mean_std") -> Scaler:
        """Fit on training rows; "mean_std" is what Burns et al. 2022 use, "mean" keeps the scale, "none" does nothing.

        A feature that does not vary in training carries nothing: its scale is 1 after centring.
        """
        if normalise not in NORMALISATIONS:
            raise BadInput(f"normalise={normalise!r}: one of {', '.join(NORMALISATIONS)}")
        if normalise == "none":
            return cls(mean=torch.zeros(x.shape[1]), scale=torch.ones(x.shape[1]))
        mean = x.mean(0)
        if normalise == "mean":
            return cls(mean=mean, scale=torch.ones_like(mean))
        deviation = x.std(0, correction=0)
        floor = 1e-6 * deviation.max().clamp(min=1e-12)
        return cls(mean=mean, scale=torch.where(deviation > floor, deviation, torch.ones_like(deviation)))

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-1] != len(self.mean):
            raise ShapeMismatch(f"fitted on width {len(self.mean)}, given width {x.shape[-1]}")
        return (x - self.mean) / self.scale
