"""Directions carried from one model (or layer) to another by a map that is fitted on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch
from ..core.nulls import central
from ..core.seeds import numpy_rng
from ..core.show import Shown, axes, number
from ..core.stats import auroc
from ..core.types import Float, Tensor
from ..probes.scaling import matrix, two_classes
from .similarity import two_sets


@dataclass(frozen=True, kw_only=True, repr=False)
class SpaceMap(Shown):
    """A fitted map of one model's rows to another's, y = W x + b.

    Attributes:
        weight: `d_second x d_first`.
        bias: `d_second`.
        method: "ridge" or "procrustes".
        strength: Of the ridge penalty.
    """

    weight: Float[Tensor, "d_second d_first"]
    bias: Float[Tensor, " d_second"]
    method: str
    strength: float

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        two, one = self.weight.shape
        return f"{self.method}, d_model {one} to {two}", {
            "method": self.method,
            "shape": axes(d_second=two, d_first=one),
            "strength of the penalty": number(self.strength) if self.strength == self.strength else "none",
        }

    def __call__(self, x: Any) -> Float[Tensor, "*rows d_second"]:
        """Return where rows of the first model lie in the second."""
        return torch.as_tensor(x).float() @ self.weight.T + self.bias

    def carry(self, direction: Direction) -> Direction:
        """Return where a direction of the first model lies in the second.

        Args:
            direction: Of the first model, of its width.

        Returns:
            The direction in the second model; its scale is the length of the mapped vector in the second model's raw units.

        Raises:
            ShapeMismatch: The direction has another width than the rows that the map takes.
        """
        if len(direction.unit) != self.weight.shape[1]:
            raise ShapeMismatch(f"a direction of width {len(direction.unit)}; the map takes {self.weight.shape[1]}")
        return Direction.of(
            self.weight @ direction.vector,
            method=f"{direction.method}, carried by {self.method}",
            n=direction.n,
            provenance={"made_of": [{"method": direction.method, "provenance": dict(direction.provenance)}]},
        )


def fit_map(first: Any, second: Any, *, method: str = "ridge", penalty: float | None = None) -> SpaceMap:
    """Fit a map from one model's training rows to another's.

    Args:
        first: Training rows of the first model, `row x d_first`, 16 at least.
        second: Training rows of the second model about the same items, in the same order, of any width.
        method: "ridge", or "procrustes": a rotation (with reflections) and one factor, after padding to the wider width.
        penalty: Of ridge, 0 or more, as a share of the mean squared singular value; raising it shrinks the map. By default
            chosen by generalised cross-validation.

    Returns:
        The map from the first model's rows to the second's.

    Raises:
        BadInput: No such method.
        ShapeMismatch, TooFew, NotFinite: Rows that cannot be used.

    References:
        Schoenemann 1966, Psychometrika 31:1 (orthogonal Procrustes); Golub, Heath and Wahba 1979, Technometrics 21:215 (GCV).
    """
    x, y = two_sets(first, second)
    mx, my = x.mean(0), y.mean(0)
    x, y = x - mx, y - my
    if method == "procrustes":
        u, s, v = torch.linalg.svd(y.T @ x, full_matrices=False)
        weight, strength = s.sum() / (x * x).sum() * (u @ v), float("nan")
    elif method == "ridge":
        u, s, v = torch.linalg.svd(x, full_matrices=False)
        inside = u.T @ y
        rest = float((y * y).sum() - (inside * inside).sum())
        scale = float((s * s).mean())

        def gcv(share: float) -> float:
            keep = s**2 / (s**2 + share * scale)
            error = float(((1 - keep)[:, None] ** 2 * inside**2).sum()) + rest
            return error / max(1e-12, (len(x) - 1 - float(keep.sum())) / len(x)) ** 2

        strength = penalty if penalty is not None else min(np.logspace(-6, 2, 25).tolist(), key=gcv)
        weight = (v.T @ ((s / (s**2 + strength * scale))[:, None] * inside)).T
    else:
        raise BadInput(f"method={method!r}: ridge or procrustes")
    return SpaceMap(weight=weight.float(), bias=(my - weight @ mx).float(), method=method, strength=float(strength))


def carried(
    direction: Direction,
    first: Any,
    second: Any,
    held: Any,
    labels: ArrayLike,
    *,
    method: str = "ridge",
    clusters: ArrayLike | None = None,
    shuffles: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Carry a direction to another model and test it there, beside the same with maps fitted on shuffled rows.

    Args:
        direction: Of the first model.
        first: Training rows of the first model, `row x d_first`, 16 at least.
        second: Training rows of the second model about the same items, in the same order.
        held: Held-out rows of the second model, `row x d_second`.
        labels: Label of each held-out row, 0 or 1; both must occur.
        method: "ridge" or "procrustes", as for `fit_map`.
        clusters: Cluster of each held-out row, for the interval. `None`: every row is its own.
        shuffles: Maps fitted on shuffled rows, 1 or more; raising it steadies the ends of their spread.
        seed: Draws the shuffles.

    Returns:
        Two rows: the AUROC of the carried direction (1: it separates the labels, .5: it does not) with its interval, and, with
        `control` "shuffled map", the middle and central 95 % of the AUROCs of shuffled maps.

    Raises:
        BadInput: No shuffles, or no such method.
        OneClass, ShapeMismatch, TooFew, NotFinite: Rows or labels that cannot be used.
    """
    if shuffles < 1:
        raise BadInput(f"shuffles={shuffles}: 1 at least, the carried direction needs its control")
    y = matrix(held, "held")
    truth = two_classes(labels, len(y))
    there = fit_map(first, second, method=method).carry(direction)
    rows = [
        {
            "method": method,
            "control": "",
            "metric": "auroc",
            **auroc(there.project(y).numpy(), truth, clusters).row(),
        }
    ]
    x, z = matrix(first, "first"), matrix(second, "second")
    null = []
    for k in range(shuffles):
        order = torch.as_tensor(numpy_rng(seed, "shuffled map", k).permutation(len(x)))
        null.append(auroc(fit_map(x[order], z, method=method).carry(direction).project(y).numpy(), truth).value)
    part = central(null)
    null_row = {"value": part.middle, "low": part.low, "high": part.high, "n": len(y)}
    rows.append({"method": method, "control": "shuffled map", "metric": "auroc", **null_row})
    return pd.DataFrame(rows)
