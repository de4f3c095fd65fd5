"""What a training reads: rows of ids and where, and the passes over them that start above what is frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..activations.choose import choose
from ..activations.engine import Job
from ..core.errors import BadInput
from ..core.machine import memory
from ..core.types import Bool, Float
from ..models.differentiable import Learner, Now
from ..models.known import first_of
from ..models.sinks import first_is_sink, lengths, outliers
from ..models.trees import plant

KEPT = 0.25  # of the free memory that streams of the frozen blocks may take


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of ids.

    Attributes:
        ids: The row.
        ask: Positions after which logits are wanted.
        read: Positions whose stream is wanted.
    """

    ids: tuple[int, ...]
    ask: tuple[int, ...] = ()
    read: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Got:
    """What a pass gives, in the order of the rows and of their positions.

    Attributes:
        logits: `asked x vocabulary`, float32.
        streams: By block, `read x d_model`.
        done: Share of the training's updates that are done; 1 at validation.
    """

    logits: Tensor
    streams: dict[int, Tensor] = field(default_factory=dict)
    done: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One loss with what it needs.

    Attributes:
        name: Of the loss.
        sees: What it sees of labels, in words.
        rows: All rows.
        units: Rows that the loss needs together: one for an answer, two for a statement and its negation.
        people: Whom each unit is about; validation holds out people.
        loss: Maps numbers of units, and what a pass over their rows gives, to the mean loss.
        near: What units should be in one batch because their rows begin alike; empty where none do.
        read: Blocks whose stream it wants.
        weight: Factor of the loss in the sum.
        counts: Places over which the loss is a mean, by unit; empty for one a unit.
        whole: The loss compares the units of a batch with each other: no process computes a part of it.
    """

    name: str
    sees: str
    rows: Sequence[Row]
    units: Sequence[tuple[int, ...]]
    people: Sequence[str]
    loss: Callable[[Sequence[int], Got], Tensor]
    near: Sequence[str] = ()
    read: tuple[int, ...] = ()
    weight: float = 1.0
    counts: Sequence[int] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.units:
            raise BadInput(f"the loss {self.name!r} has no row to be computed on")


class Passes:
    """Passes over rows, from the lowest block that training can change on. What enters it is read once and kept.

    Args:
        learner: The model with what is trained in it.
        rows: All rows of a training.
        start: The first block that gradients, or changes, reach: those below are the same at every step.
        places: Where residual adapters act: their tokens are marked (`now.marks[place]`).
        progress: Show a progress bar.
    """

    def __init__(
        self,
        learner: Learner,
        rows: Sequence[Row],
        start: int,
        places: Sequence[tuple[str, int]] = (),
        progress: bool | None = None,
    ) -> None:
        self.learner, self.rows, self.start = learner, rows, start
        self._entering: list[Tensor] | None = None
        width = int(learner.model.cfg.d_model)
        room = KEPT * memory()[1]
        tokens = sum(len(r.ids) for r in rows)
        if start and tokens * width * learner.dtype.itemsize <= room:
            self._entering = self._read("resid_post", start - 1)
        else:
            self.start = 0
        self.marks = {place: self._marks(*place) for place in places}

    def _read(self, site: str, layer: int) -> list[Tensor]:
        """A site of every token of every row, in the model's dtype."""
        engine = choose(self.learner.model, site=site)
        jobs = [Job(ids=row.ids, read=range(len(row.ids))) for row in self.rows]
        got = engine.read(jobs, [layer], [])
        assert got.values is not None
        values = got.values[:, 0].flatten(1)
        return [values[torch.from_numpy(at)] for at in got.at]

    def _marks(self, site: str, layer: int) -> list[Bool[Tensor, " token"]]:
        """Which tokens of each row are changed: all but the first and attention sinks, as the scope "body" has it."""
        if site == "resid_post" and self._entering is not None and layer == self.start - 1:
            values = self._entering
        else:
            values = self._read(site, layer)
        own = site in ("resid_pre", "resid_mid", "resid_post")
        before = None if own else self._read("resid_pre", layer)
        out, first = [], list(first_of(self.learner.model))
        sink = first_is_sink(self.learner.model)
        for i, row in enumerate(self.rows):
            real = torch.ones(len(row.ids), dtype=torch.bool)
            real[: len(first)] = list(row.ids[: len(first)]) != first
            if len(row.ids) > 1:
                real[0] = False
            elif sink:
                real[0] = True
            norms = lengths(values[i], None if before is None else lengths(before[i]))
            out.append(real & ~outliers(norms, real))
        return out

    def part(self, first: int, count: int) -> Passes:
        """Return the passes over some of the rows, numbered from 0 again."""
        out = copy.copy(self)
        out.rows = self.rows[first : first + count]
        out._entering = None if self._entering is None else self._entering[first : first + count]
        out.marks = {k: m[first : first + count] for k, m in self.marks.items()}
        return out

    def run(self, chosen: Sequence[int], read: Sequence[int] = ()) -> Got:
        """Run some rows.

        Args:
            chosen: Numbers of rows; the same may come twice.
            read: Blocks whose stream is wanted.

        Returns:
            Logits and streams at the rows' positions, in the order of `chosen`.
        """
        rows = [self.rows[i] for i in chosen]
        trees = plant([r.ids for r in rows])
        ask = [(k, p) for k, r in enumerate(rows) for p in r.ask]
        wanted = [(k, p) for k, r in enumerate(rows) for p in r.read]
        low = [layer for layer in read if layer < self.start - 1]
        if low:
            raise BadInput(f"block {low[0]} lies below the adapter and is not changed by it: read block {self.start} or a higher one")
        entering = None if self._entering is None or not self.start else trees.fill([self._entering[i] for i in chosen])
        marks = {place: trees.fill([m[i] for i in chosen]) for place, m in self.marks.items()}
        device = self.learner.device
        logits, streams = self.learner.run(
            trees,
            start=self.start,
            entering=None if entering is None else entering.to(device),
            read=tuple(read) if wanted else (),
            ask=ask or None,
            marks={k: m.to(device) for k, m in marks.items()},
        )
        if logits is None:
            logits = torch.zeros(0, len(self.learner.model.tokenizer), device=device)
        if not wanted:
            return Got(logits=logits)
        tree, place = trees.where(wanted)
        return Got(logits=logits, streams={k: v[tree.to(device), place.to(device)].float() for k, v in streams.items()})

    @torch.no_grad()
    def all(self, chosen: Sequence[int], read: Sequence[int] = (), size: int = 64) -> Got:
        """Run many rows without gradients, in parts of `size`."""
        parts = [self.run(chosen[i : i + size], read) for i in range(0, len(chosen), size)]
        return Got(
            logits=torch.cat([p.logits for p in parts]),
            streams={k: torch.cat([p.streams[k] for p in parts]) for k in parts[0].streams},
        )


def marked(change: Callable[[Tensor], Float[Tensor, "tree place d_model"]], place: tuple[str, int]) -> Callable[[Tensor, Now], Tensor]:
    """Return a change that acts on marked tokens only.

    Args:
        change: Maps the stream to what is added to it.
        place: The key of the marks.

    Returns:
        What `Learner.change` takes.
    """

    def act(value: Tensor, now: Now) -> Tensor:
        mark: Any = now.marks[place]
        return value + (change(value) * mark[..., None]).to(value.dtype)

    return act
