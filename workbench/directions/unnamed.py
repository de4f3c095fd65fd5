"""Rows that were read from one item go together; a comparison that is not told so is far too sure. This notices it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

SHIFTS = 24
FAR = 8.0  # standard deviations from what rows give that do not go together


def warn_of_pairs(table: Mapping[str, Tensor]) -> None:
    """Warn loudly where row i of one cell goes with row i of another, as rows of one item do, although no items were named.

    The sum over rows of the product of both deviations is compared with the same sum after one cell's rows were moved along.

    Args:
        table: Rows by cell, `row x d_model`.
    """
    for (a, x), (b, y) in combinations(table.items(), 2):
        n = len(x)
        if x.shape != y.shape or n < 2 * SHIFTS:
            continue
        u, v = (rows.double() - rows.double().mean(0) for rows in (x, y))
        moved = torch.stack([(u * v.roll(n * k // (SHIFTS + 1), 0)).sum() for k in range(1, SHIFTS + 1)])
        far = float(((u * v).sum() - moved.mean()) / moved.std().clamp(min=1e-12))
        if far > FAR:
            warnings.warn(
                f"row i of {a!r} and row i of {b!r} go together ({far:.0f} standard deviations), as rows of one item do, and no items were "
                "named: the interval is too narrow and the verdict not to be trusted. Say paired=True, or name the items with items=",
                stacklevel=4,
            )
            return
