"""Probes taught by probabilities in place of labels: those of a weaker teacher, with losses that let the student trust itself.

    plain            cross-entropy to the teacher's probabilities w
    confidence       (1 - a) CE(f, w) + a CE(f, [f > t]), t such that half of the rows are above it
    log_confidence   the same, t such that as many rows are above it as the teacher calls positive on average

The student's own hard answers [f > t] are held fixed while it is fitted, and renewed until they no longer change: so each step is a convex
problem, and what is reached is a stationary point of the loss.

References:
    Burns et al. 2023, arXiv 2312.09390, section 4.3.2 and appendix A (auxiliary confidence loss); the third is the form of their released
    code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional as F

from ..core.errors import BadInput, OneClass, ShapeMismatch, UnknownName, unknown
from ..core.types import Float, Tensor
from .linear_probe import Folds, LinearProbe, path_of
from .scaling import Normaliser, pair
from .solve import Axes, solve

STUDENT_LOSSES = ("plain", "confidence", "log_confidence")
ROUNDS, WARMUP = 40, 5  # renewals of the student's own answers at most, and over how many their weight rises


def own_answers(scores: Float[Tensor, " item"], targets: Float[Tensor, " item"], loss: str) -> Float[Tensor, " item"]:
    """Return the student's own answers as hard labels: 1 above a threshold that fixes how many are positive.

    Args:
        scores: Log-odds of the positive answer.
        targets: The teacher's probabilities.
        loss: "confidence": half of the rows are positive; "log_confidence": as many as the targets say on average.

    Returns:
        0 or 1 per row, without gradient.
    """
    share = 0.5 if loss == "confidence" else float(targets.mean())
    count = round(share * len(scores))
    out = torch.zeros_like(scores, requires_grad=False)
    out[scores.detach().argsort(descending=True, stable=True)[:count]] = 1.0
    return out


def soft_targets(scores: Float[Tensor, " item"], targets: Float[Tensor, " item"], loss: str, weight: float) -> Float[Tensor, " item"]:
    """Return what a student is fitted to: (1 - weight) targets + weight own answers.

    Args:
        scores, targets, loss: As for `own_answers`; "plain" gives the targets.
        weight: Of the student's own answers, 0 to 1.

    Returns:
        One probability per row.
    """
    if loss == "plain" or not weight:
        return targets
    return (1 - weight) * targets + weight * own_answers(scores, targets, loss)


def check_targets(targets: ArrayLike, n: int, loss: str, weight: float) -> Float[np.ndarray, " item"]:
    """Return a teacher's probabilities after checking them, and what a student does with them.

    Args:
        targets: One probability of the positive variant per item.
        n: Number of items.
        loss: Of `STUDENT_LOSSES`.
        weight: Of the student's own answers.

    Returns:
        The same probabilities as an array.

    Raises:
        UnknownName: There is no such loss.
        ShapeMismatch: Not one probability per item.
        BadInput: A target is no probability, or the weight lies outside 0 to below 1.
        OneClass: The teacher calls every item the same, with equal certainty: there is nothing to learn.
    """
    if loss not in STUDENT_LOSSES:
        raise unknown(UnknownName, "loss", loss, STUDENT_LOSSES)
    if not 0 <= weight < 1:
        raise BadInput(f"weight {weight}: the share of the student's own answers in its targets, from 0 to below 1")
    out = np.asarray(targets, float)
    if out.shape != (n,):
        raise ShapeMismatch(f"{n} items and targets of shape {out.shape}")
    if not ((out >= 0) & (out <= 1)).all():
        raise BadInput("targets are probabilities of the positive variant, 0 to 1")
    if np.ptp(out) < 1e-9:
        raise OneClass(f"every target is {out[0]:.3f}: the teacher tells no item from another")
    return out


def fit_weak_labels(
    positive: Any,
    negative: Any,
    targets: ArrayLike,
    *,
    loss: str = "plain",
    weight: float = 0.5,
    c: float | Sequence[float] = 1.0,
    folds: Folds | None = None,
    normalise: str = "mean_std",
    **how: Any,
) -> LinearProbe:
    """Fit a logistic probe of contrast pairs to a teacher's probabilities.

    Args:
        positive, negative: Both variants, `item x d_model`, pair by pair.
        targets: The teacher's probability that the positive variant is true, one per pair. Labels (0 or 1) are the special case.
        loss: One of `STUDENT_LOSSES`.
        weight: Of the student's own answers in a confidence loss, 0 to below 1; raising it lets the student disagree more.
        c: Inverse strength of the penalty, as for `fit_logistic`. Of several, the one of lowest cross-entropy *to the targets* on `folds`
            is taken, under the plain loss: the truth is not looked at.
        folds: Rows to fit on and to validate on.
        normalise, how: As for `fit_logistic`.

    Returns:
        The probe.

    Raises:
        UnknownName, BadInput, OneClass, ShapeMismatch, NotFinite: Before fitting.

    Example:
        >>> import numpy as np, torch, workbench as wb
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> weak = np.where(x[:, 0] > 0, 0.7, 0.3)
        >>> int((wb.fit_weak_labels(x, -x, weak).predict(x, -x) == (x[:, 0] > 0).numpy()).sum()) > 190
        True
    """
    wanted = check_targets(targets, len(positive), loss, weight)
    one, other = pair(positive, negative)
    scaler = Normaliser.fit(one, other, normalise=normalise, **how)
    one, other = scaler(one, other, how.get("groups"))
    x = one - other
    if float(x.abs().max()) == 0:
        raise BadInput("both variants are the same in every pair: there is nothing to tell them apart by")
    tried = path_of(c, folds, *x.shape)
    target = torch.as_tensor(wanted, dtype=torch.float32)
    axes, sign = Axes.of(x), torch.cat([torch.ones(len(x), 1), -torch.ones(len(x), 1)])
    doubled = Axes(rotated=torch.cat([axes.rotated, axes.rotated]), basis=axes.basis, values=axes.values)

    def fitted(goal: Tensor, strengths: Sequence[float], rows: Tensor) -> Tensor:
        """Weights, `d_model x problem`: every item once as positive and once as negative, weighted by its target."""
        each = torch.cat([goal[:, None] * rows, (1 - goal[:, None]) * rows])
        penalties = torch.tensor([0.0 if v == float("inf") else 1 / v for v in strengths])
        return solve(doubled, sign, each, penalties)[0]

    chosen, path = 0, {}
    if len(tried) > 1 and folds is not None:
        fit, held = (torch.as_tensor(np.asarray(f, np.float32)).T for f in folds)
        w = fitted(target, [*tried] * fit.shape[1], fit.repeat_interleave(len(tried), 1))
        scores, inside = x @ w, held.repeat_interleave(len(tried), 1)
        each = F.binary_cross_entropy_with_logits(scores, target[:, None].expand_as(scores), reduction="none")
        losses = ((each * inside).sum(0).reshape(fit.shape[1], -1).sum(0) / float(held.sum())).tolist()
        path, chosen = dict(zip(tried, losses, strict=True)), int(np.argmin(losses))
    strength, every = tried[chosen], torch.ones(len(x), 1)
    w = fitted(target, [strength], every)[:, 0]
    before: Tensor | None = None
    for turn in range(0 if loss == "plain" or not weight else ROUNDS):
        scores = x @ w
        now = own_answers(scores, target, loss)
        if turn > WARMUP and before is not None and torch.equal(now, before):
            break
        before, rising = now, weight * min(1.0, (turn + 1) / WARMUP)
        w = fitted(soft_targets(scores, target, loss, rising), [strength], every)[:, 0]
    return LinearProbe(method=f"weak labels, {loss}", weight=w.float(), bias=0.0, scaler=scaler, n=len(x), strength=strength, path=path)
