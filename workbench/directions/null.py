"""What angles noise makes: labels permuted, the construction kept."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from ..core.seeds import numpy_rng
from ..core.types import Float, Tensor
from .cells import Cells, joined

CHUNK = 2**26  # numbers in a chunk of draws


def permuted(
    cells: Cells, weights: Float[Tensor, "k cell"], *, draws: int = 1000, seed: int = 0
) -> tuple[Float[Tensor, "draw k k"], Float[Tensor, "draw k k"]]:
    """Return the cross-fitted and the plain products of contrasts under permuted cell labels.

    Labels move among the cells that contrasts connect, so that a baseline that two of them share stays shared: inside an item where
    an item has several cells, otherwise inside a cluster where a cluster has several, otherwise among whole clusters.

    Args:
        cells: The rows.
        weights: Weight of each cell's mean in each contrast, `contrast x cell`; each row sums to 0.
        draws: Permutations, 1 or more.
        seed: Draws them.

    Returns:
        The cross-fitted and the plain products, `draw x contrast x contrast` each.
    """
    pools = _pools(weights)[cells.cell]
    first, second, kernel = _inside(cells)
    rows, w, k = cells.rows.float(), weights.double(), len(cells.names)
    every, inside = _labels(cells.cell.tobytes(), cells.cluster.tobytes(), cells.block.tobytes(), pools.tobytes(), draws, seed)
    cross, naive, pairs, whole = [], [], None, rows.double().sum(0)
    step = max(1, CHUNK // max(len(rows) * k, len(first)))
    for start in range(0, draws, step):
        labels = every[start : start + step]
        count = len(labels)
        hot = torch.stack([torch.as_tensor(labels == g) for g in range(k - 1)], 1).float()
        most, number = (hot.view(-1, len(rows)) @ rows).view(count, k - 1, -1).double(), hot.sum(2).double()
        total = torch.cat([most, whole - most.sum(1, keepdim=True)], 1)  # every row lies in some cell
        number = torch.cat([number, len(rows) - number.sum(1, keepdim=True)], 1)
        code = (labels[:, first].astype(np.int32) * k + labels[:, second] + np.arange(count, dtype=np.int32)[:, None] * k * k).ravel()
        own = torch.as_tensor(np.bincount(code, np.tile(kernel, count), count * k * k)).view(count, k, k)
        if pairs is None or not inside:  # inside a cluster the labels only change places
            codes = code.reshape(count, -1)[0] if inside else code
            pairs = torch.as_tensor(np.bincount(codes, minlength=k * k * (1 if inside else count))).double().view(-1, k, k)
        inner, size = total @ total.transpose(1, 2), number[:, :, None] * number[:, None, :]
        cross.append(w @ ((inner - own) / (size - pairs)) @ w.T)
        naive.append(w @ (inner / size) @ w.T)
    return torch.cat(cross), torch.cat(naive)


def _pools(weights: Float[Tensor, "contrast cell"]) -> np.ndarray:
    """Code of the group of cells that contrasts connect, by cell."""
    return joined((weights != 0).numpy())


def _inside(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of rows of one cluster, and their inner products."""
    first, second = _meet(cells.cluster.tobytes())
    kernel = np.empty(len(first))
    for start in range(0, len(first), 65536):  # a row of many pairs is not copied for all of them at once
        part = slice(start, start + 65536)
        kernel[part] = torch.einsum("rd,rd->r", cells.rows[first[part]], cells.rows[second[part]]).numpy()
    return first, second, kernel


@lru_cache(maxsize=4)
def _meet(cluster: bytes) -> tuple[np.ndarray, np.ndarray]:
    codes = np.frombuffer(cluster, dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return np.concatenate([np.repeat(g, len(g)) for g in groups]), np.concatenate([np.tile(g, len(g)) for g in groups])


@lru_cache(maxsize=4)  # the same for every layer and metric of one data set
def _labels(cell: bytes, cluster: bytes, block: bytes, pool: bytes, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Permuted cell labels, `draw x row`, and whether every label stays in its cluster."""
    cells, clusters, blocks, pools = (np.frombuffer(b, dtype=np.int64) for b in (cell, cluster, block, pool))
    rng = numpy_rng(seed, "geometry null")
    for unit in (blocks, clusters):
        group = np.unique(np.stack([unit, pools]), axis=1, return_inverse=True)[1].reshape(-1)
        kinds = np.unique(np.stack([group, cells]), axis=1)[0]
        if len(kinds) > len(np.unique(kinds)):  # some have rows of several cells
            stays = len(np.unique(np.stack([unit, clusters]), axis=1)[0]) == len(np.unique(unit))
            return _inside_groups(cells, group, draws, rng), stays
    # every cluster lies in one cell: whole clusters change places, among those of one pool
    _, first, codes = np.unique(clusters, return_index=True, return_inverse=True)
    return _inside_groups(cells[first], pools[first], draws, rng)[:, codes.reshape(-1)], False


def _inside_groups(labels: np.ndarray, group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Permute labels inside each group; groups of one size together."""
    out = np.tile(labels.astype(np.uint8), (draws, 1))
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    for size in {len(p) for p in parts} - {1}:
        place = np.stack([p for p in parts if len(p) == size])
        shape = (draws, len(place), size)
        out[:, place.ravel()] = rng.permuted(np.broadcast_to(labels[place].astype(np.uint8), shape), axis=2).reshape(draws, -1)
    return out
