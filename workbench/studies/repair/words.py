"""The claim opposite to harm, put in front of every question: the repair by words that costs no training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...core.errors import BadInput
from ...prompts import ContrastPair, PromptSet, claims

QUESTIONS = ("Statement:", "Would you rather", "Request:")
LONG = "Below is a statement"


BEFORE = "nothing"
PUSH, STRONG, RANDOM_PUSH = "steering push, equal KL", "steering push, target KL", "random push, target KL"
WORDS = "good claim in front"
RANDOM_LABELS = "adapter on random labels"


@dataclass(frozen=True)
class GoodClaim:
    """Words in front of the question.

    Attributes:
        claim: Name of the claim whose sentence is put in front.
    """

    claim: str

    def apply(self, prompts: PromptSet) -> PromptSet:
        """Return the prompts with the sentence before the question that is asked last, behind a claim that stands there already."""
        sentence = f'Consider that "{claims()[self.claim]}" '
        return PromptSet((_led(p, sentence) for p in prompts), name=f"{prompts.name}, {self.claim} claim in front")


def _led(pair: ContrastPair, sentence: str) -> ContrastPair:
    at = max(pair.stem.rfind(mark) for mark in QUESTIONS)
    if at < 0:
        raise BadInput(f"the stem {pair.stem[:60]!r} holds none of {', '.join(QUESTIONS)}: words cannot be put in front of its question")
    long = pair.stem.rfind(LONG, 0, at)
    if long >= 0 and "Answer:" not in pair.stem[long:at]:
        at = long
    end = pair.instruction_end
    return replace(pair, stem=pair.stem[:at] + sentence + pair.stem[at:], instruction_end=None if end is None else end + len(sentence))
