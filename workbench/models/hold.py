"""The weights of a model while one block changes them: forward passes of other threads are refused."""

from __future__ import annotations

import sys
import threading
from typing import Any

from torch import nn

from ..core.errors import ModelInUse
from .known import KNOWN
from .owner import CHANGED, TURNS, Owner, require_weights
from .restore import unhook

_LOCK = threading.RLock()


class Hold:
    """One block that changes weights.

    Attributes:
        model: The model.
        owner: The thread and the task that the block belongs to.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.owner = Owner("a block that changes weights")
        self._modules: list[nn.Module] = []

    def take(self) -> None:
        """Refuse the passes of other threads from now on.

        Raises:
            ModelInUse: Another thread has changed the weights, or is in a forward pass.
        """
        with _LOCK:
            require_weights(self.model)
            TURNS[self.model] = TURNS.get(self.model, 0) + 1
            CHANGED.setdefault(self.model, []).append(self.owner)
            self.owner.enter()
            self._modules = _with_weights(self.model)
            for module in self._modules:
                module.register_forward_pre_hook(self._refuse)
        # in this order, so that no pass begins in between
        if _in_a_pass(self._modules):
            raise ModelInUse(
                "another thread is in a forward pass of this model, and would go on with other weights. Change them when it is done, or "
                "load the model a second time"
            )

    @property
    def taken(self) -> bool:
        """Whether the weights are this block's to change."""
        return self.owner in CHANGED.get(self.model, [])

    def release(self) -> None:
        """Let other threads compute again. It may be called more than once."""
        with _LOCK:
            for module in self._modules:
                unhook(module, self._refuse)
            blocks = CHANGED.get(self.model, [])
            blocks[:] = [owner for owner in blocks if owner is not self.owner]
        self.owner.leave()

    def _refuse(self, *_: Any) -> None:
        require_weights(self.model)


def _with_weights(model: Any) -> list[nn.Module]:
    """The model, the engine's shell around its weights, and every module of either that has weights of its own."""
    trunk = KNOWN[model].trunk if model in KNOWN else None
    tops = [top for top in (model, getattr(model, "original_model", None), getattr(trunk, "shell", None)) if isinstance(top, nn.Module)]
    inside = {id(m): m for top in tops for m in top.modules() if m._parameters}
    return list(({id(top): top for top in tops} | inside).values())


def _in_a_pass(modules: list[nn.Module]) -> bool:
    """Whether another thread is inside the call of one of these modules at this moment."""
    wanted, own = set(map(id, modules)), threading.get_ident()
    for thread, frame in sys._current_frames().items():
        while frame is not None and thread != own:
            if frame.f_code is nn.Module._call_impl.__code__ and id(frame.f_locals.get("self")) in wanted:
                return True
            frame = frame.f_back
    return False
