"""Shape-carrying type names, written `Float[Tensor, "item variant layer d_model"]`."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
