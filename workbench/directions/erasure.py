"""Erase one concept, read the other with fresh probes: does safety survive when harm is gone?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.svm import SVC
from torch import Tensor

from ..core.errors import BadInput, OneClass, ShapeMismatch, TooFew, UnknownName, unknown
from ..core.seeds import derive, numpy_rng, torch_rng
from ..core.show import Shown, axes
from ..core.stats import auroc, paired_difference, proportion
from ..core.types import Float
from ..probes import fit_logistic
from ..probes.scaling import Eraser, Scaler, matrix, two_classes

ERASERS = ("leace", "mean_projection", "inlp", "random")
PROBES = ("linear", "nonlinear")


@dataclass(frozen=True, kw_only=True, repr=False)
class Projection(Shown):
    """x - (x - mean) B B', B orthonormal: what lies along B is set to its mean.

    Attributes:
        basis: `d_model x k`.
        mean: `d_model`.
    """

    basis: Float[Tensor, "d_model k"]
    mean: Float[Tensor, " d_model"]

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        d, k = self.basis.shape
        return f"{k} of {d} dimensions set to their mean", {"shape": axes(d_model=d, k=k), "what is erased": "what lies along the basis"}

    def __call__(self, x: Tensor) -> Tensor:
        return x - (x - self.mean) @ self.basis @ self.basis.T


def fit_eraser(
    rows: Any, labels: ArrayLike, method: str = "leace", *, rank: int | None = None, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """Return a map of rows that takes a binary concept out.

    Args:
        rows: Training rows, `row x d_model`.
        labels: 0 or 1.
        method: "leace" (Belrose et al. 2023: no linear probe can read it, the least change), "mean_projection" (the mean difference is
            projected out), "inlp" (Ravfogel et al. 2020, arXiv 2004.07667: logistic directions in turn, until training accuracy falls below
            .55, at most `rank`), "random" (`rank` random directions: the control).
        rank: Directions of "random" (1 by default); at most so many of "inlp" (32 by default).
        seed: Of the random directions.

    Raises:
        UnknownName: No such method.
        OneClass, ShapeMismatch, NotFinite: The rows cannot be used.
    """
    if method not in ERASERS:
        raise unknown(UnknownName, "eraser", method, ERASERS)
    x = matrix(rows, "rows")
    y = two_classes(labels, len(x))
    mean = x.mean(0)
    if method == "leace":
        return Eraser.fit(x[y == 0], x[y == 1])
    if method == "mean_projection":
        v = x[y == 1].mean(0) - x[y == 0].mean(0)
        return Projection(basis=(v / v.norm().clamp(min=1e-12))[:, None], mean=mean)
    if method == "random":
        draw = torch.randn(x.shape[1], rank or 1, generator=torch_rng(seed, "random eraser"))
        return Projection(basis=torch.linalg.qr(draw).Q, mean=mean)
    return _inlp(x, y, mean, min(rank or 32, x.shape[1] - 1))


def _inlp(x: Tensor, y: np.ndarray, mean: Tensor, most: int) -> Projection:
    basis = torch.zeros(x.shape[1], 0)
    for _ in range(most):
        left = Projection(basis=basis, mean=mean)(x)
        probe = fit_logistic(left[y == 1], left[y == 0], c=1.0)
        if (probe.predict(left) == y).mean() < 0.55:
            break
        v = probe.vector - basis @ (basis.T @ probe.vector)
        if float(v.norm()) <= 1e-8:
            break
        basis = torch.cat([basis, (v / v.norm())[:, None]], 1)
    return Projection(basis=basis, mean=mean)


def _scores(kind: str, x: Tensor, y: np.ndarray, held: Tensor) -> np.ndarray:
    if kind == "linear":
        return fit_logistic(x[y == 1], x[y == 0], c=0.1).score(held)
    scaler = Scaler.fit(x)
    return SVC(kernel="rbf", C=1.0, random_state=0).fit(scaler(x).numpy(), y).decision_function(scaler(held).numpy())


def erase_and_reprobe(
    rows: Any,
    concepts: Mapping[str, ArrayLike],
    *,
    groups: ArrayLike,
    erasers: Sequence[str] = ERASERS,
    probes: Sequence[str] = PROBES,
    test: float = 0.4,
    draws: int = 5,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Erase each concept in turn and read every concept with probes fitted afresh on what is left.

    Erasers and probes are fitted on the training groups and read on the others.

    Args:
        rows: `row x d_model`.
        concepts: Labels 0/1 by name, one per row.
        groups: The group of each row (identity, pair of requests): no group is on both sides, and intervals are clustered by it.
        erasers: Of `ERASERS`.
        probes: "linear" (logistic), "nonlinear" (support vector machine with a Gaussian kernel).
        test: Share of the groups that is held out.
        draws: Random single directions of the control; their mean is reported, with the smallest and the largest.
        resamples: For the intervals of AUROC and of the loss.
        seed: Draws groups and directions.

    Returns:
        One row per erased x read x method (eraser) x probe x metric: "accuracy", "auroc", and "loss" (accuracy before less after,
        paired). Erased "nothing" is the ceiling.

    Raises:
        TooFew: Too few groups.
        OneClass: A concept has one class on one side.
        ShapeMismatch, NotFinite, BadInput: See their messages.
    """
    x = matrix(rows, "rows")
    names = np.asarray(groups).astype(str)
    if names.shape != (len(x),):
        raise ShapeMismatch(f"{len(x)} rows and groups of shape {names.shape}")
    if not concepts or draws < 1:
        raise BadInput("concepts= is empty" if draws >= 1 else f"draws={draws}: 1 at least")
    stray = [p for p in probes if p not in PROBES]
    if stray:
        raise unknown(UnknownName, "probe", stray[0], PROBES)
    labels = {k: two_classes(v, len(x)) for k, v in concepts.items()}
    every = np.unique(names)
    if len(every) < 10:
        raise TooFew(f"{len(every)} groups; ten at least, to hold some out")
    held_names = numpy_rng(seed, "erasure").permutation(every)[: max(3, round(test * len(every)))]
    held = np.isin(names, held_names)
    for name, y in labels.items():
        for side, keep in (("training", ~held), ("held-out", held)):
            if len(np.unique(y[keep])) < 2:
                raise OneClass(f"{name!r} has one class among the {side} rows; more groups, or another seed")
    train, rest, people = x[torch.as_tensor(~held)], x[torch.as_tensor(held)], names[held]
    out: list[dict[str, Any]] = []
    ceiling: dict[tuple[str, str], np.ndarray] = {}

    def read(erased: str, eraser: str, maps: Sequence[Callable[[Tensor], Tensor]]) -> None:
        for name, y in labels.items():
            for kind in probes:
                scores = [_scores(kind, m(train), y[~held], m(rest)) for m in maps]
                truth = y[held]
                place = {"erased": erased, "read": name, "method": eraser, "probe": kind, "split": "test"}
                hits = np.stack([(s > 0) == truth for s in scores]).astype(float)
                if len(maps) == 1:
                    accuracy = proportion(hits[0], people)
                    out.append(place | {"metric": "accuracy"} | accuracy.row())
                    out.append(place | {"metric": "auroc"} | auroc(scores[0], truth, people, resamples=resamples, seed=seed).row())
                else:
                    low, high = np.quantile(hits.mean(1), [0, 1])
                    out.append(place | {"metric": "accuracy", "value": hits.mean(), "low": low, "high": high, "n": len(truth)})
                if erased == "nothing":
                    ceiling[name, kind] = hits[0]
                else:
                    loss = paired_difference(ceiling[name, kind], hits.mean(0), people, resamples=resamples, seed=seed)
                    out.append(place | {"metric": "loss"} | loss.row())

    read("nothing", "none", [lambda v: v])
    for name, y in labels.items():
        for eraser in erasers:
            seeds = [derive(seed, "random eraser", k) for k in range(draws)] if eraser == "random" else [seed]
            read(name, eraser, [fit_eraser(train, y[~held], eraser, seed=s) for s in seeds])
    return pd.DataFrame(out)
