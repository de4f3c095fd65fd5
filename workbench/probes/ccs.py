"""Directions found without labels: contrast-consistent search and its kin (Burns et al. 2022, arXiv 2212.03827).

Nothing here sees a label. Restarts are chosen by loss alone, and the sign of the direction is left open: a separate,
named step, `resolve_sign`, sets it from rows and labels that the caller names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..core.errors import BadInput, ShapeMismatch
from ..core.seeds import torch_rng
from ..core.show import Shown
from ..core.types import Float
from .losses import Function, Loss, get_loss
from .minimise import Problem, minimise
from .scaling import Normaliser, pair, two_classes
from .shown import probe_facts

BODIES = ("linear", "mlp")


@dataclass(frozen=True, kw_only=True, repr=False)
class ContrastProbe(Shown):
    """The result of a search without labels.

    Attributes:
        weight, bias: Of the best restart, in normalised units (of the last layer, with an MLP body).
        hidden: Weights `unit x d_model` and biases of the hidden layer of an MLP body.
        scaler: Training normalisation of the two variants.
        loss: Its loss.
        losses: The loss of every restart.
        weights: The weights of every restart, `restart x d_model` (linear body).
        sign: +1 or -1; arbitrary until `oriented_on` says from which rows it was set.
        oriented_on: What `resolve_sign` used, "" before.
        method: Name of the loss or method.
        n: Training pairs.
    """

    weight: Tensor
    bias: float
    scaler: Normaliser
    loss: float
    losses: tuple[float, ...]
    n: int
    hidden: tuple[Tensor, Tensor] | None = None
    weights: Tensor | None = None
    sign: int = 1
    oriented_on: str = ""
    method: str = "ccs"

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return probe_facts(
            self, len(self.scaler.scalers[0].mean), loss=self.loss, losses=self.losses, sign=self.sign, oriented_on=self.oriented_on
        )

    @property
    def vector(self) -> Tensor:
        """The oriented direction in raw activation units, `d_model`, not normalised (mean scale of the variants).

        Raises:
            BadInput: An MLP body has no one direction.
        """
        if self.hidden is not None:
            raise BadInput("a probe with an MLP body has no one direction")
        return self.sign * self.scaler.raw(self.weight)

    def projections(self, positive: Any, negative: Any, groups: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return w.x + b of the positive and the negative variants, not oriented."""
        out = []
        for x in self.scaler(*pair(positive, negative), groups):
            inside = x if self.hidden is None else torch.tanh(x @ self.hidden[0].T + self.hidden[1])
            out.append(inside @ self.weight + self.bias)
        return out[0], out[1]

    def score(self, positive: Any, negative: Any, groups: Sequence[str] | None = None) -> np.ndarray:
        """Return sign x (p(x+) - p(x-)) / 2 per pair: above 0 means that the positive variant is true."""
        u, v = self.projections(positive, negative, groups)
        # in float64: two certain answers differ in digits that float32 does not have
        return (self.sign * (torch.sigmoid(u.double()) - torch.sigmoid(v.double())) / 2).numpy()

    def predict(self, positive: Any, negative: Any, groups: Sequence[str] | None = None) -> np.ndarray:
        """Return 1 where the score is above 0."""
        return (self.score(positive, negative, groups) > 0).astype(np.int64)


def fit_ccs(
    positive: Any, negative: Any, *, restarts: int = 10, epochs: int = 1000, normalise: str = "mean_std", seed: int = 0, **options: Any
) -> ContrastProbe:
    """Search for a direction along which the two variants of a pair contradict each other confidently.

    Minimises the mean of (p(x+) - (1 - p(x-)))^2 + min(p(x+), p(x-))^2 with p(x) = sigmoid(w . s(x) + b).

    Args:
        positive: Positive variants of training pairs, `item x d_model`.
        negative: Negative variants, pair by pair.
        restarts: Random starts; the one of lowest loss is kept. Raising it costs time and finds lower losses.
        epochs: Steps of L-BFGS at most; it stops by itself when the loss does.
        normalise: Per variant, with the statistics of these rows.
        seed: Draws the starts.
        options: As for `fit_contrast`.

    Returns:
        The best restart, its sign still open: see `resolve_sign`.

    Raises:
        ShapeMismatch, NotFinite, BadInput: Before fitting.

    Note:
        It finds the most prominent consistent feature, which need not be truth (Farquhar et al. 2023, arXiv 2312.10029).

    References:
        Burns et al. 2022, arXiv 2212.03827, equations 1-3.
    """
    return fit_contrast(positive, negative, loss="ccs", restarts=restarts, epochs=epochs, normalise=normalise, seed=seed, **options)


def fit_contrast(
    positive: Any,
    negative: Any,
    *,
    loss: str | Loss | Function = "ccs",
    body: str = "linear",
    hidden: int = 32,
    restarts: int = 10,
    epochs: int = 1000,
    penalty: float | None = None,
    normalise: str = "mean_std",
    seed: int = 0,
    device: str = "cpu",
    **how: Any,
) -> ContrastProbe:
    """Search without labels for what minimises any contrastive loss.

    Args:
        positive, negative: Training pairs, `item x d_model` each.
        loss: "ccs", "ccs_circle", "infonce", "spin", "hinge", "bimodal"; a `Loss`; or a function of (p_negative, p_positive),
            each `restart x item`, that returns one loss per restart.
        body: "linear", or "mlp" with one hidden layer of tanh units.
        hidden: Units of the MLP.
        restarts, epochs, seed: As for `fit_ccs`.
        penalty: L2 penalty on the weights; by default the loss's own. Raising it shortens the weights.
        normalise, how: As for `Normaliser`.
        device: Where to compute.

    Returns:
        The restart of lowest loss (the penalty left out), its sign still open.

    Raises:
        ShapeMismatch, NotFinite, BadInput, UnknownName: Before fitting.

    Example:
        >>> import torch, workbench as wb
        >>> truth = torch.randint(0, 2, (200, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        >>> x = truth * torch.tensor([[2.0, 0.0]]) + torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) / 3
        >>> found = wb.fit_contrast(x, -x, loss=lambda p, q: ((p + q - 1) ** 2 + (p * q)).mean(-1))
        >>> bool(abs(found.vector[0]) > 5 * abs(found.vector[1]))
        True
    """
    chosen = get_loss(loss)
    if restarts < 1 or epochs < 1:
        raise BadInput(f"restarts and epochs are at least 1, got {restarts} and {epochs}")
    if body not in BODIES:
        raise BadInput(f"body={body!r}: 'linear' or 'mlp'")
    x, y = pair(positive, negative)
    if len(x) < 2:
        raise BadInput("a search needs two pairs at least")
    scaler = Normaliser.fit(x, y, normalise=normalise, **how)
    a, b = scaler(x, y, how.get("groups"))
    stacked = torch.cat([b, a]).to(device)  # negative first
    if float((a - b).abs().max()) == 0:
        raise BadInput("both variants are the same in every pair: there is nothing that could contradict itself")
    strength = chosen.penalty if penalty is None else penalty
    parts = _Mlp(stacked, hidden) if body == "mlp" else _Linear(stacked)
    theta = parts.start(restarts, seed)
    shrink = parts.penalty * strength
    outer = _outer(chosen, len(x))
    _check(outer, parts.forward(theta), chosen)
    old = parts.forward(theta)
    for k in range(chosen.rounds):
        if chosen.rounds > 1:
            outer = _outer(chosen, len(x), old)
        problem = Problem(forward=parts.forward, outer=outer, back=parts.back, linear=body == "linear", penalty=shrink)
        theta = minimise(problem, theta, iterations=epochs if k == 0 else max(1, epochs // 4))
        old = parts.forward(theta)
    final = outer(old)[0]
    final = torch.where(torch.isfinite(final), final, torch.inf)
    best = int(final.argmin())
    weight, bias, units = parts.read(theta[best].cpu())
    return ContrastProbe(
        weight=weight,
        bias=bias,
        hidden=units,
        scaler=scaler,
        loss=float(final[best]),
        losses=tuple(final.tolist()),
        n=len(x),
        method=chosen.name,
        weights=theta[:, :-1].cpu().clone() if body == "linear" else None,
    )


def fit_ccs_layers(
    positive: Float[Tensor, "item layer d_model"], negative: Float[Tensor, "item layer d_model"], **options: Any
) -> list[ContrastProbe]:
    """Run `fit_contrast` on every layer; one result per layer, which does not depend on the others."""
    if positive.ndim != 3:
        raise ShapeMismatch(f"item x layer x d_model, got {tuple(positive.shape)}")
    return [fit_contrast(positive[:, k], negative[:, k], **options) for k in range(positive.shape[1])]


class _Linear:
    """u = w.x + b for every restart, as two matrix products."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.penalty = torch.ones(x.shape[1] + 1, device=x.device)
        self.penalty[-1] = 0

    def start(self, restarts: int, seed: int) -> Tensor:
        width = self.x.shape[1]
        bound = width**-0.5
        return torch.empty(restarts, width + 1).uniform_(-bound, bound, generator=torch_rng(seed, "ccs")).to(self.x.device)

    def forward(self, theta: Tensor) -> Tensor:
        return torch.addmm(theta[:, -1:], theta[:, :-1], self.x.T)

    def back(self, theta: Tensor, du: Tensor) -> Tensor:
        return torch.cat([du @ self.x, du.sum(1, keepdim=True)], 1)

    def read(self, theta: Tensor) -> tuple[Tensor, float, None]:
        return theta[:-1].clone(), float(theta[-1]), None


class _Mlp:
    """u = v.tanh(W x + a) + b for every restart."""

    def __init__(self, x: Tensor, hidden: int) -> None:
        if hidden < 1:
            raise BadInput(f"an MLP has one hidden unit at least, got {hidden}")
        self.x, self.h = x, hidden
        d = x.shape[1]
        self.cuts = [hidden * d, hidden, hidden, 1]
        self.penalty = torch.ones(sum(self.cuts), device=x.device)
        self.penalty[-1] = 0

    def start(self, restarts: int, seed: int) -> Tensor:
        d = self.x.shape[1]
        rng = torch_rng(seed, "ccs mlp")
        bounds = torch.cat([torch.full((c,), v**-0.5) for c, v in zip(self.cuts, (d, d, self.h, self.h), strict=True)])
        return (bounds * (2 * torch.rand(restarts, len(bounds), generator=rng) - 1)).to(self.x.device)

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w, a, v, b = theta.split(self.cuts, dim=1)
        return w.reshape(len(theta), self.h, -1), a, v, b

    def forward(self, theta: Tensor) -> Tensor:
        w, a, v, b = self._parts(theta)
        return torch.bmm(torch.tanh(self.x @ w.transpose(1, 2) + a[:, None]), v[..., None])[..., 0] + b

    def back(self, theta: Tensor, du: Tensor) -> Tensor:
        w, a, v, _ = self._parts(theta)
        inside = torch.tanh(self.x @ w.transpose(1, 2) + a[:, None])  # restart, row, unit
        slope = du[..., None] * v[:, None] * (1 - inside * inside)
        dw = slope.transpose(1, 2) @ self.x
        return torch.cat(
            [dw.flatten(1), slope.sum(1), torch.bmm(inside.transpose(1, 2), du[..., None])[..., 0], du.sum(1, keepdim=True)], 1
        )

    def read(self, theta: Tensor) -> tuple[Tensor, float, tuple[Tensor, Tensor]]:
        w, a, v, b = self._parts(theta[None])
        return v[0].clone(), float(b), (w[0].clone(), a[0].clone())


def _outer(loss: Loss, items: int, old: Tensor | None = None) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
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


def _check(outer: Callable[[Tensor], tuple[Tensor, Tensor]], u: Tensor, loss: Loss) -> None:
    """Try a loss once, so that one of the wrong shape fails at once and in words."""
    try:
        value = outer(u)[0]
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"the loss {loss.name!r} cannot be computed or has no gradient: {error}") from error
    if value.shape != (len(u),):
        raise ShapeMismatch(f"the loss {loss.name!r} returns shape {tuple(value.shape)}; it should be one per restart, ({len(u)},)")


def resolve_sign(result: ContrastProbe, acts: Any, labels: ArrayLike, *, rows: str = "training rows", groups: Any = None) -> ContrastProbe:
    """Set the sign of a search from labelled rows: the one step that sees labels.

    Args:
        result: What `fit_ccs` returned.
        acts: Activations of labelled pairs, `item x variant x d_model` (for example `acts.layer(3)`), or a pair
            (positive, negative). Use *training* rows *of the unpushed condition*: a claim that flips every answer
            makes truth and answer two names of one thing.
        labels: Which variant is true.
        rows: Which rows these are, in words; tables show it.
        groups: The prompt form of each item, where the search was normalised by form.

    Returns:
        The same search with its sign set.

    Raises:
        OneClass, ShapeMismatch: The labels do not serve.
    """
    positive, negative = _variants(acts)
    y = two_classes(labels, len(positive))
    right = (replace(result, sign=1).predict(positive, negative, groups) == y).mean()
    return replace(result, sign=1 if right >= 0.5 else -1, oriented_on=f"{len(y)} {rows}")


def _variants(acts: Any) -> tuple[Any, Any]:
    if not isinstance(acts, tuple | list):
        if getattr(acts, "ndim", 0) == 3 and acts.shape[1] == 2:
            return acts[:, 1], acts[:, 0]
    elif len(acts) == 2:
        return acts[0], acts[1]
    raise ShapeMismatch("give item x variant x d_model (acts.layer(l)), or a pair (positive, negative)")
