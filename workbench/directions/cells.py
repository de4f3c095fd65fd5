"""Rows in cells (harm, its baseline, safety, ...), who belongs to which cluster, and what was wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from ..core.errors import BadInput, NotFinite, ShapeMismatch, SharedRows, TooFew
from ..core.types import Float, Tensor

FEWEST = 16
Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Rows of several cells in one space, with what may depend on what.

    Attributes:
        names: Of the cells.
        rows: All rows, `row x d`, in float64, less the mean of the cells' means: where clusters have unequal shares in the
            cells, a large common mean does not enter. Where there are fewer rows than dimensions they are rotated into as many
            dimensions as rows: inner products are the same.
        cell: Index of each row's cell.
        cluster: Code of each row's cluster: what is independent of what.
        block: Code of each row's item: inside one, permuted labels stay.
    """

    names: tuple[str, ...]
    rows: Float[Tensor, "row d"]
    cell: Codes
    cluster: Codes
    block: Codes

    @classmethod
    def of(
        cls,
        cells: Mapping[str, Any],
        *,
        items: Mapping[str, Any] | None = None,
        clusters: Mapping[str, Any] | None = None,
        fewest: int = FEWEST,
        matrix: Float[Tensor, "d_model d_model"] | None = None,
        check_shared: bool = True,
    ) -> Cells:
        """Check rows and put them together.

        Args:
            cells: Rows of each cell, `row x d_model`.
            items: Ids of each cell's rows, by cell; rows of one id were read from one item. `None`: every row is its own.
            clusters: Cluster of each cell's rows, by cell: what is independent of what. `None`: every item is its own.
            fewest: Fewest rows that a cell may have; raising it refuses smaller cells.
            matrix: Of an inner product, `d_model x d_model` (see `metrics`): rows are multiplied by it.
            check_shared: Refuse equal rows in two cells that do not have equal ids.

        Returns:
            The rows of all cells in one space, with the codes of cells, clusters and items.

        Raises:
            TooFew, ShapeMismatch, NotFinite, SharedRows, BadInput: See their messages.
        """
        parts = {name: _matrix(rows, name, fewest) for name, rows in cells.items()}
        width = _width(parts)
        block, cluster = _codes(parts, items, clusters, check_shared)
        names = tuple(cells)
        cell = np.repeat(np.arange(len(names)), [len(parts[name]) for name in names])
        _check_clusters(names, cell, cluster)
        if matrix is not None:
            if width != len(matrix):
                raise ShapeMismatch(f"rows of width {width}, and the metric is of {len(matrix)} dimensions")
            parts = {name: part @ matrix.T for name, part in parts.items()}
        origin = torch.stack([parts[n].mean(0) for n in names]).mean(0)
        rows = torch.cat([parts[n] for n in names]) - origin
        if len(rows) < rows.shape[1]:
            rows = torch.linalg.qr(rows.T, mode="r").R.T.contiguous()
        return cls(names=names, rows=rows, cell=cell, cluster=cluster.astype(np.int64), block=block.astype(np.int64))

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return int(self.cluster.max()) + 1

    def sums(self) -> tuple[Float[Tensor, "cluster cell d"], Float[Tensor, "cluster cell"]]:
        """Return the sum and the number of each cluster's rows in each cell."""
        m, k = self.clusters, len(self.names)
        place = torch.as_tensor(self.cluster * k + self.cell)
        out = torch.zeros(m * k, self.rows.shape[1], dtype=self.rows.dtype).index_add_(0, place, self.rows)
        counts = torch.bincount(place, minlength=m * k).to(self.rows.dtype)
        return out.view(m, k, -1), counts.view(m, k)


def _width(parts: Mapping[str, Tensor]) -> int:
    """The one width of all cells."""
    widths = {name: part.shape[1] for name, part in parts.items()}
    if len(set(widths.values())) > 1:
        raise ShapeMismatch(f"rows of different widths do not come from one place of one model: {widths}")
    return next(iter(widths.values()))


def _codes(
    parts: Mapping[str, Tensor], items: Mapping[str, Any] | None, clusters: Mapping[str, Any] | None, check_shared: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Code of each row's item and of its cluster; an item lies in one cluster."""
    ids = _labels(items, parts, "items")
    if ids is None:
        block = np.arange(sum(len(p) for p in parts.values()))
    else:
        block = np.unique(np.concatenate([ids[name] for name in parts]), return_inverse=True)[1]
    if check_shared:
        _check_shared(parts, block)
    people = _labels(clusters, parts, "clusters")
    if people is None:
        return block, block
    cluster = np.unique(np.concatenate([people[name] for name in parts]), return_inverse=True)[1]
    if ids is None:
        return cluster, cluster
    first = np.full(block.max() + 1, -1)
    first[block] = cluster
    if (first[block] != cluster).any():
        raise BadInput("an item lies in two clusters: an id in items= must always go with the same name in clusters=")
    return block, cluster


def _check_clusters(names: Sequence[str], cell: np.ndarray, cluster: np.ndarray) -> None:
    """Raise where a cell has too few clusters."""
    few = {n: len(np.unique(cluster[cell == k])) for k, n in enumerate(names)}
    if min(few.values()) < 4:
        name = min(few, key=lambda n: few[n])
        raise TooFew(f"{name}: {few[name]} clusters; four at least are needed to say how much they differ")


def _matrix(rows: Any, name: str, fewest: int) -> Float[Tensor, "row d_model"]:
    """Rows of a cell in float64, checked."""
    x = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows).detach().double().cpu()
    if x.ndim != 2:
        raise ShapeMismatch(f"{name}: rows x d_model, got {tuple(x.shape)}")
    bad = ~torch.isfinite(x).all(1)
    if bool(bad.any()):
        raise NotFinite(f"{name}: {int(bad.sum())} of {len(x)} rows hold NaN or infinity, the first is row {int(bad.nonzero()[0])}")
    if len(x) < fewest:
        raise TooFew(f"{name}: {len(x)} rows; an angle needs {fewest} at least, and says more with hundreds (see geometry_power)")
    return x


def _labels(given: Mapping[str, Any] | None, parts: Mapping[str, Tensor], what: str) -> dict[str, np.ndarray] | None:
    """Labels of each cell's rows as text, checked; `what` is the argument that they were given as."""
    if given is None:
        return None
    out = {}
    for name, part in parts.items():
        if name not in given:
            raise BadInput(f"{what}= says nothing of {name!r}; it names: {', '.join(map(str, given))}")
        out[name] = _text(given[name], f"{what}= of {name!r}")
        if out[name].shape != (len(part),):
            raise ShapeMismatch(f"{what}= of {name!r}: {out[name].shape} for {len(part)} rows")
    return out


def _text(labels: Any, what: str) -> np.ndarray:
    """Labels as text: 1 and 1.0 are one, and a missing one is none."""
    if isinstance(labels, str):
        raise BadInput(f"{what}: one label per row, got the text {labels!r}")
    out = np.asarray(labels)
    if out.dtype.kind == "f":
        if not np.isfinite(out).all():
            raise BadInput(f"{what}: a label is missing (NaN)")
        out = out.astype(np.int64) if (out == np.round(out)).all() else out
    elif out.dtype == object and any(v is None or v != v for v in out.ravel()):
        raise BadInput(f"{what}: a label is missing")
    return out.astype(str)


def fingerprint(row: np.ndarray) -> bytes:
    """Return a short hash of a row, equal for equal rows: of many wide rows the bytes themselves would double the memory."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _check_shared(parts: Mapping[str, Tensor], block: np.ndarray) -> None:
    """Rows of different ids are independent; the same row under two of them is not."""
    seen: dict[bytes, tuple[str, int]] = {}
    start = 0
    for name, part in parts.items():
        mine: dict[bytes, tuple[str, int]] = {}
        count, where = 0, ""
        for i, row in enumerate(part.numpy()):
            key, own = fingerprint(row), int(block[start + i])
            mine.setdefault(key, (name, own))
            if key in seen and seen[key][1] != own:
                count, where = count + 1, seen[key][0]
        if count:
            raise SharedRows(
                f"{count} rows of {name!r} stand in {where!r} too: their noise is common to both, and makes angles. Say which row is "
                "which with items= (equal ids for equal items), or use other rows"
            )
        seen = mine | seen
        start += len(part)


def two_of(ids: Any) -> tuple[Any, Any]:
    """Return the ids of rows and of baseline: a pair of sequences as it is, one sequence for both."""
    return ids if isinstance(ids, tuple) and len(ids) == 2 and np.ndim(ids[0]) == 1 else (ids, ids)


def joined(there: NDArray[np.bool_]) -> Codes:
    """Return the code of each column's group: columns are of one group where a row, or a chain of rows, holds both."""
    return connected_components(there.T.astype(int) @ there)[1].astype(np.int64)


def unpair(concepts: Mapping[str, Any], given: Any, what: str, cells: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Return ids by cell from ids by concept: one sequence for all, or by concept one (rows and baseline alike) or two."""
    if given is None:
        return None
    out: dict[str, Any] = {}
    for concept in concepts:
        mine = given
        if isinstance(given, Mapping):
            if concept not in given:
                raise BadInput(f"{what}= says nothing of {concept!r}; it names: {', '.join(map(str, given))}")
            mine = given[concept]
        for cell, ids in zip(cells[concept], two_of(mine), strict=True):
            if cell in out and not np.array_equal(_text(out[cell], what), _text(ids, what)):
                raise BadInput(f"{what}= names the rows of the shared baseline in two ways")
            out[cell] = ids
    return out
