"""What `edited` attaches to a model, and how it is taken off again."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from transformer_lens.hook_points import LensHandle

from ..core.types import Tensor
from .edits import Edit
from .firing import Entry, Point, fire
from .owner import Owner
from .restore import unhook
from .watch import Watch

_POINTS: weakref.WeakKeyDictionary[nn.Module, Point] = weakref.WeakKeyDictionary()
_WATCHES: weakref.WeakKeyDictionary[Any, list[Watch]] = weakref.WeakKeyDictionary()
_LOCK = threading.RLock()


class Acting:
    """One `edited` block: what it has attached.

    Attributes:
        model: The model.
        owner: The thread and the task that the block belongs to.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.owner = Owner("an `edited` block")
        self._watch: Watch | None = None
        self._attached: list[tuple[nn.Module, str, Entry]] = []

    def watch(self) -> Watch:
        """Return what follows the passes over the model: that of an outer block of the same owner, where there is one."""
        with _LOCK:
            known = _WATCHES.setdefault(self.model, [])
            self._watch = next((w for w in known if w.owner.here()), None) or Watch(self.model)
            self._watch.users.add(self)
            if self._watch not in known:
                known.append(self._watch)
                self._watch.open()
            return self._watch

    def attach(self, module: nn.Module, kind: str, entry: Entry) -> None:
        """Let an entry act at a hook point.

        Args:
            module: The hook point.
            kind: The list of the point's that it goes into (`Point`).
            entry: What acts.
        """
        with _LOCK:
            self._attached.append((module, kind, entry))
            point = _POINTS.setdefault(module, Point())
            setattr(point, kind, [*getattr(point, kind), entry])  # a new list: another thread may be walking along the old one
            if not any(hook is point.hook for hook in module._forward_hooks.values()):
                point.hook = _hook(point)
                handle = module.register_forward_hook(point.hook)
                listed: Any = getattr(module, "fwd_hooks", None)
                if listed is not None:
                    # parts of TransformerLens run a hook point only where a hook is on its list
                    point.listed = LensHandle(hook=handle, is_permanent=True)
                    listed.append(point.listed)

    def close(self) -> None:
        """Take everything off. It may be called more than once, also after a call that an exception ended half-way."""
        with _LOCK:
            while self._attached:
                module, kind, entry = self._attached[-1]
                point = _POINTS.get(module)
                if point is not None:
                    setattr(point, kind, [e for e in getattr(point, kind) if e is not entry])
                    if not (point.edits or point.reads or point.gates or point.carried):
                        unhook(module, point.hook)
                        listed: Any = getattr(module, "fwd_hooks", [])
                        listed[:] = [h for h in listed if h is not point.listed]
                        _POINTS.pop(module, None)
                self._attached.pop()
            watch, known = self._watch, _WATCHES.get(self.model, [])
            if watch is not None:
                watch.users.discard(self)
                if not watch.users:
                    watch.close()
                    known[:] = [w for w in known if w is not watch]
                    if not known:
                        _WATCHES.pop(self.model, None)
        self.owner.leave()


def _hook(point: Point) -> Callable[[nn.Module, Any, Any], Tensor | None]:
    return lambda module, _, value: fire(module, point, value)


def acting_edits(model: Any) -> list[Edit]:
    """Return the edits that act on a model at this moment in this thread, in no order."""
    if not _POINTS:
        return []
    own_points = set(map(id, model.hook_dict.values()))
    return [e.item for m, p in list(_POINTS.items()) if id(m) in own_points for e in p.edits if e.owner.here()]


def attached_hooks() -> int:
    """Return the number of hook points and models that `edited` has attached hooks to (0 outside every `edited` block)."""
    return len(_POINTS) + sum(map(len, _WATCHES.values()))
