"""Whole passes that take the blocks below an edit from an earlier pass: nothing changes there.

Hugging Face's loop over blocks cannot start in the middle. So the loop runs as it is, with its masks and positions, and the blocks below
the edit hand on what the last of them gave before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from .owner import Owner
from .restore import surely, unhook

_ONE = threading.Lock()  # one thread at a time exchanges what blocks do


@contextmanager
def remembered(model: Any, layer: int, into: dict[int, Any]) -> Iterator[None]:
    """Keep what the block below a layer gives in the forward pass inside the `with` block.

    Args:
        model: What `load_model` returns.
        layer: The first block that may be edited, at least 1.
        into: Gets the outputs of the blocks below, by layer: what the last gives, and of the others whether that is a tuple.
    """
    owner = Owner("a pass that is kept")
    hooks: dict[int, Any] = {}

    def keep(n: int) -> Any:
        def hook(_: Any, args: Any, out: Any) -> None:
            if owner.here():
                into[n] = out if n == layer - 1 else isinstance(out, tuple) and len(out)

        return hook

    def undo() -> None:
        for n, hook in hooks.items():
            unhook(model.blocks[n], hook)
        owner.leave()

    try:
        try:
            for n in range(layer):
                hooks[n] = keep(n)
                model.blocks[n].register_forward_hook(hooks[n])
            owner.enter()
            yield
        finally:
            surely(undo)
    finally:
        surely(undo)


@contextmanager
def skipped(model: Any, layer: int, kept: dict[int, Any]) -> Iterator[None]:
    """Let the blocks below a layer give in the forward pass inside the `with` block what they gave before.

    Args:
        model: What `load_model` returns.
        layer: The first block that is computed.
        kept: What `remembered` kept of a pass over the same batch. Where another thread is at it, all blocks are computed.
    """
    owner, mine = Owner("a pass that begins in the middle"), _ONE.acquire(blocking=False)
    done: list[int] = []

    def instead(n: int, own: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not owner.here():
                return own(*args, **kwargs)
            if n == layer - 1:
                return kept[n]
            stream: Tensor = args[0] if args else kwargs["hidden_states"]
            return (stream, *[None] * (kept[n] - 1)) if kept[n] else stream

        return forward

    def undo() -> None:
        for n in done:
            model.blocks[n].__dict__.pop("forward", None)
        owner.leave()

    try:
        try:
            for n in range(layer) if mine else ():
                done.append(n)
                model.blocks[n].__dict__["forward"] = instead(n, model.blocks[n].forward)
            owner.enter()
            yield
        finally:
            surely(undo)
    finally:
        surely(undo)
        if mine:
            _ONE.release()
