"""Attention sinks, found by their norm: a few tokens, mostly the first of a text, whose stream is many times as long as any other's.

Whether a token is one is decided by its own row at its own place: its norm is more than `TIMES` the median norm of the row's
tokens there. So the decision needs no other layer, no other row and no padding, and it is the same however the row is read. In
the blocks before a sink gets its norm it is a token like others. One exception reaches those too: where a model makes the first
token of every text a sink, the first token is one in every block. This is measured when the model is loaded.

References:
    Sun et al. 2024, arXiv 2402.17762 (massive activations, at first tokens and delimiters); Xiao et al. 2023, arXiv 2309.17453
    (attention sinks).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from ..core.types import Bool, Float, Tensor
from .known import KNOWN
from .reference import Reference

TIMES = 10.0  # times the median: ordinary tokens stay below 3, in trained and in random models
RULE = f"norm above {TIMES:g} times the median of the row's tokens at that place"
STREAM = ("resid_pre", "resid_mid", "resid_post")
_FIRST: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def outliers(norms: Float[Tensor, "*row token"], among: Bool[Tensor, "*row token"]) -> Bool[Tensor, "*row token"]:
    """Return which tokens are sinks by their norm.

    Args:
        norms: Norms of the stream, each row from one place of one forward pass.
        among: The tokens that are compared with each other; padding and what is left out anyway is false.

    Returns:
        True where a norm is finite and above `TIMES` the median of its row (of an even number of tokens, the lower one in the
        middle). At least half of the tokens of a row are never sinks.
    """
    count = among.sum(-1, keepdim=True)
    ordered = norms.masked_fill(~among, float("inf")).sort(dim=-1).values
    median = ordered.gather(-1, ((count - 1) // 2).clamp(min=0))
    # what is not finite is no sink but a fault, which must be seen
    return among & (norms > TIMES * median) & norms.isfinite()


def lengths(value: Float[Tensor, "*row token width"], entering: Float[Tensor, "*row token"] | None = None) -> Float[Tensor, "*row token"]:
    """Return the norms by which sinks are found.

    Args:
        value: Activations at a site, with the axes after the token flattened.
        entering: At sites that are not the stream itself, the norms of the stream that enters the block: what a head or an
            MLP writes can be near 0 for most tokens.

    Returns:
        Norms in float32; the larger one where there are two.
    """
    norms = value.float().norm(dim=-1)
    return norms if entering is None else torch.maximum(norms, entering.to(norms))


def first_is_sink(model: Any) -> bool:
    """Whether a model makes the first token of any text a sink.

    Args:
        model: What `load_model` returns.

    Returns:
        True where, in Hugging Face's own pass over the rows of random tokens that every model is compared on, the first token
        of each row is a sink after some block. False where nothing was compared.
    """
    if model not in _FIRST:
        known = KNOWN.get(model)
        if known is None or known.reference is None:  # not compared yet
            return False
        _FIRST[model] = isinstance(known.reference, Reference) and all(_leads(stream) for stream in known.reference.stream)
    return _FIRST[model]


def _leads(stream: Float[Tensor, "depth token d_model"]) -> bool:
    norms = stream.norm(dim=-1)
    return bool(outliers(norms, torch.ones_like(norms, dtype=torch.bool))[:, 0].any())
