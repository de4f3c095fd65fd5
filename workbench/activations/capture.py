"""Read a model in bulk: residual streams (or another site) at chosen positions, for both variants of each pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.errors import BadInput, EmptyPromptSet, NotFinite, UnknownPosition, unknown
from ..core.provenance import provenance
from ..models.forward import residuals
from ..models.hooks import active_edits, check_layers, hook_point
from ..models.load import info
from ..models.tokens import EncodedPair, encode_pairs, pad
from ..prompts import PromptSet
from .store import Activations, Store

POSITIONS = {
    "last": "last token of the continuation",
    "stem_last": "last token of the stem, where the answer is predicted",
    "instruction_last": "last token of the instruction",
    "mean": "mean over all tokens of the variant but the first special one",
    "all": "every token of the variant, padded on the right, with a mask",
}
SHARED = ("stem_last", "instruction_last")  # the same for both variants: nothing after the stem is read


def capture(
    model: Any, prompts: PromptSet, *, site: str = "resid_post", layers: Sequence[int] | Any | None = None,
    position: str = "last", store: str | Path | None = None, batch_tokens: int = 8192, batch_size: int | None = None,
    padding_side: str = "right", shard_items: int = 512, progress: bool | None = None, note: str = "",
) -> Activations:  # fmt: skip
    """Capture activations of both variants of each pair.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        site: "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out" or "z".
        layers: Blocks, counted from 0; `resid_post[l]` is Hugging Face's `hidden_states[l+1]`, except the last.
        position: "last", "stem_last", "instruction_last", "mean" or "all" (`POSITIONS` says what they mean).
        store: A folder to stream to; a killed run resumes there and loses at most the shard being written.
        batch_tokens: Tokens in a batch, padding included; raising it costs memory.
        batch_size: At most this many sequences in a batch.
        padding_side: Which side batches are padded on; it does not change what is read.
        shard_items: Items per shard on disk.
        progress: Show a progress bar; by default only in a terminal or a notebook.
        note: A name for the progress bar.

    Returns:
        Activations, `item x variant x layer x d_model` (variant 0 is negative, 1 is positive), in float32. With
        position="all" there is a position axis before d_model, and a mask.

    Raises:
        UnknownSite, UnknownLayer, UnknownPosition, PromptTooLong, TokenBoundary: Before any forward pass.
        NotFinite: The model gave NaN or infinity; the message says where.
        WrongModel: The folder holds activations of another model, prompt set or setting.

    Example:
        >>> import workbench as wb
        >>> acts = wb.capture(wb.load_model("bundled"), wb.prompts.udhr(n=4), layers=[2, 3], progress=False)
        >>> tuple(acts.values.shape)
        (4, 2, 2, 128)
    """
    if not isinstance(prompts, PromptSet):
        raise EmptyPromptSet(f"capture reads a PromptSet, got {type(prompts).__name__}")
    if position not in POSITIONS:
        raise unknown(UnknownPosition, "position", position, POSITIONS)
    if batch_tokens < 1 or shard_items < 1 or (batch_size is not None and batch_size < 1):
        raise BadInput("batch_tokens, batch_size and shard_items are at least 1")
    chosen = check_layers(model, layers)
    for layer in chosen:
        hook_point(model, site, layer)
    edits = active_edits(model)
    if edits and store:
        raise BadInput(f"a store does not know functions: capture under an edit ({edits[0]}) into memory, then save it under a name")
    encoded = encode_pairs(model, prompts)
    settings = {"site": site, "layers": chosen, "position": position, "prompts": prompts.hash, "items": len(prompts)}
    record = provenance(model=info(model).key(), **settings, prompt_set=prompts.name, edits=edits)
    disk = Store.open(Path(store), model=info(model).key(), settings=settings, shard_items=shard_items) if store else None
    if disk:
        disk.write_rows(prompts.to_frame(), record)

    spans = [range(s, min(s + shard_items, len(prompts))) for s in range(0, len(prompts), shard_items)]
    bar = tqdm(
        total=len(prompts), desc=note or f"capture {prompts.name}", unit="pair", leave=False,
        disable=None if progress is None else not progress,
    )  # fmt: skip
    parts: list[dict[str, Tensor]] = []
    with bar:
        for number, span in enumerate(spans):
            if disk is None or not disk.has(number):
                items = [encoded[i] for i in span]
                shard = _shard(model, items, site, chosen, position, batch_tokens, batch_size, padding_side, span.start)
                if disk:
                    disk.write(number, shard)
                else:
                    parts.append(shard)
            bar.update(len(span))
    if disk:
        disk.finish()
        return Activations.load(disk.folder)
    values, mask = join(parts)
    return Activations(
        values=values, layers=tuple(chosen), site=site, position=position, rows=prompts.to_frame(), provenance=record, mask=mask
    )  # fmt: skip


def join(parts: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor | None]:
    """Join shards along items; with a position axis, pad them to one width."""
    if "mask" not in parts[0]:
        return torch.cat([p["values"] for p in parts]), None
    width = max(p["mask"].shape[-1] for p in parts)

    def widen(x: Tensor, axis: int) -> Tensor:
        shape = list(x.shape)
        shape[axis] = width - shape[axis]
        return torch.cat([x, x.new_zeros(shape)], dim=axis)

    return torch.cat([widen(p["values"], 3) for p in parts]), torch.cat([widen(p["mask"], 2) for p in parts])


def _shard(
    model: Any, items: list[EncodedPair], site: str, layers: list[int], position: str, batch_tokens: int,
    batch_size: int | None, side: str, first: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Capture the items of one shard: `values`, and `mask` where there is a position axis."""
    if position in SHARED:
        rows = [x.negative[: x.stem if position == "stem_last" else x.instruction] for x in items]
    else:
        rows = [variant for x in items for variant in (x.negative, x.positive)]
    skip = [x.bos for x in items for _ in range(len(rows) // len(items))]
    whole = position in ("mean", "all")
    width = max(map(len, rows))
    values: Tensor | None = None
    mask = torch.zeros(len(rows), width, dtype=torch.bool) if position == "all" else None
    for chunk in batches([len(r) for r in rows], batch_tokens, batch_size):
        batch = pad(model, [rows[i] for i in chunk], side)
        lengths = torch.tensor([len(rows[i]) for i in chunk])
        device = batch.starts.device
        if whole:
            index = torch.arange(int(lengths.max()))[None].expand(len(chunk), -1)
            real = index < lengths[:, None]
            columns = batch.place(torch.zeros(1, dtype=torch.long, device=device))[:, None] + torch.where(real, index, 0).to(device)
        else:
            real = None
            columns = batch.place(lengths.to(device) - 1)[:, None]
        got = residuals(model, batch, columns, site=site, layers=layers).float().cpu()  # row, layer, position, …
        if real is not None:
            got = got * real.reshape(len(chunk), 1, -1, *[1] * (got.ndim - 3))
        _check_finite(got, chunk, first, len(rows) // len(items), layers)
        if position == "mean":
            keep = real & (index >= torch.tensor([skip[i] for i in chunk])[:, None])  # pyright: ignore
            weight = keep.float() / keep.sum(1, keepdim=True).clamp(min=1)
            got = torch.einsum("rlp...,rp->rl...", got, weight)
        elif position != "all":
            got = got[:, :, 0]
        if values is None:
            shape = (len(rows), len(layers), width, *got.shape[3:]) if position == "all" else (len(rows), *got.shape[1:])
            values = torch.zeros(shape)
        if mask is not None:
            values[chunk, :, : got.shape[2]] = got
            mask[chunk, : got.shape[2]] = real  # pyright: ignore
        else:
            values[chunk] = got
    assert values is not None
    if position in SHARED:
        return {"values": values[:, None].expand(-1, 2, *values.shape[1:]).contiguous()}
    out = {"values": values.unflatten(0, (-1, 2))}
    return out if mask is None else out | {"mask": mask.unflatten(0, (-1, 2))}


def batches(lengths: Sequence[int], tokens: int, size: int | None = None) -> Iterator[list[int]]:
    """Yield indices in batches of like length, each at most `tokens` wide times high and at most `size` high."""
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]  # the longest first: what does not fit fails at once
    start = 0
    while start < len(order):
        fit = max(1, tokens // max(1, lengths[order[start]]))
        stop = start + min(fit, size or fit)
        yield [int(i) for i in order[start:stop]]
        start = stop


def _check_finite(values: Tensor, chunk: list[int], first: int, variants: int, layers: list[int]) -> None:
    good = torch.isfinite(values)
    if bool(good.all()):
        return
    row, layer = (int(x) for x in (~good).nonzero()[0][:2])
    raise NotFinite(
        f"{int((~good).sum())} activations are NaN or infinite, the first in item {first + chunk[row] // variants}, layer "
        f"{layers[layer]}. Load the model with dtype='float32' or 'bfloat16'"
    )
