"""The answers of contrast pairs as tokens: which forms count as each ending, and how endings of several tokens are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..models.tokens import EncodedPair, answer_forms
from .engine import Job

if TYPE_CHECKING:
    from ..prompts import PromptSet

Answers = list[list[list[list[int]]]]  # item, ending, form, token


def forms_of(model: Any, prompts: PromptSet, encoded: Sequence[EncodedPair]) -> Answers:
    """Return the forms that count as each ending of each item: single tokens, or of a longer ending its own tokens alone.

    Args:
        model: What `load_model` returns.
        prompts: Contrast pairs.
        encoded: Their ids.

    Raises:
        AnswerTokens: An ending is empty or unknown, or one begins the other.
    """
    forms = {ends: answer_forms(model, ends) for ends in sorted({(p.negative, p.positive) for p in prompts})}
    return [
        [[x.negative[x.stem :]], [x.positive[x.stem :]]]
        if (ends := forms[p.negative, p.positive]) is None
        else [[[t] for t in e] for e in ends]
        for p, x in zip(prompts, encoded, strict=True)
    ]


def further(items: Sequence[EncodedPair], answers: Answers | None) -> Iterator[tuple[tuple[int, int, int], Job]]:
    """Yield what reads the tokens of an answer behind its first.

    Args:
        items: The items.
        answers: Their forms; `None` for none.

    Yields:
        For every token but the first of an answer of several: its item, its ending and its place, and the job that reads it.
    """
    for i, (x, item) in enumerate(zip(items, answers or (), strict=False)):
        for e, (row, end) in enumerate(zip((x.negative, x.positive), item, strict=True)):
            for k in range(1, len(end[0]) if len(end) == 1 else 1):
                yield (i, e, k), Job(ids=row[: x.stem + k], ask=x.stem + k - 1, prompt=x.stem, instruction=x.instruction)
