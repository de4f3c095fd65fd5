"""Nonlinear probes: MLP, quadratic, RBF, nearest neighbours.

Each scores a contrast pair by g(s+(x+)) - g(s-(x-)) (the neighbours by the difference itself), so that exchanging the variants changes
the sign, as for linear probes; and a single row by g(s(x)) + b. What is tuned is chosen on grouped folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional as F

from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..core.show import Shown
from ..core.types import Float, Int, Tensor
from .bodies import MlpBody
from .given import Given, scaled, width_of
from .linear import STRENGTHS
from .linear_probe import Folds, Problem
from .linear_solvers import fit_penalised
from .minimise import Problem as Descent
from .minimise import minimise
from .scaling import Normaliser, Scaler, signs
from .shown import probe_facts
from .solve import Axes

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, repr=False)
class NonlinearProbe(Shown):
    """A fitted nonlinear probe of contrast pairs, or of single rows.

    Attributes:
        method: "mlp", "quadratic", "rbf" or "knn".
        scaler: Training normalisation of the two variants, or of rows.
        function: From both normalised variants to scores; from rows and `None`.
        n: Training pairs.
        chosen: What the folds chose (strength, penalty or neighbours).
    """

    method: str
    scaler: Scaler | Normaliser
    function: Callable[[Tensor, Tensor | None], Tensor]
    n: int
    chosen: float

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return probe_facts(self, width_of(self.scaler), chosen=self.chosen)

    def score(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Float[np.ndarray, " item"]:
        """Return one score per pair.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            One score per item; above 0 means that the positive variant is held true. It is no probability.
        """
        return self.function(*scaled(self.scaler, positive, negative, groups)).double().numpy()

    def predict(self, positive: Any, negative: Any = None, groups: Sequence[str] | None = None) -> Int[np.ndarray, " item"]:
        """Return which variant of every pair is held true.

        Args:
            positive: Positive variants, `item x d_model`, in raw units.
            negative: Negative variants, pair by pair.
            groups: The prompt form of each item, where the probe was normalised by form.

        Returns:
            1 where the score is above 0 (the positive variant), else 0.
        """
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


def _prepare(
    positive: Any, negative: Any, labels: ArrayLike, folds: Folds | None, normalise: str, how: dict[str, Any]
) -> tuple[Given, Folds]:
    """Pairs or rows, normalised, and the folds."""
    given = Given.of(positive, negative, labels, normalise, **how)
    if folds is None:
        raise BadInput("a nonlinear probe is tuned on folds: give folds= (see grouped_folds)")
    return given, folds


def _apart(g: Map, a: Tensor, b: Tensor | None) -> Tensor:
    """The value of g on rows, or on the positive variants less that on the negative ones."""
    return g(a) if b is None else g(a) - g(b)


def _lifted(method: str, lift: Map, given: Given, folds: Folds, c: float | Sequence[float]) -> NonlinearProbe:
    """Fit a logistic probe on lifted features, its strength chosen on the folds."""
    features = _apart(lift, given.x, given.y)
    spread = features.pow(2).mean(0).sqrt()
    spread = torch.where(spread > 1e-6 * spread.max(), spread, torch.ones_like(spread))
    if method == "rbf" and given.y is None:
        spread = torch.ones_like(spread)  # of single rows the first components are the kernel's own; scaled alike they drown in the others
    linear = fit_penalised(Problem(features=features / spread, y=given.classes, scaler=given.scaler), "logistic", c, folds)
    weight, bias = linear.weight / spread, linear.bias
    return NonlinearProbe(
        method=method,
        scaler=given.scaler,
        n=len(given.x),
        chosen=linear.strength,
        function=lambda a, b: _apart(lift, a, b) @ weight + bias,
    )


def fit_quadratic(
    positive: Any,
    negative: Any,
    labels: ArrayLike,
    *,
    folds: Folds | None = None,
    axes: int = 40,
    c: float | Sequence[float] = STRENGTHS[:6],
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> NonlinearProbe:
    """Fit g(x) = w.z + z.A z, with z the first principal components of both variants.

    Args:
        positive: Positive variants of training pairs, `item x d_model`; or single rows.
        negative: Negative variants, pair by pair; `None` with single rows.
        labels: Which variant of each pair is true, or the class of each row, 0 or 1.
        folds: Rows to fit on and to validate on (`prompts.grouped_folds`); the strength of the penalty is chosen on them.
        axes: Number of principal components; there are axes (axes + 3) / 2 features. Raising it makes the probe more flexible.
        c: Inverse strengths of the penalty to choose from, or one.
        normalise: "mean_std", "mean" or "none", with training statistics of each variant.
        seed: Not used: nothing is drawn.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        A probe; its score is above 0 where the positive variant is held true. `chosen` is the strength C.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.
    """
    given, folds = _prepare(positive, negative, labels, folds, normalise, how)
    components = Axes.of(given.both)
    k = min(axes, len(components.values))
    basis = components.basis[:, -k:].float() / (components.values[-k:].float() / len(given.both)).clamp(min=1e-12).sqrt()
    i, j = torch.triu_indices(k, k)

    def lift(v: Tensor) -> Tensor:
        z = v @ basis
        return torch.cat([z, z[:, i] * z[:, j]], 1)

    return _lifted("quadratic", lift, given, folds, c)


def fit_rbf(
    positive: Any,
    negative: Any,
    labels: ArrayLike,
    *,
    folds: Folds | None = None,
    landmarks: int = 300,
    c: float | Sequence[float] = STRENGTHS[:6],
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> NonlinearProbe:
    """Fit a kernel machine with exp(-|x - y|^2 / 2 s^2), s the median distance, by the Nystroem approximation.

    Args:
        positive: Positive variants of training pairs, `item x d_model`; or single rows.
        negative: Negative variants, pair by pair; `None` with single rows.
        labels: Which variant of each pair is true, or the class of each row, 0 or 1.
        folds: Rows to fit on and to validate on (`prompts.grouped_folds`); the strength of the penalty is chosen on them.
        landmarks: Number of training rows that span the approximation, at most. Raising it comes closer to the exact kernel
            machine and costs time.
        c: Inverse strengths of the penalty to choose from, or one.
        normalise: "mean_std", "mean" or "none", with training statistics of each variant.
        seed: Draws the landmarks.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        A probe; its score is above 0 where the positive variant is held true. `chosen` is the strength C.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.

    References:
        Williams and Seeger 2000, Advances in Neural Information Processing Systems 13.
    """
    given, folds = _prepare(positive, negative, labels, folds, normalise, how)
    rows = given.both
    marks = rows[torch.randperm(len(rows), generator=torch_rng(seed, "landmarks"))[:landmarks]]
    apart = torch.cdist(marks, marks)
    width = float(apart[apart > 0].median()) if bool((apart > 0).any()) else 1.0
    values, vectors = torch.linalg.eigh(torch.exp(-((apart / width) ** 2) / 2).double())
    keep = values > 1e-6 * values[-1]
    root = (vectors[:, keep] / values[keep].sqrt()).float()
    return _lifted("rbf", lambda v: torch.exp(-((torch.cdist(v, marks) / width) ** 2) / 2) @ root, given, folds, c)


def fit_knn(
    positive: Any,
    negative: Any,
    labels: ArrayLike,
    *,
    folds: Folds | None = None,
    neighbours: Sequence[int] = (1, 5, 15, 45),
    axes: int = 32,
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> NonlinearProbe:
    """Vote among the nearest training differences and their mirror images.

    Args:
        positive: Positive variants of training pairs, `item x d_model`; or single rows.
        negative: Negative variants, pair by pair; `None` with single rows.
        labels: Which variant of each pair is true, or the class of each row, 0 or 1.
        folds: Rows to fit on and to validate on (`prompts.grouped_folds`); the number of neighbours is chosen on them.
        neighbours: Numbers of neighbours to choose from, each 1 or more. More neighbours make the probe smoother.
        axes: Number of principal components of the differences in which distances are taken.
        normalise: "mean_std", "mean" or "none", with training statistics of each variant.
        seed: Not used: nothing is drawn.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        A probe; its score is above 0 where the positive variant is held true. `chosen` is the number of neighbours.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.
    """
    given, folds = _prepare(positive, negative, labels, folds, normalise, how)
    components = Axes.of(features := given.x if given.y is None else given.x - given.y)
    basis = components.basis[:, -min(axes, len(components.values)) :].float()
    z, t, paired = features @ basis, signs(given.classes).float(), given.y is not None

    def votes(points: Tensor, targets: Tensor, asked: Tensor, k: int) -> Tensor:
        both, vote = (torch.cat([points, -points]), torch.cat([targets, -targets])) if paired else (points, targets)
        near = torch.cdist(asked, both).topk(min(k, len(both)), largest=False)
        return vote[near.indices].mean(1)

    tried = [k for k in neighbours if k <= len(z)] or [1]
    hits = torch.zeros(len(tried))
    for fit, held in zip(*folds, strict=True):
        hits += torch.stack([(votes(z[fit], t[fit], z[held], k) * t[held] > 0).float().sum() for k in tried])
    k = tried[int(hits.argmax())]
    return NonlinearProbe(
        method="knn",
        scaler=given.scaler,
        n=len(z),
        chosen=float(k),
        function=lambda a, b: votes(z, t, (a if b is None else a - b) @ basis, k),
    )


def fit_mlp(
    positive: Any,
    negative: Any,
    labels: ArrayLike,
    *,
    folds: Folds | None = None,
    hidden: int = 32,
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2),
    epochs: int = 200,
    normalise: str = "mean_std",
    seed: int = 0,
    **how: Any,
) -> NonlinearProbe:
    """Fit g(x) = v.tanh(W x + a) by logistic loss on g(x+) - g(x-).

    Args:
        positive: Positive variants of training pairs, `item x d_model`; or single rows.
        negative: Negative variants, pair by pair; `None` with single rows.
        labels: Which variant of each pair is true, or the class of each row, 0 or 1.
        folds: Rows to fit on and to validate on (`prompts.grouped_folds`); the penalty is chosen on the first two folds.
        hidden: Hidden units, 1 or more. Raising it makes the probe more flexible.
        penalties: L2 penalties on the weights to choose from, 0 or more; larger ones make the probe smoother.
        epochs: Largest number of L-BFGS steps.
        normalise: "mean_std", "mean" or "none", with training statistics of each variant.
        seed: Draws the start.
        how: Passed to `Normaliser.fit`: `per="variant"`, "all" or "template" (with `groups=`), `erase_variant=True`.

    Returns:
        A probe; its score is above 0 where the positive variant is held true. `chosen` is the penalty.

    Raises:
        OneClass, NotFinite, ShapeMismatch, BadInput: Before fitting.
    """
    given, folds = _prepare(positive, negative, labels, folds, normalise, how)
    n, t = len(given.x), signs(given.classes).float()
    paired = given.y is not None
    net = MlpBody(given.x if given.y is None else torch.cat([given.y, given.x]), hidden)

    def margins(u: Tensor) -> Tensor:
        return (u[:, n:] - u[:, :n] if paired else u) * t

    def descend(weights: Tensor, strengths: Tensor) -> Tensor:
        size = weights.sum(1)

        def outer(u: Tensor) -> tuple[Tensor, Tensor]:
            margin = margins(u)
            slope = -weights * torch.sigmoid(-margin) * t / size[:, None]
            return (weights * F.softplus(-margin)).sum(1) / size, torch.cat([-slope, slope], 1) if paired else slope

        start = net.start(1, seed).expand(len(weights), -1)
        descent = Descent(forward=net.forward, outer=outer, back=net.back, linear=False, penalty=net.penalty * strengths[:, None])
        return minimise(descent, start, iterations=epochs)

    chosen = penalties[0]
    if len(penalties) > 1:
        fit, held = (torch.as_tensor(f[:2]).float() for f in folds)
        theta = descend(fit.repeat_interleave(len(penalties), 0), torch.tensor(penalties).repeat(len(fit)))
        u = net.forward(theta)
        losses = (held.repeat_interleave(len(penalties), 0) * F.softplus(-margins(u))).sum(1).reshape(len(fit), -1).sum(0)
        chosen = penalties[int(losses.argmin())]
    v, b, units = net.read(descend(torch.ones(1, n), torch.tensor([chosen]))[0])

    def g(z: Tensor) -> Tensor:
        return torch.tanh(z @ units[0].T + units[1]) @ v + b

    return NonlinearProbe(method="mlp", scaler=given.scaler, n=n, chosen=chosen, function=lambda p, q: _apart(g, p, q))


NONLINEAR: dict[str, Callable[..., NonlinearProbe]] = {"mlp": fit_mlp, "quadratic": fit_quadratic, "rbf": fit_rbf, "knn": fit_knn}
