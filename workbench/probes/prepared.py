"""What the closed forms without labels start from and end in: normalised pairs, and a direction as a probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput
from ..core.types import Float, Tensor
from .ccs import ContrastProbe
from .scaling import Normaliser, pair


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Normalised pairs.

    Attributes:
        positive, negative: The variants in normalised units, `item x d_model`.
        scaler: The normalisation, fitted on these rows.
    """

    positive: Float[Tensor, "item d_model"]
    negative: Float[Tensor, "item d_model"]
    scaler: Normaliser


def prepare(positive: Any, negative: Any, normalise: str, how: dict[str, Any]) -> Prepared:
    """Check and normalise pairs.

    Args:
        positive: Positive variants, `item x d_model`.
        negative: Negative variants, pair by pair.
        normalise: "mean_std", "mean" or "none".
        how: Further options of `Normaliser.fit`.

    Raises:
        ShapeMismatch, NotFinite: The variants do not go in pairs, or hold NaN.
        BadInput: Fewer than two pairs.
    """
    x, y = pair(positive, negative)
    if len(x) < 2:
        raise BadInput("a search needs two pairs at least")
    scaler = Normaliser.fit(x, y, normalise=normalise, **how)
    x, y = scaler(x, y, how.get("groups"))
    return Prepared(positive=x, negative=y, scaler=scaler)


def centred_probe(weight: Float[Tensor, " d_model"], of: Prepared, method: str, losses: Sequence[float]) -> ContrastProbe:
    """Return a direction as a probe whose differences u+ - u- have spread 1 in training, centred between the variants.

    Args:
        weight: The direction, in normalised units.
        of: The pairs that it was found in.
        method: Name of the method.
        losses: One per start; the lowest is the probe's.
    """
    x, y, weight = of.positive, of.negative, weight.float()
    spread = float(((x - y) @ weight).std()) or 1.0
    weight = weight / spread
    bias = -float(((x + y) @ weight).mean()) / 2
    return ContrastProbe(weight=weight, bias=bias, scaler=of.scaler, loss=min(losses), losses=tuple(losses), n=len(x), method=method)
