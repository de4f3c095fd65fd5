"""Edits, gates and readings as values. They act on a model only inside `edited`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from torch import Tensor

from ..core.errors import BadInput
from ..core.provenance import content_hash
from ..core.show import Shown, card, number, origin, short, some
from .scopes import Scope


@dataclass(frozen=True, kw_only=True, repr=False)
class Gate(Shown):
    """A condition on the prompt, decided once per row when the prompt is read, before the edits at its place.

    Attributes:
        site, layer: Where the stream is scored; at or before the place of the edits that the gate controls.
        score: Maps activations, `batch x position x d_model`, to scores, `batch x position`.
        threshold: In the unit of the scores. Rows whose pooled score is above it are edited (below it, with `above=False`).
        pool: "mean" of the scores over the prompt's tokens, or the score of its "last" token.
        key: A hash of the score function.
        origin: The model that it was made from (`model`, `d_model`); another model is refused.
    """

    site: str
    layer: int
    score: Callable[[Tensor], Tensor]
    threshold: float
    above: bool = True
    pool: str = "mean"
    key: str = ""
    origin: Mapping[str, Any] | None = None
    label: str = "gate"

    def __post_init__(self) -> None:
        if self.pool not in ("mean", "last"):
            raise BadInput(f"a gate pools by 'mean' or 'last', got {self.pool!r}")

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        when = f"{self.pool} score {'above' if self.above else 'below'} {number(self.threshold)}"
        return f"{self.label} at {self.site}[{self.layer}], {when}", {
            "at": f"{self.site} of block {self.layer}",
            "lets through": f"rows of {when}",
            **origin({"model": (self.origin or {}).get("model")}),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Edit(Shown):
    """A change of the activations at one place, as a value.

    Attributes:
        site: One of `SITES`.
        layer: Block, counted from 0.
        function: Maps the activations, `batch x position x …`, to new ones of the same shape. Gradients pass through.
        positions: Columns to change, one row of them per row of the batch (`batch x k`); `None` for all. They fit one
            forward pass of that batch, not generation.
        scope: A rule for choosing tokens. It is applied at each forward pass, so that it fits generation too; it excludes
            `positions`.
        gate: Chooses the rows of the batch on which the edit acts; `None` for all.
        origin: The model that the edit was made from (`model`, `d_model`); another model is refused.
        label: A name for errors and provenance.
        key: A hash of everything that decides what the function does (the vector, the coefficient). With a key, activations
            that are read under the edit may go into a store.
    """

    site: str
    layer: int
    function: Callable[[Tensor], Tensor]
    positions: Tensor | None = None
    scope: Scope | None = None
    gate: Gate | None = None
    origin: Mapping[str, Any] | None = None
    label: str = "edit"
    key: str | None = None

    def __post_init__(self) -> None:
        if self.positions is not None and self.scope is not None:
            raise BadInput(f"{self.label}: either columns (positions=) or a rule for choosing them (scope=), not both")
        if self.scope is not None and not self.scope.whole and self.site == "pattern":
            raise BadInput(f"{self.label}: an attention pattern has queries and keys; a scope of tokens says nothing of it")

    @property
    def place(self) -> str:
        """The label and the place, as errors name the edit."""
        return f"{self.label} at {self.site}[{self.layer}]"

    @property
    def tokens(self) -> str:
        """The tokens that the edit changes, in words."""
        return str(self.scope) if self.scope else "all" if self.positions is None else f"columns of {len(self.positions)} rows"

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return f"{self.place}, tokens: {self.tokens}{', gated' if self.gate else ''}", {
            "what": self.label,
            "at": f"{self.site} of block {self.layer}",
            "tokens": self.tokens,
            "only rows where": "" if self.gate is None else self.gate._shown()[0],
            **origin({"model": (self.origin or {}).get("model")}),
            "kept in stores": "" if self.key else "no: nothing says what the function does (key=)",
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Read(Shown):
    """A reading at one place. It fires after all edits there, so that it sees the edited stream.

    Attributes:
        site, layer: As for `Edit`.
        function: Receives the activations; its result is ignored. Clone what you keep, since a view keeps the whole tensor.
    """

    site: str
    layer: int
    function: Callable[[Tensor], object]
    label: str = "read"

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return f"{self.label} at {self.site}[{self.layer}]", {"at": f"{self.site} of block {self.layer}", "changes": "nothing"}


class Edits(Sequence[Edit]):
    """Several edits in the order in which they act; `|` puts others after them.

    Example:
        >>> import torch
        >>> flip = Edits([Edit(site="resid_post", layer=0, function=torch.neg, label="flip")])
        >>> [e.label for e in flip | flip]
        ['flip', 'flip']
    """

    def __init__(self, edits: Iterable[Any] = ()) -> None:
        self._edits = tuple(edits)
        for edit in self._edits:
            if not isinstance(edit, Edit):
                raise BadInput(f"edits are Edit values, got {type(edit).__name__}")

    def __len__(self) -> int:
        return len(self._edits)

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Edits: ...
    def __getitem__(self, index: int | slice) -> Edit | Edits:
        return Edits(self._edits[index]) if isinstance(index, slice) else self._edits[index]

    def __or__(self, other: Edits | Edit) -> Edits:
        return Edits((*self, *((other,) if isinstance(other, Edit) else other)))

    def __ror__(self, other: Edit) -> Edits:
        return Edits((other, *self))

    @property
    def key(self) -> str | None:
        """A hash of the keys of all edits; `None` where one has no key."""
        keys = [e.key for e in self]
        return None if None in keys else content_hash(keys)

    def __repr__(self) -> str:
        lines = (f"{e.place}{f', {e.scope}' if e.scope else ''}{', gated' if e.gate else ''}" for e in self)
        return short(some(lines, 4, " | ")) or "no edit"

    def _repr_html_(self) -> str:
        rows = {f"{k + 1}. {e.label}": f"{e.place}; tokens: {e.tokens}{'; gated' if e.gate else ''}" for k, e in enumerate(self[:40])}
        return card(f"{len(self)} edits, in the order in which they act", rows, notes=["… and more"] if len(self) > 40 else [])
