"""Streaming statistics: means and covariances of activations over sets too large to keep, in float64.

Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1983), about the running mean. The mean of a residual
stream is large; sums of raw squares would lose its variance to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.errors import BadInput, MissingColumn, ShapeMismatch, UnknownLayer, UnknownName, WrongModel, unknown
from ..core.provenance import provenance
from ..core.show import Shown, axes, origin, some
from ..core.types import Float
from ..models.hooks import active_edits
from ..models.known import info
from ..models.sinks import RULE, first_is_sink
from ..prompts import PromptSet
from .capture import ask
from .choose import choose
from .reading import read_items


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Statistics(Shown):
    """Statistics of activations, per group of rows and layer.

    Attributes:
        groups: Names of the groups.
        count: Number of rows in each group, `group`; at position="all" attention sinks are among them.
        mean: `group x layer x d_model`, float64.
        scatter: Sum over rows of (x - mean)(x - mean)', `group x layer x d_model x d_model`, float64; `None` where second
            moments were not kept.
        layers, site, position: The layers, site and token position that were read.
        provenance: Model, prompt hash, versions.
        sinks: Number of these rows that are attention sinks and enter no statistic, `group x layer`; `None` for none.
    """

    groups: tuple[str, ...]
    count: Tensor
    mean: Float[Tensor, "group layer d_model"]
    scatter: Float[Tensor, "group layer d_model d_model"] | None
    layers: tuple[int, ...]
    site: str
    position: str
    provenance: dict[str, Any]
    sinks: Float[Tensor, "group layer"] | None = None

    def __post_init__(self) -> None:
        if self.mean.shape[:2] != (len(self.groups), len(self.layers)) or self.count.shape != (len(self.groups),):
            raise ShapeMismatch(f"{len(self.groups)} groups, {len(self.layers)} layers and means of {tuple(self.mean.shape)}")

    @property
    def used(self) -> Float[Tensor, "group layer"]:
        """Number of rows that enter the statistics of each group and layer: all but the attention sinks.

        Returns:
            At least 0, float64.
        """
        every = self.count.double()[:, None].expand(-1, len(self.layers))
        return every if self.sinks is None else every - self.sinks

    def at(self, layer: int, group: str) -> tuple[int, int]:
        """Return the indices of a group and a layer.

        Raises:
            UnknownLayer: The layer was not read.
            UnknownName: There is no such group.
        """
        if layer not in self.layers:
            raise UnknownLayer(f"layer {layer} was not read; there are: {', '.join(map(str, self.layers))}")
        if group not in self.groups:
            raise unknown(UnknownName, "group", group, self.groups)
        return self.groups.index(group), self.layers.index(layer)

    def covariance(self, layer: int, group: str | None = None) -> Float[Tensor, "d_model d_model"]:
        """Return the covariance of a group, or the covariance pooled within all groups.

        Args:
            layer: The block, counted from 0.
            group: Name of a group; `None` pools all groups, each about its own mean.

        Returns:
            In squared activation units, float64; the divisor is the number of rows minus the number of groups.

        Raises:
            BadInput: Second moments were not kept, or no group has two rows.
        """
        if self.scatter is None:
            raise BadInput("second moments were not kept; call stream_statistics with second=True")
        names = self.groups if group is None else (group,)
        at = [self.at(layer, name) for name in names]
        free = sum(int(self.used[g, k]) for g, k in at) - len(names)
        if free < 1:
            raise BadInput("a covariance needs at least two rows of a group")
        return torch.stack([self.scatter[g, k] for g, k in at]).sum(0) / free

    def gram(self, layer: int, group: str) -> Float[Tensor, "d_model d_model"]:
        """Return the Gram matrix X'X of a group.

        Args:
            layer: The block, counted from 0.
            group: Name of a group.

        Returns:
            Sums over the group's rows of products about zero, in squared activation units, float64.

        Raises:
            BadInput: Second moments were not kept.
        """
        if self.scatter is None:
            raise BadInput("second moments were not kept; call stream_statistics with second=True")
        g, k = self.at(layer, group)
        return self.scatter[g, k] + self.used[g, k] * torch.outer(self.mean[g, k], self.mean[g, k])

    def __add__(self, other: Statistics) -> Statistics:
        """Join the statistics of two disjoint sets of rows read from the same model in the same way.

        Raises:
            WrongModel: Groups, layers, site, position or model differ, or only one has second moments.
        """
        for name in ("groups", "layers", "site", "position"):
            if getattr(self, name) != getattr(other, name):
                raise WrongModel(f"statistics of {name} {getattr(self, name)!r} and of {getattr(other, name)!r} cannot be joined")
        if self.provenance.get("model") != other.provenance.get("model") or (self.scatter is None) != (other.scatter is None):
            raise WrongModel("statistics of two models, or with and without second moments, cannot be joined")
        mine, theirs = self.used, other.used
        total = (mine + theirs).clamp(min=1)
        share = (theirs / total)[..., None]
        apart = other.mean - self.mean
        scatter = None
        if self.scatter is not None and other.scatter is not None:
            weight = (mine * theirs / total)[..., None, None]
            scatter = self.scatter + other.scatter + weight * apart[..., :, None] * apart[..., None, :]
        return Statistics(
            groups=self.groups,
            count=self.count + other.count,
            mean=self.mean + share * apart,
            scatter=scatter,
            layers=self.layers,
            site=self.site,
            position=self.position,
            provenance={**self.provenance, "prompts": [self.provenance["prompts"], other.provenance["prompts"]]},
            sinks=None if self.sinks is None and other.sinks is None else (self.count + other.count)[:, None] - mine - theirs,
        )

    def _shown(self) -> tuple[str, dict[str, Any]]:
        counts = some((f"{g}: {int(n):,}" for g, n in zip(self.groups, self.count, strict=True)), 20)
        return f"{self.site} at {self.position!r}, layers {some(self.layers, 40)}, rows {counts}", {
            "shape of the means": axes(**dict(zip(("group", "layer", "d_model"), self.mean.shape, strict=True))),
            "rows by group": counts,
            "attention sinks, left out": "" if self.sinks is None else f"{int(self.sinks.max())} at most in a group and layer",
            "covariances": "no" if self.scatter is None else "yes",
            "layers": some(self.layers, 40),
            **origin({"site": self.site, "position": self.position, **self.provenance}),
        }


def stream_statistics(
    model: Any,
    prompts: PromptSet,
    *,
    by: str = "variant",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    position: str = "last",
    second: bool = True,
    block_items: int = 512,
    progress: bool | None = None,
) -> Statistics:
    """Compute means and covariances of activations without keeping the activations.

    Args:
        model: What `load_model` returns; edits that are active act.
        prompts: Contrast pairs.
        by: The groups: "variant" (negative, positive), "truth" (the false and the true variant) or a column of the row table
            (both variants of an item count as rows of its group).
        site, layers, position: As for `capture`; at position="all" every token is a row, and attention sinks enter no statistic.
        second: Keep second moments too; they take group x layer x d_model x d_model float64 numbers.
        block_items: Items read at a time; raising it takes more memory.
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        Statistics per group and layer, in float64.

    Raises:
        BadInput: An argument cannot be used, as for `capture`; before any forward pass.
        MissingColumn: The row table has no column `by`; before any forward pass.
        NotFinite: The model gave NaN or infinity.

    Example:
        >>> import workbench as wb
        >>> stats = wb.stream_statistics(wb.load_model("bundled"), wb.prompts.udhr(n=16), layers=[3], by="truth", progress=False)
        >>> stats.groups, tuple(stats.covariance(3).shape)
        (('false', 'true'), (128, 128))
    """
    question, encoded = ask(model, prompts, site=site, layers=layers, position=position, dtype=torch.float32, logits=None)
    rows = prompts.to_frame()
    if by not in ("variant", "truth") and by not in rows:
        raise MissingColumn(f"no column {by!r} to group by: 'variant', 'truth', or one of {', '.join(rows.columns)}")
    groups, member = _groups(rows, by)
    reader = choose(model, site=site)
    record = provenance(model=info(model).key(), prompts=prompts.hash, by=by, edits=[e.label for e in active_edits(model)])
    out: Statistics | None = None
    # in the order of the trie, so that a block shares the longest prefixes
    order = sorted(range(len(encoded)), key=lambda i: (encoded[i].negative, encoded[i].positive))
    with tqdm(
        total=len(order), desc=f"statistics {prompts.name}", unit="pair", leave=False, disable=None if progress is None else not progress
    ) as bar:
        for start in range(0, len(order), block_items):
            items = order[start : start + block_items]
            parts, _ = read_items(reader, [encoded[i] for i in items], question, numbers=items)
            moments = _moments(parts, member[items], question.layers, groups, second)
            block = Statistics(**moments, groups=groups, layers=tuple(question.layers), site=site, position=position, provenance=record)
            out = block if out is None else out + block
            bar.update(len(items))
    assert out is not None
    if out.sinks is not None:
        tokens = {str(layer): int(n) for layer, n in zip(out.layers, out.sinks.sum(0), strict=True)}
        record |= {"sinks": {"rule": RULE, "first": first_is_sink(model), "tokens": tokens}}
    return Statistics(**{**out.__dict__, "provenance": record})


def _groups(rows: pd.DataFrame, by: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the groups, and the group of each variant of each item, `item x variant`."""
    if by == "variant":
        return ("negative", "positive"), np.tile([0, 1], (len(rows), 1))
    if by == "truth":
        label = rows["label"].to_numpy()
        return ("false", "true"), np.stack([1 - label, label], axis=1)
    names = rows[by].astype(str)
    groups = tuple(sorted(names.unique()))
    return groups, np.repeat(names.map({g: k for k, g in enumerate(groups)}).to_numpy()[:, None], 2, axis=1)


def _moments(parts: dict[str, Tensor], member: np.ndarray, layers: list[int], groups: tuple[str, ...], second: bool) -> dict[str, Any]:
    inside = [torch.from_numpy(member == g) for g in range(len(groups))]
    tokens = "mask" in parts
    if tokens:
        inside = [m[..., None] & parts["mask"] for m in inside]
    count = torch.tensor([int(m.sum()) for m in inside], dtype=torch.float64)
    means, scatters, sinks = [], [], []
    for m in inside:
        used = [m & ~parts[f"sinks.{layer}"] if tokens else m for layer in layers]
        rows = [parts[f"layer.{layer}"][u].flatten(1).double() for layer, u in zip(layers, used, strict=True)]
        mean = torch.stack([x.mean(0) if len(x) else x.new_zeros(x.shape[1]) for x in rows])
        means.append(mean)
        sinks.append([float(m.sum() - u.sum()) for u in used])
        if second:
            scatters.append(torch.stack([(x - mu).T @ (x - mu) for x, mu in zip(rows, mean, strict=True)]))
    return {
        "count": count,
        "mean": torch.stack(means),
        "scatter": torch.stack(scatters) if second else None,
        "sinks": torch.tensor(sinks, dtype=torch.float64) if tokens else None,
    }
