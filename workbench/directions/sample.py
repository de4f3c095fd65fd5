"""Rows that know where they were read: what two of them may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..activations import Activations
from ..core.errors import BadInput, ShapeMismatch, WrongModel
from ..core.types import Float, Tensor

SAME = ("site", "layer", "position")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows of one kind, read at one place.

    Attributes:
        rows: `row x d_model`.
        items: An id per row: equal ids were read from one item (the same statement, the same request).
        clusters: What is independent of what (identity, pair of requests).
        place: Model, site, layer, position.
    """

    rows: Float[Tensor, "row d_model"]
    items: Sequence[str]
    clusters: Sequence[str]
    place: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.items) == len(self.clusters):
            raise ShapeMismatch(f"{len(self.rows)} rows, {len(self.items)} items and {len(self.clusters)} clusters do not belong together")


def place_of(acts: Activations, layer: int) -> dict[str, Any]:
    """Return the provenance of a direction read from these activations at this layer.

    Args:
        acts: The activations.
        layer: The block, counted from 0.

    Returns:
        Their provenance, with `site`, `layer` and `position`.
    """
    return {**acts.provenance, "site": acts.site, "layer": layer, "position": acts.position}


def sample(
    acts: Activations,
    layer: int,
    *,
    variant: int = 0,
    where: Mapping[str, Any] | None = None,
    items: str | Sequence[str] = "stem",
    clusters: str | Sequence[str] = "identity",
) -> Sample:
    """Return the rows of one layer and variant, with their ids and their place.

    Args:
        acts: Activations without a position axis.
        layer: The block, counted from 0.
        variant: 0 (negative) or 1 (positive); at "stem_last" and "instruction_last" both are the same.
        where: Only items with these values in the row table, for example `{"input_harm": 1}`.
        items: Column of the row table with the ids of items (several columns: joined), for example "statement" where the same
            statements stand under several claims.
        clusters: Column of the row table with what is independent of what (several columns: joined).

    Returns:
        The rows, `row x d_model`, with their items, clusters and place.

    Raises:
        ShapeMismatch: The activations have a position axis.
    """
    chosen = acts.where(**where) if where else acts
    x = chosen.layer(layer)
    if x.ndim != 3:
        raise ShapeMismatch(f"one row per item is needed, got {tuple(x.shape)}: capture with position='last' or 'stem_last'")

    def column(names: str | Sequence[str]) -> list[str]:
        return ["|".join(map(str, row)) for row in chosen.rows[[names] if isinstance(names, str) else list(names)].to_numpy()]

    return Sample(rows=x[:, variant], items=column(items), clusters=column(clusters), place=place_of(acts, layer))


def unwrap(cells: Mapping[Any, Any], items: Any, clusters: Any) -> tuple[dict[Any, Any], Any, Any]:
    """Return rows, items and clusters by cell of samples, after checking that they come from one place; arrays pass as they are.

    Raises:
        WrongModel: Two of them come from different models, processing modes, sites, layers or positions.
        BadInput: Some are samples and some are not, or ids were given twice.
    """
    samples = {k: v for k, v in cells.items() if isinstance(v, Sample)}
    if not samples:
        return dict(cells), items, clusters
    if len(samples) < len(cells):
        raise BadInput("either all rows are samples or none: an array does not say where it was read")
    if items is not None or clusters is not None:
        raise BadInput("samples carry their items and clusters: leave items= and clusters= out")
    (name, first), *others = samples.items()
    for other, second in others:
        for key in SAME:
            if first.place.get(key) != second.place.get(key):
                raise WrongModel(f"{name} was read at {key} {first.place.get(key)!r} and {other} at {key} {second.place.get(key)!r}")
        mine, theirs = (dict(s.place.get("model") or {}) for s in (first, second))
        for key in ("digest", "processing"):
            if mine.get(key) != theirs.get(key):
                raise WrongModel(f"{name} and {other} were read from different models or processing modes ({key})")
    ids = {k: np.asarray(v.items) for k, v in samples.items()}
    people = {k: np.asarray(v.clusters) for k, v in samples.items()}
    return {k: torch.as_tensor(v.rows) for k, v in samples.items()}, ids, people
