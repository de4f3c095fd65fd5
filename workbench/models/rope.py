"""How positions are stretched in a gguf file. transformers does not read it there; what is not carried over is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import QuantisedModel
from .gguf_header import Header
from .gguf_light import light


def settle_rope(config: Any, header: Header) -> None:
    """Write the stretching of positions that a gguf file asks for into a configuration.

    Args:
        config: The Hugging Face configuration that transformers made of the file; it is changed.
        header: The file's header.

    Raises:
        QuantisedModel: The file asks for one that cannot be carried over.
    """
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict):
        parameters = {}
    inner = parameters.get("full_attention", parameters)
    kind = str(header.own("rope.scaling.type") or "none")
    if "rope_freqs.weight" in header.tensors:
        _llama3(inner, header)
    elif any(name.startswith("rope_factors") for name in header.tensors) or kind not in ("none", "linear"):
        if inner.get("rope_type", "default") == "default":
            raise QuantisedModel(
                f"{header.path.name} stretches positions in a way that is not read from gguf files ({kind}), so long prompts would be read "
                "otherwise. Use the model's original repository"
            )
    elif kind == "linear" and inner.get("rope_type", "default") == "default":
        inner |= {"rope_type": "linear", "factor": float(header.own("rope.scaling.factor") or 1.0)}


def _llama3(inner: dict[str, Any], header: Header) -> None:
    """Llama 3 keeps a divisor for each frequency: find the rule of transformers that gives the same ones, or refuse."""
    with light():
        from gguf import GGUFReader

        found = next(t for t in GGUFReader(str(header.path)).tensors if t.name == "rope_freqs.weight")
    divisors = np.asarray(found.data, dtype=np.float64)
    base = float(inner.get("rope_theta", 10000.0))
    rule = {"factor": float(divisors.max()), "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    if divisors.max() <= 1.0:
        return
    lengths = 2 * math.pi * base ** (np.arange(len(divisors)) / len(divisors))
    smooth = np.clip((8192 / lengths - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    if not np.allclose(1 / ((1 - smooth) / rule["factor"] + smooth), divisors, rtol=1e-4):
        raise QuantisedModel(
            f"{header.path.name} divides its frequencies by numbers (rope_freqs) that no rule of transformers gives. Use the model's "
            "original repository"
        )
    inner |= {"rope_type": "llama3", **rule}
