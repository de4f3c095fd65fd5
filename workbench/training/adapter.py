"""Adapters as values: a low-rank map in the residual stream, or low-rank or full changes of weight matrices.

    h' = h + (alpha / rank) B A h        residual adapter, at a site of a block, on every token but attention sinks
    W' = W + (alpha / rank) B A          LoRA on a weight matrix (Hu et al. 2021, arXiv 2106.09685)
    W' = W + D                           full change of a weight matrix

A residual adapter acts through `models.hooks.edited`, the others through `models.weights.reweighted`: so captures, stores and
steering know that they act, and the model is afterwards as before, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..core.errors import BadInput, NoEffect, NotFinite, ShapeMismatch
from ..core.provenance import content_hash
from ..core.show import Shown, axes, origin
from ..models import Edit, Edits, Scope, edited, info
from ..models.fused import fused
from ..models.origin import check_origin
from ..models.weights import Change, parameters, reweighted

KINDS = {
    "residual": "a low-rank map of the residual stream",
    "lora": "low-rank changes of weight matrices",
    "full": "full changes of weight matrices",
}
TOKENS = "body"  # the tokens that a residual adapter changes


@dataclass(frozen=True, kw_only=True, repr=False)
class Part:
    """One change.

    Attributes:
        down: A, `rank x width_in`; `None` for a full change.
        up: B, `width_out x rank`; of a full change D, `width_out x width_in`.
    """

    down: Tensor | None
    up: Tensor

    def matrix(self, factor: float = 1.0) -> Tensor:
        """Return the product, times a factor, `width_out x width_in`, in float32 on the CPU."""
        whole = self.up.float() if self.down is None else self.up.float() @ self.down.float()
        return factor * whole


@dataclass(frozen=True, kw_only=True, repr=False)
class Adapter(Shown):
    """A change of a model that was trained, as a value. It acts inside `adapted`.

    Attributes:
        kind: One of `KINDS`.
        parts: By place, the change: "resid_post[3]" for a site of a block, or a Hugging Face parameter's name.
        rank: Of every low-rank part; 0 for full changes.
        alpha: The factor is alpha / rank; 1 for full changes.
        scope: Which tokens a residual adapter changes.
        provenance: Base model, loss, whether it saw labels, prompts, seed, versions.
        history: What the training measured, a row each time; empty for one that was made elsewhere.
    """

    kind: str
    parts: Mapping[str, Part]
    rank: int = 0
    alpha: float = 1.0
    scope: Scope = field(default_factory=lambda: Scope(TOKENS))
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"an adapter's kind is one of {', '.join(KINDS)}, got {self.kind!r}")
        if not self.parts:
            raise BadInput("an adapter without a part changes nothing")
        for place, part in self.parts.items():
            low = part.down is not None
            if low == (self.kind == "full") or part.up.ndim != 2 or (low and part.down.shape[0] != part.up.shape[1]):  # pyright: ignore[reportOptionalMemberAccess]
                shapes = [tuple(x.shape) for x in (part.down, part.up) if x is not None]
                raise ShapeMismatch(f"{place}: matrices of shape {shapes} are no change of the kind {self.kind!r}")
            if not all(bool(x.isfinite().all()) for x in (part.down, part.up) if x is not None):
                raise NotFinite(f"the adapter's part {place} holds NaN or infinity")

    @property
    def factor(self) -> float:
        """What the product of the two matrices is multiplied with."""
        return self.alpha / self.rank if self.rank else self.alpha

    @property
    def key(self) -> str:
        """A hash of everything that decides what the adapter does."""
        raw = {k: [None if x is None else x.float().numpy().tobytes().hex() for x in (p.down, p.up)] for k, p in sorted(self.parts.items())}
        return content_hash(self.kind, self.factor, str(self.scope), raw)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(x.numel() for p in self.parts.values() for x in (p.down, p.up) if x is not None)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Sites and blocks of a residual adapter, in order."""
        return sorted((place_of(p) for p in self.parts), key=lambda p: (p[1], p[0])) if self.kind == "residual" else []

    @property
    def sees(self) -> str:
        """What the training saw of the labels, in words."""
        return str(self.provenance.get("sees", "unknown"))

    def scaled(self, factor: float) -> Adapter:
        """Return the adapter times a factor: 0 for none, 1 for itself."""
        return replace(self, alpha=self.alpha * factor)

    def edits(self) -> Edits:
        """Return the edits of a residual adapter.

        Raises:
            BadInput: It changes weights.
        """
        if self.kind != "residual":
            raise BadInput(f"an adapter of the kind {self.kind!r} changes weights: use `adapted`")
        made = {k: v for k, v in (("model", self.provenance.get("model")), ("d_model", self.provenance.get("d_model"))) if v}
        out = []
        for site, layer in self.places:
            part = self.parts[f"{site}[{layer}]"]
            out.append(
                Edit(
                    site=site,
                    layer=layer,
                    function=_Map(part, self.factor),
                    scope=self.scope,
                    origin=made or None,
                    label=f"adapter of rank {self.rank}",
                    key=content_hash(self.key, site, layer),
                )
            )
        return Edits(out)

    def changes(self, model: Any) -> list[Change]:
        """Return the changes of weights, as this model names its parameters.

        Args:
            model: What `load_model` returns.

        Raises:
            BadInput: It is a residual adapter. UnknownName: a matrix does not exist. ShapeMismatch: one has another shape.
        """
        if self.kind == "residual":
            raise BadInput("a residual adapter changes the stream, not weights: it has nothing to merge. Use `adapted`, or `.edits()`")
        return [c for name, part in self.parts.items() for c in fused(model, name, part.matrix(self.factor), label="adapter")]

    def save(self, folder: str | Path) -> Path:
        """Write the adapter as a folder: `adapter_model.safetensors`, `adapter_config.json` (peft's, for LoRA), `workbench.json`."""
        from .files import save

        return save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Adapter:
        """Read an adapter that `save` wrote, or a LoRA adapter that peft wrote.

        Raises:
            BadInput: There is none. DamagedStore: it cannot be read, or is not what its record says.
        """
        from .files import load

        return load(Path(folder))

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        where = ", ".join(list(self.parts)[:3]) + (f" and {len(self.parts) - 3} more" if len(self.parts) > 3 else "")
        made = self.provenance
        line = f"{self.kind} adapter{f' of rank {self.rank}' if self.rank else ''} at {where}, loss {made.get('loss', 'unknown')}"
        return line, {
            "what": KINDS[self.kind],
            "at": where,
            "shape": axes(rank=self.rank) if self.rank else "full",
            "parameters": f"{self.size:,}",
            "loss": made.get("loss", ""),
            "labels": self.sees,
            "tokens": str(self.scope) if self.kind == "residual" else "",
            **origin({"model": made.get("model")}),
        }


class _Map:
    """h + factor B A h, computed in float32."""

    def __init__(self, part: Part, factor: float) -> None:
        self.part, self.factor = part, factor
        self._moved: dict[Any, tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        if x.device not in self._moved:
            assert self.part.down is not None
            self._moved[x.device] = self.part.down.float().to(x.device), self.part.up.float().to(x.device) * self.factor
        down, up = self._moved[x.device]
        return x + ((x.float() @ down.T) @ up.T).to(x.dtype)


@dataclass(frozen=True)
class _Made:
    """What `check_origin` reads of a change of weights."""

    label: str
    origin: Mapping[str, Any]
    site: str = "weights"
    layer: int | str = "all"


@contextmanager
def adapted(model: Any, adapter: Adapter | Sequence[Adapter], *, canary: bool = True, transfer: bool = False) -> Iterator[None]:
    """Let adapters act on a model inside a `with` block. Afterwards, also after an exception, the model is as before, bit for bit.

    Blocks nest, also with `edited`. A residual adapter acts on the stream after edits of outer blocks at its place.

    Args:
        model: What `load_model` returns.
        adapter: One or several. Two of several may not change one parameter; nest two blocks for that.
        canary: Check that the adapter changes what the model says on a short row.
        transfer: Accept an adapter of another model of the same shape.

    Raises:
        WrongModel: The adapter was trained on another model, before anything changes.
        ShapeMismatch, UnknownName: It does not fit, before anything changes.
        BadInput: Two adapters change one parameter.
        NoEffect: It does not change the output at all.
    """
    several = [adapter] if isinstance(adapter, Adapter) else list(adapter)
    for one in several:
        check_fits(model, one, transfer=transfer)
    edits = Edits([e if not transfer else replace(e, origin=None) for a in several if a.kind == "residual" for e in a.edits()])
    changes = [c for a in several if a.kind != "residual" for c in a.changes(model)]
    taken = [c.parameter for c in changes]
    if twice := sorted({name for name in taken if taken.count(name) > 1}):
        raise BadInput(f"two adapters change {twice[0]}: nest two `adapted` blocks, or train them as one")
    before = _says(model) if canary else None
    with ExitStack() as stack:
        if changes:
            stack.enter_context(reweighted(model, changes))
        if before is not None:
            with edited(model, edits) if edits else ExitStack():
                now = _says(model)
            if torch.equal(before, now):
                raise NoEffect(
                    "the adapter does not change the model's output at all: its matrices are zero, or the model does not compute with "
                    "what it changes. Train it longer, or pass canary=False to let it act all the same"
                )
        if edits:
            stack.enter_context(edited(model, edits))
        yield


def check_fits(model: Any, adapter: Adapter, *, transfer: bool = False) -> None:
    """Raise unless an adapter was made for this model and fits it.

    Args:
        model: What `load_model` returns.
        adapter: The adapter.
        transfer: Accept another model's, where the shapes fit.

    Raises:
        WrongModel, ShapeMismatch, UnknownName: It does not.
    """
    made = {} if transfer else {k: v for k, v in (("model", adapter.provenance.get("model")),) if v}
    check_origin(model, [_Made("the adapter", made)])
    width = int(model.cfg.d_model)
    if adapter.kind != "residual":
        adapter.changes(model)
        return
    for place, part in adapter.parts.items():
        assert part.down is not None
        if part.down.shape[1] != width or part.up.shape[0] != width:
            raise ShapeMismatch(f"the adapter at {place} maps {part.down.shape[1]} to {part.up.shape[0]} dimensions; d_model is {width}")


def place_of(place: str) -> tuple[str, int]:
    """Return the site and the block of "resid_post[3]".

    Raises:
        BadInput: The text names none.
    """
    site, _, rest = place.partition("[")
    if not rest.endswith("]") or not rest[:-1].isdigit():
        raise BadInput(f"a place is written as in 'resid_post[3]', got {place!r}")
    return site, int(rest[:-1])


@torch.no_grad()
def _says(model: Any) -> Tensor:
    """What a model says at every place of a short row; several tokens, for an adapter leaves the first one alone."""
    from ..models.forward import run
    from ..models.tokens import encode, pad

    row = encode(model, ["Everyone should have the same rights. Answer:"])
    return run(model, pad(model, row)).float().clone()


__all__ = ["KINDS", "Adapter", "Part", "adapted", "check_fits", "info", "parameters", "place_of"]
