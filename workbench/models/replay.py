"""Forward passes that start at a block, for many changed copies of one prompt's stream.

The Bridge leaves the loop over blocks to Hugging Face and cannot start at a layer. Here the arguments of each block (masks,
rotary angles) are kept from a whole pass, and the blocks are called again with them. The first time on a model, the
resulting logits are compared with those of the whole pass.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core.types import Float, Tensor
from .forward import run
from .hooks import active_edits, foreign_hooks
from .known import n_layers
from .owner import Owner
from .restore import surely, unhook
from .tokens import Batch

_TRIED: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
CLOSE = 1e-3  # of the largest logit: rounding stays far below


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A whole pass over rows of one length, and what is needed to resume it at any block.

    Attributes:
        model: The model.
        entries: The stream that entered each block, `row x position x d_model`.
        calls: The other arguments of each block.
        logits: Logits of the whole pass at the last position, `row x vocabulary`, in float32.
    """

    model: Any
    entries: list[Tensor]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    logits: Tensor

    def go_on(self, stream: Float[Tensor, "row position d_model"], layer: int) -> Float[Tensor, "row vocabulary"]:
        """Resume the pass at a block with another stream.

        Args:
            stream: The stream that enters the block, of as many positions as the whole pass had and any number of rows.
            layer: The block, counted from 0.

        Returns:
            Logits at the last position, in float32.
        """
        x = stream
        for block, (args, kwargs) in list(zip(self.model.blocks, self.calls, strict=True))[layer:]:
            out = block(x, *args, **kwargs)
            x = out[0] if isinstance(out, tuple) else out
        logits = self.model.unembed(self.model.ln_final(x[:, -1:]))[:, 0].float()
        cap = getattr(self.model.original_model.config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits


@torch.no_grad()
def replayable(model: Any, batch: Batch) -> Replay | None:
    """Run a whole pass that can be resumed at any block.

    Args:
        model: What `load_model` returns; edits that are active act, also after the pass is resumed.
        batch: Unpadded rows of one length.

    Returns:
        The pass; `None` where the model or an active edit does not allow it (`why_not` says why).

    Note:
        An edit that chooses rows or tokens (a gate, a scope, positions) does so when a whole pass begins. Under such an edit
        no pass can be resumed.
    """
    if not hasattr(model, "original_model") or _TRIED.get(model) or foreign_hooks(model) or picky(model):
        return None
    count = n_layers(model)
    entries: list[Tensor] = []
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    owner = Owner("a pass that is kept")

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not owner.here():
            return
        more = dict(kwargs)
        first = args[0] if args else more.pop("hidden_states")
        entries.append(first.clone())
        # the mask and the angles of one row serve every row: all have one length and no padding
        more = {k: _one_row(v, len(first)) for k, v in more.items() if k not in ("use_cache", "cache_position")}
        calls.append((tuple(_one_row(a, len(first)) for a in args[1:]), more | ({"use_cache": False} if "use_cache" in kwargs else {})))

    def undo() -> None:
        for block in model.blocks:
            unhook(block, keep)
        owner.leave()

    try:
        try:
            for block in model.blocks:
                block.register_forward_pre_hook(keep, with_kwargs=True)
            owner.enter()
            logits = run(model, batch)[:, -1].float()
        finally:
            surely(undo)
    finally:
        surely(undo)
    if len(entries) != count:
        _TRIED[model] = f"{len(entries)} of {count} blocks were called"
        return None
    replay = Replay(model=model, entries=entries, calls=calls, logits=logits)
    if model not in _TRIED:
        _TRIED[model] = _why_not(replay)
    return None if _TRIED[model] else replay


def picky(model: Any) -> bool:
    """Whether an active edit chooses rows or tokens, which it does when a whole pass begins."""
    return any(e.gate is not None or e.positions is not None or (e.scope is not None and not e.scope.whole) for e in active_edits(model))


def why_not(model: Any) -> str:
    """Return why no pass of a model can be resumed at this moment ("" where one can, or none was tried)."""
    if picky(model):
        return "an edit that is active chooses rows or tokens, which it does when a whole pass begins"
    return _TRIED.get(model, "")


def _why_not(replay: Replay) -> str:
    try:
        # twice as many rows as were read, from the first block and from one in the middle
        for layer in (0, len(replay.entries) // 2):
            again = replay.go_on(torch.cat([replay.entries[layer]] * 2), layer)
            apart = float((again - torch.cat([replay.logits] * 2)).abs().max() / replay.logits.abs().max().clamp(min=1e-12))
            if not apart <= CLOSE:
                return f"resuming at block {layer} gave logits {apart:.1e} of the largest away from a whole pass"
    except Exception as error:
        return f"its blocks cannot be called by themselves ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]})"
    return ""


def _one_row(value: Any, rows: int) -> Any:
    if hasattr(value, "get_seq_length"):
        return None  # a cache of keys and values would grow with each call
    if isinstance(value, Tensor):
        return value[:1] if value.ndim > 1 and value.shape[0] == rows else value
    if isinstance(value, tuple):
        return tuple(_one_row(v, rows) for v in value)
    return value


def by_length(rows: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Return the indices of rows of each length."""
    out: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        out.setdefault(len(row), []).append(i)
    return out
