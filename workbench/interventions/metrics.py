"""What patching measures: logit difference, probability, distance from the clean run, or a probe's score further up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput, UnknownName, unknown
from ..core.types import Float, Int
from ..models.hooks import check_layer
from ..models.known import info
from ..models.tokens import answer_tokens
from ..prompts import PromptSet

METRICS = {
    "logit_diff": "log-odds of the ending that the clean item's label names against the other",
    "probability": "probability of that ending",
    "kl": "minus KL(clean || now), in nats",
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number per run.

    Attributes:
        name: For tables.
        of: Maps logits at the stem's last token, `row x vocabulary`, item indices `row`, the clean run's logits (same rows) and what was
            read (`row x d_model`, or `None`) to one number per row. Gradients pass through.
        reads: Site and layer at which the stem's last token is read for it, if at all.
    """

    name: str
    of: Callable[
        [Float[Tensor, "row vocabulary"], Int[Tensor, " row"], Float[Tensor, "row vocabulary"], Float[Tensor, "row d_model"] | None],
        Float[Tensor, " row"],
    ]
    reads: tuple[str, int] | None = None


MetricLike = str | Metric | Callable[..., Float[Tensor, " row"]]


def probe_metric(model: Any, by: Any, *, layer: int | None = None, site: str | None = None, name: str = "probe score") -> Metric:
    """Measure what a direction, or a linear probe fitted on rows, reads at the stem's last token: what the model knows, not what it says.

    Args:
        model: The model that is patched.
        by: A direction (its coordinate, raw units) or a probe fitted on rows (its score, log-odds of class 1).
        layer, site: Where it is read; by default the direction's own place, and "resid_post" for a probe. What is patched above it cannot
            change it.
        name: For tables.

    Returns:
        A metric for `wb.patch`; higher where the stream lies further along the direction, or the probe leans more to class 1.

    Raises:
        BadInput: A probe of contrast pairs, which cannot score one run; or no layer.
        WrongModel: The direction was read in another model.
        UnknownLayer: No such layer.
    """
    if isinstance(by, Direction):
        by.check_place({"model": info(model).key()})
        weight, bias = by.unit, 0.0
        layer, site = by.provenance.get("layer") if layer is None else layer, site or by.provenance.get("site")
    else:
        if getattr(by, "paired", True):
            raise BadInput("a probe of pairs cannot score one run; fit one on rows (fit_logistic(x, y)), or give a direction")
        weight = by.vector.float()
        bias = float(by.bias) - float(by.vector.double() @ by.scaler.mean.double())
    if layer is None:
        raise BadInput("at which layer is the probe read? give layer=")

    def of(logits: Tensor, items: Tensor, clean: Tensor, read: Tensor | None) -> Tensor:
        assert read is not None
        return read.float() @ weight.to(read.device) + bias

    return Metric(name=name, of=of, reads=(site or "resid_post", check_layer(model, layer)))


def metric_of(model: Any, metric: MetricLike, clean: PromptSet) -> Metric:
    """Return a metric by name, a metric as it is, or one made of a function.

    Args:
        model: Whose tokens the endings are.
        metric: A name of `METRICS`, a metric, or a function of logits, `row x vocabulary`, and item indices, `row`, that returns one number
            per row.
        clean: The clean items, whose labels say which ending is the right one.

    Returns:
        The metric; a function's is called by the function's name.

    Raises:
        UnknownName: No such metric. AnswerTokens: an ending is not one token.
    """
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        function = metric
        return Metric(name=getattr(metric, "__name__", "metric"), of=lambda logits, items, _, __: function(logits, items))
    if metric not in METRICS:
        raise unknown(UnknownName, "metric", metric, METRICS)
    if metric == "kl":

        def distance(logits: Tensor, items: Tensor, base: Tensor, _: Tensor | None) -> Tensor:
            p, q = torch.log_softmax(base.float(), -1), torch.log_softmax(logits.float(), -1)
            return -(p.exp() * (p - q)).sum(-1)

        return Metric(name=metric, of=distance)
    forms = [answer_tokens(model, (p.negative, p.positive)) for p in clean]
    right = [two[p.label] for p, two in zip(clean, forms, strict=True)]
    wrong = [two[1 - p.label] for p, two in zip(clean, forms, strict=True)]

    def odds(logits: Tensor, items: Tensor, _: Tensor, __: Tensor | None) -> Tensor:
        x = logits.float()
        each = [x[k, right[i]].logsumexp(0) - x[k, wrong[i]].logsumexp(0) for k, i in enumerate(items.tolist())]
        return torch.stack(each)

    def probability(logits: Tensor, items: Tensor, _: Tensor, __: Tensor | None) -> Tensor:
        p = torch.log_softmax(logits.float(), -1)
        return torch.stack([p[k, right[i]].logsumexp(0) for k, i in enumerate(items.tolist())]).exp()

    return Metric(name=metric, of=odds if metric == "logit_diff" else probability)
