"""The planner: many prompts become one trie, and the trie a short list of packed passes.

    rows, sorted            trie                     units and passes
    P s1 a                  P ─┬─ s1 ─┬─ a           pass 1: P (its keys and values are kept)
    P s1 b                     │      └─ b           pass 2: [s1 a b] [s2 a b] …, side by side, each after P
    P s2 a                     └─ s2 ─┬─ a
    P s2 b                            └─ b

A *unit* is a subtree of at most `limit` tokens that is computed together: its tokens attend to their ancestors through a
mask. A *prefix* is shared by several units. It is computed first, and its keys and values are kept until the last of these
units is done. A pass is a run of ready units up to a token budget, in the order of the trie, so that few prefixes are kept
at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..models.attention import Bucket, Pass
from ..models.tokens import shared


@dataclass(frozen=True, kw_only=True)
class Trie:
    """Every distinct prefix once, as a flat list of tokens in depth-first order.

    Attributes:
        ids: Id of each token, `token`.
        depth: Position of each token in its prompt, counted from 0, `token`.
        end: One past the last descendant of each token: i descends from j, or is j, if and only if j <= i < end[j].
        at: Per row, the trie places of the wanted depths.
        total: Number of tokens of all rows together.
    """

    ids: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    at: list[np.ndarray]
    total: int

    def __len__(self) -> int:
        return len(self.ids)


def build(rows: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]] | None = None) -> Trie:
    """Build the trie of rows of ids.

    Args:
        rows: Rows of ids, none of them empty, in any order.
        wanted: Per row, the depths whose places are wanted; `None` for all.

    Returns:
        The trie.
    """
    order = sorted(range(len(rows)), key=lambda i: list(rows[i]))
    ids: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    path: list[int] = []
    at: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(rows)
    before: Sequence[int] = ()
    for i in order:
        row = rows[i]
        common = shared(before, row)
        for place in path[common:]:
            end[place] = len(ids)
        del path[common:]
        path.extend(range(len(ids), len(ids) + len(row) - common))
        ids.extend(row[common:])
        depth.extend(range(common, len(row)))
        end.extend([0] * (len(row) - common))
        at[i] = np.array(path if wanted is None else [path[d] for d in wanted[i]], dtype=np.int64)
        before = row
    for place in path:
        end[place] = len(ids)
    return Trie(ids=np.array(ids), depth=np.array(depth), end=np.array(end), at=at, total=sum(map(len, rows)))


def count(rows: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens of the trie of rows, without building it.

    Args:
        rows: Rows of ids.

    Returns:
        Number of distinct prefixes.
    """
    total, before = 0, ()
    for row in sorted(rows, key=list):
        total += len(row) - shared(before, row)
        before = row
    return total


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Tokens of the trie that are computed together.

    Attributes:
        begin, end: The tokens, from `begin` up to but not including `end`.
        prefix: Name of the kept prefix that they follow; -1 for none.
        name: Name under which their own keys and values are kept; -1 where they are not kept.
    """

    begin: int
    end: int
    prefix: int = -1
    name: int = -1


def cut(trie: Trie, limit: int) -> list[Unit]:
    """Cut a trie into units, and the prefixes that several units share.

    Args:
        trie: The trie.
        limit: The largest number of tokens of a unit. A chain that no other row shares stays whole, however long.

    Returns:
        Units in the order of the trie; a prefix is a unit with a name.
    """
    units: list[Unit] = []
    work = [(0, len(trie), -1)]  # a forest and the prefix that its trees follow
    names = 0
    while work:
        start, stop, prefix = work.pop()
        root = start
        while root < stop:
            last = int(trie.end[root])
            fork = root + 1
            while fork < last and trie.end[fork] == last:
                fork += 1
            if last - root <= limit or fork == last:
                units.append(Unit(begin=root, end=last, prefix=prefix))
            else:
                units.append(Unit(begin=root, end=fork, prefix=prefix, name=names))
                work.append((fork, last, names))
                names += 1
            root = last
    return sorted(units, key=lambda u: u.begin)


def passes(trie: Trie, *, budget: int, limit: int) -> Iterator[tuple[Pass, np.ndarray]]:
    """Arrange the units of a trie in packed passes, every prefix before the units that follow it.

    Args:
        trie: The trie.
        budget: The largest number of tokens of a pass; a larger unit is a pass of its own.
        limit: The largest number of tokens of a unit.

    Yields:
        The pass, and the trie place of each of its tokens.
    """
    waiting: dict[int, list[Unit]] = {}
    for unit in cut(trie, limit):
        waiting.setdefault(unit.prefix, []).append(unit)
    left = {prefix: len(units) for prefix, units in waiting.items()}
    ready = [(u.begin, i, u) for i, u in enumerate(waiting.pop(-1, []))]
    heapq.heapify(ready)
    count = len(ready)
    while ready:
        chosen: list[Unit] = []
        tokens = 0
        while ready and (not chosen or tokens + ready[0][2].end - ready[0][2].begin <= budget):
            chosen.append(heapq.heappop(ready)[2])
            tokens += chosen[-1].end - chosen[-1].begin
        chosen.sort(key=lambda u: (u.prefix, u.begin))
        drop = []
        for unit in chosen:
            left[unit.prefix] -= 1
            if unit.prefix >= 0 and left[unit.prefix] == 0:
                drop.append(unit.prefix)
            for child in waiting.pop(unit.name, []) if unit.name >= 0 else []:
                heapq.heappush(ready, (child.begin, count, child))
                count += 1
        yield _pass(trie, chosen, tuple(drop))


def _pass(trie: Trie, units: list[Unit], drop: tuple[int, ...]) -> tuple[Pass, np.ndarray]:
    places = np.concatenate([np.arange(u.begin, u.end) for u in units])
    sizes = np.array([u.end - u.begin for u in units])
    begins = np.concatenate([[0], np.cumsum(sizes)])
    prefixed: list[tuple[int, int, int]] = []
    for k, unit in enumerate(units):
        if unit.prefix < 0:
            continue
        run = (int(begins[k]), int(begins[k + 1]), unit.prefix)
        if prefixed and prefixed[-1][2] == unit.prefix and prefixed[-1][1] == run[0]:
            run = (prefixed.pop()[0], run[1], unit.prefix)
        prefixed.append(run)
    buckets = []
    rooted = np.array([u.prefix < 0 for u in units])
    order = np.lexsort((-sizes, rooted))
    start = 0
    while start < len(order):
        width = int(sizes[order[start]])
        stop = start + 1
        while stop < len(order) and sizes[order[stop]] * 2 > width and rooted[order[stop]] == rooted[order[start]]:
            stop += 1
        buckets.append(_bucket(trie, [units[k] for k in order[start:stop]], begins[order[start:stop]], width))
        start = stop
    return (
        Pass(
            ids=torch.from_numpy(trie.ids[places]),
            positions=torch.from_numpy(trie.depth[places]),
            prefixed=tuple(prefixed),
            buckets=tuple(buckets),
            drop=drop,
            keep=tuple((int(begins[k]), int(begins[k + 1]), u.name, u.prefix) for k, u in enumerate(units) if u.name >= 0),
        ),
        places,
    )


def _bucket(trie: Trie, units: list[Unit], begins: np.ndarray, width: int) -> Bucket:
    sizes = np.array([u.end - u.begin for u in units])
    column = np.arange(width)
    real = column < sizes[:, None]
    index = np.where(real, begins[:, None] + column, begins[:, None])
    place = np.where(real, np.array([u.begin for u in units])[:, None] + column, 0)
    # one past the last descendant of each token, counted within its unit; for padding, the end of the bucket
    reach = np.where(real, trie.end[place] - np.array([u.begin for u in units])[:, None], width)
    mask = None
    if bool((real & (reach < sizes[:, None])).any()):
        # token i attends to j if j comes first and i descends from j; padding attends to itself
        mask = torch.from_numpy((column[:, None] >= column) & (column[:, None] < reach[:, None, :]))[:, None]
    return Bucket(
        index=torch.from_numpy(index),
        mask=mask,
        real=torch.from_numpy(real.reshape(-1).nonzero()[0]),
        packed=torch.from_numpy(index[real]),
        rooted=units[0].prefix < 0,
    )
