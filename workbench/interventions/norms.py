"""How long the stream is: what a dose is a share of."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models import Edit, Read, Scope, edited
from ..models.digest import weights_state
from ..models.forward import run
from ..models.hooks import active_edits, foreign_hooks
from ..prompts import PromptSet
from .asker import Asker

MOST = 32  # prompts whose tokens are enough for a median
Place = tuple[str, int]
REMEMBERED = 200  # places of prompt sets whose norm is remembered
_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, float]] = weakref.WeakKeyDictionary()


@torch.no_grad()
def stream_norms(model: Any, prompts: PromptSet, places: Sequence[Place]) -> dict[Place, float]:
    """Measure how long the stream is on the tokens of some prompts.

    Args:
        model: What `load_model` returns.
        prompts: Up to 32 of them are read, evenly spread; their stems.
        places: Sites and blocks.

    Returns:
        Per place the median over tokens of |x|, in raw activation units. The first token, attention sinks and what a chat template
        writes are left out (the scope "content"), `nan` where that leaves nothing. Under the same weights they are measured once.
    """
    state, known = (weights_state(model), prompts.hash), _KNOWN.setdefault(model, {})
    if active_edits(model) or foreign_hooks(model):
        known = {}
    if missing := [p for p in places if (*state, p) not in known]:
        found = _collected(model, prompts, missing, lambda x: x.norm(dim=-1))
        if len(known) + len(found) > REMEMBERED:
            known.clear()
            found |= _collected(model, prompts, [p for p in places if p not in found], lambda x: x.norm(dim=-1))
        known |= {(*state, p): float(norms.median()) if len(norms) else float("nan") for p, norms in found.items()}
    return {p: known[*state, p] for p in places}


@torch.no_grad()
def push_length(model: Any, prompts: PromptSet, edits: Sequence[Edit]) -> float:
    """Measure how far a push of any kind moves the stream.

    Args:
        model: What `load_model` returns.
        prompts: As for `stream_norms`.
        edits: The push; one edit.

    Returns:
        The median over the same tokens of |x' - x|, whatever tokens the edit is for; `nan` for several edits, which act one upon the other.
    """
    if len(edits) != 1:
        return float("nan")
    place = edits[0].site, edits[0].layer
    x = _collected(model, prompts, [place], lambda x: x)[place]
    return float((edits[0].function(x[None])[0] - x).norm(dim=-1).median()) if len(x) else float("nan")


def _collected(model: Any, prompts: PromptSet, places: Sequence[Place], of: Callable[[Tensor], Tensor]) -> dict[Place, Tensor]:
    """What a function makes of the stream, on the content tokens of all prompts."""
    wanted = list(dict.fromkeys(places))
    kept: dict[Place, list[Tensor]] = {p: [] for p in wanted}
    found: dict[Place, list[Tensor]] = {p: [] for p in wanted}
    items: list[Edit | Read] = []
    for site, layer in wanted:
        # an edit that changes nothing has a scope, a reading has none
        items.append(Edit(site=site, layer=layer, function=lambda x: x, scope=Scope(), label="stream norm"))
        items.append(Read(site=site, layer=layer, function=lambda x, p=(site, layer): kept[p].append(of(x.float()).cpu())))
    for batch in Asker(model, prompts).subset(MOST).batches:
        with edited(model, items) as fired:
            # the highest layer may be the last one, and logits are not wanted
            run(model, batch, stop=max(layer for _, layer in wanted) + 1, at=batch.starts[:, None])
            for place, entry in zip(wanted, fired.entries[::2], strict=True):
                value, mask = kept[place].pop(), entry.chosen
                found[place].append(value.flatten(0, 1) if mask is None else value[mask.cpu()])
    return {p: torch.cat(values) for p, values in found.items()}


def share(size: float, norm: float) -> float:
    """Compare the length of a push with the stream's.

    Args:
        size: In raw activation units; the sign does not count.
        norm: From `stream_norms`.

    Returns:
        The share, at least 0; `nan` where the stream's length is unknown.
    """
    return abs(size) / norm if norm > 0 else float("nan")
