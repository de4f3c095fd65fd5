"""Writing activations to a store of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from ..core.errors import BadInput
from ..core.provenance import content_hash
from .files import digest, raw, shard_name
from .manifest import TABLE_NAME, model_of
from .sources import Source
from .store import Store

SHARD_ITEMS = 512


@runtime_checkable
class Saveable(Protocol):
    """The attributes of `Activations` that are saved."""

    layers: tuple[int, ...]
    site: str
    position: str
    rows: pd.DataFrame
    source: Source
    provenance: Mapping[str, Any]

    def __len__(self) -> int: ...


def save_activations(acts: Saveable, folder: Path) -> None:
    """Write activations, their rows and their provenance to a folder, in shards of `SHARD_ITEMS` items.

    Args:
        acts: The activations.
        folder: A new or empty folder, or one that was saved to before; its rows are replaced.

    Raises:
        OutputFolder: The folder holds something else.
        BadInput: There are no items, or the rows or the provenance cannot be written.
        DiskFull: The activations do not fit on the disk.
    """
    if not len(acts):
        raise BadInput("activations of no items cannot be saved")
    prompts = str(acts.provenance.get("prompts", "")) or content_hash(acts.rows.to_dict("list"))
    prompts = prompts if TABLE_NAME.fullmatch(prompts) else content_hash(prompts)  # it becomes the name of a file
    settings = {"origin": "saved", "prompts": prompts, "site": acts.site, "position": acts.position, "layers": list(acts.layers)}
    store = Store.open(folder, model=model_of(acts.provenance), settings=settings)
    old = list(store.manifest["shards"])
    parts = [n for n in acts.source.names if not n.startswith(("layer.", "sinks.")) or int(n.partition(".")[2]) in acts.layers]
    keys: list[str] = []
    new = []
    for start in range(0, len(acts), SHARD_ITEMS):
        block = acts.source.take(np.arange(start, min(start + SHARD_ITEMS, len(acts))))
        tensors = {p: block.part(p) for p in parts}
        # keys by content: the rows that were saved here before stay whole until the new ones are entered
        block_keys = [content_hash([digest(raw(t[i])) for t in tensors.values()]) for i in range(block.shape[0])]
        new.append(shard_name(block_keys, parts))
        store.write(new[-1], block_keys, tensors)
        keys += block_keys
    store.ask(prompts, acts.rows, keys, parts=parts, provenance={**acts.provenance, "model": model_of(acts.provenance)})
    store.remove([name for name in old if name not in new])
