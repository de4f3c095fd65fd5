"""In which inner product an angle is measured: raw, whitened by other rows, or causal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from ..core.errors import BadInput, ShapeMismatch, SharedRows
from ..core.types import Float
from ..probes.scaling import matrix

METRICS = ("raw", "whitened", "causal")


def whitener(rows: Any) -> Float[Tensor, "d_model d_model"]:
    """Return S^(-1/2) of rows that enter neither direction, S shrunk towards a multiple of the identity.

    A covariance from the rows of the directions themselves invents reliability .80 out of noise (128 rows, 512 dimensions).

    References:
        Ledoit and Wolf 2004, J. Multivar. Anal. 88:365.
    """
    x = matrix(rows, "covariance rows").double()
    shrunk = torch.as_tensor(ledoit_wolf(x.numpy())[0])
    values, vectors = torch.linalg.eigh(shrunk)
    if float(values[-1]) <= 0:
        raise BadInput("the covariance rows do not vary")
    return (vectors * values.clamp(min=1e-12 * float(values[-1])) ** -0.5) @ vectors.T


def _check_apart(covariance: Any, cells: Mapping[str, Any]) -> None:
    seen = {row.tobytes() for row in matrix(covariance, "covariance rows").numpy()}
    for name, rows in cells.items():
        x = torch.as_tensor(rows).detach().cpu()
        for one in (x, x - x.mean(0)):
            count = sum(row.tobytes() in seen for row in one.float().numpy())
            if count:
                raise SharedRows(
                    f"covariance=: {count} of its rows enter {name!r} too. A covariance of the same rows makes directions out of their noise; "
                    "give rows of other items"
                )


def causal_root(unembedding: Any) -> Float[Tensor, "d_model d_model"]:
    """Return C^(1/2), C the covariance of the unembedding's rows: |C^(1/2) x| is how much x spreads the logits.

    Park et al. state the causal inner product of unembedding vectors, g.C^-1 h; a direction of the residual stream is the dual C^-1 g of
    one, and the inner product of two such is x.C y.

    Args:
        unembedding: `d_model x vocabulary`, with the gain of the final norm multiplied in (`models.unembedding`).

    References:
        Park, Choe and Veitch 2023, arXiv 2311.03658, theorem 3.2.
    """
    u = torch.as_tensor(np.asarray(unembedding) if not isinstance(unembedding, Tensor) else unembedding).detach().double().cpu()
    if u.ndim != 2 or u.shape[1] <= u.shape[0]:
        raise ShapeMismatch(f"unembedding: d_model x vocabulary, got {tuple(u.shape)}")
    u = u - u.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(u @ u.T / u.shape[1])
    return (vectors * values.clamp(min=0) ** 0.5) @ vectors.T


def root(metric: str, *, covariance: Any = None, unembedding: Any = None, cells: Mapping[str, Any] | None = None) -> Tensor | None:
    """Return the matrix M with <x, y> = (M x).(M y), or `None` for the raw product.

    Args:
        metric: One of `METRICS`.
        covariance, unembedding: What "whitened" and "causal" need.
        cells: Rows that will enter the directions; those of the covariance must be others.

    Raises:
        BadInput: No such metric, or it lacks what it needs.
        SharedRows: A row of the covariance is a row of a cell, as it is or less the cell's mean.
    """
    if metric not in METRICS:
        raise BadInput(f"metric={metric!r}: one of {', '.join(METRICS)}")
    if metric == "whitened":
        if covariance is None:
            raise BadInput("metric='whitened' needs covariance=: rows of the same place that enter neither direction")
        _check_apart(covariance, cells or {})
        return whitener(covariance)
    if metric == "causal":
        if unembedding is None:
            raise BadInput("metric='causal' needs unembedding=, d_model x vocabulary: wb.models.unembedding(model)")
        return causal_root(unembedding)
    return None
