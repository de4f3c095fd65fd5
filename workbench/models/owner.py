"""In whose forward passes a block acts: those of the thread and the asynchronous task that entered it."""

from __future__ import annotations

from contextvars import ContextVar
from threading import get_ident

from ..core.errors import ModelInUse


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
