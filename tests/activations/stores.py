"""Stores for tests: written without a model, copied, and changed from outside."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import torch

from workbench.activations.activations import from_store
from workbench.activations.files import shard_name
from workbench.activations.manifest import _seal
from workbench.activations.store import Store

ITEMS = 7
ROWS = pd.DataFrame({"identity": [f"i{i}" for i in range(18)], "label": [i % 2 for i in range(18)]})
MANIFEST = "manifest.json"


def fill(folder, rows=ROWS):
    """What `capture` does with a store, without a model: it can be done a thousand times."""
    parts, keys = ["layer.0", "layer.2"], [f"{i:016x}" for i in range(len(rows))]
    store = Store.open(folder, model={"name": "m"}, settings={"origin": "captured", "site": "resid_post", "position": "last"})
    store.strike(store.damaged(keys, parts))
    store.ask("0123456789abcdef", rows, keys, parts=parts, provenance={"model": {"name": "m"}, "note": "ä"})
    for items, lacking in store.missing(keys, parts):
        for some in np.array_split(items, range(ITEMS, len(items), ITEMS)):
            name = shard_name([keys[i] for i in some], lacking)
            with store.claim(name) as claimed:
                store.refresh()
                assert claimed
                values = torch.tensor(some, dtype=torch.float32)[:, None, None] + torch.arange(8.0).reshape(2, 4)
                store.write(name, [keys[i] for i in some], {p: values + int(p[-1]) for p in lacking})
    return from_store(store, rows, keys, parts, {"prompts": "0123456789abcdef"})


def copy(folder, name="copy"):
    target = folder.with_name(name)
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)  # with the times of the files


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def overwrite(path, data):
    """Change a file in place and set its time back."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite(folder, manifest, *, seal=True):
    """Put another manifest into a store, with a seal that fits, or as an earlier version wrote it."""
    manifest = {k: v for k, v in manifest.items() if k != "seal"}
    manifest = {**manifest, "seal": _seal(manifest)} if seal else {**manifest, "schema": 2}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def read(folder):
    return json.loads((folder / MANIFEST).read_text())
