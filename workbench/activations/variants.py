"""Whether the two variants of an item were read apart, and what a probe of one block reads of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.types import Float, Tensor

if TYPE_CHECKING:
    from .activations import Activations

SHARED = ("stem_last", "instruction_last")  # the same for both variants: nothing after the stem is read


def is_paired(acts: Activations) -> bool:
    """Return whether the two variants of an item were read at different tokens.

    Args:
        acts: Activations.

    Returns:
        False where only the stem was read, or where every item is a single statement.
    """
    if acts.position in SHARED:
        return False
    if not {"negative", "positive"} <= set(acts.rows):
        return True
    return len(acts.rows) == 0 or acts.rows[["negative", "positive"]].iloc[0].tolist() != ["", ""]  # a set is of one kind


def variants(acts: Activations, layer: int) -> tuple[Float[Tensor, "item ..."], Float[Tensor, "item ..."] | None]:
    """Return what a probe of one block reads: the positive and the negative variants, or single rows and `None`.

    Args:
        acts: Activations.
        layer: The block, counted from 0.

    Returns:
        Both in float32, `item x d_model`.

    Raises:
        UnknownLayer: This block was not captured.
    """
    x = acts.layer(layer)
    return (x[:, 1], x[:, 0]) if is_paired(acts) else (x[:, 0], None)


def single_rows(acts: Activations) -> str:
    """Return in words why the activations hold one row an item, and what to do where contrast pairs are needed."""
    if acts.position in SHARED:
        return f"read at {acts.position!r}, where both variants are the same: capture contrast pairs with position='last'"
    return "single statements: make contrast pairs of them, in question form (prompts.as_questions) or with their negations"
