"""Directions carried from one model (or layer) to another by a map that is fitted on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..core.clustered import Codes, factors
from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch
from ..core.nulls import central
from ..core.seeds import numpy_rng
from ..core.show import Shown, axes, number
from ..core.stats import auroc, auroc_influence, permutation_p
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
    return _Fitter(x, method, penalty)(y)


class _Fitter:
    """Maps from the same rows to several others: what depends on the first rows alone is computed once."""

    def __init__(self, x: Float[Tensor, "row d_first"], method: str, penalty: float | None = None) -> None:
        if method not in ("ridge", "procrustes"):
            raise BadInput(f"method={method!r}: ridge or procrustes")
        self.method, self.penalty, self.mean = method, penalty, x.mean(0)
        self.x = x - self.mean
        if method == "ridge":
            self.u, self.s, self.v = torch.linalg.svd(self.x, full_matrices=False)

    def __call__(self, y: Float[Tensor, "row d_second"]) -> SpaceMap:
        middle = y.mean(0)
        weight, strength = (self._ridge if self.method == "ridge" else self._procrustes)(y - middle)
        return SpaceMap(weight=weight.float(), bias=(middle - weight @ self.mean).float(), method=self.method, strength=float(strength))

    def _procrustes(self, y: Float[Tensor, "row d_second"]) -> tuple[Tensor, float]:
        u, s, v = torch.linalg.svd(y.T @ self.x, full_matrices=False)
        return s.sum() / (self.x * self.x).sum() * (u @ v), float("nan")

    def _ridge(self, y: Float[Tensor, "row d_second"]) -> tuple[Tensor, float]:
        s, n = self.s, len(y)
        inside = self.u.T @ y
        rest = float((y * y).sum() - (inside * inside).sum())
        scale = float((s * s).mean())

        def gcv(share: float) -> float:
            keep = s**2 / (s**2 + share * scale)
            error = float(((1 - keep)[:, None] ** 2 * inside**2).sum()) + rest
            return error / max(1e-12, (n - 1 - float(keep.sum())) / n) ** 2

        strength = self.penalty if self.penalty is not None else min(np.logspace(-6, 2, 25).tolist(), key=gcv)
        return (self.v.T @ ((s / (s**2 + strength * scale))[:, None] * inside)).T, strength


def carried(
    direction: Direction,
    first: Any,
    second: Any,
    held: Any,
    labels: ArrayLike,
    *,
    method: str = "ridge",
    clusters: ArrayLike | None = None,
    training_clusters: ArrayLike | None = None,
    shuffles: int = 99,
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
        clusters: Cluster of each held-out row, or `row x factor`, for the interval. `None`: every row is its own.
        training_clusters: Cluster of each training row, or `row x factor` (identities, rights). Whole clusters change places in the
            shuffled maps, since rows of one identity resemble each other in both models. `None`: every row is its own.
        shuffles: Maps fitted on shuffled rows, 39 or more; raising it lowers the smallest `p` that there can be.
        seed: Draws the shuffles.

    Returns:
        Two rows: the AUROC of the carried direction (1: it separates the labels, .5: it does not) with its interval, and, with
        `control` "shuffled map", the middle AUROC of the shuffled maps, and ends beyond which at most 5 % of such maps lie. `p` is the
        share of shuffled maps (and this one) that set the classes as far apart along the carried vector, or farther.

    Raises:
        BadInput: Too few shuffles, or no such method.
        OneClass, ShapeMismatch, TooFew, NotFinite: Rows or labels that cannot be used.

    Note:
        The interval says how well this one direction reads the labels of further rows. It leaves .5 for most directions of a model in
        which the labels can be read from everywhere. Whether the two models have anything to do with each other is told by `p` alone.
        It goes by distance and not by AUROC: where truth is strong even the short vectors of shuffled maps have an AUROC near 0 or 1.

    References:
        Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    if shuffles < 39:
        raise BadInput(f"shuffles={shuffles}: 39 at least, for chance to reach beyond all of them in one case of 40")
    y = matrix(held, "held")
    truth = two_classes(labels, len(y))
    x, z = two_sets(first, second)
    if y.shape[1] != z.shape[1]:
        raise ShapeMismatch(f"held-out rows of width {y.shape[1]} and training rows of width {z.shape[1]} of the second model")
    fit, of = _Fitter(x, method), factors(training_clusters, len(x))

    def read(rows: Float[Tensor, "row d_second"]) -> np.ndarray:
        return (y.double() @ fit(rows).carry(direction).vector.double()).numpy()

    scores = read(z)
    null = [read(z[torch.as_tensor(_places(of, numpy_rng(seed, "shuffled map", k)))]) for k in range(shuffles)]
    part = central([auroc_influence(s, truth)[0] for s in null])
    apart = [float(s[truth == 1].mean() - s[truth == 0].mean()) for s in (scores, *null)]
    p = permutation_p(apart[0], apart[1:])
    common = {"method": method, "metric": "auroc", "p": p}
    says = "the interval is that of this direction; p compares it with shuffled maps"
    if training_clusters is None and clusters is not None:
        says += ", for independent training rows: training_clusters= was not given"
    band = {"value": part.middle, "low": part.low, "high": part.high, "n": len(y)}
    return pd.DataFrame(
        [
            common | {"control": "", **auroc(scores, truth, clusters).row(), "note": says},
            common | {"control": "shuffled map", **band, "note": part.note},
        ]
    )


def _places(of: list[Codes], rng: np.random.Generator) -> np.ndarray:
    """Where each row goes when the values of each factor change places: whole clusters of the first, and within them the others alike."""
    (codes, m), *others = of
    new, rows = rng.permutation(m), [np.flatnonzero(codes == c) for c in range(m)]
    wanted = [rng.permutation(k)[more] for more, k in others]
    out = np.empty(len(codes), np.int64)
    for c, mine in enumerate(rows):
        there = rng.permutation(rows[new[c]])
        out[mine] = np.resize(there, len(mine))
        for row in mine if others else ():
            fits = np.logical_and.reduce([more[there] == want[row] for (more, _), want in zip(others, wanted, strict=True)])
            out[row] = there[fits][0] if fits.any() else out[row]
    return out
