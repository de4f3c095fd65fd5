"""Do two models (or layers) share a space? Similarities on the same prompts, and directions carried across by a fitted map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.stats import t
from torch import Tensor

from ..activations import Activations
from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch, TooFew
from ..core.seeds import numpy_rng
from ..core.show import Shown, axes, number
from ..core.stats import Estimate, auroc, mean, undefined
from ..core.types import Float
from ..probes.scaling import matrix, two_classes

GROUPS = 20  # of clusters, left out in turn


def _two(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    x, y = matrix(first, "first").double(), matrix(second, "second").double()
    if len(x) != len(y):
        raise ShapeMismatch(f"both models read the same prompts in the same order: {len(x)} and {len(y)} rows")
    if len(x) < 16:
        raise TooFew(f"{len(x)} rows; 16 at least")
    return x, y


def _hsic(k: Tensor, m: Tensor) -> float:
    """Unbiased HSIC of two Gram matrices with empty diagonals (Song et al. 2012, JMLR 13:1393, equation 5)."""
    n = len(k)
    a, b = k.sum(), m.sum()
    return float(((k * m).sum() + a * b / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))) / (n * (n - 3)))


def _cka(k: Tensor, m: Tensor) -> float:
    down = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / down**0.5 if down > 0 else float("nan")


def _gram(x: Tensor) -> Tensor:
    g = (x - x.mean(0)) @ (x - x.mean(0)).T
    g.fill_diagonal_(0)
    return g


def linear_cka(first: Any, second: Any, *, clusters: ArrayLike | None = None, level: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate linear centred kernel alignment of two sets of rows about the same items, without its small-sample bias.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), each HSIC unbiased: 0 on average for unrelated rows however few there are.

    Args:
        first, second: `row x d`, of any two widths.
        clusters: Of the rows; the interval is a jackknife that leaves out a twentieth of them at a time.
        level: Confidence level.
        seed: Deals the clusters into twentieths.

    References:
        Kornblith et al. 2019, arXiv 1905.00414; the unbiased form: Song et al. 2012, JMLR 13:1393.
    """
    x, y = _two(first, second)
    k, m = _gram(x), _gram(y)
    names = np.unique(np.arange(len(x)) if clusters is None else np.asarray(clusters), return_inverse=True)[1]
    if names.shape != (len(x),):
        raise ShapeMismatch(f"{len(x)} rows and clusters of shape {names.shape}")
    count = int(names.max()) + 1
    parts = min(GROUPS, count)
    if parts < 4:
        raise TooFew(f"{count} clusters; four at least")
    deal = (numpy_rng(seed, "cka").permutation(count) % parts)[names]
    value = _cka(k, m)
    if math.isnan(value):
        return undefined("one of the two sets of rows does not vary", len(x))
    left = []
    for g in range(parts):
        keep = torch.as_tensor(np.flatnonzero(deal != g))
        left.append(_cka(k[keep][:, keep], m[keep][:, keep]))
    half = float(t.ppf(0.5 + level / 2, parts - 1) * np.sqrt((parts - 1) / parts * ((np.array(left) - np.mean(left)) ** 2).sum()))
    return Estimate(
        value=value, low=value - half, high=value + half, n=len(x), clusters=count, level=level, method=f"jackknife of {parts} groups"
    )


def mutual_knn(
    first: Any, second: Any, *, k: int = 10, clusters: ArrayLike | None = None, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Estimate the mean share of a row's k nearest neighbours (by cosine) that both models agree on; k / (n - 1) by chance.

    Args:
        first, second: `row x d`, of any two widths.
        k: Neighbours.
        clusters: Of the rows: rows of one cluster are no candidates for neighbours, and the interval resamples clusters.
        resamples, seed: Of the interval.

    References:
        Huh et al. 2024, arXiv 2405.07987, appendix A.
    """
    x, y = _two(first, second)
    names = np.arange(len(x)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    own = torch.as_tensor(names[:, None] == names[None])
    if k < 1 or k >= int((~own).sum(1).min()):
        raise BadInput(f"k={k}: there are {int((~own).sum(1).min())} candidates for neighbours")
    near = []
    for z in (x, y):
        z = z - z.mean(0)
        z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
        near.append((z @ z.T).masked_fill(own, -2).topk(k, 1).indices)
    agree = torch.zeros(len(x), len(x), dtype=torch.bool).scatter_(1, near[0], True).gather(1, near[1]).double().mean(1)
    return mean(agree.numpy(), names, resamples=resamples, seed=seed)


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

    def __call__(self, x: Any) -> Tensor:
        return torch.as_tensor(x).float() @ self.weight.T + self.bias

    def carry(self, direction: Direction) -> Direction:
        """Return where a direction of the first model lies in the second."""
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
        first, second: `row x d`, of any two widths.
        method: "ridge", or "procrustes": a rotation (with reflections) and one factor, after padding to the wider width.
        penalty: Of ridge, as a share of the mean squared singular value; by default chosen by generalised cross-validation.

    References:
        Schoenemann 1966, Psychometrika 31:1 (orthogonal Procrustes); Golub, Heath and Wahba 1979, Technometrics 21:215 (GCV).
    """
    x, y = _two(first, second)
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
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Carry a direction to another model and test it there, beside the same with maps fitted on shuffled rows.

    Args:
        direction: Of the first model.
        first, second: Training rows of both models about the same items.
        held: Held-out rows of the second model.
        labels: 0 or 1 of these.
        method: Of `fit_map`.
        clusters: Of the held-out rows.
        shuffles: Shuffled maps.
        resamples, seed: For interval and shuffles.

    Returns:
        AUROC of the carried direction, and the middle and central 95 % of the shuffled maps'.
    """
    if shuffles < 1:
        raise BadInput(f"shuffles={shuffles}: 1 at least, the carried direction needs its control")
    y = matrix(held, "held")
    truth = two_classes(labels, len(y))
    found = fit_map(first, second, method=method).carry(direction)
    rows = [
        {
            "method": method,
            "control": "",
            "metric": "auroc",
            **auroc(found.project(y).numpy(), truth, clusters, resamples=resamples, seed=seed).row(),
        }
    ]
    x, z = matrix(first, "first"), matrix(second, "second")
    null = []
    for k in range(shuffles):
        order = torch.as_tensor(numpy_rng(seed, "shuffled map", k).permutation(len(x)))
        null.append(auroc(fit_map(x[order], z, method=method).carry(direction).project(y).numpy(), truth, resamples=2).value)
    low, middle, high = np.quantile(null, [0.025, 0.5, 0.975])
    rows.append({"method": method, "control": "shuffled map", "metric": "auroc", "value": middle, "low": low, "high": high, "n": len(y)})
    return pd.DataFrame(rows)


def _chance(clusters: np.ndarray, k: int) -> float:
    """Share of neighbours that two unrelated sets of rows agree on: k of those that are candidates."""
    _, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return float((k / (len(codes) - sizes[codes])).mean())


def compare_spaces(
    first: Activations, second: Activations, *, variant: int = 1, k: int = 10, layers: Iterable[int] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return CKA and mutual-neighbour alignment of every layer of one model with every layer of another, on the same prompts.

    Args:
        first, second: Activations of the same prompts in the same order.
        variant: Which variant of each pair.
        k: Neighbours.
        layers: Of the first; all by default.
        seed: For the intervals.

    Returns:
        One row per layer x layer x metric, clustered by identity; `chance` is what unrelated rows would have.
    """
    if len(first) != len(second) or first.rows["stem"].tolist() != second.rows["stem"].tolist():
        raise BadInput("both models must have read the same prompts in the same order")
    people = first.rows["identity"].to_numpy()
    ours = {a: first.layer(a)[:, variant] for a in (layers or first.layers)}
    rows, chance = [], _chance(people, k)
    for b in second.layers:
        y = second.layer(b)[:, variant]
        for a, x in ours.items():
            place = {"layer": a, "other_layer": b, "site": first.site}
            rows.append(place | {"metric": "linear CKA", "chance": 0.0, **linear_cka(x, y, clusters=people, seed=seed).row()})
            rows.append(
                place
                | {
                    "metric": f"mutual {k}-neighbours",
                    "chance": chance,
                    **mutual_knn(x, y, k=k, clusters=people, resamples=200, seed=seed).row(),
                }
            )
    return pd.DataFrame(rows)
