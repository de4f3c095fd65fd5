"""Any intervention as one thing: an adapter, edits of activations, or words in front of prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from ..core.errors import BadInput
from ..models import Edit, edited
from ..models.hooks import check_layer
from ..prompts import PromptSet
from .adapter import Adapter, adapted


@runtime_checkable
class Words(Protocol):
    """An intervention by words."""

    def apply(self, prompts: PromptSet) -> PromptSet:
        """Return the prompts with the words in them."""
        ...


@contextmanager
def acting(model: Any, change: Any, *, transfer: bool = False) -> Iterator[None]:
    """Let an intervention act inside a `with` block; words act on prompts (`under`), and nothing happens here.

    Args:
        model: What `load_model` returns.
        change: An adapter, edits, words, or `None`.
        transfer: Accept an adapter of another model.
    """
    if change is None or isinstance(change, Words):
        yield
    elif isinstance(change, Adapter):
        with adapted(model, change, canary=False, transfer=transfer):
            yield
    else:
        with edited(model, list(_edits(change))):
            yield


def under(change: Any, prompts: PromptSet) -> PromptSet:
    """Return the prompts as they are asked under an intervention.

    Args:
        change: An intervention, or `None`.
        prompts: The prompts.

    Returns:
        Other prompts for words, the same for anything else.
    """
    return change.apply(prompts) if isinstance(change, Words) else prompts


def lowest(model: Any, change: Any) -> int:
    """Return the first block whose output an intervention can change.

    Args:
        model: What `load_model` returns.
        change: An intervention, not `None`.

    Returns:
        The block, counted from 0.

    Raises:
        BadInput: It is none.
    """
    if isinstance(change, Words):
        return 0
    if isinstance(change, Adapter):
        if change.kind == "residual":
            return min(layer for _, layer in change.places)
        found = [re.search(r"\.(\d+)\.", name) for name in change.parts]
        return min((int(m.group(1)) for m in found if m), default=0)
    edits = list(_edits(change))
    if not edits:
        raise BadInput("an intervention without an edit changes nothing")
    return min(check_layer(model, e.layer) for e in edits)


def kind_of(change: Any) -> str:
    """Return what an intervention changes, in words."""
    if isinstance(change, Words):
        return "words"
    if isinstance(change, Adapter):
        return "stream, trained" if change.kind == "residual" else "weights"
    return "activations"


def _edits(change: Any) -> Iterable[Edit]:
    items = [change] if isinstance(change, Edit) else change
    if isinstance(items, str) or not isinstance(items, Iterable):
        raise BadInput(f"an intervention is an Adapter, edits, or words with .apply(prompts); got {type(change).__name__}")
    out = list(items)
    for item in out:
        if not isinstance(item, Edit):
            raise BadInput(f"an intervention is an Adapter, edits, or words with .apply(prompts); got a list with a {type(item).__name__}")
    return out
