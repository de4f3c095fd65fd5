"""What words that were searched for are compared with: words that somebody wrote, and words drawn at random."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from typing import Any

from ..core.errors import BadInput
from ..core.paths import data_path
from ..core.seeds import numpy_rng
from ..models.known import name_of
from ..prompts import PromptSet
from .objective import Objective
from .prefix import Prefix
from .vocabulary import allowed, text_of

DRAWN = 20  # random words of a control


@cache
def written() -> dict[str, Prefix]:
    """Return the words that were written for this project by hand, by name: claims, system messages, a constitution of ten lines."""
    with data_path("prefixes", "written.toml").open("rb") as file:
        entries = tomllib.load(file)
    return {name: Prefix(text=e["text"].strip(), where=e["where"], towards=e["towards"]) for name, e in entries.items()}


def random_prefixes(
    model: Any,
    prompts: PromptSet,
    length: int,
    *,
    count: int = DRAWN,
    where: str = "before",
    words: str | Sequence[str] = "ascii",
    seed: int = 0,
) -> list[Prefix]:
    """Draw words at random, each of so many tokens that tokenise to themselves in place.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs that they are put into.
        length: Tokens of each.
        count: How many.
        where: "before" the question, "after" it, or "system".
        words: The tokens to draw from, as for `search_prefix`.
        seed: Draws.

    Returns:
        Distinct words.

    Raises:
        BadInput: Not so many were found: in this vocabulary most words of this length merge.
    """
    objective = Objective(model, prompts, "safe", where)
    objective.room(length)
    tokens, rng = allowed(model, words), numpy_rng(seed, "random prefixes")
    found: dict[str, tuple[int, ...]] = {}
    for _ in range(40):
        drawn = rng.choice(tokens, (2 * count, length)).tolist()
        texts = [text_of(model.tokenizer, ids) for ids in drawn]
        found |= {t: tuple(ids) for t, ids, now in zip(texts, drawn, objective.tokens_of(texts), strict=True) if now == ids}
        if len(found) >= count:
            return [Prefix(text=t, where=where, ids={name_of(model): ids}) for t, ids in list(found.items())[:count]]
    raise BadInput(
        f"{len(found)} of {count} random words of {length} tokens keep their tokens in {name_of(model)}: other words=, or a smaller count"
    )
