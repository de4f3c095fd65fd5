"""A store: a folder of activations that grows, survives being killed, and serves several processes at once.

    manifest.json        model, site, position, dtype; the prompt sets asked for; the shards with their checksums
    prompts/H.parquet    the row table of prompt set H, and the key of each item
    H.safetensors        a shard: some items (their keys in its header), one tensor per layer, `item x variant x …`

Items are identified by content: the hash of their ids and of the place where they are read. A repeated capture computes
nothing, and a capture of more prompts or layers computes what is missing. A shard is written under a temporary name,
synchronised, renamed, and only then entered into the manifest, under a lock. A process claims the shard that it computes by
a lock that the system frees when the process dies. So several processes may work on one store, and none repeats the work of
another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.errors import DamagedStore, OutputFolder, WrongModel
from .files import claimed, digest, file_digest, full_disk, part_order, raw, write_file
from .manifest import MANIFEST, SCHEMA, read_manifest, same_model
from .stamps import Stamps

KEY = "item_key"
_HEADER = "workbench"


class Store:
    """An activation folder, open for reading and writing. Make one with `open` or `existing`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._stamps = Stamps(folder)
        self._files: dict[str, Any] = {}
        self._checked: set[tuple[str, str]] = set()
        self._keys: dict[str, list[str]] = {}
        self._index: dict[str, dict[str, tuple[str, int]]] = {}

    # ------------------------------------------------------------------ opening

    @classmethod
    def existing(cls, folder: Path) -> Store:
        """Open an existing store.

        Raises:
            DamagedStore: The folder is no store, or cannot be read.
        """
        return cls(folder, read_manifest(folder))

    @classmethod
    def open(cls, folder: Path, *, model: Mapping[str, Any], settings: Mapping[str, Any]) -> Store:
        """Create a store, or open one of the same model and settings.

        Args:
            folder: A new or empty folder, or a store.
            model: The model's key (`ModelInfo.key`).
            settings: Site, position, dtype and edits; all must equal those of an existing store.

        Returns:
            The store.

        Raises:
            OutputFolder: The folder holds something else, or activations of other settings.
            WrongModel: The folder holds activations of another model.
        """
        if folder.exists() and not folder.is_dir():
            raise OutputFolder(f"{folder.name} is a file; activations go into a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with full_disk(folder), FileLock(folder / ".manifest.lock"):
            if not (folder / MANIFEST).is_file():
                if any(p.name != ".manifest.lock" for p in folder.iterdir()):
                    (folder / ".manifest.lock").unlink(missing_ok=True)
                    raise OutputFolder(f"{folder.name} holds something else; choose an empty folder for activations")
                store = cls(folder, {"schema": SCHEMA, "model": dict(model), "settings": dict(settings), "requests": {}, "shards": {}})
                store._write_manifest()
                return store
        try:
            store = cls.existing(folder)
        except DamagedStore as error:
            raise OutputFolder(f"{error}; choose an empty folder") from None
        same_model(store.manifest["model"], model)
        for key, value in settings.items():
            if (have := store.manifest["settings"].get(key)) != value:
                raise OutputFolder(f"{folder.name} holds activations with {key} {have!r}, not {value!r}; choose another folder")
        return store

    # ------------------------------------------------------------------ writing

    def _write_manifest(self) -> None:
        write_file(self.folder / MANIFEST, json.dumps(self.manifest, indent=1, ensure_ascii=False).encode())

    @contextmanager
    def _updating(self) -> Iterator[dict[str, Any]]:
        """Yield the manifest as it is on disk, for one change, under the lock."""
        with full_disk(self.folder), FileLock(self.folder / ".manifest.lock"):
            self.manifest = read_manifest(self.folder)
            yield self.manifest
            self._write_manifest()

    def ask(self, prompts: str, rows: pd.DataFrame, keys: Sequence[str], *, parts: Sequence[str], provenance: Mapping[str, Any]) -> None:
        """Enter a prompt set: its rows, and the parts that are wanted (layers, log-probabilities).

        Args:
            prompts: Hash of the prompt set.
            rows: Its row table.
            keys: The key of each item, in the order of the rows.
            parts: Names of the parts, added to those of earlier captures of the set.
            provenance: Model, prompts, versions.
        """
        path = self.folder / "prompts" / f"{prompts}.parquet"
        data = rows.assign(**{KEY: list(keys)}).to_parquet()
        name, last = next(reversed(self.manifest["requests"].items()), ("", {"parts": [], "sha256": ""}))
        if name == prompts and set(parts) <= set(last["parts"]) and last["sha256"] == digest(data) and self._rows_good(prompts, last):
            return
        with full_disk(self.folder):
            path.parent.mkdir(exist_ok=True)
        with self._updating() as manifest:
            write_file(path, data)
            known = manifest["requests"].get(prompts, {"parts": []})["parts"]
            manifest["requests"].pop(prompts, None)  # the latest comes last
            manifest["requests"][prompts] = {
                "parts": sorted({*known, *parts}, key=part_order),
                "items": len(rows),
                "sha256": digest(data),
                "provenance": dict(provenance),
            }

    def write(self, name: str, keys: Sequence[str], tensors: Mapping[str, Tensor], *, ill: Mapping[str, Any] | None = None) -> None:
        """Write a shard and enter it into the manifest.

        Args:
            name: The name of its file.
            keys: The keys of its items.
            tensors: Its parts, `item x …`.
            ill: By key, how many values are not finite, and the first place (`reading.read_items`).

        Raises:
            DiskFull: The shard does not fit; the shards that were written before stay readable.
        """
        header = {_HEADER: json.dumps({"items": list(keys)})}
        data = save({k: t.contiguous() for k, t in tensors.items()}, header)
        entry = {
            "sha256": digest(data),
            "bytes": len(data),
            "items": len(keys),
            "parts": list(tensors),
            "tensors": {k: digest(raw(t)) for k, t in tensors.items()},
        }
        entry |= {"not_finite": dict(ill)} if ill else {}
        with self._updating() as manifest:
            write_file(self.folder / name, data)
            manifest["shards"][name] = entry
        self._stamps.add([name], self.manifest["shards"])
        self._forget(name)

    def claim(self, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Claim a shard while computing it (`files.claimed`)."""
        return claimed(self.folder, name, wait=wait)

    # ------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Read the manifest again, with what other processes have written since."""
        self.manifest = read_manifest(self.folder)
        self._index.clear()

    def damaged(self, names: Sequence[str] | None = None) -> list[str]:
        """Return the shards that are missing or differ from their checksums.

        A file is not read again if its size and time are those at which its checksum was last compared.
        """
        names = list(self.manifest["shards"]) if names is None else list(names)
        stamps = self._stamps.read()
        bad, good = [], []
        for name in names:
            path, entry = self.folder / name, self.manifest["shards"][name]
            try:
                stat = path.stat()
                if stamps.get(name) == [stat.st_size, stat.st_mtime_ns, entry["sha256"]]:
                    continue
                whole = stat.st_size == entry["bytes"] and file_digest(path) == entry["sha256"]
            except OSError:
                whole = False
            (good if whole else bad).append(name)
        if good:
            self._stamps.add(good, self.manifest["shards"])
        return bad

    def strike(self, names: Sequence[str], *, remove: bool = False) -> None:
        """Remove shards from the manifest, so that they are computed again; with `remove`, delete their files too."""
        if names:
            with self._updating() as manifest:
                for name in names:
                    manifest["shards"].pop(name, None)
            for name in names:
                self._forget(name)
                if remove:
                    (self.folder / name).unlink(missing_ok=True)

    def ill(self, keys: Sequence[str], parts: Sequence[str]) -> dict[int, list[Any]]:
        """Return which of these items hold NaN or infinity.

        Args:
            keys: The keys of the items.
            parts: Names of the parts.

        Returns:
            By the item's number, how many values are not finite, and the variant and part of the first.
        """
        shards = [e for e in self.manifest["shards"].values() if set(parts) & set(e["parts"])]
        places = {key: place for e in shards for key, place in e.get("not_finite", {}).items()}
        return {i: places[key] for i, key in enumerate(keys) if key in places} if places else {}

    def index(self, part: str) -> dict[str, tuple[str, int]]:
        """Return the shard and the row of each item that has a part, by key."""
        if part not in self._index:
            self._index[part] = {
                key: (name, row)
                for name, entry in self.manifest["shards"].items()
                if part in entry["parts"]
                for row, key in enumerate(self.keys(name))
            }
        return self._index[part]

    def keys(self, name: str) -> list[str]:
        """Return the keys of a shard's items, from its header."""
        if name not in self._keys:
            self._keys[name] = json.loads(self._open(name).metadata()[_HEADER])["items"]
        return self._keys[name]

    def missing(self, keys: Sequence[str], parts: Sequence[str]) -> list[tuple[np.ndarray, list[str]]]:
        """Return groups of items (by number) that lack the same parts, and those parts."""
        have = {part: self.index(part) for part in parts}
        lacks = pd.Series([tuple(p for p in parts if key not in have[p]) for key in keys], dtype=object)
        return [(np.asarray(index), list(lack)) for lack, index in lacks.groupby(lacks, sort=False).indices.items() if lack]  # pyright: ignore

    def tensor(self, name: str, part: str) -> Tensor:
        """Return one tensor of a shard, mapped into memory. Its checksum is compared when it is first read.

        Raises:
            DamagedStore: The checksum differs, or the file cannot be read.
        """
        try:
            tensor = self._open(name).get_tensor(part)
        except (SafetensorError, OSError) as error:
            raise self._broken(name) from error
        if (name, part) not in self._checked:
            if digest(raw(tensor)) != self.manifest["shards"][name]["tensors"][part]:
                self._stamps.drop(name)
                raise self._broken(name)
            self._checked.add((name, part))
        return tensor

    def request(self, prompts: str | None) -> tuple[str, dict[str, Any]]:
        """Return the hash and the manifest's entry of a prompt set, given its hash; `None` for the latest capture.

        Raises:
            DamagedStore: The store holds no prompt set.
            WrongModel: The store lacks this prompt set.
        """
        requests = self.manifest["requests"]
        if not requests:
            raise DamagedStore(f"{self.folder.name}: the capture did not finish; run it again with the same store to resume")
        if prompts is None:
            return list(requests.items())[-1]
        if prompts not in requests:
            raise WrongModel(
                f"{self.folder.name} holds no prompt set {prompts}; it holds: {', '.join(requests)}. Capture it with store= to add it"
            )
        return prompts, requests[prompts]

    def rows(self, prompts: str) -> tuple[pd.DataFrame, list[str]]:
        """Return the row table of a prompt set and the keys of its items.

        Raises:
            DamagedStore: The table is missing or damaged.
        """
        if not self._rows_good(prompts, self.manifest["requests"][prompts]):
            raise DamagedStore(
                f"{self.folder.name}: prompts/{prompts}.parquet is missing or damaged; run the capture again to write it anew"
            )
        frame = pd.read_parquet(self.folder / "prompts" / f"{prompts}.parquet")
        return frame.drop(columns=KEY), frame[KEY].tolist()

    def _rows_good(self, prompts: str, entry: Mapping[str, Any]) -> bool:
        path = self.folder / "prompts" / f"{prompts}.parquet"
        return path.is_file() and file_digest(path) == entry["sha256"]

    def _broken(self, name: str) -> DamagedStore:
        return DamagedStore(f"{self.folder.name}: shard {name} is missing or damaged; run the capture again to write it anew")

    def _open(self, name: str) -> Any:
        if name not in self._files:
            try:
                self._files[name] = safe_open(self.folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise self._broken(name) from error
        return self._files[name]

    def _forget(self, name: str) -> None:
        self._files.pop(name, None)
        self._keys.pop(name, None)
        self._index.clear()
        self._checked = {c for c in self._checked if c[0] != name}

    def shape(self, name: str, part: str) -> tuple[int, ...]:
        """Return the shape of a shard's tensor, from its header."""
        return tuple(self._open(name).get_slice(part).get_shape())
