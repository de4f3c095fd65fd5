"""Activations: named axes, the table of their rows, and where they come from; in memory or read from a store as needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..core.errors import BadInput, DamagedStore, MissingColumn, ShapeMismatch, UnknownLayer
from ..core.provenance import content_hash
from ..core.show import Shown, origin, short, some
from ..core.types import Float
from .files import digest, raw, shard_name
from .manifest import same_model
from .sources import InMemory, OnDisk, Source
from .store import Store

if TYPE_CHECKING:
    from ..prompts import PromptSet

SHARD_ITEMS = 512


class Activations(Shown):
    """Captured activations. What is read from a store is read when it is asked for.

    Args:
        values: `item x variant x layer x d_model`; variant 0 is negative, 1 is positive. Or a source.
        layers: The block of each entry of the layer axis.
        site: Where they were read.
        position: At which token.
        rows: One row per item, as `PromptSet.to_frame` gives it.
        provenance: Model, prompt hash, versions.
        mask: `item x variant x position`, where there is a position axis (before d_model).
        logp: `item x 2`, log-probabilities of the two endings right after the stem, where they were asked for.

    Raises:
        ShapeMismatch: They do not belong together.
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
        """`item, variant, layer, …, d_model`; known without reading."""
        items, variants, *rest = self.source.shape
        return items, variants, len(self.layers), *rest

    @property
    def values(self) -> Float[Tensor, "item variant layer *rest"]:
        """Everything, in float32: reads all of it. `layer` reads one block."""
        return torch.stack([self.layer(layer) for layer in self.layers], dim=2)

    def layer(self, layer: int) -> Float[Tensor, "item variant *rest"]:
        """Return one block's activations, `item x variant x d_model`, in float32.

        Raises:
            UnknownLayer: This block was not captured.
            DamagedStore: The store has changed on disk since.
        """
        if layer not in self.layers:
            shown = ", ".join(map(str, self.layers))
            raise UnknownLayer(f"layer {layer} was not captured; there {'is' if len(self.layers) == 1 else 'are'}: {shown}")
        return self.source.part(f"layer.{layer}").float()

    @property
    def mask(self) -> Tensor | None:
        """Which positions hold tokens, `item x variant x position`, where there is a position axis."""
        return self.source.part("mask") if "mask" in self.source.names else None

    @property
    def logp(self) -> Float[Tensor, "item token"] | None:
        """Log-probabilities right after the stem, where they were asked for (see `capture`)."""
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
        """Which variant is true, per item."""
        return self.rows["label"].to_numpy()

    def _with(self, **changes: Any) -> Activations:
        mine = {k: getattr(self, k) for k in ("layers", "site", "position", "rows", "provenance")}
        return Activations(**{"values": self.source, **mine, **changes})

    def subset(self, items: Iterable[int] | np.ndarray) -> Activations:
        """Return the items at these indices (or where a boolean mask is true); from a store, nothing is read yet."""
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
        """Return some layers, and the items whose row table has these values (one, or a list); reads nothing yet.

        Example:
            >>> import workbench as wb
            >>> acts = wb.capture(wb.load_model("bundled"), wb.prompts.udhr(n=8), progress=False)
            >>> acts.where(layers=[2, 3], label=1).shape[2]
            2

        Raises:
            UnknownLayer, MissingColumn, BadInput: No such layer or column, or no item fits.
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
        """Return the same activations with one more column (or another one of this name) in the row table."""
        return self._with(rows=self.rows.assign(**{name: np.asarray(values)}))

    def with_rows(self, rows: pd.DataFrame) -> Activations:
        """Return the same activations with another table of their rows, one per item in the same order."""
        return self._with(rows=rows)

    def check_same_model(self, other: Activations) -> None:
        """Raise unless both were read from the same weights in the same mode.

        Raises:
            WrongModel: They were not.
        """
        same_model(dict(self.provenance.get("model", {})), dict(other.provenance.get("model", {})))

    def save(self, folder: str | Path) -> None:
        """Write everything to a folder of its own.

        Raises:
            OutputFolder: The folder holds something else.
            DiskFull: It does not fit.
        """
        prompts = str(self.provenance.get("prompts", "")) or content_hash(self.rows.to_dict("list"))
        settings = {"origin": "saved", "prompts": prompts, "site": self.site, "position": self.position, "layers": list(self.layers)}
        store = Store.open(Path(folder), model=dict(self.provenance.get("model", {})), settings=settings)
        old = list(store.manifest["shards"])
        parts = [n for n in self.source.names if not n.startswith("layer.") or int(n.partition(".")[2]) in self.layers]
        keys: list[str] = []
        new = []
        for start in range(0, len(self), SHARD_ITEMS):
            some = self.source.take(np.arange(start, min(start + SHARD_ITEMS, len(self))))
            tensors = {p: some.part(p) for p in parts}
            # by content: what was saved here before stays whole until the new rows are entered
            mine = [content_hash([digest(raw(t[i])) for t in tensors.values()]) for i in range(some.shape[0])]
            new.append(shard_name(mine, parts))
            store.write(new[-1], mine, tensors)
            keys += mine
        store.ask(prompts, self.rows, keys, parts=parts, provenance=self.provenance)
        store.strike([name for name in old if name not in new], remove=True)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        prompts: PromptSet | str | None = None,
        layers: Sequence[int] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> Activations:
        """Open a folder; values are read when they are asked for.

        Args:
            folder: What `save` or `capture(store=…)` wrote.
            prompts: Which of the prompt sets in the store, or its hash; `None` for the one asked for last.
            layers: Which of its layers; `None` for all.
            model: `info(model).key()` of the model that it must come from; `None` accepts any.

        Raises:
            DamagedStore: Not such a folder, unfinished, or damaged.
            WrongModel: It comes from another model, or holds other prompt sets.
            UnknownLayer: A layer is not in it.
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

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        last = ["head", "d_head"] if self.site == "z" else ["d_model"]
        names = ["item", "variant", "layer", *(["position"] if "mask" in self.source.names else []), *last]
        shown = " x ".join(names) if len(names) == len(self.shape) else "item x variant x layer x …"
        model = dict(self.provenance.get("model", {})).get("name", "?")
        where = f" in {self.source.store.folder.name!r}" if isinstance(self.source, OnDisk) else ""
        line = f"{shown} = {self.shape}, {self.site} at {self.position!r}, layers {some(self.layers, 40)}, of {short(model, 40)!r}{where}"
        size = f"{float(np.prod([float(n) for n in self.shape])) * 4 / 1e6:,.1f} MB in float32"
        return line, {
            "shape": f"{shown} = {self.shape}",
            "layers": some(self.layers, 60),
            "variants": "0 negative, 1 positive",
            "size": size
            + (f", read from {self.source.store.folder.name!r} as needed" if isinstance(self.source, OnDisk) else ", in memory"),
            **origin(
                {"site": self.site, "position": self.position, **{k: v for k, v in self.provenance.items() if k in ("model", "prompts")}}
            ),
            "row table": some(self.rows.columns, 20),
            "answers": "captured" if self.answered else "",
            "not finite": short(self.provenance.get("not_finite", ""), 200),
            "read under": some(map(str, self.provenance.get("edits", ())))
            if isinstance(self.provenance.get("edits"), list | tuple)
            else "",
        }


def from_store(store: Store, rows: pd.DataFrame, keys: Sequence[str], parts: Sequence[str], provenance: Mapping[str, Any]) -> Activations:
    """Return the activations of some items of a store.

    Raises:
        DamagedStore: A shard is missing or damaged, or the capture did not finish.
    """
    bad = store.damaged()
    if bad:
        raise DamagedStore(f"{store.folder.name}: shard {bad[0]} is missing or damaged; run the capture again to write it anew")
    lacking = store.missing(keys, parts)
    if lacking:
        count = sum(len(items) for items, _ in lacking)
        raise DamagedStore(
            f"{store.folder.name}: the capture did not finish ({count:,} of {len(keys):,} items lack something); run it again with "
            "the same store to resume"
        )
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
