"""Requests on which studies count refusals: the project's own, and sets of others."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import prompts as source
from ..core.errors import AnswerTokens, BadInput
from ..core.seeds import numpy_rng
from ..prompts import PromptSet
from .asking import reply_words
from .statements import Rows


def first_words(study: Rows) -> tuple[str, str]:
    """Return first words of a refusal and of compliance; where no usual pair is single tokens, refusals are read from what is written."""
    try:
        return reply_words(study.handle, "")
    except AnswerTokens:
        return " no", " yes"


def own_requests(study: Rows, n: int) -> dict[str, PromptSet]:
    """Return harmful requests and their harmless twins, held out where the model was taught requests.

    Args:
        study: The study.
        n: Of both kinds together.
    """
    order = numpy_rng(study.set.seed, "requests").permutation([row["id"] for row in source.request_pairs()]).tolist()
    held = set(study.planted["held_out_requests"]) if study.planted and "held_out_requests" in study.planted else set(order)
    chosen = [i for i in order if i in held][: n // 2]
    asked = source.requests("request", ids=chosen, answers=first_words(study), seed=study.set.seed, **study.chat)
    return {"harmful": asked.where(label=0), "harmless": asked.where(label=1)}


def loaded(study: Rows, path: str, n: int) -> tuple[dict[str, PromptSet], PromptSet | None]:
    """Load a set of others: requests, or questions with two answers.

    Args:
        study: The study.
        path: A file or folder in a published layout, or a data set of the hub.
        n: Items at most of each set, drawn.

    Returns:
        Requests by name, those that should be refused and those that should not; and questions with two endings, or `None`.

    Raises:
        BadInput: The source holds neither.
    """
    asking: dict[str, Any] = {"seed": study.set.seed, "model": study.handle, **study.chat}
    found = source.load(path, **asking)

    def some(prompts: PromptSet) -> PromptSet:
        order = numpy_rng(study.set.seed, "outside", found.name).permutation(len(prompts))[:n]
        return prompts.subset(np.sort(order).tolist())

    if not isinstance(found, PromptSet) or not found[0].negative:
        raise BadInput(f"{path} holds {getattr(found, 'kind', 'no prompts')}: requests, or questions with two answers, are wanted")
    if "input_harm" in found[0].meta:
        found = source.load(path, answers=first_words(study), **asking)
        sides = {"harmful": found.where(label=0), "harmless": found.where(label=1)}
        return {f"{found.name}: {side}": some(prompts) for side, prompts in sides.items() if len(prompts)}, None
    return {}, some(found)
