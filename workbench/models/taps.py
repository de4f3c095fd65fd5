"""Readings in the engine's shell (`trunk.Trunk`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..core.errors import HookNotFired
from .owner import Owner
from .restore import surely, unhook


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A reading in the engine's shell. Edits never reach the shell.

    Attributes:
        module: The module that is read.
        entry: Read the input of the module instead of its output.
        function: Receives the activations, `1 x token x …`.
    """

    module: nn.Module
    entry: bool
    function: Callable[[Tensor], object]


class _Enough(Exception):
    """Every reading has fired, so that the rest of the pass need not be computed."""


@contextmanager
def tapped(taps: Sequence[Tap], *, stop: bool) -> Iterator[Any]:
    """Attach readings inside a `with` block. They see the passes of the thread that entered it.

    Args:
        taps: The readings.
        stop: End the forward pass when every reading has fired.

    Yields:
        A context in which to run the forward pass; it ends early with `stop`.

    Raises:
        HookNotFired: A tap did not fire exactly once.
    """
    fired = 0

    owner = Owner("a reading in the engine's shell")

    def fire(tap: Tap, value: Any) -> None:
        nonlocal fired
        if not owner.here():
            return
        tap.function(value[0] if isinstance(value, tuple) else value)
        fired += 1
        if stop and fired == len(taps):
            raise _Enough

    def hook(tap: Tap) -> Callable[..., None]:
        if tap.entry:
            return lambda _, args, kwargs: fire(tap, args[0] if args else kwargs["hidden_states"])
        return lambda _, args, value: fire(tap, value)

    hooks = [hook(tap) for tap in taps]

    def undo() -> None:
        for tap, attached in zip(taps, hooks, strict=True):
            unhook(tap.module, attached)
        owner.leave()

    try:
        try:
            for tap, attached in zip(taps, hooks, strict=True):
                if tap.entry:
                    tap.module.register_forward_pre_hook(attached, with_kwargs=True)
                else:
                    tap.module.register_forward_hook(attached)
            owner.enter()
            yield suppress(_Enough)
        finally:
            surely(undo)
    finally:
        surely(undo)
    if fired != len(taps):
        raise HookNotFired(f"{fired} of {len(taps)} readings fired in the engine's pass")
