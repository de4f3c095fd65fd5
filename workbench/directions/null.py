"""What angles noise makes: labels permuted, the construction kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..core.seeds import numpy_rng
from ..core.types import Float
from .cells import Cells

CHUNK = 2**26  # numbers in a chunk of draws


def permuted(
    cells: Cells, weights: Tensor, *, draws: int = 1000, seed: int = 0
) -> tuple[Float[Tensor, "draw k k"], Float[Tensor, "draw k k"]]:
    """Return the cross-fitted and the plain products of contrasts under permuted cell labels.

    Labels move among the cells that contrasts connect, so that a baseline that two of them share stays shared: inside an item where
    an item has several cells, otherwise inside a cluster where a cluster has several, otherwise among whole clusters.

    Args:
        cells: The rows.
        weights: `contrast x cell`.
        draws: How many.
        seed: Draws them.
    """
    pools = _pools(weights)[cells.cell]
    pair_first, pair_second, kernel = _inside(cells)
    rows, w = cells.rows.float(), weights.double()
    k = len(cells.names)
    cross, naive = [], []
    rng = numpy_rng(seed, "geometry null")
    shuffle = _shuffler(cells, pools)
    step = max(1, CHUNK // (len(rows) * k))
    for start in range(0, draws, step):
        labels = np.stack([shuffle(rng) for _ in range(min(step, draws - start))])
        count = len(labels)
        hot = torch.zeros(count, k, len(rows)).scatter_(1, torch.as_tensor(labels)[:, None, :], 1.0)
        total, number = (hot @ rows).double(), hot.sum(2).double()
        code = labels[:, pair_first] * k + labels[:, pair_second] + np.arange(count)[:, None] * k * k
        own = torch.as_tensor(np.bincount(code.ravel(), np.tile(kernel, count), count * k * k)).view(count, k, k)
        pairs = torch.as_tensor(np.bincount(code.ravel(), minlength=count * k * k)).double().view(count, k, k)
        inner, size = total @ total.transpose(1, 2), number[:, :, None] * number[:, None, :]
        cross.append(w @ ((inner - own) / (size - pairs)) @ w.T)
        naive.append(w @ (inner / size) @ w.T)
    return torch.cat(cross), torch.cat(naive)


def _pools(weights: Tensor) -> np.ndarray:
    """Code of the group of cells that contrasts connect, by cell."""
    used = (weights != 0).numpy()
    pool = np.arange(used.shape[1])
    for _ in pool:
        for row in used:
            if row.any():
                pool[row] = pool[row].min()
    return pool


def _inside(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of rows of one cluster, and their inner products."""
    order = np.argsort(cells.cluster, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(cells.cluster[order])) + 1)
    first = np.concatenate([np.repeat(g, len(g)) for g in groups])
    second = np.concatenate([np.tile(g, len(g)) for g in groups])
    kernel = np.empty(len(first))
    for start in range(0, len(first), 65536):  # a row of many pairs is not copied for all of them at once
        part = slice(start, start + 65536)
        kernel[part] = (cells.rows[first[part]] * cells.rows[second[part]]).sum(1).numpy()
    return first, second, kernel


def _shuffler(cells: Cells, pools: np.ndarray):
    """Return a function that draws new cell labels, row by row."""

    def several(unit: np.ndarray) -> bool:
        _, seen = np.unique(np.stack([unit, pools, cells.cell]), axis=1, return_index=True)
        codes = np.unique(np.stack([unit[seen], pools[seen]]), axis=1, return_counts=True)[1]
        return bool((codes > 1).any())

    whole = np.arange(len(cells.cell))
    for unit in (cells.block, cells.cluster):
        if several(unit):
            group = np.unique(np.stack([unit, pools]), axis=1, return_inverse=True)[1].reshape(-1)
            order = np.argsort(group, kind="stable")

            def inside(rng: np.random.Generator, group: np.ndarray = group, order: np.ndarray = order) -> np.ndarray:
                out = np.empty_like(cells.cell)
                out[order] = cells.cell[np.lexsort((rng.random(len(whole)), group))]
                return out

            return inside
    # every cluster lies in one cell: whole clusters change places, among those of one pool
    clusters, first = np.unique(cells.cluster, return_index=True)
    mine, pool = cells.cell[first], pools[first]
    order = np.argsort(pool, kind="stable")

    def among(rng: np.random.Generator) -> np.ndarray:
        out = np.empty_like(mine)
        out[order] = mine[np.lexsort((rng.random(len(clusters)), pool))]
        return out[cells.cluster]

    return among
