"""Questions with many options cut to two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..core.errors import BadInput
from ..core.seeds import numpy_rng
from .choices import Choice, called
from .rows import text_id


def to_ab(items: Iterable[Choice], seed: int = 0) -> list[Choice]:
    """Reduce every question to two options: the target and one wrong option, in a random order.

    The wrong option is the item's `foil` where it has one, else it is drawn. Option and order depend on the seed and the
    item's name only, not on the other items. The letters are balanced on average; `orders="both"` of `choices_to_prompts`
    balances them exactly.

    Args:
        items: Questions with two options or more.
        seed: Draws the wrong options and the orders.

    Returns:
        The questions with two options each, in the same order.

    Raises:
        BadInput: The options of an item are inside its question, or no wrong option has a text.
    """
    out = []
    for item in items:
        if item.words:
            out.append(item)
            continue
        if item.raw:
            raise BadInput(f"the options of {called(item)} stand inside its question and cannot be reordered")
        coin = numpy_rng(seed, "to_ab", item.name or text_id(item.question))
        first = bool(coin.integers(2))
        wrong = [i for i in item.wrong() if item.options[i].strip()] if item.foil is None else [item.foil]
        if not wrong:
            raise BadInput(f"no wrong option of {called(item)} has a text")
        right, other = item.options[item.target], item.options[wrong[int(coin.integers(len(wrong)))]]
        out.append(replace(item, options=(right, other) if first else (other, right), target=int(not first), foil=None))
    return out
