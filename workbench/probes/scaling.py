"""Checks of what goes into a probe, and normalisation with training statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput, NotFinite, OneClass, ShapeMismatch
from ..core.types import Float, Int, Tensor

NORMALISATIONS = ("mean_std", "mean", "none")
PER = ("variant", "all", "template")


def matrix(x: Any, name: str) -> Float[Tensor, "row d_model"]:
    """Return rows as a float32 matrix on the CPU.

    Args:
        x: Anything that numpy or torch reads as a matrix, `row x d_model`, with at least one row.
        name: What the rows are called in error messages.

    Returns:
        The rows, `row x d_model`, in float32 on the CPU, without gradient; units and order are unchanged.

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


def pair(positive: Any, negative: Any) -> tuple[Float[Tensor, "item d_model"], Float[Tensor, "item d_model"]]:
    """Return both variants of contrast pairs as matrices of one shape.

    Args:
        positive: Activations of the positive variants, `item x d_model`.
        negative: Activations of the negative variants, in the same order.

    Returns:
        The positive and the negative variants, both `item x d_model`, in float32 on the CPU.

    Raises:
        ShapeMismatch: The two differ in shape.
        NotFinite: One of them holds NaN or infinity.
    """
    x, y = matrix(positive, "positive"), matrix(negative, "negative")
    if x.shape != y.shape:
        raise ShapeMismatch(f"contrast pairs: positive {tuple(x.shape)} and negative {tuple(y.shape)} differ in shape")
    return x, y


def two_classes(labels: ArrayLike, n: int) -> Int[np.ndarray, " row"]:
    """Return labels as zeros and ones after checking them.

    Args:
        labels: One label per row, 0 or 1 (booleans and floats of these values too); both must occur.
        n: The number of rows that they belong to.

    Returns:
        The labels as integers, 0 or 1, in the order given.

    Raises:
        ShapeMismatch: Not one label per row.
        BadInput: A label is neither 0 nor 1.
        OneClass: All labels are the same.
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
        mean: What is subtracted, `d_model`, in raw units.
        scale: What is divided by, `d_model`, in raw units; above 0.
    """

    mean: Float[Tensor, " d_model"]
    scale: Float[Tensor, " d_model"]

    @classmethod
    def fit(cls, x: Float[Tensor, "row d_model"], normalise: str = "mean_std") -> Scaler:
        """Fit the normalisation on training rows.

        A feature that does not vary in training carries nothing: its scale is 1 after centring.

        Args:
            x: Training rows, `row x d_model`.
            normalise: "mean_std" subtracts the mean and divides by the standard deviation (as Burns et al. 2022), "mean"
                subtracts the mean and keeps the scale, "none" changes nothing.

        Returns:
            The normalisation, to be applied unchanged to any other rows of the same width.

        Raises:
            BadInput: There is no such normalisation.
        """
        if normalise not in NORMALISATIONS:
            raise BadInput(f"normalise={normalise!r}: one of {', '.join(NORMALISATIONS)}")
        if normalise == "none":
            return cls(mean=torch.zeros(x.shape[1]), scale=torch.ones(x.shape[1]))
        mean, deviation = x.mean(0), x.std(0, correction=0)
        # what is left of a constant after rounding is no variation: dividing by it would make noise of size 1
        constant = (deviation <= 1e-6 * x.abs().amax(0)) | (deviation <= 1e-6 * deviation.max())
        mean = torch.where(constant & (x == x[0]).all(0), x[0], mean)
        ones = torch.ones_like(mean)
        return cls(mean=mean, scale=ones if normalise == "mean" else torch.where(constant, ones, deviation))

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Return rows in normalised units."""
        if x.shape[-1] != len(self.mean):
            raise ShapeMismatch(f"fitted on width {len(self.mean)}, given width {x.shape[-1]}")
        return (x - self.mean) / self.scale


@dataclass(frozen=True, kw_only=True)
class Eraser:
    """A map that removes the linear trace of one binary concept: x - s (a . (x - mean)).

    Attributes:
        mean: Mean of the training rows, `d_model`.
        along: s, the direction that is subtracted, `d_model`.
        away: a, the direction that is read, `d_model`.

    References:
        LEACE, Belrose et al. 2023, arXiv 2306.03819, theorem 4.2 with one concept dimension: s is the covariance of x with
        the concept, a = S^-1 s / (s . S^-1 s).
    """

    mean: Float[Tensor, " d_model"]
    along: Float[Tensor, " d_model"]
    away: Float[Tensor, " d_model"]

    @classmethod
    def fit(cls, zero: Float[Tensor, "zero d_model"], one: Float[Tensor, "one d_model"]) -> Eraser:
        """Fit the map on rows of both classes of the concept.

        Args:
            zero: Training rows of class 0, `row x d_model`.
            one: Training rows of class 1.

        Returns:
            The map. Where both classes have the same mean it changes nothing.
        """
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

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Return rows without the trace of the concept."""
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
        positive: Float[Tensor, "item d_model"],
        negative: Float[Tensor, "item d_model"],
        *,
        normalise: str = "mean_std",
        per: str = "variant",
        erase_variant: bool = False,
        groups: Sequence[str] | None = None,
    ) -> Normaliser:
        """Fit the normalisation on training pairs.

        Args:
            positive: Positive variants of the training pairs, `item x d_model`.
            negative: Negative variants, pair by pair.
            normalise: "mean_std", "mean" or "none" (see `Scaler.fit`).
            per: Which rows share statistics: "variant", "all" or "template".
            erase_variant: First remove the linear trace of "this is the positive variant" (LEACE). Either way the mean
                difference of the variants is gone; this also removes what other features tell of the variant.
            groups: The prompt form of each item; needed with `per="template"`.

        Returns:
            The normalisation, to be applied unchanged to held-out pairs.

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

    def __call__(
        self, positive: Float[Tensor, "item d_model"], negative: Float[Tensor, "item d_model"], groups: Sequence[str] | None = None
    ) -> tuple[Float[Tensor, "item d_model"], Float[Tensor, "item d_model"]]:
        """Return both variants in normalised units, the positive first."""
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

    def raw(self, weight: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """Return a direction of normalised units in raw units (mean scale of the variants; not of length 1).

        Args:
            weight: A direction in normalised units, `d_model`.

        Returns:
            The direction in raw units, `d_model`; the sign stays.
        """
        vector = weight / torch.stack([s.scale for s in self.scalers]).mean(0)
        return vector if self.eraser is None else vector - (vector @ self.eraser.along) * self.eraser.away


def signs(labels: Int[np.ndarray, " row"]) -> Int[Tensor, " row"]:
    """Return 0/1 labels as -1/+1."""
    return torch.as_tensor(2 * labels - 1)
