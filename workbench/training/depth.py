"""How deep the old knowledge still stands: streams of the model before a change, put into the model after it, block by block, and back.

References:
    Unlearning Depth Score, arXiv 2605.24614 (erased against hidden, by patching streams of one model into another).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.stats import proportion
from ..core.tables import units_of
from ..core.types import Bool
from ..models import Edit, Read, edited
from ..models.forward import run
from ..models.tokens import Batch, answer_tokens, encode_pairs, pad
from ..prompts import PromptSet
from .acting import acting
from .inside import row

ROWS = 32  # prompts of a pass


def knowledge_depth(model: Any, change: Any, prompts: PromptSet, layers: Sequence[int]) -> list[dict[str, Any]]:
    """Patch streams between a model before and after a change, at one block at a time, and count answers like those before.

    Args:
        model: What `load_model` returns.
        change: An adapter or edits.
        prompts: Contrast pairs; their stems are asked.
        layers: Blocks whose output is patched.

    Returns:
        Rows of the table of `survival`, aspect "depth". "old into new": the changed model, with the old stream after this block at the
        prompt's last token: the share of answers that are the old ones. It is high where nothing above the block stands in the way. "new
        into old": the old model, with the changed stream: high where what the old model needs still stands in it.
    """
    hits: dict[tuple[str, int], list[np.ndarray]] = {}
    pairs = encode_pairs(model, prompts)
    forms = [answer_tokens(model, (p.negative, p.positive)) for p in prompts]
    for start in range(0, len(pairs), ROWS):
        chunk = pairs[start : start + ROWS]
        batch = pad(
            model, [p.negative[: p.stem] for p in chunk], prompt=[p.stem for p in chunk], instruction=[p.instruction for p in chunk]
        )
        ends = forms[start : start + ROWS]
        old, old_streams = _read(model, batch, ends, layers)
        with acting(model, change):
            new, new_streams = _read(model, batch, ends, layers)
            hits.setdefault(("new alone", -1), []).append(new == old)
            for layer in layers:
                hits.setdefault(("old into new", layer), []).append(_patched(model, batch, ends, layer, old_streams[layer]) == old)
        for layer in layers:
            hits.setdefault(("new into old", layer), []).append(_patched(model, batch, ends, layer, new_streams[layer]) == old)
    people = units_of(prompts.to_frame())
    return [row("depth", how, layer, "answers_as_before", proportion(np.concatenate(h), people)) for (how, layer), h in hits.items()]


@torch.no_grad()
def _read(model: Any, batch: Batch, ends: Sequence[list[list[int]]], layers: Sequence[int]) -> tuple[np.ndarray, dict[int, Tensor]]:
    """What is answered, and the stream at the last token after each block."""
    kept: dict[int, Tensor] = {}
    rows, last = torch.arange(len(batch.ids)), batch.mask.sum(1) - 1

    def keeper(layer: int) -> Read:
        def keep(value: Tensor) -> None:
            kept[layer] = value[rows.to(value.device), last.to(value.device)].clone()

        return Read(site="resid_post", layer=layer, function=keep)

    with edited(model, [keeper(layer) for layer in layers]):
        logits = run(model, batch, at=last[:, None])[:, 0]
    return _answers(logits, ends), kept


@torch.no_grad()
def _patched(model: Any, batch: Batch, ends: Sequence[list[list[int]]], layer: int, stream: Tensor) -> Bool[np.ndarray, " row"]:
    last = batch.mask.sum(1) - 1

    def put(value: Tensor) -> Tensor:
        return stream[:, None].to(value).expand_as(value)

    edit = Edit(site="resid_post", layer=layer, function=put, positions=last[:, None], label="patch")
    with edited(model, edit):
        return _answers(run(model, batch, at=last[:, None])[:, 0], ends)


def _answers(logits: Tensor, ends: Sequence[list[list[int]]]) -> np.ndarray:
    logp = logits.float().log_softmax(-1).cpu()
    return np.array([bool(r[yes].logsumexp(0) > r[no].logsumexp(0)) for r, (no, yes) in zip(logp, ends, strict=True)])
