"""The fitted linear probe, and the problem that it solves: contrast pairs, or rows of two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..core.errors import BadInput, ShapeMismatch
from ..core.show import Shown
from ..core.types import Bool, Float, Int, Tensor
from .given import Given, scaled
from .scaling import Normaliser, Scaler, matrix
from .shown import probe_facts

Folds = tuple[Bool[np.ndarray, "fold row"], Bool[np.ndarray, "fold row"]]  # which rows are fitted, and which are validated


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearProbe(Shown):
    """A fitted linear probe.

    On pairs the score is w . (s+(x+) - s-(x-)), where s are the training normalisations of the two variants: it changes
    sign when the variants are exchanged. On rows it is w . s(x) + b.

    Attributes:
        method: How it was fitted.
        weight: `d_model`, in normalised units.
        bias: 0 on pairs.
        scaler: Normalisation of rows (`Scaler`) or of pairs (`Normaliser`).
        n: Training rows or pairs.
        strength: The C (or 1 / ridge) that it was fitted with; `nan` where there is none.
        path: Validation log-loss by strength, where several were tried.
    """

    method: str
    weight: Float[Tensor, " d_model"]
    bias: float
    scaler: Scaler | Normaliser
    n: int
    strength: float = float("nan")
    path: Mapping[float, float] = field(default_factory=dict)

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return probe_facts(self, len(self.weight), strength=self.strength, tried=self.path, threshold=0.0 if self.paired else -self.bias)

    @property
    def paired(self) -> bool:
        """Whether it reads contrast pairs."""
        return isinstance(self.scaler, Normaliser)

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """The direction in raw activation units (mean scale of the variants), not normalised.

        Returns:
            The direction, `d_model`; it points to class 1 (on pairs: to the variant that is true).
        """
        return self.scaler.raw(self.weight) if isinstance(self.scaler, Normaliser) else self.weight / self.scaler.scale

    def score(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Float[np.ndarray, " row"]:
        """Return one score per pair, or per row.

        Args:
            positive: Positive variants of pairs, `item x d_model`, in raw units; for a probe of rows, the rows.
            negative: Negative variants, pair by pair; left out for a probe of rows.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            One score per pair or row; above 0 means that the positive variant is held true (or class 1). For the logistic
            probe it is a log-odds.

        Raises:
            ShapeMismatch: Pairs given to a probe of rows, or the reverse, or another width.
        """
        x, y = scaled(self.scaler, positive, negative, groups)
        return ((x if y is None else x - y) @ self.weight + self.bias).numpy()

    def predict(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Int[np.ndarray, " row"]:
        """Return the class of each row, or the variant of each pair that is held true.

        Args:
            positive: Positive variants of pairs, `item x d_model`, in raw units; for a probe of rows, the rows.
            negative: Negative variants, pair by pair; left out for a probe of rows.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            1 where the score is above 0, else 0.
        """
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a supervised probe is fitted on.

    Attributes:
        features: Normalised rows, or differences of the normalised variants of pairs.
        y: Class of each row, 0 or 1.
        scaler: The normalisation, which says whether these are rows or pairs.
    """

    features: Float[Tensor, "row d_model"]
    y: Int[np.ndarray, " row"]
    scaler: Scaler | Normaliser

    @property
    def intercept(self) -> bool:
        """Rows have one; differences of pairs have none, so that exchanging the variants changes the sign."""
        return isinstance(self.scaler, Scaler)

    def probe(self, method: str, weight: Float[Tensor, " d_model"], bias: float = 0.0, **facts: Any) -> LinearProbe:
        """Return the probe of a solution."""
        return LinearProbe(method=method, weight=weight.float().cpu(), bias=bias, scaler=self.scaler, n=len(self.y), **facts)


def prepare(positive: Any, negative: Any, labels: ArrayLike | None, normalise: str = "mean_std", **how: Any) -> Problem:
    """Check and normalise what goes into a supervised probe; `how` as for `Given.of`. Without labels these are rows of two classes."""
    if labels is None:
        x, y = matrix(positive, "positive"), matrix(negative, "negative")
        if x.shape[1] != y.shape[1]:
            raise ShapeMismatch(f"the two classes have widths {x.shape[1]} and {y.shape[1]}")
        given = Given.of(torch.cat([x, y]), None, np.r_[np.ones(len(x), np.int64), np.zeros(len(y), np.int64)], normalise, **how)
    else:
        given = Given.of(positive, negative, labels, normalise, **how)
    return Problem(features=given.x if given.y is None else given.x - given.y, y=given.classes, scaler=given.scaler)


def path_of(c: float | Sequence[float], folds: Folds | None, rows: int, width: int) -> list[float]:
    """Check strengths and folds; return the strengths."""
    tried = [float(v) for v in np.atleast_1d(np.asarray(c, float))]
    bad = [v for v in tried if not v > 0]
    if bad or not tried:
        raise BadInput(f"c is the inverse strength of the penalty, above 0; got {bad[0] if bad else 'none'}")
    if max(tried) == float("inf") and width >= rows:
        raise BadInput(f"{width} features and {rows} rows: without a penalty the fit is not determined; give a finite c")
    if len(tried) > 1 and folds is None:
        raise BadInput("several strengths need folds to choose by (see grouped_folds)")
    return tried
