"""Losses of the unsupervised, contrastive family. None of them sees a label.

A loss is a function of what a probe says of the two variants of each pair: probabilities, or projections w.x + b. It takes
(negative, positive), each `restart x item`, and returns one loss per restart; autograd does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..core.errors import BadInput, UnknownName, unknown
from ..core.types import Float, Tensor

PerItem = Float[Tensor, "*restart item"]
PerRestart = Float[Tensor, "*restart"]
Function = Callable[[Tensor, Tensor], Tensor]
OF = ("probability", "projection")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A contrastive loss.

    Attributes:
        name: For tables.
        function: (negative, positive), each `restart x item`, to `restart`.
        of: What the function takes: "probability" or "projection".
        penalty: L2 penalty on the weights, added to the loss.
        rounds: Above 1, the search is repeated from where it ended, against the probe of the round before: the function
            then takes two more arguments, that probe's (negative, positive).
        slopes: The same with its gradients by the two projections, where they are written out.
    """

    name: str
    function: Callable[..., Tensor]
    of: str = "probability"
    penalty: float = 1e-4
    rounds: int = 1
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.of not in OF:
            raise BadInput(f"a loss is a function of a 'probability' or a 'projection', not of a {self.of!r}")
        if self.rounds < 1 or self.penalty < 0:
            raise BadInput("a loss has one round at least and a penalty of 0 or more")


def consistency_and_confidence(p_negative: PerItem, p_positive: PerItem) -> PerRestart:
    """(p+ - (1 - p-))^2 + min(p+, p-)^2 (Burns et al. 2022, arXiv 2212.03827, equations 1 to 3)."""
    return ((p_positive + p_negative - 1) ** 2 + torch.minimum(p_positive, p_negative) ** 2).mean(-1)


def _ccs_slopes(u_negative: PerItem, u_positive: PerItem) -> tuple[PerRestart, PerItem, PerItem]:
    """The same of projections, and its gradients by them, written out: it is called thousands of times."""
    q, p = torch.sigmoid(u_negative), torch.sigmoid(u_positive)
    gap, least = p + q - 1, torch.minimum(p, q)
    scale = 2 / p.shape[-1]
    # the least probability is p where p < q; at a tie either side is a subgradient
    low = p < q
    return (gap**2 + least**2).mean(-1), scale * (gap + q * ~low) * q * (1 - q), scale * (gap + p * low) * p * (1 - p)


def circle(p_negative: PerItem, p_positive: PerItem) -> PerRestart:
    """CCS on the unit circle: p is the angle pi p, and the two variants should point in opposite directions.

    With c = cos(pi p): ((c+ + c-) / 2)^2 + ((1 - max(c+, c-)) / 2)^2. The cosine is flat at both ends, so that a pair that is
    nearly certain is left alone.
    """
    a, b = torch.cos(torch.pi * p_negative), torch.cos(torch.pi * p_positive)
    return (((a + b) / 2) ** 2 + ((1 - torch.maximum(a, b)) / 2) ** 2).mean(-1)


def info_nce(u_negative: PerItem, u_positive: PerItem, *, rivals: int = 32, temperature: float = 0.5) -> PerRestart:
    """InfoNCE over pairs: -u- should tell which u+ it belongs to, among those of other pairs.

    -log exp(-(z+_i - z-_i)^2 / 2T) / sum_j exp(-(z+_i - z-_j)^2 / 2T), with z+ and z- the standardised u+ and -u-; j runs
    over the pair itself and `rivals` others, evenly spaced in the order given.

    References:
        van den Oord et al. 2018, arXiv 1807.03748, equation 4.
    """
    both = torch.cat([u_positive, -u_negative], -1)
    middle, spread = both.mean(-1, keepdim=True), both.std(-1, keepdim=True).clamp(min=1e-6)
    a, b = (u_positive - middle) / spread, (-u_negative - middle) / spread
    items = a.shape[-1]
    near = torch.linspace(1, items - 1, min(rivals, items - 1), device=a.device).long()
    rows = (torch.arange(items, device=a.device)[:, None] + near) % items
    own = -((a - b) ** 2) / (2 * temperature)
    others = -((a[..., None] - b[..., rows]) ** 2) / (2 * temperature)
    return (torch.logsumexp(torch.cat([own[..., None], others], -1), -1) - own).mean(-1)


def spin(u_negative: PerItem, u_positive: PerItem, old_negative: PerItem, old_positive: PerItem, *, strength: float = 1.0) -> PerRestart:
    """The self-play form: win against the previous round by preferring, more than it did, the variant that it preferred.

    log(1 + exp(-strength ((l(w) - l_old(w)) - (l(v) - l_old(v))))) with l the log-probability of being true, w the variant
    that the previous round held true and v the other.

    References:
        Chen et al. 2024, arXiv 2401.01335, equation 4.7, with a probe in the place of the language model.
    """
    side = torch.where(old_positive >= old_negative, 1.0, -1.0)
    now = F.logsigmoid(u_positive) - F.logsigmoid(u_negative)
    then = F.logsigmoid(old_positive) - F.logsigmoid(old_negative)
    return F.softplus(-strength * side * (now - then)).mean(-1)


def hinge(u_negative: PerItem, u_positive: PerItem, *, margin: float = 2.0) -> PerRestart:
    """Hinge-margin consistency: ((u+ + u-) / 2)^2 + max(0, margin - |u+ - u-|): opposite, and apart by the margin."""
    return (((u_positive + u_negative) / 2) ** 2 + (margin - (u_positive - u_negative).abs()).clamp(min=0)).mean(-1)


def bimodal(u_negative: PerItem, u_positive: PerItem) -> PerRestart:
    """Bimodal salience: variance within the two sides of u+ - u- = 0, over all of its variance about 0.

    References:
        Burns et al. 2022, arXiv 2212.03827, appendix on contrastive representation clustering (bimodal salience search).
    """
    d = u_positive - u_negative
    d = d - d.mean(-1, keepdim=True)
    side = (d > 0).to(d.dtype)
    out = torch.zeros_like(d[..., 0])
    for part in (side, 1 - side):
        size = part.sum(-1).clamp(min=1)
        middle = (part * d).sum(-1) / size
        out = out + (part * (d - middle[..., None]) ** 2).sum(-1)
    return out / (d**2).sum(-1).clamp(min=1e-12)


LOSSES = {
    loss.name: loss
    for loss in (
        Loss(name="ccs", function=consistency_and_confidence, slopes=_ccs_slopes),
        Loss(name="ccs_circle", function=circle),
        Loss(name="infonce", function=info_nce, of="projection"),
        Loss(name="spin", function=spin, of="projection", penalty=1e-2, rounds=4),
        Loss(name="hinge", function=hinge, of="projection", penalty=1e-3),
        Loss(name="bimodal", function=bimodal, of="projection"),
    )
}


def get_loss(loss: str | Loss | Function) -> Loss:
    """Return a loss by name, as it is, or made of a function of (p_negative, p_positive).

    Raises:
        UnknownName: No loss of this name.
    """
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return Loss(name=getattr(loss, "__name__", "custom"), function=loss)
    if loss not in LOSSES:
        raise unknown(UnknownName, "loss", loss, LOSSES)
    return LOSSES[loss]
