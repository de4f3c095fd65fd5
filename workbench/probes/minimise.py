"""L-BFGS for many small problems at once: every restart is a row of one parameter matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.types import Float, Tensor

MEMORY = 10


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is minimised, for each row of the parameters on its own.

    Attributes:
        forward: Parameters `restart x parameter` to outputs `restart x output`.
        outer: Outputs to losses `restart` and their gradient by the outputs.
        back: Parameters and the gradient by the outputs to that by the parameters.
        linear: The outputs are linear in the parameters, so a line search needs no further `forward`.
        penalty: Of each parameter (of each restart, or of all alike): adds penalty * parameter^2 / 2.
    """

    forward: Callable[[Tensor], Tensor]
    outer: Callable[[Tensor], tuple[Tensor, Tensor]]
    back: Callable[[Tensor, Tensor], Tensor]
    linear: bool
    penalty: Float[Tensor, "*restart parameter"]


def minimise(
    problem: Problem,
    start: Float[Tensor, "restart parameter"],
    *,
    iterations: int = 1000,
    tolerance: float = 3e-3,
    patience: int = 10,
) -> Float[Tensor, "restart parameter"]:
    """Minimise every row from its start.

    Args:
        problem: The losses.
        start: Where each row begins, `restart x parameter`.
        iterations: Largest number of steps.
        tolerance: A row is done when it has gained less than this share of its loss over `patience` steps; raising it stops
            earlier.
        patience: Steps over which the gain of a row is measured.

    Returns:
        The parameters, `restart x parameter`.

    References:
        Liu and Nocedal 1989, Math. Program. 45:503; the step is halved until Armijo's condition holds.
    """
    x, penalty = start.clone(), problem.penalty
    u = problem.forward(x)
    inner, du = problem.outer(u)
    value = inner + (penalty * x * x).sum(1) / 2
    gradient = problem.back(x, du) + penalty * x
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    live = torch.ones(len(x), dtype=torch.bool, device=x.device)
    past = [value]
    for _ in range(iterations):
        direction = -_two_loops(gradient, pairs)
        slope = (gradient * direction).sum(1)
        lost = slope >= 0
        direction = torch.where(lost[:, None], -gradient, direction)
        slope = torch.where(lost, -(gradient * gradient).sum(1), slope)
        along = problem.forward(direction) if problem.linear else None
        size = torch.ones_like(value)
        new, after, slopes, outputs = x, value, du, u
        good = ~live
        for _ in range(20):
            new = x + size[:, None] * direction
            outputs = u + size[:, None] * along if along is not None else problem.forward(new)
            inner, slopes = problem.outer(outputs)
            after = inner + (penalty * new * new).sum(1) / 2
            good = (after <= value + 1e-4 * size * slope) | ~live
            if bool(good.all()):
                break
            size = torch.where(good, size, size / 2)
        taken = (good & live)[:, None]
        new, outputs = torch.where(taken, new, x), torch.where(taken, outputs, u)
        after, slopes = torch.where(taken[:, 0], after, value), torch.where(taken, slopes, du)
        turned = problem.back(new, slopes) + penalty * new
        s, y = new - x, turned - gradient
        curved = (s * y).sum(1)
        fine = curved > 1e-10 * (y * y).sum(1).clamp(min=1e-30)
        pairs.append((torch.where(fine[:, None], s, 0.0), torch.where(fine[:, None], y, 0.0), torch.where(fine, 1 / curved, 0.0)))
        del pairs[:-MEMORY]
        x, u, du, value, gradient = new, outputs, slopes, after, turned
        past.append(value)
        del past[: -patience - 1]
        stuck = ~taken[:, 0]
        slow = (past[0] - value <= tolerance * value.abs()) if len(past) > patience else torch.zeros_like(live)
        live = live & ~slow & ~stuck & (value > 1e-9)
        if not bool(live.any()):
            break
    return x


def _two_loops(
    gradient: Float[Tensor, "restart parameter"], pairs: list[tuple[Tensor, Tensor, Tensor]]
) -> Float[Tensor, "restart parameter"]:
    """The inverse Hessian of the last steps times the gradient (Liu and Nocedal 1989, algorithm 2.1)."""
    q, steps = gradient.clone(), []
    for s, y, r in reversed(pairs):
        a = r * (s * q).sum(1)
        steps.append(a)
        q -= a[:, None] * y
    if pairs:
        s, y, r = pairs[-1]
        scale = torch.where(r > 0, (s * y).sum(1) / (y * y).sum(1).clamp(min=1e-30), 1.0)
    else:
        scale = 1 / gradient.norm(dim=1).clamp(min=1e-12)
    q *= scale[:, None]
    for (s, y, r), a in zip(pairs, reversed(steps), strict=True):
        q += (a - r * (y * q).sum(1))[:, None] * s
    return q
