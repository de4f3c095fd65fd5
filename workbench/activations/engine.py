"""The engine: reads jobs (rows of ids, and where to read them) through the trunk, or through the Bridge where it must.

Both ways give the same numbers. The trunk computes each shared prefix once and nothing that nobody reads; the Bridge is
what edits reach. Which one reads is decided here, and said.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import HookNotFired, OutOfMemory
from ..models.attention import Kept
from ..models.forward import residuals
from ..models.tokens import pad
from ..models.trunk import Trunk
from .planner import build, passes

LIMIT = 64  # tokens of a unit; a larger one wastes more on masked scores, a smaller one keeps more prefixes
ROWS_OF_LOGITS = 64  # vocabulary-wide rows alive at a time


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of ids: at which depths to read activations, and at which to read what comes next (-1: nowhere).

    `prompt` and `instruction` count the tokens that belong to them, for edits that ask (-1: all are prompt, nobody said).
    """

    ids: Sequence[int]
    read: Sequence[int] = ()
    ask: int = -1
    prompt: int = -1
    instruction: int = -1


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read.

    Attributes:
        values: `slot x layer x …`, in the model's dtype, on the CPU.
        at: Per job, the slots of its depths.
        logp: `slot x token`, natural log-probabilities, in float32.
        asked: Per job, its slot in `logp` (-1: none).
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
        site: Where.
        trunk: The shell, or `None` to read through the Bridge.
        why: Why it reads through the Bridge, or "".
        budget: Tokens in a pass; halved when memory runs out.
        tick: Called with the number of tokens computed since the last call.
    """

    model: Any
    site: str
    trunk: Trunk | None = None
    why: str = ""
    budget: int = 2048
    tick: Callable[[int], object] = lambda _: None
    halved: bool = False

    def read(self, jobs: Sequence[Job], layers: list[int], ids: list[int]) -> Reading:
        """Read jobs; out of memory, halve the budget and begin these jobs again, saying so once.

        Args:
            jobs: What to read.
            layers: Blocks; none for answers only.
            ids: Tokens whose log-probabilities are returned where a job asks.

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
            # outside the except clause: the failed pass's tensors hang on the traceback
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
        current = np.empty(0, dtype=np.int64)  # trie places of the pass under way

        def taker(layer: int) -> Callable[[Tensor], None]:
            def take(value: Tensor) -> None:
                here = slot[current]
                found = (here >= 0).nonzero()[0]
                if len(found):
                    store.put(layer, here[found], value[0][torch.from_numpy(found).to(value.device)])

            return take

        taps = [self.trunk.tap(self.model, self.site, layer, taker(layer)) for layer in layers]
        known = [t for t in taps if t is not None]
        if len(known) != len(taps):
            raise HookNotFired(f"the trunk has no {self.site!r}")
        kept = Kept()
        for now, current in passes(trie, budget=self.budget, limit=LIMIT):
            here = ask[current]
            found = (here >= 0).nonzero()[0]
            # where anything is asked, every pass goes to the end: a kept prefix is needed in all blocks
            hidden = self.trunk.run(now, kept, known, hidden=asked > 0)
            if hidden is not None and len(found):
                for some in np.array_split(found, -(-len(found) // ROWS_OF_LOGITS)):
                    logits = self.trunk.logits(hidden[torch.from_numpy(some).to(hidden.device)])
                    store.put_logp(here[some], _log_softmax(logits, ids))
            tick(len(current))
        # (the highest block read may stop before its attention, at `resid_pre`)
        self.trunk.check(kept, int(self.model.cfg.n_layers) if asked else max(layers, default=0))
        return Reading(
            values=store.values,
            at=[slot[places] for places in at],
            logp=store.logp,
            asked=np.where(asks >= 0, ask[np.maximum(asks, 0)], -1),
        )

    def _padded(self, jobs: Sequence[Job], layers: list[int], ids: list[int], tick: Callable[[int], None]) -> Reading:
        """Read through the Bridge: rows of like length side by side, each distinct row once."""
        merged: dict[tuple[Any, ...], tuple[dict[int, int], dict[int, int]]] = {}

        def key(job: Job) -> tuple[Any, ...]:
            return (tuple(job.ids), job.prompt, job.instruction)

        for job in jobs:
            reads, asks = merged.setdefault(key(job), ({}, {}))
            reads.update(dict.fromkeys(job.read, 0))
            asks.update({job.ask: 0} if job.ask >= 0 else {})
        rows = list(merged)
        count = asked = 0
        for reads, asks in merged.values():
            for depth in reads:
                reads[depth], count = count, count + 1
            for depth in asks:
                asks[depth], asked = asked, asked + 1
        store = _Slots(layers, count, asked, len(ids))
        # the Bridge gives logits of the whole vocabulary at every position: a quarter of a billion of them at a time
        budget = min(self.budget, max(1, 2**28 // int(self.model.cfg.d_vocab))) if asked else self.budget
        for chunk in batches([len(r[0]) for r in rows], budget):
            some_rows = [rows[i] for i in chunk]
            said = all(r[2] >= 0 for r in some_rows)
            batch = pad(
                self.model,
                [r[0] for r in some_rows],
                prompt=[r[1] if r[1] >= 0 else len(r[0]) for r in some_rows],
                instruction=[r[2] for r in some_rows] if said else None,
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
                    some = places[row] >= 0
                    store.put_logp(places[row][some], _log_softmax(logits[row][torch.from_numpy(some).to(logits.device)], ids))
            tick(sum(len(r[0]) for r in some_rows))
        at = [np.array([merged[key(j)][0][d] for d in j.read], dtype=np.int64) for j in jobs]
        picked = np.array([merged[key(j)][1].get(j.ask, -1) for j in jobs])
        return Reading(values=store.values, at=at, logp=store.logp, asked=picked)


class _Slots:
    """Where readings are gathered, made when the first one shows its shape."""

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
    """Yield indices in batches of like length, each at most `tokens` wide times high."""
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]  # the longest first: what does not fit fails at once
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
