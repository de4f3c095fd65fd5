"""Readings in the engine's own shell, which edits never reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..core.errors import HookNotFired


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A reading in the engine's own shell (`trunk.Trunk`), which edits never reach.

    Attributes:
        module: Where.
        entry: Read what goes in instead of what comes out.
        function: Receives the activations, `1 x token x …`.
    """

    module: nn.Module
    entry: bool
    function: Callable[[Tensor], object]


class _Enough(Exception):
    """Every reading has fired: nothing further need be computed."""


@contextmanager
def tapped(taps: Sequence[Tap], *, stop: bool) -> Iterator[Any]:
    """Let taps read inside a `with` block; yields a context in which to run, which ends early if `stop`.

    Raises:
        HookNotFired: A tap did not fire exactly once.
    """
    fired = 0

    def fire(tap: Tap, value: Any) -> None:
        nonlocal fired
        tap.function(value[0] if isinstance(value, tuple) else value)
        fired += 1
        if stop and fired == len(taps):
            raise _Enough

    def attach(tap: Tap) -> Any:
        if tap.entry:
            return tap.module.register_forward_pre_hook(
                lambda _, args, kwargs: fire(tap, args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        return tap.module.register_forward_hook(lambda _, args, value: fire(tap, value))

    handles = []
    try:
        for tap in taps:
            handles.append(attach(tap))
        yield suppress(_Enough)
    finally:
        for handle in handles:
            handle.remove()
    if fired != len(taps):
        raise HookNotFired(f"{fired} of {len(taps)} readings fired in the engine's pass")
