"""Weights that directions are measured with: the unembedding and the output matrices of attention heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.errors import BadInput
from ..core.types import Float
from .hooks import check_layer
from .load import info


def unembedding(model: Any) -> Float[Tensor, "d_model vocabulary"]:
    """Return the unembedding with the gain of the final norm multiplied in, in float32 on the CPU.

    Raises:
        BadInput: The model has none that can be read.
    """
    name = info(model).name
    head = getattr(getattr(model, "unembed", None), "W_U", None)
    if not isinstance(head, Tensor) or head.ndim != 2:
        raise BadInput(f"{name} has no unembedding that can be read: no causal metric for it")
    out = head.detach().float().cpu()
    d = info(model).d_model
    if out.shape[0] != d:
        out = out.T
    if out.shape[0] != d:
        raise BadInput(f"{name}: an unembedding of {tuple(head.shape)} for d_model {d}")
    gain = getattr(getattr(model, "ln_final", None), "weight", None)
    if not isinstance(gain, Tensor):
        gain = getattr(getattr(model, "ln_final", None), "w", None)
    if isinstance(gain, Tensor) and gain.shape == (d,):
        offset = (
            1.0 if "gemma" in type(getattr(model, "original_model", model)).__name__.lower() else 0.0
        )  # Gemma's norms multiply by 1 + w
        out = out * (gain.detach().float().cpu() + offset)[:, None]
    return out


def head_outputs(model: Any, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """Return the output weights of a layer's attention heads, in float32 on the CPU.

    Raises:
        UnknownLayer: No such layer.
        BadInput: They cannot be read.
    """
    block = model.blocks[check_layer(model, layer)]
    w = getattr(getattr(block, "attn", None), "W_O", None)
    if not isinstance(w, Tensor):
        raise BadInput(f"{info(model).name} has no attention output weights that can be read at layer {layer}")
    w = w.detach().float().cpu()
    return w if w.ndim == 3 else w.view(int(model.cfg.n_heads), -1, w.shape[-1])
