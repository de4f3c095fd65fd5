"""One forward pass of a padded batch through the Bridge: the way that edits reach, and what the engine is checked against."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .hooks import Read, edited
from .known import n_layers
from .tokens import Batch
from .watch import laid_out


@torch.no_grad()
def residuals(
    model: Any, batch: Batch, columns: Tensor, *, site: str, layers: list[int], ask: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Run a batch and gather activations, and logits if asked, at chosen columns.

    Blocks above the highest layer asked for, and the unembedding, are not computed where the model can stop early.

    Args:
        model: The model.
        batch: Padded ids and mask.
        columns: Columns to gather, `row x k`.
        site: One of `SITES`.
        layers: Blocks, checked; none for logits only.
        ask: Columns at which to return logits, `row x j`.

    Returns:
        `row x k x layer x …` (d_model, or head x d_head for `z`) in the model's dtype, on its device (`None` without
        layers); and the logits, `row x j x vocabulary`, in float32 (`None` where not asked).
    """
    out: dict[int, Tensor] = {}
    rows = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]

    def reader(layer: int) -> Read:
        def keep(value: Tensor) -> None:
            # indexing copies, so that the whole stream is not kept alive by a view
            out[layer] = value[rows.to(value.device), columns.to(value.device)]

        return Read(site=site, layer=layer, function=keep, label="capture")

    with edited(model, [reader(layer) for layer in layers], times=1):
        logits = run(model, batch, stop=layers[-1] + 1 if ask is None else None)
    picked = None if ask is None else logits[rows.to(logits.device), ask.to(logits.device)].float()
    if not layers:
        return None, picked
    first = out[layers[0]].device
    return torch.stack([out[layer].to(first) for layer in layers], dim=2), picked


def run(model: Any, batch: Batch, stop: int | None = None) -> Tensor:
    """Run a batch through the model, up to block `stop` if the model can stop there, and return what comes out."""
    kwargs: dict[str, Any] = {"attention_mask": batch.mask}
    if stop is not None and stop < n_layers(model):
        kwargs["stop_at_layer"] = stop
    with laid_out(batch.layout) if batch.layout is not None else nullcontext():
        return model(batch.ids, return_type="logits", **kwargs)
