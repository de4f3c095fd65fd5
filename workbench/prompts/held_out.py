"""The split of the UDHR statements: what a model with planted truth was trained without is held out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..models import planted
from .splits import Split, grouped_split
from .udhr import identities, rights


def udhr_split(model: Any = None, *, test: float = 0.35, seed: int = 0) -> Split:
    """Return a split of the identities and rights of the UDHR statements.

    Args:
        model: An organism, whose training lacks some identities and rights: those are held out. Of any other model, and without one, a
            share is drawn.
        test: Share of the identities and of the rights to hold out, between 0 and 1, where they are drawn.
        seed: Draws them.

    Returns:
        The split, for `udhr(…, split=split, side="test")` and `PromptSet.side`.

    Raises:
        BadInput: The share is out of range.

    Example:
        >>> import workbench as wb
        >>> split = wb.prompts.udhr_split(seed=1)
        >>> train, test = (wb.prompts.udhr(n=40, split=split, side=side) for side in ("train", "test"))
        >>> set(train.to_frame()["identity"]) & set(test.to_frame()["identity"])
        set()
    """
    names = {"identity": [i.identity for i in identities()], "right": [r.right for r in rights()]}
    truth = None if model is None else planted(model)
    if truth is None:
        cells = [(i, r) for i in names["identity"] for r in names["right"]]
        return grouped_split(pd.DataFrame(cells, columns=list(names)), test=test, seed=seed)
    held = {"identity": frozenset(truth["held_out_identities"]), "right": frozenset(truth["held_out_rights"])}
    return Split(test=held, train={k: frozenset(names[k]) - held[k] for k in names})
