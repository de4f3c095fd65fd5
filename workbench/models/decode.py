"""One step of writing: the logits after the last token of each row, with or without a cache of keys and values."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache

from ..core.types import Float, Int, Tensor


def fresh_cache(model: Any) -> Any:
    """Return an empty cache of keys and values that fits a model; `None` where it takes none (a `HookedTransformer`)."""
    return DynamicCache(config=model.original_model.config) if hasattr(model, "original_model") else None


def next_logits(
    model: Any, new: Int[Tensor, "row position"], mask: Int[Tensor, "row column"], cache: Any
) -> Float[Tensor, "row vocabulary"]:
    """Run one step.

    Args:
        model: What `load_model` returns; edits that are active act.
        new: Ids that the cache does not hold, padded on the left.
        mask: 1 for real tokens and 0 for padding, the cached ones included.
        cache: Keys and values of the tokens before, which this step extends; `None` to read whole rows.

    Returns:
        Logits after the last token, in float32.
    """
    if cache is None:
        return model(new, return_type="logits", attention_mask=mask)[:, -1].float()
    places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
    out = model(new, return_type="logits", attention_mask=mask, past_key_values=cache, use_cache=True, position_ids=places)
    return out[:, -1].float()
