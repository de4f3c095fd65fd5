"""How well a dictionary recovers features that are known, as in toy models and planted data."""

from __future__ import annotations

import numpy as np
import torch

from ..core.errors import ShapeMismatch
from ..core.types import Float, Int, Tensor
from .dictionary import Dictionary


def matched(dictionary: Dictionary, directions: Float[Tensor, "feature d_in"]) -> tuple[Float[Tensor, " feature"], Int[Tensor, " feature"]]:
    """Return for each feature the largest cosine with a latent, and which latent that is.

    Args:
        dictionary: The dictionary.
        directions: Of the known features.

    Returns:
        Cosines, -1 to 1, and the latents' numbers. One latent may match several features.

    Raises:
        ShapeMismatch: Another width.
    """
    if directions.shape[1] != dictionary.d_in:
        raise ShapeMismatch(f"features of width {directions.shape[1]} and a dictionary of width {dictionary.d_in}")
    unit = torch.nn.functional.normalize
    cosine = unit(directions.float(), dim=1) @ unit(dictionary.decoder, dim=1).T
    top = cosine.max(1)
    return top.values, top.indices


def f1(
    dictionary: Dictionary,
    directions: Float[Tensor, "feature d_in"],
    rows: Float[Tensor, "row d_in"],
    present: Float[Tensor, "row feature"],
) -> np.ndarray:
    """Return how well the latent that matches each feature tells where the feature is present: F1 = 2 tp / (2 tp + fp + fn).

    Args:
        dictionary: The dictionary.
        directions: Of the known features.
        rows: Activations.
        present: The value of each feature in each row; above 0 it is present.

    Returns:
        One number per feature, 0 to 1.
    """
    latents = dictionary.encode(rows)[:, matched(dictionary, directions)[1]] > 0
    there = present > 0
    hits = (latents & there).sum(0)
    return (2 * hits / (latents.sum(0) + there.sum(0)).clamp_min(1)).double().numpy()
