"""Weight orthogonalisation: the model can no longer write along a direction, and can again when the block ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from ..core.direction import Direction
from ..core.errors import ShapeMismatch
from ..models import Change, info, reweighted, writers
from ..models.writing import check_removed
from .placing import span


def orthogonalised(model: Any, direction: Direction | Sequence[Direction]) -> AbstractContextManager[None]:
    """Return a context in which nothing in the model writes along some directions.

    W' = W - U U^T W for every matrix that writes into the residual stream, and likewise for biases and embeddings. It is measured on a
    few tokens, not taken from names: that these weights write into the stream as they are, and, after the change, that the stream holds
    nothing of the directions after the embedding, in and after every block, and before the final norm. On the way out the weights are as
    before, bit for bit.

    Args:
        model: What `load_model` returns.
        direction: One, or several, whose span goes.

    Returns:
        A context manager; the change holds inside its `with` block.

    Raises:
        WrongModel, ShapeMismatch: A direction of another model or width.
        BadInput: An architecture of which this would not be true: a norm between block and stream, mixtures of experts. Also on
            entering the block, with the weights as before, where something else writes along the directions: a bias of a norm, a
            buffer, a hook. The message says at which site and layer, and how much.
        Disagrees: TransformerLens's pass over this model is not Hugging Face's.

    Note:
        The same as `ablate_everywhere` on every token, up to rounding; it costs nothing per token. Where the embedding is the unembedding
        too, the latter keeps its own values.

    References:
        Arditi et al. 2024, arXiv 2406.11717, equation 5.
    """
    several = [direction] if isinstance(direction, Direction) else list(direction)
    for d in several:
        d.check_place({"model": info(model).key()})
    basis = span(several)
    if len(basis) != int(model.cfg.d_model):
        raise ShapeMismatch(f"directions of width {len(basis)}; the model has d_model {int(model.cfg.d_model)}")

    def without(weight: Tensor, axis: int) -> Tensor:
        u = basis.to(weight.device).double()
        w = weight.double()
        return w - (w @ u) @ u.T if axis == -1 else w - u @ (u.T @ w)

    changes = [
        Change(parameter=w.parameter, function=lambda x, a=w.axis: without(x, a).to(x.dtype), label="orthogonalise") for w in writers(model)
    ]
    return reweighted(model, changes, check=lambda: check_removed(model, basis))
