"""How a search without labels is run: a loss and its gradients, minimised from every start, round by round."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.errors import BadInput, ShapeMismatch
from ..core.types import Float, Tensor
from .bodies import LinearBody, MlpBody
from .losses import Loss
from .minimise import Problem, minimise

_HINT = " (a function of two arguments is a loss; a supervised method takes x_positive, x_negative and seed)"
Outer = Callable[[Tensor], tuple[Tensor, Tensor]]


def search(
    network: LinearBody | MlpBody, theta: Float[Tensor, "restart parameter"], loss: Loss, items: int, strength: float, epochs: int
) -> tuple[Float[Tensor, "restart parameter"], Float[Tensor, " restart"]]:
    """Minimise a loss from every start, round by round; return the parameters and their losses without the penalty."""
    shrink = network.penalty * strength
    outer = _outer(loss, items)
    _check(outer, network.forward(theta), loss)
    old = network.forward(theta)
    for k in range(loss.rounds):
        if loss.rounds > 1:
            outer = _outer(loss, items, old)
        problem = Problem(forward=network.forward, outer=outer, back=network.back, linear=isinstance(network, LinearBody), penalty=shrink)
        theta = minimise(problem, theta, iterations=epochs if k == 0 else max(1, epochs // 4))
        old = network.forward(theta)
    final = outer(old)[0]
    return theta, torch.where(torch.isfinite(final), final, torch.inf)


def _outer(loss: Loss, items: int, old: Float[Tensor, "restart row"] | None = None) -> Outer:
    """Losses and their gradients by the projections, `restart x (negative items, positive items)`."""
    before = () if loss.rounds == 1 else (old[:, :items], old[:, items:]) if old is not None else None

    def outer(u: Tensor) -> tuple[Tensor, Tensor]:
        if loss.slopes is not None:
            value, low, high = loss.slopes(u[:, :items], u[:, items:])
            return value, torch.cat([low, high], 1)
        with torch.enable_grad():
            v = u.detach().requires_grad_()
            said = torch.sigmoid(v) if loss.of == "probability" else v
            past = (said[:, :items].detach(), said[:, items:].detach()) if before is None else before
            value = loss.function(said[:, :items], said[:, items:], *past)
            (slope,) = torch.autograd.grad(value.sum(), v)
        return value.detach(), slope

    return outer


def _check(outer: Outer, u: Float[Tensor, "restart row"], loss: Loss) -> None:
    """Try a loss once, so that one of the wrong shape fails at once and in words."""
    try:
        value = outer(u)[0]
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"the loss {loss.name!r} cannot be computed or has no gradient: {error}{_HINT}") from error
    if value.shape != (len(u),):
        raise ShapeMismatch(f"the loss {loss.name!r} returns shape {tuple(value.shape)}; it should be one per restart, ({len(u)},){_HINT}")
