"""Solvers of linear probes: penalised losses along a path of strengths, least squares, discriminant, difference of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ..core.errors import BadInput
from ..core.types import Float, Tensor
from .linear_probe import Folds, LinearProbe, Problem, path_of
from .scaling import signs
from .solve import Axes, solve


def fit_penalised(problem: Problem, method: str, c: float | Sequence[float], folds: Folds | None, device: str = "cpu") -> LinearProbe:
    """Fit "logistic" or "svm" along a path of strengths; all folds and strengths are one batch."""
    x, t = problem.features.to(device), signs(problem.y)[:, None].to(device)
    tried = path_of(c, folds, *x.shape)
    shape = "logistic" if method == "logistic" else "squared_hinge"
    axes = Axes.of(x)
    penalties = torch.tensor([0.0 if v == float("inf") else 1 / v for v in tried])
    chosen, path = 0, {}
    if len(tried) > 1 and folds is not None:
        fit, held = folds
        weights = torch.as_tensor(fit.astype(np.float32)).T.repeat_interleave(len(tried), 1)
        w, b = solve(axes, t, weights, penalties.repeat(len(fit)), shape=shape, intercept=problem.intercept)
        scores = x @ w + b
        inside = torch.as_tensor(held.astype(np.float32)).T.repeat_interleave(len(tried), 1).to(device)
        each = F.softplus(-scores * t) if method == "logistic" else (1 - scores * t).clamp(min=0) ** 2
        losses = ((each * inside).sum(0).reshape(len(fit), -1).sum(0) / float(held.sum())).tolist()
        path = dict(zip(tried, losses, strict=True))
        chosen = int(np.argmin(losses))
    w, b = solve(axes, t, torch.ones(len(x), 1), penalties[chosen : chosen + 1], shape=shape, intercept=problem.intercept)
    return problem.probe(method, w[:, 0], float(b[0]), strength=tried[chosen], path=path)


def _ridge(
    x: Float[Tensor, "row d_model"], t: Float[Tensor, " row"], tried: Sequence[float], intercept: bool
) -> tuple[Float[Tensor, "d_model strength"], Float[Tensor, " strength"]]:
    """Least squares of t on x with each penalty 1 / c: weights and intercepts."""
    mean, middle = (x.mean(0), t.mean()) if intercept else (torch.zeros_like(x[0]), torch.zeros(()))
    axes = Axes.of(x - mean)
    z, target = axes.rotated, (t - middle).to(axes.rotated.dtype)
    along = z.T @ target
    strength = torch.tensor([1 / v for v in tried], dtype=z.dtype)
    w = (axes.basis @ (along[:, None] / (axes.values.to(z.dtype)[:, None] + strength))).float()
    return w, middle - mean @ w


def fit_ridge_path(problem: Problem, c: float | Sequence[float], folds: Folds | None) -> LinearProbe:
    """Fit least squares on -1/+1 along a path of strengths; one decomposition per fold serves all of them."""
    x, t = problem.features, signs(problem.y).float()
    tried = path_of(c, folds, *x.shape)
    chosen, path = 0, {}
    if len(tried) > 1 and folds is not None:
        total = torch.zeros(len(tried))
        for fit, held in zip(*folds, strict=True):
            w, b = _ridge(x[fit], t[fit], tried, problem.intercept)
            total += ((x[held] @ w + b - t[held][:, None]) ** 2).sum(0)
        losses = (total / float(folds[1].sum())).tolist()
        path, chosen = dict(zip(tried, losses, strict=True)), int(np.argmin(losses))
    w, b = _ridge(x, t, tried[chosen : chosen + 1], problem.intercept)
    return problem.probe("ridge", w[:, 0], float(b[0]) if problem.intercept else 0.0, strength=tried[chosen], path=path)


def shrinkage_of(centred: Float[Tensor, "row d_model"]) -> float:
    """Return the Ledoit-Wolf intensity of shrinking the covariance of centred rows towards a multiple of the identity.

    References:
        Ledoit and Wolf 2004, J. Multivar. Anal. 88:365, lemma 3.3 to 3.5.
    """
    n, d = centred.shape
    axes = Axes.of(centred)
    values = axes.values / n  # of the covariance; the axes that are missing have 0
    mu = float(values.sum()) / d
    delta = float((values**2).sum()) / d - mu * mu
    norms = (centred.double() ** 2).sum(1)
    beta = (float((norms**2).sum()) / n - float((values**2).sum())) / (n * d)
    return 0.0 if delta <= 0 else min(1.0, max(0.0, beta / delta))


def fit_discriminant(problem: Problem, shrinkage: float | None) -> LinearProbe:
    """Fit w = S^-1 (m1 - m0) with the shrunk covariance within classes."""
    x, y = problem.features, problem.y
    if problem.intercept:
        one, zero = x[y == 1].mean(0), x[y == 0].mean(0)
        centred = torch.where(torch.as_tensor(y == 1)[:, None], x - one, x - zero)
        gap, prior = one - zero, float(np.log((y == 1).mean() / (y == 0).mean()))
    else:  # a pair is a row of its class and its mirror image a row of the other
        t = signs(y).float()[:, None]
        one = (t * x).mean(0)
        centred, gap, zero, prior = t * x - one, 2 * one, -one, 0.0
    a = shrinkage_of(centred) if shrinkage is None else shrinkage
    if not 0 <= a <= 1:
        raise BadInput(f"shrinkage is between 0 and 1, got {a}")
    axes = Axes.of(centred)
    values = axes.values / len(x)
    floor = a * float(values.sum()) / x.shape[1]
    if floor == 0 and (len(values) < x.shape[1] or float(values.min()) <= 1e-12 * float(values.max())):
        raise BadInput(f"{x.shape[1]} features and {len(x)} rows: without shrinkage the covariance has no inverse")
    basis = axes.basis.double()
    inside = basis.T @ gap.double()
    weight = basis @ (inside / ((1 - a) * values + floor))
    if floor > 0:
        weight = weight + (gap.double() - basis @ inside) / floor
    bias = float(prior - weight @ (one + zero).double() / 2) if problem.intercept else 0.0
    return problem.probe("lda", weight, bias, strength=a)


def fit_means(problem: Problem, method: str) -> LinearProbe:
    """Fit the difference of the class means; on rows the threshold lies half-way between them."""
    keep = torch.as_tensor(problem.y == 1)
    one, zero = problem.features[keep].mean(0), problem.features[~keep].mean(0)
    weight = one - zero
    return problem.probe(method, weight, float(-(weight @ (one + zero)) / 2) if problem.intercept else 0.0)
