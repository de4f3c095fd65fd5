"""Activations in memory and in a folder: named axes, the table of their rows, and where they come from.

A folder holds `manifest.json`, `rows.parquet` and shards `00000.safetensors` …, each written under a temporary name,
synchronised and renamed, then entered into the manifest with its checksum.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.errors import BadInput, DamagedStore, OutputFolder, ShapeMismatch, UnknownLayer, WrongModel
from ..core.provenance import content_hash
from ..core.types import Float

SCHEMA = 1
MANIFEST = "manifest.json"
ROWS = "rows.parquet"


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Captured activations.

    Attributes:
        values: `item x variant x layer x d_model`; variant 0 is negative, 1 is positive.
        layers: The block of each entry of the layer axis.
        site, position: Where they were read.
        rows: One row per item, as `PromptSet.to_frame` gives it.
        provenance: Model, prompt hash, versions.
        mask: `item x variant x position`, where there is a position axis.
    """

    values: Float[Tensor, "item variant layer *rest"]
    layers: tuple[int, ...]
    site: str
    position: str
    rows: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.ndim < 4 or self.values.shape[1] != 2:
            raise ShapeMismatch(f"activations are item x variant x layer x d_model, got {tuple(self.values.shape)}")
        if self.values.shape[2] != len(self.layers) or len(self.rows) != len(self.values):
            raise ShapeMismatch(
                f"values {tuple(self.values.shape)}, {len(self.layers)} layers and {len(self.rows)} rows do not belong together"
            )

    def __len__(self) -> int:
        return len(self.values)

    def layer(self, layer: int) -> Float[Tensor, "item variant *rest"]:
        """Return one block's activations, `item x variant x d_model`.

        Raises:
            UnknownLayer: This block was not captured.
        """
        if layer not in self.layers:
            shown = ", ".join(map(str, self.layers))
            raise UnknownLayer(f"layer {layer} was not captured; there {'is' if len(self.layers) == 1 else 'are'}: {shown}")
        return self.values[:, :, self.layers.index(layer)]

    @property
    def labels(self) -> np.ndarray:
        """Which variant is true, per item."""
        return self.rows["label"].to_numpy()

    def subset(self, items: Iterable[int] | np.ndarray) -> Activations:
        """Return the items at these indices (or where a boolean mask is true)."""
        index = np.asarray(items if isinstance(items, np.ndarray) else list(items))
        index = index.nonzero()[0] if index.dtype == bool else index
        if len(index) == 0:
            raise BadInput("a subset without items")
        return Activations(
            values=self.values[torch.as_tensor(index)], layers=self.layers, site=self.site, position=self.position,
            rows=self.rows.iloc[index].reset_index(drop=True),
            provenance={**self.provenance, "prompts": content_hash(self.provenance.get("prompts"), index.tolist())},
            mask=None if self.mask is None else self.mask[torch.as_tensor(index)],
        )  # fmt: skip

    def with_column(self, name: str, values: Any) -> Activations:
        """Return the same activations with one more column (or another one of this name) in the row table."""
        return replace(self, rows=self.rows.assign(**{name: np.asarray(values)}))

    def check_same_model(self, other: Activations) -> None:
        """Raise unless both were read from the same weights in the same mode.

        Raises:
            WrongModel: They were not.
        """
        _same_model(dict(self.provenance.get("model", {})), dict(other.provenance.get("model", {})))

    def save(self, folder: str | Path) -> None:
        """Write everything to a folder.

        Raises:
            OutputFolder: The folder holds something else.
        """
        settings = {"site": self.site, "layers": list(self.layers), "position": self.position}
        settings |= {"prompts": str(self.provenance.get("prompts", "")), "items": len(self)}
        model = dict(self.provenance.get("model", {}))
        store = Store.open(Path(folder), model=model, settings=settings, shard_items=len(self))
        store.reopen()
        store.write_rows(self.rows, dict(self.provenance))
        store.write(0, {"values": self.values.contiguous()} | ({} if self.mask is None else {"mask": self.mask}))
        store.finish()

    @classmethod
    def load(cls, folder: str | Path, *, model: Mapping[str, Any] | None = None) -> Activations:
        """Read a folder.

        Args:
            folder: What `save` or `capture(store=…)` wrote.
            model: `info(model).key()` of the model that it must come from; `None` accepts any.

        Raises:
            DamagedStore: Not such a folder, unfinished, or damaged.
            WrongModel: It comes from another model.
        """
        from .capture import join

        path = Path(folder)
        manifest = read_manifest(path)
        if model is not None:
            _same_model(dict(manifest["model"]), dict(model))
        if not manifest["finished"]:
            raise DamagedStore(f"{path.name}: the capture did not finish; run it again with the same store to resume")
        parts = []
        if not (path / ROWS).is_file() or _checksum(path / ROWS) != manifest["rows"]:
            raise DamagedStore(f"{path.name}: {ROWS} is missing or damaged; run the capture again to write it anew")
        for name, digest in manifest["shards"].items():
            if not (path / name).is_file() or _checksum(path / name) != digest:
                raise DamagedStore(f"{path.name}: shard {name} is missing or damaged; run the capture again to write it anew")
            parts.append(load_file(path / name))
        values, mask = join(parts)
        return cls(
            values=values, layers=tuple(manifest["settings"]["layers"]), site=manifest["settings"]["site"],
            position=manifest["settings"]["position"], rows=pd.read_parquet(path / ROWS),
            provenance=manifest["provenance"], mask=mask,
        )  # fmt: skip

    def __repr__(self) -> str:
        axes = "item x variant x layer x position x d_model" if self.mask is not None else "item x variant x layer x d_model"
        name = dict(self.provenance.get("model", {})).get("name", "?")
        return (
            f"Activations({axes} = {tuple(self.values.shape)}, {self.site} at {self.position!r}, layers {list(self.layers)}, of {name!r})"
        )

    def _repr_html_(self) -> str:
        name = dict(self.provenance.get("model", {})).get("name", "?")
        size = self.values.numel() * self.values.element_size() / 1e6
        norms = self.values.float().norm(dim=-1)
        table = pd.DataFrame({"layer": self.layers, "median norm": [float(norms[:, :, i].median()) for i in range(len(self.layers))]})
        return (
            f"<p><b>Activations</b> of {html.escape(str(name))}: {len(self):,} items x 2 variants, {html.escape(self.site)} at "
            f"{html.escape(self.position)}, {size:.1f} MB</p>{table.to_html(index=False, float_format='{:.2f}'.format)}"
        )


def _same_model(have: dict[str, Any], want: dict[str, Any]) -> None:
    for key in ("digest", "dtype", "processing", "vocabulary"):
        if have.get(key) != want.get(key):
            raise WrongModel(
                f"these activations come from {have.get('name')!r} ({key} {have.get(key)!r}), not from {want.get('name')!r} "
                f"({key} {want.get(key)!r}). Capture them again from the model you mean"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        DamagedStore: There is none, it cannot be read, or a newer version wrote it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedStore(f"{folder.name}: not an activation folder (no {MANIFEST})") from None
    except ValueError as error:
        raise DamagedStore(f"{folder.name}: {MANIFEST} cannot be read ({error})") from None
    wanted = {"schema", "model", "settings", "shards", "finished", "rows", "shard_items", "provenance"}
    if not isinstance(manifest, dict) or not wanted <= set(manifest):
        raise DamagedStore(f"{folder.name}: its {MANIFEST} is not that of an activation folder")
    if manifest["schema"] > SCHEMA:
        raise DamagedStore(f"{folder.name}: written by a newer version (schema {manifest['schema']}); update the workbench")
    return manifest


def _checksum(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _replace(path: Path, write: Any) -> None:
    """Write a file under a temporary name, synchronise it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Store:
    """A folder being written shard by shard."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: Path, *, model: dict[str, Any], settings: dict[str, Any], shard_items: int) -> Store:
        """Begin a folder, or go on with one of the same content.

        Raises:
            OutputFolder: It is not empty and no activation folder, or holds other prompts or settings.
            WrongModel: It holds activations of another model.
        """
        if folder.exists() and not folder.is_dir():
            raise OutputFolder(f"{folder.name} is a file; activations go into a folder")
        if folder.is_dir() and any(folder.iterdir()):
            if not (folder / MANIFEST).is_file():
                raise OutputFolder(f"{folder.name} holds something else; choose an empty folder for activations")
            try:
                manifest = read_manifest(folder)
            except DamagedStore as error:
                raise OutputFolder(f"{error}; choose an empty folder") from None
            _same_model(manifest["model"], model)
            for key, value in settings.items():
                if manifest["settings"].get(key) != value:
                    raise OutputFolder(
                        f"{folder.name} holds activations with {key} {manifest['settings'].get(key)!r}, not {value!r}; choose "
                        "another folder"
                    )
            if manifest["shard_items"] == shard_items:
                return cls(folder, manifest)
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(
            folder,
            {
                "schema": SCHEMA, "model": model, "settings": settings, "shard_items": shard_items, "shards": {},
                "finished": False, "provenance": {}, "rows": "",
            },
        )  # fmt: skip
        store._write_manifest()
        return store

    def _write_manifest(self) -> None:
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False)
        _replace(self.folder / MANIFEST, lambda p: p.write_text(text, encoding="utf-8"))

    def write_rows(self, rows: pd.DataFrame, provenance: dict[str, Any]) -> None:
        """Write the row table and the provenance."""
        path = self.folder / ROWS
        if self.manifest["rows"] and path.is_file() and _checksum(path) == self.manifest["rows"]:
            return
        _replace(path, lambda p: rows.to_parquet(p))
        self.manifest |= {"provenance": provenance, "rows": _checksum(path)}
        self._write_manifest()

    def reopen(self) -> None:
        """Begin anew in a folder of the same content: until `finish`, loading it refuses."""
        self.manifest |= {"finished": False, "rows": "", "shards": {}}
        self._write_manifest()

    def has(self, number: int) -> bool:
        """Whether a shard is there, entered and undamaged."""
        name = f"{number:05d}.safetensors"
        digest = self.manifest["shards"].get(name)
        return digest is not None and (self.folder / name).is_file() and _checksum(self.folder / name) == digest

    def write(self, number: int, tensors: dict[str, Tensor]) -> None:
        """Write a shard and enter it into the manifest."""
        path = self.folder / f"{number:05d}.safetensors"
        _replace(path, lambda p: save_file(tensors, p))
        self.manifest["shards"][path.name] = _checksum(path)
        self._write_manifest()

    def finish(self) -> None:
        """Mark the folder complete."""
        if not self.manifest["finished"]:
            self.manifest["finished"] = True
            self._write_manifest()
