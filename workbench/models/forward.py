"""One forward pass of a padded batch through the Bridge. Edits act in it, and the engine is checked against it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from ..core.types import Float, Int, Tensor
from .hooks import Read, edited
from .known import n_layers
from .narrow import narrowed
from .tokens import Batch
from .verdict import require
from .watch import laid_out


@torch.no_grad()
def residuals(
    model: Any,
    batch: Batch,
    columns: Int[Tensor, "row k"],
    *,
    site: str,
    layers: list[int],
    ask: Int[Tensor, "row asked"] | None = None,
) -> tuple[Float[Tensor, "row k layer *width"] | None, Float[Tensor, "row asked vocabulary"] | None]:
    """Run a batch and gather activations, and logits if wanted, at chosen columns.

    Without `ask`, the blocks above the highest layer and the unembedding are not computed where the model can stop early.

    Args:
        model: What `load_model` returns; edits that are active act.
        batch: Padded ids and mask.
        columns: Columns of the batch at which to read, per row.
        site: One of `SITES`.
        layers: Blocks, as `check_layers` returns them; none for logits only.
        ask: Columns of the batch at which to return logits, per row; `None` for no logits.

    Returns:
        The activations at these columns, in the model's dtype and on its device; the last axes are d_model, or head and
        d_head for `z`. `None` without layers. Then the logits in float32, or `None` without `ask`.
    """
    out: dict[int, Tensor] = {}
    rows = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]

    def reader(layer: int) -> Read:
        def keep(value: Tensor) -> None:
            # indexing copies, so that the whole stream is not kept alive by a view
            out[layer] = value[rows.to(value.device), columns.to(value.device)]

        return Read(site=site, layer=layer, function=keep, label="capture")

    with edited(model, [reader(layer) for layer in layers], times=1):
        logits = run(model, batch, stop=layers[-1] + 1 if ask is None else None, at=ask)
    picked = None if ask is None else logits.float()
    if not layers:
        return None, picked
    first = out[layers[0]].device
    return torch.stack([out[layer].to(first) for layer in layers], dim=2), picked


def run(
    model: Any, batch: Batch, stop: int | None = None, *, at: Int[Tensor, "row asked"] | None = None
) -> Float[Tensor, "row position width"]:
    """Run one forward pass.

    Args:
        model: What `load_model` returns; edits that are active act.
        batch: Padded ids and mask, and for scopes the layout of the rows.
        stop: Compute only the blocks before this one; `None`, or the number of blocks, runs the whole model.
        at: Columns of the batch, per row, at which logits are wanted; `None` for all. Others are not unembedded.

    Returns:
        Logits, `row x position x vocabulary` or `row x asked x vocabulary`; with `stop` the stream that enters that block,
        `row x position x d_model`.

    Raises:
        Disagrees: TransformerLens's pass over this model is not Hugging Face's.
    """
    require(model)
    kwargs: dict[str, Any] = {"attention_mask": batch.mask}
    if stop is not None and stop < n_layers(model):
        kwargs["stop_at_layer"] = stop
    with laid_out(batch.layout) if batch.layout is not None else nullcontext():
        if at is None:
            return model(batch.ids, return_type="logits", **kwargs)
        with narrowed(model, at) as narrow:
            return narrow(model(batch.ids, return_type="logits", **kwargs))
