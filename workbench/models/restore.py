"""Putting a model back as it was, whatever interrupts: signals wait until it is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

# whose handlers may raise: Ctrl-C, a scheduler's notice, the time limit of a test
_SIGNALS = [getattr(signal, n) for n in ("SIGALRM", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGBREAK", "SIGINT") if hasattr(signal, n)]


@contextmanager
def _deferred() -> Iterator[None]:
    """Let the handlers of signals that arrive inside the block run at its end. Python runs handlers in the main thread only."""
    came: list[int] = []
    handlers: dict[int, Any] = {}

    def back() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    try:
        try:
            if threading.current_thread() is threading.main_thread():
                for number in _SIGNALS:
                    handler = signal.getsignal(number)
                    if callable(handler):
                        handlers[number] = handler
                        signal.signal(number, lambda number, _: came.append(number))
            yield
        finally:
            back()
    finally:
        back()  # a signal may have come when the first handlers were back, or before
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def surely(undo: Callable[[], object]) -> None:
    """Run to the end what puts a model back, and let signals wait for it.

    Args:
        undo: May run more than once, also after a run that an exception ended half-way. Callers write `try: … finally: surely(undo)`
            in a `try` with the same `finally`, because an exception may come before the first one has begun.
    """
    with _deferred():
        undo()


def unhook(module: nn.Module, hook: Callable[..., Any] | None) -> None:
    """Remove a forward hook or a forward pre-hook from a module, also one whose registration was interrupted.

    Args:
        module: The module.
        hook: The function that was registered; nothing happens where it is not there.
    """
    for hooks, more in (
        (module._forward_pre_hooks, (module._forward_pre_hooks_with_kwargs,)),
        (module._forward_hooks, (module._forward_hooks_with_kwargs, module._forward_hooks_always_called)),
    ):
        for number in [k for k, there in hooks.items() if there == hook]:
            for table in (*more, hooks):
                table.pop(number, None)
