"""Supervised linear probes on contrast pairs or on rows of two classes; strengths are chosen by grouped cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import BadInput, ShapeMismatch
from ..core.show import Shown
from .scaling import Normaliser, Scaler, matrix, pair, signs, two_classes
from .shown import probe_facts
from .solve import Axes, solve

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 4, 9))
Folds = tuple[np.ndarray, np.ndarray]


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
    weight: Tensor
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
    def vector(self) -> Tensor:
        """The direction in raw activation units, `d_model`, not normalised (mean scale of the variants)."""
        return self.scaler.raw(self.weight) if isinstance(self.scaler, Normaliser) else self.weight / self.scaler.scale

    def score(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> np.ndarray:
        """Return one score per pair (or row); above 0 means that the positive variant is true (or class 1).

        Raises:
            ShapeMismatch: Pairs given to a probe of rows, or the reverse, or another width.
        """
        if self.paired != (negative is not None):
            raise ShapeMismatch(f"this probe reads {'pairs: give positive and negative' if self.paired else 'rows: give one matrix'}")
        if isinstance(self.scaler, Scaler):
            return (self.scaler(matrix(positive, "rows")) @ self.weight + self.bias).numpy()
        x, y = self.scaler(*pair(positive, negative), groups)
        return ((x - y) @ self.weight).numpy()

    def predict(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> np.ndarray:
        """Return 1 where the score is above 0."""
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a supervised probe is fitted on: features `row x d_model`, classes 0/1, whether there is an intercept."""

    features: Tensor
    y: np.ndarray
    scaler: Scaler | Normaliser

    @property
    def intercept(self) -> bool:
        """Rows have one; differences of pairs have none, so that exchanging the variants changes the sign."""
        return isinstance(self.scaler, Scaler)

    def probe(self, method: str, weight: Tensor, bias: float = 0.0, **facts: Any) -> LinearProbe:
        """Return the probe of a solution."""
        return LinearProbe(method=method, weight=weight.float().cpu(), bias=bias, scaler=self.scaler, n=len(self.y), **facts)


def prepare(positive: Any, negative: Any, labels: ArrayLike | None, normalise: str = "mean_std", **how: Any) -> Problem:
    """Check and normalise what goes into a supervised probe; `how` as for `Normaliser.fit`."""
    if labels is None:
        x, y = matrix(positive, "positive"), matrix(negative, "negative")
        if x.shape[1] != y.shape[1]:
            raise ShapeMismatch(f"the two classes have widths {x.shape[1]} and {y.shape[1]}")
        rows = torch.cat([x, y])
        if bool((rows == rows[0]).all()):
            raise BadInput("no feature varies over these rows: there is nothing to tell the classes apart by")
        scaler = Scaler.fit(rows, normalise)
        return Problem(features=scaler(rows), y=np.r_[np.ones(len(x), np.int64), np.zeros(len(y), np.int64)], scaler=scaler)
    x, y = pair(positive, negative)
    classes = two_classes(labels, len(x))
    normaliser = Normaliser.fit(x, y, normalise=normalise, **how)
    a, b = normaliser(x, y, how.get("groups"))
    features = a - b
    if float(features.abs().max()) == 0:
        raise BadInput("both variants are the same in every pair: there is nothing to tell them apart by")
    return Problem(features=features, y=classes, scaler=normaliser)


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


def log_loss(scores: Tensor, t: Tensor, dim: int = 0) -> Tensor:
    """Mean of log(1 + exp(-t s)), in nats."""
    return F.softplus(-scores * t).mean(dim)


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


def _ridge(x: Tensor, t: Tensor, tried: Sequence[float], intercept: bool) -> tuple[Tensor, Tensor]:
    """Least squares of t on x with each penalty 1 / c: `d_model x strength`, and the intercepts."""
    mean, middle = (x.mean(0), t.mean()) if intercept else (torch.zeros_like(x[0]), torch.zeros(()))
    axes = Axes.of(x - mean)
    z, target = axes.rotated, (t - middle).to(axes.rotated.dtype)
    along = z.T @ target
    strength = torch.tensor([1 / v for v in tried], dtype=z.dtype)
    w = (axes.basis @ (along[:, None] / (axes.values.to(z.dtype)[:, None] + strength))).float()
    return w, middle - mean @ w


def fit_ridge_path(problem: Problem, c: float | Sequence[float], folds: Folds | None) -> LinearProbe:
    """Fit least squares on -1/+1 along a path of strengths; one decomposition a fold serves all of them."""
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


def shrinkage_of(centred: Tensor) -> float:
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


def fit_logistic(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    device: str = "cpu",
    **how: Any,
) -> LinearProbe:
    """Fit a logistic probe: minimise |w|^2 / 2 + c sum_i log(1 + exp(-t_i s_i)).

    Args:
        positive: Rows of class 1, `row x d_model`; with `labels`, the positive variants of contrast pairs.
        negative: Rows of class 0; with `labels`, the negative variants, pair by pair.
        labels: Which variant of each pair is true, 0 or 1.
        c: Inverse strength of the L2 penalty on normalised features; raising it fits training rows more closely. Of
            several, the one of lowest log-loss on `folds` is taken.
        folds: Rows to fit on and to validate on, from `prompts.grouped_folds`.
        normalise: "mean_std", "mean" or "none", with training statistics, per variant for pairs.
        device: Where to compute.
        how: For pairs: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`; see `Normaliser`.

    Returns:
        A probe; its score is above 0 where class 1 (or the positive variant) is likelier, and its logistic function is a
        probability.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.

    Example:
        >>> import torch, workbench as wb
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> probe = wb.fit_logistic(x + 2, x - 2)
        >>> int(probe.predict(x + 2).sum())
        100
    """
    path_of(c, folds, 1, 0)
    return fit_penalised(prepare(positive, negative, labels, normalise, **how), "logistic", c, folds, device)


def fit_svm(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    device: str = "cpu",
    **how: Any,
) -> LinearProbe:
    """Fit a linear support vector machine: minimise |w|^2 / 2 + c sum_i max(0, 1 - t_i s_i)^2; arguments as for `fit_logistic`."""
    path_of(c, folds, 1, 0)
    return fit_penalised(prepare(positive, negative, labels, normalise, **how), "svm", c, folds, device)


def fit_ridge(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    **how: Any,
) -> LinearProbe:
    """Fit least squares on -1/+1: minimise |w|^2 / c + sum_i (t_i - s_i)^2; arguments as for `fit_logistic`."""
    return fit_ridge_path(prepare(positive, negative, labels, normalise, **how), c, folds)


def fit_lda(
    positive: Any,
    negative: Any,
    labels: ArrayLike | None = None,
    *,
    shrinkage: float | None = None,
    normalise: str = "mean_std",
    **how: Any,
) -> LinearProbe:
    """Fit the whitened mass-mean probe, which is linear discriminant analysis: w = S^-1 (m1 - m0).

    Args:
        positive, negative, labels, normalise, how: As for `fit_logistic`.
        shrinkage: Of the covariance S within classes towards a multiple of the identity, 0 to 1; by default
            Ledoit and Wolf's.

    References:
        Marks and Tegmark 2023, arXiv 2310.06824, section 5 (with their whitening); Fisher 1936.
    """
    return fit_discriminant(prepare(positive, negative, labels, normalise, **how), shrinkage)


def fit_mass_mean(positive: Any, negative: Any, labels: ArrayLike | None = None, *, normalise: str = "mean_std", **how: Any) -> LinearProbe:
    """Fit a mass-mean probe: the difference of the class means.

    Args:
        positive, negative, labels, normalise, how: As for `fit_logistic`. In tables "difference_in_means" is the same
            with `normalise="mean"`, in raw units.

    References:
        Marks and Tegmark 2023, arXiv 2310.06824, section 5 (without their whitening).
    """
    return fit_means(prepare(positive, negative, labels, normalise, **how), "mass_mean")


LINEAR: dict[str, Callable[..., LinearProbe]] = {
    "logistic": fit_logistic,
    "svm": fit_svm,
    "ridge": fit_ridge,
    "lda": fit_lda,
    "mass_mean": fit_mass_mean,
    "difference_in_means": lambda p, n, y=None, **o: fit_means(prepare(p, n, y, **{"normalise": "mean", **o}), "difference_in_means"),
}
TUNED = ("logistic", "svm", "ridge")
