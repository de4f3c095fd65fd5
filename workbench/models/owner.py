"""To whom a block belongs: to the thread and the asynchronous task that entered it. Edits act there alone; changed weights are theirs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from threading import get_ident
from typing import Any, TypeVar

from ..core.errors import ModelInUse

T = TypeVar("T")


class Owner:
    """A `with` block that attaches something to a model."""

    def __init__(self, what: str) -> None:
        """Name the block, for errors ("an `edited` block")."""
        self.what = what
        self.thread = get_ident()

    def enter(self) -> None:
        """Count the block as entered here: in this thread, and in this asynchronous task."""
        _ENTERED.set(_ENTERED.get() | {self})

    def leave(self) -> None:
        """Count it as left. It may be called more than once."""
        _ENTERED.set(_ENTERED.get() - {self})

    def entered(self) -> bool:
        """Whether the block was entered here, or in a thread whose context this one was given (`contextvars.copy_context`)."""
        return self in _ENTERED.get()

    def here(self) -> bool:
        """Whether the block acts here.

        Raises:
            ModelInUse: The block was entered in another thread, whose context this thread was given: it should act here and cannot,
                because what it counts belongs to one pass at a time.
        """
        if not self.entered():
            return False
        if get_ident() != self.thread:
            raise ModelInUse(
                f"{self.what} was entered in another thread and acts in that one only; enter it in the thread that runs the model"
            )
        return True


_ENTERED: ContextVar[frozenset[Owner]] = ContextVar("workbench_entered", default=frozenset())
CHANGED: weakref.WeakKeyDictionary[Any, list[Owner]] = weakref.WeakKeyDictionary()  # blocks that have changed a model's weights
TURNS: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # how many such blocks there have been


def require_weights(model: Any, turn: int | None = None) -> int:
    """Raise unless a model's weights are its own, or were changed by a block that was entered here.

    Args:
        model: What `load_model` returns.
        turn: What an earlier call returned: raise also where another block has changed the weights since, and put them back.

    Returns:
        The number of blocks that have changed the weights so far.

    Raises:
        ModelInUse: A block of another thread, or of another asynchronous task, has changed them.
    """
    now = TURNS.get(model, 0)
    if turn not in (None, now) or any(not owner.entered() for owner in CHANGED.get(model, [])):
        raise ModelInUse(
            "another thread has changed the weights of this model for a while (`reweighted`). Wait until its block ends, or load the "
            "model a second time"
        )
    return now


def undisturbed(model: Any, what: Callable[[], T]) -> T:
    """Call a function in which no block acts that was entered here, but those that have changed this model's weights.

    Args:
        model: What `load_model` returns.
        what: Takes nothing.

    Returns:
        Its result.
    """

    def apart() -> T:
        _ENTERED.set(_ENTERED.get() & frozenset(CHANGED.get(model, [])))
        return what()

    return copy_context().run(apart)
