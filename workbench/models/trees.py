"""Rows of ids as small padded trees: what rows begin with alike is computed once, and gradients pass.

The engine (`attention`) packs thousands of rows into one long row and keeps the keys of prefixes between passes; it does so without
gradients. A training step has a few dozen rows. Here rows that share much become one tree, and trees are padded to one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import BadInput

SIZE = 160  # tokens of a tree that several rows share; attention costs more than it saves beyond
SHARE = 0.3  # of a row that must stand in the tree already, for the row to join it


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Padded trees.

    Attributes:
        ids: `tree x place`; padding is 0.
        positions: Position of each token in its prompt, counted from 0, `tree x place`.
        sees: Whether a place (first) looks at a place (second): an ancestor or itself, `tree x place x place`. Padding sees itself.
        at: Per row, its tree and the places of all its tokens.
    """

    ids: Tensor
    positions: Tensor
    sees: Tensor
    at: tuple[tuple[int, tuple[int, ...]], ...]

    def where(self, wanted: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return trees and places of tokens.

        Args:
            wanted: Per token its row and its position in the row.

        Returns:
            Trees and places, to index `tree x place x …`.
        """
        found = [(self.at[row][0], self.at[row][1][depth]) for row, depth in wanted]
        return torch.tensor([t for t, _ in found]), torch.tensor([p for _, p in found])

    def fill(self, values: Sequence[Tensor]) -> Tensor:
        """Lay values of tokens into the trees.

        Args:
            values: Per row, `position x …`.

        Returns:
            `tree x place x …`; 0 in the padding. Where rows share a token, the value of the last of them.
        """
        out = values[0].new_zeros(*self.ids.shape, *values[0].shape[1:])
        for (tree, places), value in zip(self.at, values, strict=True):
            out[tree, list(places)] = value
        return out


def plant(rows: Sequence[Sequence[int]], size: int = SIZE) -> Trees:
    """Put rows into trees.

    Args:
        rows: Rows of ids, none of them empty.
        size: Tokens at most of a tree of several rows.

    Returns:
        The trees; each row is in one of them.

    Raises:
        BadInput: There is no row, or an empty one.
    """
    if not rows or not all(len(row) for row in rows):
        raise BadInput("trees need rows of one token at least")
    order = sorted(range(len(rows)), key=lambda i: list(rows[i]))
    grown: list[_Tree] = []
    at: list[tuple[int, tuple[int, ...]]] = [(0, ())] * len(rows)
    for i in order:
        row = list(rows[i])
        joins = bool(grown) and grown[-1].gains(row, size)
        if not joins:
            grown.append(_Tree())
        at[i] = (len(grown) - 1, grown[-1].put(row))
    width = max(len(tree.ids) for tree in grown)
    ids, positions = torch.zeros(len(grown), width, dtype=torch.long), torch.zeros(len(grown), width, dtype=torch.long)
    sees = torch.eye(width, dtype=torch.bool).repeat(len(grown), 1, 1)
    for n, tree in enumerate(grown):
        count = len(tree.ids)
        ids[n, :count], positions[n, :count] = torch.tensor(tree.ids), torch.tensor(tree.depths)
        for place, parent in enumerate(tree.parents):
            if parent >= 0:
                sees[n, place] |= sees[n, parent]
    return Trees(ids=ids, positions=positions, sees=sees, at=tuple(at))


class _Tree:
    """A tree that grows: ids, depths and parents of its tokens, and the path of the last row."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def gains(self, row: list[int], size: int) -> bool:
        """Whether a row shares enough with the tree to join it."""
        common = len(self._walk(row))
        return common >= SHARE * len(row) and len(self.ids) + len(row) - common <= size

    def _walk(self, row: list[int]) -> list[int]:
        places: list[int] = []
        for token in row:
            found = self._children.get((places[-1] if places else -1, token))
            if found is None:
                break
            places.append(found)
        return places

    def put(self, row: list[int]) -> tuple[int, ...]:
        """Add a row; return its places."""
        places = self._walk(row)
        for depth in range(len(places), len(row)):
            parent = places[-1] if places else -1
            self._children[parent, row[depth]] = len(self.ids)
            places.append(len(self.ids))
            self.ids.append(row[depth])
            self.depths.append(depth)
            self.parents.append(parent)
        return tuple(places)


@dataclass(frozen=True, kw_only=True)
class Attending:
    """What attention needs of the trees of the current pass.

    Attributes:
        positions, sees: As in `Trees`, on the device of the pass.
    """

    positions: Tensor
    sees: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, softcap: float | None, window: int | None) -> Tensor:
        """Return attention within each tree.

        Args:
            q, k, v: `tree x head x place x d_head`, of as many heads.
            scale: Factor of the scores.
            softcap: c of c tanh(score / c), or `None`.
            window: How far a token looks back, itself included, or `None`.

        Returns:
            `tree x place x head x d_head`; gradients pass.
        """
        sees = self.sees
        if window is not None and int(self.positions.max()) >= window:
            sees = sees & (self.positions[:, :, None] - self.positions[:, None, :] < window)
        if softcap is None:
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees[:, None], scale=scale)
        else:
            scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap)) * softcap
            out = scores.float().masked_fill(~sees[:, None], float("-inf")).softmax(-1).to(v.dtype) @ v
        return out.transpose(1, 2)
