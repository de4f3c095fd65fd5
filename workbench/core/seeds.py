"""Local random generators. Nothing here, or anywhere in the package, touches global state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: object) -> int:
    """Return a seed for one named use of randomness, so that two uses of one seed are independent.

    Args:
        seed: The user's seed.
        names: What the randomness is for, for example `"bootstrap", "layer", 3`; compared as text.

    Returns:
        A number from 0 to 2^56 - 1, the same on every machine.
    """
    text = repr((int(seed), *map(str, names))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    """Return a NumPy generator for one named use; NumPy's global state is untouched.

    Args:
        seed, names: As for `derive`.

    Returns:
        A generator at the beginning of its stream.
    """
    return np.random.default_rng(derive(seed, *names))


def torch_rng(seed: int, *names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator for one named use; torch's global state is untouched.

    Args:
        seed, names: As for `derive`.
        device: Where the random tensors will be made; a generator serves one kind of device only.

    Returns:
        A generator at the beginning of its stream. Its numbers differ between kinds of device.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *names))
