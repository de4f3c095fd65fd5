"""What tables of answers and readings show, in words: the rules, written down once.

The rules are those of docs/verdicts.md. They take numbers with intervals and give words; they read no model and draw nothing.

Inside, under a claim, against a neutral sentence in the same place of the same prompt form:

- *readable*: before any claim's effect is looked at, the layers at which the neutral condition is read above .5 by the AUROC of
  held-out items, and above the controls;
- *kept share*: the AUROC's excess over .5 under the claim, summed over the readable layers, divided by the same sum under the neutral
  sentence. *Kept* where its interval lies above one half, *erased* where it lies below;
- *never there*: no layer is readable, and the intervals are narrow enough to have seen an AUROC of `SEEN`; else *cannot be told*.

In the answers, by the AUROC of the margin between the two answers (.5 for answers that do not follow the statements, whichever word
wins):

- *does not answer*: under the neutral sentence (or without a claim) the two answers hold less than `MASS` of the probability, or the
  AUROC's interval includes .5 and lies below `SEEN`, or it includes .5 and one word is given in nearly all answers;
- *said* where the claim leaves more than half of the excess over .5, *not said* where it leaves less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

SEEN = 0.65
MASS = 0.1
ONE_WORD = 0.95
HALF = 0.5
INSIDE = ("kept", "erased", "never there", "cannot be told")
SAYS = ("said", "not said", "does not answer", "cannot be told")
VERDICTS = ("kept and not said", "kept and said", "erased", "never there", "cannot be told", "model does not answer")


@runtime_checkable
class Interval(Protocol):
    """A number with its interval: a row of a table, or an `Estimate`."""

    @property
    def value(self) -> Any:
        """The estimate."""

    @property
    def low(self) -> Any:
        """The interval's lower end."""

    @property
    def high(self) -> Any:
        """The interval's upper end."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A verdict, with its reason.

    Attributes:
        verdict: Of `VERDICTS`.
        inside: Of `INSIDE`: what became of what is read inside.
        says: Of `SAYS`: what became of the answers.
        why: The reason in words, with the numbers that decided.
    """

    verdict: str
    inside: str
    says: str
    why: str


def inside_verdict(readable: int, best: Interval, kept: Interval | None) -> tuple[str, str]:
    """Say what became of what is read inside.

    Args:
        readable: How many layers are readable under the neutral sentence.
        best: The AUROC under the neutral sentence at the layer where its interval reaches highest.
        kept: The kept share over the readable layers; `None` where there is no such layer.

    Returns:
        Of `INSIDE`, and why.
    """
    if not readable:
        if _known(best) and best.high < SEEN:
            return (
                "never there",
                f"no layer is read above chance and the controls, and an AUROC of {SEEN} would have been seen ({_says(best)})",
            )
        return (
            "cannot be told",
            f"no layer is read above chance and the controls, but the intervals reach an AUROC of {SEEN} ({_says(best)})",
        )
    if kept is None or not _known(kept):
        return "cannot be told", "the share that is kept has no interval"
    share = f"{_says(kept)} of what is read under the neutral sentence is read under the claim, over {readable} layers"
    if kept.low > HALF:
        return "kept", share
    if kept.high < HALF:
        return "erased", share
    return "cannot be told", f"{share}; the interval includes one half"


def answer_verdict(neutral: Interval, claim: Interval, answered: Interval, yes: Interval) -> tuple[str, str]:
    """Say what became of the answers.

    Args:
        neutral, claim: The AUROC of the margin under the neutral sentence (or without a claim), and under the claim.
        answered: The probability that both answers hold, under the neutral sentence.
        yes: The share of the positive answer, under the neutral sentence.

    Returns:
        Of `SAYS`, and why.
    """
    silent = silence(neutral, answered, yes)
    if silent:
        return "does not answer", silent
    if not _known(neutral) or not _known(claim):
        return "cannot be told", "an AUROC of the answers has no interval"
    if neutral.low <= 0.5 <= neutral.high:
        return "cannot be told", f"whether the answers follow the statements cannot be told: AUROC {_says(neutral)}"
    if neutral.high < 0.5:
        return "not said", f"the answers contradict the labels before any claim: AUROC {_says(neutral)}"
    middle = 0.5 + HALF * (neutral.value - 0.5)
    moved = f"the AUROC of the answers is {_says(neutral)} under the neutral sentence and {_says(claim)} under the claim"
    if claim.high < middle:
        return "not said", moved
    if claim.low > middle:
        return "said", moved
    return "cannot be told", f"{moved}; the interval includes the half of it, {middle:.2f}"


def silence(auroc: Interval, answered: Interval, yes: Interval, *, what: str = "statements", words: tuple[str, str] = ("no", "yes")) -> str:
    """Say why a model does not answer, or "".

    Args:
        auroc: The AUROC of the margin.
        answered: The probability that both answers hold.
        yes: The share of the positive answer.
        what: What is asked about.
        words: The negative and the positive answer.

    Returns:
        The reason in words.
    """
    if _finite(answered.value) and answered.value < MASS:
        return f"both answers together hold {answered.value:.1%} of the probability, less than {MASS:.0%}"
    if not _known(auroc):
        return ""
    chance = auroc.low <= 0.5 <= auroc.high
    if chance and auroc.high < SEEN:
        return f"the answers do not follow the {what}: AUROC {_says(auroc)}"
    if chance and not 1 - ONE_WORD < yes.value < ONE_WORD:
        word = words[yes.value > 0.5]
        return f"nearly all answers are {word} ({max(yes.value, 1 - yes.value):.0%}), and the AUROC is {_says(auroc)}"
    return ""


def verdict(inside: tuple[str, str], says: tuple[str, str]) -> Found:
    """Join what is read inside and what is said.

    Args:
        inside: From `inside_verdict`.
        says: From `answer_verdict`.

    Returns:
        The verdict. That a model does not answer comes first: what a claim does to its answers then says little.
    """
    (within, why), (said, because) = inside, says
    if said == "does not answer":
        name = "model does not answer"
    elif within != "kept":
        name = within
    else:
        name = {"said": "kept and said", "not said": "kept and not said"}.get(said, "cannot be told")
    why = f"{because}; inside: {why}" if said == "does not answer" else f"{why}; {because}"
    return Found(verdict=name, inside=within, says=said, why=why)


def _known(x: Interval) -> bool:
    return all(map(_finite, (x.value, x.low, x.high)))


def _finite(x: Any) -> bool:
    return x is not None and math.isfinite(x)


def _says(x: Interval) -> str:
    return f"{x.value:.2f} [{x.low:.2f}, {x.high:.2f}]"
