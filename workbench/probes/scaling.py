"""Checks of what goes into a probe, and normalisation with training statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..core.errors import BadInput, NotFinite, OneClass, ShapeMismatch
from ..core.types import Float

NORMALISATIONS = ("mean_std", "mean", "none")
PER = ("variant", "all", "template")


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
    """Normalisation fitted on training rows: (x - mean) / scale.

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
        mean, deviation = x.mean(0), x.std(0, correction=0)
        # what is left of a constant after rounding is no variation: dividing by it would make noise of size 1
        constant = (deviation <= 1e-6 * x.abs().amax(0)) | (deviation <= 1e-6 * deviation.max())
        mean = torch.where(constant & (x == x[0]).all(0), x[0], mean)
        one = torch.ones_like(mean)
        return cls(mean=mean, scale=one if normalise == "mean" else torch.where(constant, one, deviation))

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-1] != len(self.mean):
            raise ShapeMismatch(f"fitted on width {len(self.mean)}, given width {x.shape[-1]}")
        return (x - self.mean) / self.scale


@dataclass(frozen=True, kw_only=True)
class Eraser:
    """Removes the linear trace of one binary concept: x - s (a . (x - mean)).

    References:
        LEACE, Belrose et al. 2023, arXiv 2306.03819, theorem 4.2 with one concept dimension: s is the covariance of x with
        the concept, a = S^-1 s / (s . S^-1 s).
    """

    mean: Tensor
    along: Tensor
    away: Tensor

    @classmethod
    def fit(cls, zero: Tensor, one: Tensor) -> Eraser:
        """Fit on rows of both classes of the concept."""
        rows = torch.cat([zero, one]).double()
        mean = rows.mean(0)
        centred = rows - mean
        s = one.double().mean(0) - zero.double().mean(0)
        if float(s.norm()) <= 1e-12 * float(rows.abs().max()):
            return cls(mean=mean.float(), along=torch.zeros(len(s)), away=torch.zeros(len(s)))
        covariance = centred.T @ centred / len(rows)
        # in a space that the rows do not span the concept has no trace; the pseudo-inverse leaves it alone
        away = torch.linalg.lstsq(covariance, s[:, None], driver="gelsd").solution[:, 0]
        return cls(mean=mean.float(), along=s.float(), away=(away / (s @ away)).float())

    def __call__(self, x: Tensor) -> Tensor:
        return x - ((x - self.mean) @ self.away)[..., None] * self.along


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Normalisation of contrast pairs with training statistics.

    Attributes:
        kind: "mean_std", "mean" or "none".
        per: Which rows share statistics: "variant" (each variant its own, as Burns et al. 2022), "all" (both together),
            "template" (each variant of each prompt form its own; a form that was not seen in training gets those of its
            variant over all forms).
        scalers: Of the negative and the positive variant, over all forms.
        forms: The same by form, with `per="template"`.
        eraser: Applied first where the variant's direction is erased.
    """

    kind: str
    per: str
    scalers: tuple[Scaler, Scaler]
    forms: Mapping[str, tuple[Scaler, Scaler]] = field(default_factory=dict)
    eraser: Eraser | None = None

    @classmethod
    def fit(
        cls,
        positive: Tensor,
        negative: Tensor,
        *,
        normalise: str = "mean_std",
        per: str = "variant",
        erase_variant: bool = False,
        groups: Sequence[str] | None = None,
    ) -> Normaliser:
        """Fit on training pairs, `item x d_model` each; `groups` names each item's prompt form.

        Raises:
            BadInput: No such normalisation, or `per="template"` without groups.
        """
        if per not in PER:
            raise BadInput(f"per={per!r}: one of {', '.join(PER)}")
        eraser = Eraser.fit(negative, positive) if erase_variant else None
        x, y = (positive, negative) if eraser is None else (eraser(positive), eraser(negative))
        if per == "all":
            both = Scaler.fit(torch.cat([x, y]), normalise)
            return cls(kind=normalise, per=per, scalers=(both, both), eraser=eraser)
        scalers = Scaler.fit(y, normalise), Scaler.fit(x, normalise)
        forms = {}
        if per == "template":
            if groups is None:
                raise BadInput("per='template' needs the form of each item: groups=")
            names = np.asarray(groups)
            for name in sorted(set(names.tolist())):
                rows = torch.as_tensor(names == name)
                forms[name] = Scaler.fit(y[rows], normalise), Scaler.fit(x[rows], normalise)
        return cls(kind=normalise, per=per, scalers=scalers, forms=forms, eraser=eraser)

    def __call__(self, positive: Tensor, negative: Tensor, groups: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return both variants in normalised units."""
        if self.eraser is not None:
            positive, negative = self.eraser(positive), self.eraser(negative)
        x, y = self.scalers[1](positive), self.scalers[0](negative)
        if self.forms:
            if groups is None:
                raise BadInput("these probes are normalised by prompt form: say which form each item has (groups=)")
            names = np.asarray(groups)
            for name, (low, high) in self.forms.items():
                rows = torch.as_tensor(names == name)
                x[rows], y[rows] = high(positive[rows]), low(negative[rows])
        return x, y

    def raw(self, weight: Tensor) -> Tensor:
        """Return a direction of normalised units in raw units, `d_model` (mean scale of the variants; not normalised)."""
        vector = weight / torch.stack([s.scale for s in self.scalers]).mean(0)
        return vector if self.eraser is None else vector - (vector @ self.eraser.along) * self.eraser.away


def signs(labels: np.ndarray) -> Tensor:
    """Return 0/1 labels as -1/+1."""
    return torch.as_tensor(2 * labels - 1)
