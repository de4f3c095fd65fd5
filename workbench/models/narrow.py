"""Logits at a few tokens: the rest of a pass is not unembedded. A vocabulary is large, and most of its logits nobody asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..core.types import Int, Tensor
from .owner import Owner
from .restore import surely, unhook


@contextmanager
def narrowed(model: Any, at: Int[Tensor, "row k"]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Let the forward pass inside a `with` block unembed a few tokens of each row only.

    Args:
        model: What `load_model` returns.
        at: Columns of the pass, per row.

    Yields:
        A function that turns what the pass returns into logits at these columns, `row x k x vocabulary`, also where the
        unembedding could not be narrowed.
    """
    owner, fired = Owner("a pass that unembeds a few tokens"), []
    module = getattr(model, "unembed", None)

    def pick(value: Tensor) -> Tensor:
        rows = torch.arange(len(at), device=value.device)[:, None]
        return value[rows, at.to(value.device)]

    def enter(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not owner.here() or not args or not isinstance(args[0], Tensor) or args[0].ndim != 3 or len(args[0]) != len(at):
            return None
        fired.append(True)
        return (pick(args[0]), *args[1:])

    def undo() -> None:
        if module is not None:
            unhook(module, enter)
        owner.leave()

    try:
        try:
            if module is not None:
                module.register_forward_pre_hook(enter)
            owner.enter()
            yield lambda logits: logits if fired else pick(logits)
        finally:
            surely(undo)
    finally:
        surely(undo)
