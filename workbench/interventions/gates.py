"""Gates: edits that act only where the prompt looks like something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.provenance import content_hash
from ..models import Gate
from .carried import Carried


def gate(
    by: Any,
    threshold: float = 0.0,
    *,
    site: str | None = None,
    layer: int | None = None,
    above: bool = True,
    pool: str = "mean",
    similarity: str = "cosine",
) -> Gate:
    """Make a condition on the prompt: edits that carry it act only on rows whose stream looks like something.

    Args:
        by: A direction, or a linear probe fitted on rows.
        threshold: Rows whose score is above it are edited: in the unit of `similarity` for a direction, log-odds of class 1 for a probe.
            Raising it edits fewer rows.
        site, layer: Where the stream is scored; by default the direction's own place. It must lie at or before the edit.
        above: False edits the rows below the threshold instead.
        pool: "mean" of the scores over the prompt's tokens, or that of its "last" token.
        similarity: For a direction: "cosine" (-1 to 1) or "projection" (raw units).

    Returns:
        A gate for `when=`. It is decided once per row, when the prompt is read, and holds for all that is generated after it.

    Raises:
        BadInput: No place, a probe of pairs, or no such similarity.

    References:
        Lee et al. 2024, arXiv 2409.05907 (conditional activation steering).
    """
    if isinstance(by, Direction):
        if similarity not in ("cosine", "projection"):
            raise BadInput(f"similarity {similarity!r}: 'cosine' or 'projection'")
        site, layer = site or by.provenance.get("site"), by.provenance.get("layer") if layer is None else layer
        weight, bias, cosine = by.unit, 0.0, similarity == "cosine"
    else:
        if getattr(by, "paired", True) or not hasattr(by, "vector"):
            raise BadInput("a gate is made from a direction or a linear probe fitted on rows (fit_logistic(x, y)), not on pairs")
        centre = by.scaler.mean.double()
        weight, cosine = by.vector.float(), False
        bias = float(by.bias) - float(by.vector.double() @ centre)
    if site is None or layer is None:
        raise BadInput("a gate needs a place: site= and layer=")
    kept = Carried(weight)

    def score(x: Tensor) -> Tensor:
        y = x.float()
        along = y @ kept.like(x, torch.float32)
        return along / y.norm(dim=-1).clamp(min=1e-12) if cosine else along + bias

    key = content_hash(weight.tolist(), bias, cosine, site, layer, threshold, above, pool)
    model = by.provenance.get("model") if isinstance(by, Direction) else None
    origin = {"d_model": len(weight)} | ({"model": model} if isinstance(model, Mapping) else {})
    return Gate(site=site, layer=layer, score=score, threshold=threshold, above=above, pool=pool, key=key, origin=origin)
