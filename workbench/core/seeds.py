"""Local random generators. Nothing here, or anywhere in the package, touches global state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: object) -> int:
    """Return a seed for one named use of randomness, so that two uses of one seed are independent.

    Args:
        seed: The user's seed.
        names: What the randomness is for, for example `("bootstrap", "layer", 3)`.
    """
    text = repr((int(seed), *map(str, names))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator of its own for one named use."""
    return np.random.default_rng(derive(seed, *names))


def torch_rng(seed: int, *names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator of its own for one named use."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))
