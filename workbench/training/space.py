"""Where an adapter writes: the angle between its output space and a direction, against random adapters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch
from ..core.nulls import permutation_p
from ..core.seeds import torch_rng
from ..core.types import Float
from .adapter import Adapter

DRAWS = 999


def output_space(adapter: Adapter, place: str) -> Float[Tensor, "d_model rank"]:
    """Return an orthonormal basis of what an adapter can add at a place.

    Args:
        adapter: A residual adapter, or one on matrices that write into the stream.
        place: One of `adapter.parts`.

    Returns:
        Columns of length 1, those along which most is added first.

    Raises:
        BadInput: The adapter has no such place, or adds nothing there.
    """
    if place not in adapter.parts:
        raise BadInput(f"the adapter has no part {place!r}; it has: {', '.join(adapter.parts)}")
    u, s, _ = torch.linalg.svd(adapter.parts[place].matrix(adapter.factor).double(), full_matrices=False)
    kept = s > 1e-6 * s[0]
    if not bool(s[0] > 0):
        raise BadInput(f"the adapter adds nothing at {place}")
    return u[:, kept]


def written_along(adapter: Adapter, directions: dict[str, Direction], *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Return how much of each direction lies in an adapter's output space, against random spaces of its rank.

    The cosine of the principal angle between a direction u and the space with orthonormal basis Q is |Q^T u|.

    Args:
        adapter: A residual adapter.
        directions: By name.
        draws: Random spaces of the same rank, uniform; their central 95 % is the control, and p is that of Phipson and Smyth.
        seed: Draws them.

    Returns:
        Rows `place, direction, metric, value, low, high, n, note`: "cosine" of the principal angle, with no interval (the adapter is one);
        "random spaces", median and central 95 %.

    Raises:
        ShapeMismatch: A direction has another width.

    References:
        Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    rows = []
    for place in adapter.parts:
        basis = output_space(adapter, place)
        width, rank = basis.shape
        rng = torch_rng(seed, "random output spaces", place)
        for name, direction in directions.items():
            if len(direction.unit) != width:
                raise ShapeMismatch(f"the direction {name!r} is {len(direction.unit)} wide, and the adapter writes {width} dimensions")
            found = float((basis.T @ direction.unit.double()).norm())
            # of a random space, the squared cosine is Beta(rank / 2, (width - rank) / 2)
            drawn = torch.randn(draws, width, generator=rng, dtype=torch.float64).square()
            null = (drawn[:, :rank].sum(1) / drawn.sum(1)).sqrt().numpy()
            p = permutation_p(found, null)
            about = {"place": place, "direction": name}
            note = f"p {p:.3g} against {draws} random spaces of rank {rank}"
            rows.append(about | {"metric": "cosine", "value": found, "low": np.nan, "high": np.nan, "n": rank, "note": note})
            low, middle, high = np.quantile(null, [0.025, 0.5, 0.975])
            rows.append(about | {"metric": "random spaces", "value": middle, "low": low, "high": high, "n": draws, "note": "central 95 %"})
    return pd.DataFrame(rows)
