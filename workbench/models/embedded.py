"""Texts as the model's first layer has them: the mean of the embeddings of their tokens, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.types import Float
from .tokens import encode


def mean_embeddings(model: Any, texts: Iterable[str]) -> dict[str, Float[np.ndarray, " d_model"]]:
    """Return the mean token embedding of each text, in float32: what the words say before the model has read them together.

    Args:
        model: A loaded model.
        texts: The texts; each is looked up once.

    Returns:
        A vector by text.
    """
    each = list(dict.fromkeys(texts))
    table = model.W_E.detach().float().cpu().numpy()
    return {text: table[ids].mean(0) for text, ids in zip(each, encode(model, each), strict=True)}
