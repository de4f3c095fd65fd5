"""The engine: reads jobs (rows of ids, and where to read them) through the trunk, or through the Bridge where it must.

Both ways give the same numbers. The trunk computes each shared prefix once, and stops after the last reading. The Bridge
is slower, and edits reach it. `choose.choose` decides which one reads.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import HookNotFired, OutOfMemory
from ..models.attention import Kept
from ..models.forward import residuals
from ..models.tokens import pad
from ..models.trunk import Trunk
from .planner import build, passes

LIMIT = 64  # tokens of a unit; a larger limit computes more masked scores, a smaller one keeps more prefixes
ROWS_OF_LOGITS = 64  # vocabulary-wide rows alive at a time


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of ids, and where to read it.

    Attributes:
        ids: The row.
        read: Depths (positions in the row, counted from 0) at which to read activations.
        ask: Depth after which to read log-probabilities of the next token; -1 for none.
        prompt: Number of tokens that are prompt, for edits with a scope; -1 for all.
        instruction: Number of tokens up to and including the last of the instruction; -1 where it is unknown.
    """

    ids: Sequence[int]
    read: Sequence[int] = ()
    ask: int = -1
    prompt: int = -1
    instruction: int = -1


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the engine read.

    Attributes:
        values: Activations, `slot x layer x …`, in the model's dtype, on the CPU; `None` without layers.
        at: Per job, the slots of its depths.
        logp: `slot x token`, natural log-probabilities, in float32; `None` where no job asks.
        asked: Per job, its slot in `logp`; -1 for none.
    """

    values: Tensor | None
    at: list[np.ndarray]
    logp: Tensor | None
    asked: np.ndarray


@dataclass(kw_only=True)
class Engine:
    """A way to read one model at one site.

    Attributes:
        model: The model.
        site: The site that it reads.
        trunk: The shell, or `None` to read through the Bridge.
        why: Why it reads through the Bridge, or "".
        budget: Tokens of one forward pass; halved when memory runs out.
        tick: Called with the number of tokens computed since the last call.
        halved: Whether the budget was halved before.
    """

    model: Any
    site: str
    trunk: Trunk | None = None
    why: str = ""
    budget: int = 2048
    tick: Callable[[int], object] = lambda _: None
    halved: bool = False

    def read(self, jobs: Sequence[Job], layers: list[int], ids: list[int]) -> Reading:
        """Read jobs. When memory runs out, the budget is halved and these jobs start again; the first time warns.

        Args:
            jobs: Rows, and where to read them.
            layers: Blocks; none for log-probabilities only.
            ids: Tokens whose log-probabilities are read where a job asks.

        Returns:
            Activations and log-probabilities.

        Raises:
            OutOfMemory: Not even one prompt fits.
        """
        while True:
            done = 0

            def tick(tokens: int) -> None:
                nonlocal done
                done += tokens
                self.tick(tokens)

            try:
                return (self._padded if self.trunk is None else self._packed)(jobs, layers, ids, tick)
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
                reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            # outside the except clause, because the traceback keeps the tensors of the failed pass alive
            self.tick(-done)
            if self.budget < 2:
                raise OutOfMemory(f"not even a pass of one prompt fits the memory ({reason}). Read fewer layers, or use a smaller dtype")
            self.budget //= 2
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not self.halved:
                warnings.warn(f"out of memory: going on with passes of {self.budget} tokens, or fewer ({reason})", stacklevel=3)
            self.halved = True

    def _packed(self, jobs: Sequence[Job], layers: list[int], ids: list[int], tick: Callable[[int], None]) -> Reading:
        """Read through the trunk: one trie of all jobs."""
        assert self.trunk is not None
        trie = build([j.ids for j in jobs], [[*j.read, *([j.ask] if j.ask >= 0 else [])] for j in jobs])
        at = [places[: len(j.read)] for j, places in zip(jobs, trie.at, strict=True)]
        asks = np.array([int(places[-1]) if j.ask >= 0 else -1 for j, places in zip(jobs, trie.at, strict=True)])
        slot, count = _number(len(trie), np.concatenate(at) if at else asks[:0])
        ask, asked = _number(len(trie), asks[asks >= 0])
        store = _Slots(layers, count, asked, len(ids))
        current = np.empty(0, dtype=np.int64)  # trie places of the current pass

        def taker(layer: int) -> Callable[[Tensor], None]:
            def take(value: Tensor) -> None:
                slots = slot[current]
                wanted = (slots >= 0).nonzero()[0]
                if len(wanted):
                    store.put(layer, slots[wanted], value[0][torch.from_numpy(wanted).to(value.device)])

            return take

        taps = [self.trunk.tap(self.model, self.site, layer, taker(layer)) for layer in layers]
        known = [t for t in taps if t is not None]
        if len(known) != len(taps):
            raise HookNotFired(f"the trunk has no {self.site!r}")
        kept = Kept()
        for now, current in passes(trie, budget=self.budget, limit=LIMIT):
            slots = ask[current]
            wanted = (slots >= 0).nonzero()[0]
            # where any job asks, every pass computes all blocks, because a kept prefix is needed in all of them
            hidden = self.trunk.run(now, kept, known, hidden=asked > 0)
            if hidden is not None and len(wanted):
                for rows in np.array_split(wanted, -(-len(wanted) // ROWS_OF_LOGITS)):
                    logits = self.trunk.logits(hidden[torch.from_numpy(rows).to(hidden.device)])
                    store.put_logp(slots[rows], _log_softmax(logits, ids))
            tick(len(current))
        # the highest block that is read may stop before its attention, at `resid_pre`
        self.trunk.check(kept, int(self.model.cfg.n_layers) if asked else max(layers, default=0))
        return Reading(
            values=store.values,
            at=[slot[places] for places in at],
            logp=store.logp,
            asked=np.where(asks >= 0, ask[np.maximum(asks, 0)], -1),
        )

    def _padded(self, jobs: Sequence[Job], layers: list[int], ids: list[int], tick: Callable[[int], None]) -> Reading:
        """Read through the Bridge: rows of like length side by side, each distinct row once."""
        merged, count, asked = _distinct_rows(jobs)
        rows = list(merged)
        store = _Slots(layers, count, asked, len(ids))
        # the Bridge gives logits of the whole vocabulary at every position: a quarter of a billion of them at a time
        budget = min(self.budget, max(1, 2**28 // int(self.model.cfg.d_vocab))) if asked else self.budget
        for chunk in batches([len(r.ids) for r in rows], budget):
            batch_rows = [rows[i] for i in chunk]
            instruction_known = all(r.instruction >= 0 for r in batch_rows)
            batch = pad(
                self.model,
                [r.ids for r in batch_rows],
                prompt=[r.prompt if r.prompt >= 0 else len(r.ids) for r in batch_rows],
                instruction=[r.instruction for r in batch_rows] if instruction_known else None,
            )
            wants = [merged[rows[i]] for i in chunk]
            columns, slots = _grid([w[0] for w in wants])
            asks, places = _grid([w[1] for w in wants])
            values, logits = residuals(
                self.model,
                batch,
                _columns(batch, columns),
                site=self.site,
                layers=layers if columns.size else [],
                ask=_columns(batch, asks) if asks.size else None,
            )
            if values is not None:
                for k, layer in enumerate(layers):
                    store.put(layer, slots[slots >= 0], values[:, :, k][torch.from_numpy(slots >= 0).to(values.device)])
            if logits is not None:
                for row in range(len(chunk)):
                    wanted = places[row] >= 0
                    store.put_logp(places[row][wanted], _log_softmax(logits[row][torch.from_numpy(wanted).to(logits.device)], ids))
            tick(sum(len(r.ids) for r in batch_rows))
        at = [np.array([merged[_row_of(j)][0][d] for d in j.read], dtype=np.int64) for j in jobs]
        picked = np.array([merged[_row_of(j)][1].get(j.ask, -1) for j in jobs])
        return Reading(values=store.values, at=at, logp=store.logp, asked=picked)


class _Row(NamedTuple):
    """What a forward pass through the Bridge must know of a row: jobs that agree in it are read together."""

    ids: tuple[int, ...]
    prompt: int
    instruction: int


def _row_of(job: Job) -> _Row:
    return _Row(tuple(job.ids), job.prompt, job.instruction)


def _distinct_rows(jobs: Sequence[Job]) -> tuple[dict[_Row, tuple[dict[int, int], dict[int, int]]], int, int]:
    """Return, per distinct row, the slots of the depths that are read and of those that are asked; and both numbers of slots."""
    merged: dict[_Row, tuple[dict[int, int], dict[int, int]]] = {}
    for job in jobs:
        reads, asks = merged.setdefault(_row_of(job), ({}, {}))
        reads.update(dict.fromkeys(job.read, 0))
        asks.update({job.ask: 0} if job.ask >= 0 else {})
    count = asked = 0
    for reads, asks in merged.values():
        for depth in reads:
            reads[depth], count = count, count + 1
        for depth in asks:
            asks[depth], asked = asked, asked + 1
    return merged, count, asked


class _Slots:
    """Collects readings in one tensor, which is made when the first one shows its shape."""

    def __init__(self, layers: list[int], count: int, asked: int, tokens: int) -> None:
        self.layers = {layer: k for k, layer in enumerate(layers)}
        self.count = count
        self.values: Tensor | None = None
        self.logp: Tensor | None = torch.empty(asked, tokens) if asked else None

    def put(self, layer: int, slots: np.ndarray, value: Tensor) -> None:
        if self.values is None:
            self.values = torch.empty(self.count, len(self.layers), *value.shape[1:], dtype=value.dtype)
        self.values[torch.from_numpy(slots), self.layers[layer]] = value.cpu()

    def put_logp(self, slots: np.ndarray, value: Tensor) -> None:
        assert self.logp is not None
        self.logp[torch.from_numpy(slots)] = value.cpu()


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Put rows of like length into batches.

    Args:
        lengths: Length of each row.
        tokens: The largest number of tokens of a batch, padding included; a longer row is a batch of its own.

    Yields:
        Indices of the rows of a batch.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]  # the longest first: a batch that does not fit fails at once
    start = 0
    while start < len(order):
        stop = start + max(1, tokens // max(1, lengths[order[start]]))
        yield [int(i) for i in order[start:stop]]
        start = stop


def _number(size: int, places: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the distinct places among `size`; -1 for the others."""
    distinct = np.unique(places)
    slot = np.full(size, -1, dtype=np.int64)
    slot[distinct] = np.arange(len(distinct))
    return slot, len(distinct)


def _grid(wants: Sequence[dict[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Depths and slots of each row, as rectangles; depth 0 and slot -1 where a row has fewer."""
    width = max(map(len, wants))
    depths, slots = np.zeros((len(wants), width), dtype=np.int64), np.full((len(wants), width), -1, dtype=np.int64)
    for row, want in enumerate(wants):
        depths[row, : len(want)], slots[row, : len(want)] = list(want), list(want.values())
    return depths, slots


def _columns(batch: Any, depths: np.ndarray) -> Tensor:
    return batch.starts[:, None] + torch.from_numpy(depths).to(batch.starts.device)


def _log_softmax(logits: Tensor, ids: list[int]) -> Tensor:
    return logits[:, ids] - logits.logsumexp(-1, keepdim=True)


def _is_memory(error: BaseException) -> bool:
    texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # CPU, MPS, cuBLAS
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)
