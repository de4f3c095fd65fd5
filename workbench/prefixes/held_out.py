"""Prompts to search on and prompts to choose by, where only one set was given."""

from __future__ import annotations

from ..core.errors import BadInput
from ..prompts import PromptSet, grouped_split


def held_out(prompts: PromptSet, seed: int) -> tuple[PromptSet, PromptSet]:
    """Return prompts to search on, and those of a quarter of the identities to choose by.

    Args:
        prompts: All of them.
        seed: Draws the identities.

    Raises:
        BadInput: They are all about one identity.
    """
    rows = prompts.to_frame()
    if rows["identity"].nunique() < 2:
        raise BadInput(
            "words are chosen on prompts about others than those they are searched on, and these are all about one identity: validation="
        )
    return prompts.split(grouped_split(rows, by=("identity",), test=0.25, seed=seed))
