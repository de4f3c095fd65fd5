"""In which inner product an angle is measured: raw, whitened by other rows, or causal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf

from ..core.errors import BadInput, NotFinite, ShapeMismatch, SharedRows
from ..core.types import Float, Tensor
from ..probes.scaling import matrix
from .cells import fingerprint

METRICS = ("raw", "whitened", "causal")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """An inner product <x, y> = (M x).(M y), made once and used at many layers.

    Attributes:
        name: One of `METRICS`.
        matrix: M, `d_model x d_model`.
    """

    name: str
    matrix: Float[Tensor, "d_model d_model"]


def _root(c: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """An M with M'M = c, positive semidefinite."""
    factor, failed = torch.linalg.cholesky_ex(c)
    if not int(failed):
        return factor.T
    values, vectors = torch.linalg.eigh(c)
    return values.clamp(min=0).sqrt()[:, None] * vectors.T


def whitener(rows: Any) -> Float[Tensor, "d_model d_model"]:
    """Return an M with M'M = S^-1, S the covariance of rows that enter neither direction, shrunk towards a multiple of the identity.

    A covariance from the rows of the directions themselves invents reliabilities of .5 and more out of noise.

    References:
        Ledoit and Wolf 2004, J. Multivar. Anal. 88:365.
    """
    x = matrix(rows, "covariance rows").double()
    shrunk = torch.as_tensor(ledoit_wolf(x.numpy())[0])
    if float(shrunk.diagonal().sum()) <= 0:
        raise BadInput("the covariance rows do not vary")
    shrunk.diagonal().add_(1e-12 * float(shrunk.diagonal().mean()))
    lower = torch.linalg.cholesky(shrunk)
    return torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)


def causal_metric(unembedding: Any) -> Metric:
    """Return the causal inner product: M'M = C, the covariance of the unembedding's rows; |M x| is how much x spreads the logits.

    Park et al. state the causal inner product of unembedding vectors, g.C^-1 h; a direction of the residual stream is the dual C^-1 g of
    one, and the inner product of two such is x.C y.

    Args:
        unembedding: `d_model x vocabulary`, with the gain of the final norm multiplied in (`models.unembedding`).

    Returns:
        The inner product, `d_model x d_model`; cosines in it are at most 1 in size, lengths are standard deviations of logits.

    Raises:
        ShapeMismatch: Not `d_model x vocabulary`, with more tokens than dimensions.
        NotFinite: It holds NaN or infinity.
        BadInput: All tokens have the same row.

    References:
        Park, Choe and Veitch 2023, arXiv 2311.03658, theorem 3.2.
    """
    u = torch.as_tensor(np.asarray(unembedding) if not isinstance(unembedding, Tensor) else unembedding).detach().float().cpu()
    if u.ndim != 2 or u.shape[1] <= u.shape[0]:
        raise ShapeMismatch(f"unembedding: d_model x vocabulary, got {tuple(u.shape)}")
    if not bool(u.isfinite().all()):
        raise NotFinite("unembedding: it holds NaN or infinity")
    u = u - u.mean(1, keepdim=True)
    if not float(u.abs().max()) > 0:
        raise BadInput("unembedding: all tokens have the same row, so no direction changes the logits")
    return Metric(name="causal", matrix=_root((u @ u.T).double() / u.shape[1]))


def _check_apart(covariance: Any, cells: Mapping[str, Any]) -> None:
    """Raise where rows of the covariance are rows of a cell, as they are or less the cell's mean."""
    seen = {fingerprint(row) for row in matrix(covariance, "covariance rows").numpy()}
    for name, rows in cells.items():
        x = torch.as_tensor(rows).detach().cpu()
        for version in (x, x - x.mean(0)):
            count = sum(fingerprint(row) in seen for row in version.float().numpy())
            if count:
                raise SharedRows(
                    f"covariance=: {count} of its rows enter {name!r} too. "
                    "A covariance of the same rows makes directions out of their noise; give rows of other items"
                )


def root(
    metric: str | Metric, *, covariance: Any = None, unembedding: Any = None, cells: Mapping[str, Any] | None = None
) -> Float[Tensor, "d_model d_model"] | None:
    """Return the matrix M with <x, y> = (M x).(M y), or `None` for the raw product.

    Args:
        metric: One of `METRICS`, or made before.
        covariance: Rows for "whitened", `row x d_model`, or a sample; rows that enter neither direction.
        unembedding: `d_model x vocabulary`, for "causal".
        cells: Rows that will enter the directions, by cell; those of the covariance must be others.

    Returns:
        M, `d_model x d_model`, in float64.

    Raises:
        BadInput: No such metric, or it lacks what it needs.
        SharedRows: A row of the covariance is a row of a cell, as it is or less the cell's mean.
    """
    if isinstance(metric, Metric):
        return metric.matrix
    if metric not in METRICS:
        raise BadInput(f"metric={metric!r}: one of {', '.join(METRICS)}")
    if metric == "whitened":
        if covariance is None:
            raise BadInput("metric='whitened' needs covariance=: rows of the same place that enter neither direction")
        covariance = getattr(covariance, "rows", covariance)  # of a sample
        _check_apart(covariance, cells or {})
        return whitener(covariance)
    if metric == "causal":
        if unembedding is None:
            raise BadInput("metric='causal' needs unembedding=, d_model x vocabulary: wb.models.unembedding(model)")
        return causal_metric(unembedding).matrix
    return None
