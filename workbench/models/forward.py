"""One forward pass over a batch: what capture and the evaluation of answers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .hooks import Read, edited
from .load import info
from .tokens import Batch


@torch.no_grad()
def residuals(model: Any, batch: Batch, columns: Tensor, *, site: str, layers: list[int]) -> Tensor:
    """Run a batch and gather activations at chosen columns.

    Blocks above the highest layer asked for, and the unembedding, are not computed where the model can stop early.

    Args:
        model: The model.
        batch: Padded ids and mask.
        columns: Columns to gather, `row x k`.
        site: One of `SITES`.
        layers: Blocks, checked.

    Returns:
        `row x layer x k x …` (d_model, or head x d_head for `z`), in the model's dtype, on its device.
    """
    out: dict[int, Tensor] = {}
    rows = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]

    def reader(layer: int) -> Read:
        def keep(value: Tensor) -> None:
            # indexing copies, so that the whole stream is not kept alive by a view
            out[layer] = value[rows.to(value.device), columns.to(value.device)]

        return Read(site=site, layer=layer, function=keep, label="capture")

    with edited(model, [reader(layer) for layer in layers], times=1):
        run(model, batch, stop=layers[-1] + 1)
    first = out[layers[0]].device
    return torch.stack([out[layer].to(first) for layer in layers], dim=1)


@torch.no_grad()
def last_logits(model: Any, batch: Batch, columns: Tensor) -> Tensor:
    """Run a batch and return the logits at one column per row, `row x vocabulary`, in float32."""
    logits = run(model, batch)
    return logits[torch.arange(len(logits), device=logits.device), columns.to(logits.device)].float()


def run(model: Any, batch: Batch, stop: int | None = None) -> Tensor:
    """Run a batch through the model, up to block `stop` if the model can stop there, and return what comes out."""
    kwargs: dict[str, Any] = {"attention_mask": batch.mask}
    if stop is not None and stop < info(model).n_layers:
        kwargs["stop_at_layer"] = stop
    return model(batch.ids, return_type="logits", **kwargs)
