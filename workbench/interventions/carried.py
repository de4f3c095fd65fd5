"""A tensor that an edit holds, wherever the stream is."""

from __future__ import annotations

import torch
from torch import Tensor


class Carried:
    """A tensor that follows the stream's device and dtype, moved once for each."""

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.moved: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return it on the device of activations, in their dtype or the one given."""
        key = (x.device, dtype or x.dtype)
        if key not in self.moved:
            self.moved[key] = self.value.to(device=x.device, dtype=key[1])
        return self.moved[key]
