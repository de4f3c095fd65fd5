"""A store: a folder of activations that grows, survives being killed, and serves several processes at once.

    manifest.json        model, site, position, dtype; the prompt sets asked for; the shards with their checksums; its own seal
    prompts/H.parquet    the row table of prompt set H, and the key of each item
    H.safetensors        a shard: some items (their keys in its header), one tensor per layer, `item x variant x …`

Items are identified by content: the hash of their ids and of the place where they are read. A repeated capture computes
nothing, and a capture of more prompts or layers computes what is missing. A shard is written under a temporary name,
synchronised, renamed, and only then entered into the manifest, under a lock. A process claims the shard that it computes by
a lock that the system frees when the process dies. So several processes may work on one store, and none repeats the work of
another.

Every byte is covered by a sha256. Compared are
- the manifest and a row table whenever they are read;
- the header of a shard when it is opened, a tensor when it is first read and again after its file has changed;
- all bytes of a shard when a capture goes on from it (`damaged`), or when its size or time is another than it was.
What differs is never used: reading it raises `DamagedStore`, and the next capture into the store computes it again. Where the
manifest itself is damaged, that capture begins a new one. Names in a manifest are those of plain files inside the folder; a
link or a device is refused. A store of an earlier version is read, its shards compared as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save
from torch import Tensor

from ..core.errors import DamagedStore, OutputFolder, WrongModel
from .files import claimed, digest, locked, part_order, raw, write_file, writing
from .manifest import SCHEMA, TABLES, again, manifest_to_continue, read_manifest, same_model, sweep, unfinished, write_manifest
from .shard import HEADER, UNREADABLE, Shard
from .stamps import Stamps
from .tables import read_table, table_bytes, whole_table, write_table


class Store:
    """An activation folder, open for reading and writing. Make one with `open` or `existing`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._stamps = Stamps(folder)
        self._shards: dict[str, Shard] = {}
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
            OutputFolder: The folder holds something else, or activations of other settings, or cannot be written.
            WrongModel: The folder holds activations of another model.
            DiskFull: There is no room for the manifest.

        Note:
            What a killed process left is removed, and a damaged manifest is replaced by an empty one: nothing could be read by it.
        """
        with writing(folder):
            if folder.exists() and not folder.is_dir():
                raise OutputFolder(f"{folder.name} is a file; activations go into a folder")
            folder.mkdir(parents=True, exist_ok=True)
            manifest_to_continue(folder)  # a folder that holds something else is left without a lock too
            with locked(folder):
                sweep(folder)
                manifest = manifest_to_continue(folder)
                if manifest is None:
                    manifest = {"schema": SCHEMA, "model": dict(model), "settings": dict(settings), "requests": {}, "shards": {}}
                    write_manifest(folder, manifest)
        same_model(manifest["model"], model)
        for key, value in settings.items():
            if (have := manifest["settings"].get(key)) != value:
                raise OutputFolder(f"{folder.name} holds activations with {key} {have!r}, not {value!r}; choose another folder")
        return cls(folder, manifest)

    # ------------------------------------------------------------------ writing

    @contextmanager
    def _updating(self) -> Iterator[dict[str, Any]]:
        """Yield the manifest as it is on disk, for one change, under the lock."""
        with writing(self.folder), locked(self.folder):
            manifest = read_manifest(self.folder)
            yield manifest
            write_manifest(self.folder, manifest)
            self.manifest = manifest
            self._index.clear()

    def ask(self, prompts: str, rows: pd.DataFrame, keys: Sequence[str], *, parts: Sequence[str], provenance: Mapping[str, Any]) -> None:
        """Enter a prompt set: its rows, and the parts that are wanted (layers, log-probabilities).

        Args:
            prompts: Hash of the prompt set.
            rows: Its row table.
            keys: The key of each item, in the order of the rows.
            parts: Names of the parts, added to those of earlier captures of the set.
            provenance: Model, prompts, versions.

        Raises:
            BadInput: The rows or the provenance hold something that a file cannot keep.
        """
        data = table_bytes(rows, keys)
        name, last = next(reversed(self.manifest["requests"].items()), ("", {"parts": [], "sha256": ""}))
        if name == prompts and set(parts) <= set(last["parts"]) and last["sha256"] == digest(data) and whole_table(self.folder, name, last):
            return
        with self._updating() as manifest:
            known = manifest["requests"].get(prompts, {"parts": []})["parts"]
            if prompts in manifest["requests"]:  # if this process dies before the end, the old rows are good, or the new ones
                manifest["requests"][prompts]["coming"] = digest(data)
                write_manifest(self.folder, manifest)
            write_table(self.folder, prompts, data)
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
        data = save({k: t.contiguous() for k, t in tensors.items()}, {HEADER: json.dumps({"items": list(keys)})})
        entry = {
            "sha256": digest(data),
            "header": digest(data[: 8 + int.from_bytes(data[:8], "little")]),
            "bytes": len(data),
            "items": len(keys),
            "parts": list(tensors),
            "tensors": {k: digest(raw(t)) for k, t in tensors.items()},
        }
        entry |= {"not_finite": dict(ill)} if ill else {}
        with self._updating() as manifest:
            write_file(self.folder / name, data)
            manifest["shards"][name] = entry
        self._shards.pop(name, None)
        self._stamps.add([name], self.manifest["shards"])

    def claim(self, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Claim a shard while computing it (`files.claimed`)."""
        return claimed(self.folder, name, wait=wait)

    # ------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Read the manifest again, with what other processes have written since."""
        self.manifest = read_manifest(self.folder)
        self._index.clear()

    def damaged(self, keys: Sequence[str] | None = None, parts: Sequence[str] = (), *, quick: bool = False) -> list[str]:
        """Return the shards that are missing or differ from their checksums.

        Args:
            keys: Compare all bytes of shards that hold one of these items, and the headers of the others; `None` for all bytes.
            parts: Of those, shards with one of these parts.
            quick: Skip shards whose size and time are those at which they were last found whole.

        Returns:
            The names of their files.
        """
        shards, wanted = self.manifest["shards"], set(keys or ())
        bad, names = [], []
        for name, entry in shards.items():
            try:
                if keys is None or (not wanted.isdisjoint(self.keys(name)) and set(parts) & set(entry["parts"])):
                    names.append(name)
            except DamagedStore:
                bad.append(name)
        names = self._stamps.unknown(names, shards) if quick else names
        broken = {name for name in names if not self._sound(name, shards[name])}
        if good := self._stamps.unknown([name for name in names if name not in broken], shards):
            self._stamps.add(good, shards)
        return [name for name in shards if name in broken or name in bad]

    def _sound(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Compare all bytes of a shard."""
        try:
            return self._opened(name, entry).whole()
        except UNREADABLE:
            return False

    def strike(self, names: Sequence[str]) -> None:
        """Remove damaged shards from the manifest, so that they are computed again; not those that another process has mended."""
        if names:
            with self._updating() as manifest:
                for name in names:
                    if name in manifest["shards"] and not self._sound(name, manifest["shards"][name]):
                        del manifest["shards"][name]

    def remove(self, names: Sequence[str]) -> None:
        """Remove shards from the manifest and delete their files."""
        if names:
            with self._updating() as manifest:
                for name in names:
                    manifest["shards"].pop(name, None)
            with writing(self.folder):
                for name in names:
                    self._shards.pop(name, None)
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
        return self._shard(name).keys

    def missing(self, keys: Sequence[str], parts: Sequence[str]) -> list[tuple[np.ndarray, list[str]]]:
        """Return groups of items (by number) that lack the same parts, and those parts."""
        have = {part: self.index(part) for part in parts}
        lacks = pd.Series([tuple(p for p in parts if key not in have[p]) for key in keys], dtype=object)
        return [(np.asarray(index), list(lack)) for lack, index in lacks.groupby(lacks, sort=False).indices.items() if lack]  # pyright: ignore

    def tensor(self, name: str, part: str) -> Tensor:
        """Return one tensor of a shard, mapped into memory. Its checksum is compared unless it was since the file last changed.

        Raises:
            DamagedStore: The checksum differs, or the file cannot be read.
        """
        shard = self._shard(name)
        try:
            return shard.tensor(part)
        except UNREADABLE as error:
            raise self.broken(name) from error

    def request(self, prompts: str | None) -> tuple[str, dict[str, Any]]:
        """Return the hash and the manifest's entry of a prompt set, given its hash; `None` for the latest capture.

        Raises:
            DamagedStore: The store holds no prompt set.
            WrongModel: The store lacks this prompt set.
        """
        requests = self.manifest["requests"]
        if not requests:
            raise DamagedStore(f"{self.folder.name}: {unfinished(self.manifest)}")
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
        table = read_table(self.folder, prompts, self.manifest["requests"][prompts])
        if table is None:
            raise DamagedStore(f"{self.folder.name}: {TABLES}/{prompts}.parquet is missing or damaged; {again(self.manifest)}")
        return table

    def broken(self, name: str) -> DamagedStore:
        """Return the error for a shard that is missing or damaged."""
        self._stamps.drop(name)  # whoever opens the store next compares all of it
        self._shards.pop(name, None)
        return DamagedStore(f"{self.folder.name}: shard {name} is missing or damaged; {again(self.manifest)}")

    def _shard(self, name: str) -> Shard:
        try:
            return self._opened(name, self.manifest["shards"][name])
        except UNREADABLE as error:
            raise self.broken(name) from error

    def _opened(self, name: str, entry: Mapping[str, Any]) -> Shard:
        shard = self._shards.get(name)
        if shard is None or shard.entry != entry or not shard.same():
            shard = self._shards[name] = Shard(self.folder / name, entry)
        return shard

    def shape(self, name: str, part: str) -> tuple[int, ...]:
        """Return the shape of a shard's tensor, from its header."""
        return self._shard(name).shape(part)
