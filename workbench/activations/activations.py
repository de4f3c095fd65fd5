"""Activations with named axes, a table of their rows and their provenance; in memory, or read from a store as needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..core.errors import BadInput, DamagedStore, MissingColumn, ShapeMismatch, UnknownLayer
from ..core.provenance import content_hash
from ..core.types import Bool, Float, Int, Tensor
from .display import ShownActivations
from .manifest import model_of, same_model, unfinished
from .saving import save_activations
from .sources import InMemory, OnDisk, Source
from .store import Store

if TYPE_CHECKING:
    from ..prompts import PromptSet


class Activations(ShownActivations):
    """Captured activations. Activations in a store are read from disk when they are used.

    Args:
        values: `item x variant x layer x d_model`; variant 0 is negative, 1 is positive. Or a source.
        layers: The block of each entry of the layer axis.
        site: The site that was read.
        position: The token position that was read, one of `POSITIONS`.
        rows: One row per item, as `PromptSet.to_frame` gives it.
        provenance: Model, prompt hash, versions.
        mask: `item x variant x position`, true for tokens, where there is a position axis (before d_model).
        logp: `item x 2`, natural log-probabilities of the two endings right after the stem, where they were captured.

    Raises:
        ShapeMismatch: Values, layers and rows have different lengths.
    """

    def __init__(
        self,
        *,
        values: Tensor | Source,
        layers: Sequence[int],
        site: str,
        position: str,
        rows: pd.DataFrame,
        provenance: Mapping[str, Any] | None = None,
        mask: Tensor | None = None,
        logp: Tensor | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.site, self.position, self.rows = site, position, rows
        self.provenance: Mapping[str, Any] = dict(provenance or {})
        if isinstance(values, Tensor):
            if values.ndim < 4 or values.shape[1] != 2:
                raise ShapeMismatch(f"activations are item x variant x layer x d_model, got {tuple(values.shape)}")
            if values.shape[2] != len(self.layers):
                raise ShapeMismatch(f"values {tuple(values.shape)} and {len(self.layers)} layers do not belong together")
            parts = {f"layer.{layer}": values[:, :, k] for k, layer in enumerate(self.layers)}
            values = InMemory(parts=parts | {k: t for k, t in (("mask", mask), ("logp.answers", logp)) if t is not None})
        self.source = values
        if len(rows) != self.source.shape[0]:
            raise ShapeMismatch(f"values of {self.source.shape[0]} items and {len(rows)} rows do not belong together")

    def __len__(self) -> int:
        return self.source.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """`item, variant, layer, …, d_model`; known without reading the values."""
        items, variants, *rest = self.source.shape
        return items, variants, len(self.layers), *rest

    @property
    def values(self) -> Float[Tensor, "item variant layer *rest"]:
        """All layers, in float32. This reads everything; `layer` reads one block.

        Returns:
            Variant 0 is negative, 1 positive. The last axes are d_model, position and d_model (position="all"), or head and
            d_head (site "z").
        """
        return torch.stack([self.layer(layer) for layer in self.layers], dim=2)

    def layer(self, layer: int) -> Float[Tensor, "item variant *rest"]:
        """Return the activations of one block, in float32.

        Args:
            layer: The block, counted from 0.

        Returns:
            `item x variant x d_model`; variant 0 is negative, 1 positive. At position="all" the position axis comes before
            d_model, and padding is 0.

        Raises:
            UnknownLayer: This block was not captured.
            DamagedStore: A file of the store has changed since it was written.
        """
        if layer not in self.layers:
            shown = ", ".join(map(str, self.layers))
            raise UnknownLayer(f"layer {layer} was not captured; there {'is' if len(self.layers) == 1 else 'are'}: {shown}")
        return self.source.part(f"layer.{layer}").float()

    @property
    def mask(self) -> Bool[Tensor, "item variant position"] | None:
        """The positions that hold tokens.

        Returns:
            True for tokens and false for padding; `None` without a position axis.
        """
        return self.source.part("mask") if "mask" in self.source.names else None

    def sinks(self, layer: int) -> Bool[Tensor, "item variant position"] | Int[Tensor, "item variant"] | None:
        """Return the attention sinks of one block.

        Args:
            layer: The block, counted from 0.

        Returns:
            At position "all", true for tokens that are sinks there (averages should leave them out). At "mean", the number of sinks
            that each mean left out beside the first special token. `None` where single tokens were read, or the store is older.
        """
        return self.source.part(f"sinks.{layer}") if f"sinks.{layer}" in self.source.names else None

    @property
    def logp(self) -> Float[Tensor, "item token"] | None:
        """Log-probabilities right after the stem, where `capture(logits=…)` read them.

        Returns:
            Natural log-probabilities: of the negative and the positive ending, or of the token ids that were named, in their
            order. `None` where none were read.

        Raises:
            BadInput: The store holds several sets of tokens for these rows.
        """
        names = sorted(n for n in self.source.names if n.startswith("logp."))
        if len(names) > 1 and "logp.answers" not in names:
            raise BadInput("several sets of tokens were asked for here; capture with the logits= that you want")
        return self.source.part("logp.answers" if "logp.answers" in names else names[0]) if names else None

    @property
    def answered(self) -> bool:
        """Whether the log-probabilities are those of the two endings."""
        return "logp.answers" in self.source.names

    @property
    def labels(self) -> np.ndarray:
        """The labels of the items.

        Returns:
            Which variant is true, 0 (negative) or 1 (positive), `item`.

        Raises:
            MissingColumn: The row table has no labels.
        """
        if "label" not in self.rows:
            raise MissingColumn(f"no column 'label'. There are: {', '.join(map(str, self.rows.columns))}")
        return self.rows["label"].to_numpy()

    def _with(self, **changes: Any) -> Activations:
        mine = {k: getattr(self, k) for k in ("layers", "site", "position", "rows", "provenance")}
        return Activations(**{"values": self.source, **mine, **changes})

    def subset(self, items: Iterable[int] | np.ndarray) -> Activations:
        """Return some of the items. From a store, nothing is read yet.

        Args:
            items: Indices, negative ones counted from the end; or a boolean array with one entry per item.

        Returns:
            The chosen items, in the order given.

        Raises:
            BadInput: An index lies outside, no item is chosen, or the boolean array has another length.
        """
        index = np.asarray(items if isinstance(items, np.ndarray) else list(items))
        if index.dtype == bool and len(index) != len(self):
            raise BadInput(f"a mask of {len(index)} entries for {len(self)} items")
        index = index.nonzero()[0] if index.dtype == bool else index
        if len(index) == 0:
            raise BadInput("a subset without items")
        if index.min() < -len(self) or index.max() >= len(self):
            raise BadInput(f"item {index[np.abs(index).argmax()]} of {len(self)} items (0-{len(self) - 1})")
        index = index % len(self)
        return self._with(
            values=self.source.take(index),
            rows=self.rows.iloc[index].reset_index(drop=True),
            provenance={**self.provenance, "prompts": content_hash(self.provenance.get("prompts"), index.tolist())},
        )

    def where(self, *, layers: Sequence[int] | None = None, **columns: Any) -> Activations:
        """Return some layers, and the items whose row table has these values. From a store, nothing is read yet.

        Args:
            layers: Blocks to keep, in the order wanted; `None` for all.
            columns: The value that each named column of the row table must have, or a list of values.

        Returns:
            The chosen layers and items.

        Example:
            >>> import workbench as wb
            >>> acts = wb.capture(wb.load_model("bundled"), wb.prompts.udhr(n=8), progress=False)
            >>> acts.where(layers=[2, 3], label=1).shape[2]
            2

        Raises:
            UnknownLayer: A layer was not captured.
            MissingColumn: The row table has no such column.
            BadInput: No item has these values.
        """
        out = self
        if layers is not None:
            for layer in layers:
                if layer not in self.layers:
                    raise UnknownLayer(f"layer {layer} was not captured; there are: {', '.join(map(str, self.layers))}")
            out = out._with(layers=tuple(layers))
        keep = np.ones(len(self), dtype=bool)
        for name, value in columns.items():
            if name not in self.rows:
                raise MissingColumn(f"no column {name!r}. There are: {', '.join(self.rows.columns)}")
            keep &= self.rows[name].isin(value if isinstance(value, list | tuple | set | np.ndarray) else [value]).to_numpy()
        if not keep.any():
            raise BadInput(f"no item has {', '.join(f'{k}={v!r}' for k, v in columns.items())}")
        return out if keep.all() else out.subset(keep)

    def with_column(self, name: str, values: Any) -> Activations:
        """Return the same activations with a column added to the row table; one of the same name is replaced."""
        return self._with(rows=self.rows.assign(**{name: np.asarray(values)}))

    def with_rows(self, rows: pd.DataFrame) -> Activations:
        """Return the same activations with another row table, which has one row per item in the same order."""
        return self._with(rows=rows)

    def check_same_model(self, other: Activations) -> None:
        """Raise unless both were read from the same weights in the same dtype and processing mode.

        Raises:
            WrongModel: The models differ.
        """
        same_model(model_of(self.provenance), model_of(other.provenance))

    def save(self, folder: str | Path) -> None:
        """Write the activations, their rows and their provenance to a folder.

        Args:
            folder: A new or empty folder, or one that `save` wrote for the same model and settings; its rows are replaced.

        Raises:
            OutputFolder: The folder holds something else.
            DiskFull: The activations do not fit on the disk.
        """
        save_activations(self, Path(folder))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        prompts: PromptSet | str | None = None,
        layers: Sequence[int] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> Activations:
        """Open a folder of activations. Values are read from disk when they are used.

        Args:
            folder: A folder that `save` or `capture(store=…)` wrote.
            prompts: One of the prompt sets in the folder, or its hash; `None` for the set of the latest capture.
            layers: Blocks; `None` for all that were captured with this prompt set.
            model: `info(model).key()` of the model that the activations must come from; `None` accepts any.

        Returns:
            The activations of the prompt set.

        Raises:
            DamagedStore: This is no such folder, it is damaged, or its capture did not finish.
            WrongModel: It comes from another model, or lacks the prompt set.
            UnknownLayer: It lacks a layer, or the list is empty.
        """
        store = Store.existing(Path(folder))
        if model is not None:
            same_model(store.manifest["model"], model)
        name, request = store.request(prompts if prompts is None or isinstance(prompts, str) else prompts.hash)
        rows, keys = store.rows(name)
        if layers is not None and not list(layers):
            raise UnknownLayer("no layer was asked for")
        there = [int(p.partition(".")[2]) for p in request["parts"] if p.startswith("layer.")]
        for layer in layers if layers is not None else ():
            if layer not in there:
                raise UnknownLayer(f"layer {layer} is not in {store.folder.name}; there are: {', '.join(map(str, there))}")
        chosen = there if layers is None else list(layers)
        parts = [*(f"layer.{layer}" for layer in chosen), *(p for p in request["parts"] if not p.startswith("layer."))]
        return from_store(store, rows, keys, parts, request["provenance"])


def from_store(store: Store, rows: pd.DataFrame, keys: Sequence[str], parts: Sequence[str], provenance: Mapping[str, Any]) -> Activations:
    """Return the activations of some items of a store.

    Args:
        store: The open store.
        rows: The row table of the items.
        keys: The key of each item, in the order of the rows.
        parts: The parts to offer ("layer.3", "mask", "logp.answers").
        provenance: Model, prompt hash, versions.

    Returns:
        Activations that read from the store when they are used.

    Raises:
        DamagedStore: A shard is missing or damaged, or the capture did not finish.
    """
    if bad := store.damaged(keys, parts, quick=True):
        raise store.broken(bad[0])
    if lacking := store.missing(keys, parts):
        count = sum(len(items) for items, _ in lacking)
        lack = unfinished(store.manifest, f" ({count:,} of {len(keys):,} items lack something)")
        raise DamagedStore(f"{store.folder.name}: {lack}")
    settings = store.manifest["settings"]
    layers = [int(p.partition(".")[2]) for p in parts if p.startswith("layer.")]
    return Activations(
        values=OnDisk(store, keys, parts),
        layers=layers,
        site=settings["site"],
        position=settings["position"],
        rows=rows,
        provenance=provenance,
    )
