"""Attention patterns of chosen prompts. They are read through the Bridge, one prompt at a time, and never stored in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import BadInput
from ..core.show import Shown, axes, short, some
from ..core.types import Bool, Float
from ..models.forward import run
from ..models.hooks import Read, check_layers, edited, hook_point
from ..models.sinks import first_is_sink, lengths, outliers
from ..models.tokens import encode_pairs, pad
from ..prompts import PromptSet

MOST_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionPattern(Shown):
    """The attention pattern of one prompt.

    Attributes:
        item: Which item of the prompt set.
        variant: 0 negative, 1 positive.
        tokens: The prompt's tokens as text.
        values: `layer x head x query x key`, each row summing to 1.
        layers: The block of each entry of the layer axis.
        sinks: Which tokens are attention sinks in each layer, `layer x key`: the beginning-of-text token, and those found by the
            norm of the stream that enters the block. `None` where that was not looked for.
    """

    item: int
    variant: int
    tokens: tuple[str, ...]
    values: Float[Tensor, "layer head query key"]
    layers: tuple[int, ...]
    sinks: Bool[Tensor, "layer key"] | None = None

    def without_sinks(self) -> Float[Tensor, "layer head query key"]:
        """Return the attention to other tokens than sinks.

        Returns:
            `layer x head x query x key`; each row sums to 1 over the tokens that are no sinks. A query that looks at sinks only, as a
            sink itself does, has a row of zeros.
        """
        rest = self.values if self.sinks is None else self.values.masked_fill(self.sinks[:, None, None], 0.0)
        total = rest.sum(-1, keepdim=True)
        return torch.where(total > 1e-12, rest / total.clamp(min=1e-12), 0.0)

    def _shown(self) -> tuple[str, dict[str, Any]]:
        layer, head, query, key = self.values.shape
        shape = axes(layer=layer, head=head, query=query, key=key)
        sinks = [] if self.sinks is None else self.sinks.any(0).nonzero().flatten().tolist()
        return f"item {self.item}, variant {self.variant}, {shape}, layers {some(self.layers, 12)}", {
            "item": self.item,
            "variant": f"{self.variant} ({('negative', 'positive')[self.variant]})",
            "shape": shape,
            "layers": some(self.layers, 40),
            "attention sinks": some((f"{k}: {self.tokens[k]!r}" for k in sinks), 10) if sinks else "",
            "text": short("".join(self.tokens), 300),
            "values": "each row over keys sums to 1",
        }


@torch.no_grad()
def attention_patterns(
    model: Any, prompts: PromptSet, items: Sequence[int], *, variant: int = 1, layers: Sequence[int] | None = None
) -> list[AttentionPattern]:
    """Return the attention patterns of chosen prompts.

    Args:
        model: What `load_model` returns; edits that are active act.
        prompts: Contrast pairs.
        items: Indices of the prompts to read.
        variant: 0 for the negative ending, 1 for the positive.
        layers: Blocks; `None` for all.

    Returns:
        One pattern per item, in float32 on the CPU.

    Raises:
        BadInput: No item was named, one does not exist, or the patterns would not fit into 2 GiB.
        UnknownLayer, UnknownSite: The model has no such layer, or no patterns there; before any forward pass.

    Example:
        >>> import workbench as wb
        >>> pattern = wb.attention_patterns(wb.load_model("bundled"), wb.prompts.udhr(n=4), [0], layers=[2])[0]
        >>> pattern.values.shape[2] == pattern.values.shape[3] == len(pattern.tokens)
        True
    """
    if variant not in (0, 1):
        raise BadInput(f"variant {variant!r}: 0 (negative) or 1 (positive)")
    chosen = check_layers(model, layers)
    for layer in chosen:
        hook_point(model, "pattern", layer)
    if not list(items):
        raise BadInput("no item was named")
    pairs = encode_pairs(model, prompts.subset(items))
    rows = [(x.negative, x.positive)[variant] for x in pairs]
    size = sum(len(row) ** 2 for row in rows) * len(chosen) * int(model.cfg.n_heads) * 4
    if size > MOST_BYTES:
        raise BadInput(f"these patterns take {size / 2**30:.1f} GiB; name fewer items or layers")
    out = []
    for item, row, pair in zip(items, rows, pairs, strict=True):
        by_layer, norms = _read(model, row, chosen)
        counted = torch.arange(len(row)) >= pair.bos
        sinks = ~counted | outliers(torch.stack([norms[layer] for layer in chosen]), counted.expand(len(chosen), -1))
        sinks[:, 0] |= first_is_sink(model)
        out.append(
            AttentionPattern(
                item=int(item),
                variant=variant,
                tokens=tuple(model.tokenizer.decode([i]) for i in row),
                values=torch.stack([by_layer[layer] for layer in chosen]),
                layers=tuple(chosen),
                sinks=sinks,
            )
        )
    return out


def _read(model: Any, row: list[int], layers: list[int]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The pattern of each layer, and the norms of the stream that enters it."""
    by_layer: dict[int, Tensor] = {}
    norms: dict[int, Tensor] = {}

    def keep(layer: int) -> list[Read]:
        return [
            Read(site="pattern", layer=layer, function=lambda x: by_layer.update({layer: x[0].float().cpu()}), label="pattern"),
            Read(site="resid_pre", layer=layer, function=lambda x: norms.update({layer: lengths(x)[0].cpu()}), label="norms"),
        ]

    with edited(model, [read for layer in layers for read in keep(layer)], times=1):
        run(model, pad(model, [row]), stop=layers[-1] + 1)
    return by_layer, norms
