"""The two sources of the values of `Activations`: memory, or a store that is read as needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DamagedStore
from .store import Store


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """Values in memory, by part: "layer.3", "mask", "logp.answers"."""

    parts: Mapping[str, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one layer, `item x variant x …`."""
        return tuple(next(t for k, t in self.parts.items() if k.startswith("layer.")).shape)

    @property
    def names(self) -> list[str]:
        """The names of the parts."""
        return list(self.parts)

    def part(self, name: str) -> Tensor:
        """Return a part, `item x …`."""
        return self.parts[name]

    def take(self, items: np.ndarray) -> InMemory:
        """Return some of the items."""
        index = torch.as_tensor(items)
        return InMemory(parts={k: t[index] for k, t in self.parts.items()})


class OnDisk:
    """Values in a store. A part is read from disk when it is used, and only for these items."""

    def __init__(self, store: Store, keys: Sequence[str], parts: Sequence[str]) -> None:
        self.store, self.keys, self.names = store, list(keys), list(parts)
        self.ragged = "mask" in self.names
        first = next(p for p in self.names if p.startswith("layer."))
        index = self.store.index(first)
        shapes = {name: self.store.shape(name, first) for name in {index[key][0] for key in self.keys}}
        shape = list(next(iter(shapes.values())))[1:]
        if len({self._but_width(s) for s in shapes.values()}) > 1:
            raise self._unlike(first)
        if self.ragged:
            shape[1] = max(s[2] for s in shapes.values())
        self.shape = (len(self.keys), *shape)

    def part(self, name: str) -> Tensor:
        """Read a part of these items, `item x …`."""
        where = self.store.index(name)
        places: dict[str, tuple[list[int], list[int]]] = {}
        for item, key in enumerate(self.keys):
            shard, row = where[key]
            items, rows = places.setdefault(shard, ([], []))
            items.append(item)
            rows.append(row)
        out: Tensor | None = None
        widen = self.ragged and not name.startswith("logp")
        for shard, (items, rows) in places.items():
            values = self.store.tensor(shard, name)[torch.tensor(rows)]
            if out is None:
                shape = list(values.shape[1:])
                if widen:
                    shape[1] = self.shape[2]
                out = torch.zeros(len(self.keys), *shape, dtype=values.dtype)
            if self._but_width(tuple(values.shape)) != self._but_width(tuple(out.shape)) or values.dtype != out.dtype:
                raise self._unlike(name)
            if widen:  # a shard is as wide as its own longest row
                width = min(values.shape[2], out.shape[2])
                out[torch.tensor(items), :, :width] = values[:, :, :width]
            else:
                out[torch.tensor(items)] = values
        assert out is not None
        return out

    def _but_width(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an item, without the axis of positions, in which shards differ."""
        return (shape[1], *shape[3:]) if self.ragged and len(shape) > 2 else shape[1:]

    def _unlike(self, part: str) -> DamagedStore:
        return DamagedStore(
            f"{self.store.folder.name}: {part} has another shape or dtype in one shard than in others; capture into an empty folder"
        )

    def take(self, items: np.ndarray) -> OnDisk:
        """Return some of the items; nothing is read."""
        return OnDisk(self.store, [self.keys[i] for i in items], self.names)


Source = InMemory | OnDisk
