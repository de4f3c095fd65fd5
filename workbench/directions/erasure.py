"""Erase one concept, read the other with fresh probes: does safety survive when harm is gone?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.svm import SVC

from ..core.errors import BadInput, OneClass, ShapeMismatch, TooFew, UnknownName, unknown
from ..core.seeds import derive, numpy_rng, torch_rng
from ..core.show import Shown, axes
from ..core.stats import auroc, paired_difference, proportion
from ..core.types import Bool, Float, Int, Tensor
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

    def __call__(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """Return rows with what lies along the basis set to its mean."""
        return x - (x - self.mean) @ self.basis @ self.basis.T


def fit_eraser(rows: Any, labels: ArrayLike, method: str = "leace", *, rank: int | None = None, seed: int = 0) -> Eraser | Projection:
    """Return a map of rows that takes a binary concept out.

    Args:
        rows: Training rows, `row x d_model`.
        labels: Label of each row, 0 or 1; both must occur.
        method: "leace" (Belrose et al. 2023: no linear probe can read it, the least change), "mean_projection" (the mean difference is
            projected out), "inlp" (Ravfogel et al. 2020, arXiv 2004.07667: logistic directions in turn, until training accuracy falls below
            .55, at most `rank`), "random" (`rank` random directions: the control).
        rank: Directions of "random" (1 by default); at most so many of "inlp" (32 by default). Raising it removes more of the
            rows. The other methods take out one direction.
        seed: Draws the random directions.

    Returns:
        A map from rows to rows of the same shape and units, to be applied unchanged to held-out rows.

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


def _inlp(x: Float[Tensor, "row d_model"], y: Int[np.ndarray, " row"], mean: Float[Tensor, " d_model"], most: int) -> Projection:
    """Take out logistic directions in turn, until a probe reads no more than .55 in training."""
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


def _scores(
    kind: str, x: Float[Tensor, "row d_model"], y: Int[np.ndarray, " row"], held: Float[Tensor, "held d_model"]
) -> Float[np.ndarray, " held"]:
    """Scores that a fresh probe of this kind gives to held-out rows."""
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
    seed: int = 0,
) -> pd.DataFrame:
    """Erase each concept in turn and read every concept with probes fitted afresh on what is left.

    Erasers and probes are fitted on the training groups and read on the others.

    Args:
        rows: Activations, `row x d_model`.
        concepts: Labels 0/1 by name, one per row; both must occur on both sides.
        groups: The group of each row (identity, pair of requests): no group is on both sides, and intervals are clustered by it.
        erasers: Of `ERASERS`.
        probes: "linear" (logistic), "nonlinear" (support vector machine with a Gaussian kernel).
        test: Share of the groups that is held out, between 0 and 1; three groups at least.
        draws: Random single directions of the control, 1 or more; their mean is reported, with the smallest and the largest.
        seed: Draws groups and directions.

    Returns:
        One row per erased x read x method (eraser) x probe x metric: "accuracy", "auroc", and "loss" (accuracy before less after,
        paired). Erased "nothing" is the ceiling.

    Raises:
        TooFew: Under ten groups.
        UnknownName: No such eraser or probe.
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
    held = _held_out(names, labels, test, seed)
    train, rest = x[torch.as_tensor(~held)], x[torch.as_tensor(held)]
    out: list[dict[str, Any]] = []
    ceiling: dict[tuple[str, str], np.ndarray] = {}

    def read(erased: str, eraser: str, maps: Sequence[Callable[[Tensor], Tensor]]) -> None:
        for name, y in labels.items():
            for kind in probes:
                scores = [_scores(kind, m(train), y[~held], m(rest)) for m in maps]
                place = {"erased": erased, "read": name, "method": eraser, "probe": kind, "split": "test"}
                before = ceiling.get((name, kind))
                out.extend(place | row for row in _rows(scores, y[held], names[held], before))
                if erased == "nothing":
                    ceiling[name, kind] = ((scores[0] > 0) == y[held]).astype(float)

    read("nothing", "none", [lambda v: v])
    for name, y in labels.items():
        for eraser in erasers:
            seeds = [derive(seed, "random eraser", k) for k in range(draws)] if eraser == "random" else [seed]
            read(name, eraser, [fit_eraser(train, y[~held], eraser, seed=s) for s in seeds])
    return pd.DataFrame(out)


def _held_out(names: np.ndarray, labels: Mapping[str, np.ndarray], test: float, seed: int) -> Bool[np.ndarray, " row"]:
    """Which rows are held out: whole groups, with both classes of every concept on both sides."""
    every = np.unique(names)
    if len(every) < 10:
        raise TooFew(f"{len(every)} groups; ten at least, to hold some out")
    held = np.isin(names, numpy_rng(seed, "erasure").permutation(every)[: max(3, round(test * len(every)))])
    for name, y in labels.items():
        for side, keep in (("training", ~held), ("held-out", held)):
            if len(np.unique(y[keep])) < 2:
                raise OneClass(f"{name!r} has one class among the {side} rows; more groups, or another seed")
    return held


def _rows(
    scores: Sequence[Float[np.ndarray, " row"]],
    truth: Int[np.ndarray, " row"],
    people: np.ndarray,
    before: Float[np.ndarray, " row"] | None,
) -> Iterable[dict[str, Any]]:
    """What one probe reads after each of these maps, and how much less than it read before."""
    hits = np.stack([(s > 0) == truth for s in scores]).astype(float)
    if len(scores) == 1:
        yield {"metric": "accuracy"} | proportion(hits[0], people).row()
        yield {"metric": "auroc"} | auroc(scores[0], truth, people).row()
    else:
        low, high = np.quantile(hits.mean(1), [0, 1])
        yield {"metric": "accuracy", "value": hits.mean(), "low": low, "high": high, "n": len(truth)}
    if before is not None:
        yield {"metric": "loss"} | paired_difference(before, hits.mean(0), people).row()
