"""Contrast activations on their principal components."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput


def contrast_components(acts: Activations, layer: int, *, components: int = 2, colour: str = "letter") -> pd.DataFrame:
    """Project both variants of each pair onto their principal components: do the endings come apart, and by what?

    Args:
        acts: Activations of contrast pairs.
        layer: The block, counted from 0.
        components: How many, at least 1 and at most the smaller of the number of rows and d_model.
        colour: A column of the row table to keep beside (the letter: a behaviour that is only a letter shows as one).

    Returns:
        One row per item and variant (0 negative, 1 positive): `item, variant, layer`, the coordinates `component_1, component_2, …` (raw
        units around the mean of all rows; the sign of a component says nothing), their shares of the variance `explained_1, …`, and the
        column asked for, if there.

    Raises:
        BadInput: More components than there are, or none.
    """
    x = acts.layer(layer)
    rows: Tensor = x.reshape(-1, x.shape[-1]).double()
    if components < 1 or components > min(rows.shape):
        raise BadInput(f"{components} components of {rows.shape[0]} rows of width {rows.shape[1]}")
    centred = rows - rows.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    out = pd.DataFrame({"item": np.repeat(np.arange(len(x)), 2), "variant": np.tile([0, 1], len(x)), "layer": layer})
    for k in range(components):
        out[f"component_{k + 1}"] = (u[:, k] * s[k]).numpy()
        out[f"explained_{k + 1}"] = float(s[k] ** 2 / (s**2).sum())
    if colour in acts.rows:
        out[colour] = np.repeat(acts.rows[colour].to_numpy(), 2)
    return out
