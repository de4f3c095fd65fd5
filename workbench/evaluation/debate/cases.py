"""What is debated, what was said, and how a judge is shown it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...core.errors import BadInput
from ...prompts import ContrastPair

QUOTE = re.compile(r"<quote>(.*?)</quote>", re.DOTALL)
SIDES = ("negative", "positive")
FORMS = ("named", "consider")
HEAD = {
    "debate": "Two debaters argue about the question below. Only they have read a text; what stands in quotation marks is from it.\n",
    "consultancy": "A consultant argues about the question below. Only they have read a text; what stands in quotation marks is from it.\n",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question with two answers, and a text that only those who argue have read.

    Attributes:
        name: Of the case; unique in a set.
        pair: The question as a contrast pair: its two endings are the answers, and its label names the right one.
        facts: Sentences of the text that speak for the right answer.
        doubts: Sentences of the text that seem to speak for the wrong one.
        beside: By answer (of `SIDES`), what may be said for it without the text.
    """

    name: str
    pair: ContrastPair
    facts: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    beside: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __post_init__(self) -> None:
        if not self.name or not self.facts:
            raise BadInput(f"case {self.name!r}: a name and one fact at least")

    @property
    def right(self) -> int:
        """The right answer: 1 for the positive ending."""
        return int(self.pair.label)

    @property
    def document(self) -> str:
        """The whole text."""
        return " ".join((*self.facts, *self.doubts))

    def answer(self, side: int) -> str:
        """Return the words of an answer.

        Args:
            side: 1 for the positive ending, 0 for the negative one.
        """
        return (self.pair.positive if side else self.pair.negative).strip()


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What one side said in one turn.

    Attributes:
        side: The answer that is argued for, 0 or 1.
        text: What was said; passages between <quote> and </quote> are given out as the text's words.
    """

    side: int
    text: str

    def quotes(self, document: str) -> tuple[list[str], list[str]]:
        """Return the passages that stand in the text, and those that do not.

        Args:
            document: The text.
        """
        said = [" ".join(q.split()) for q in QUOTE.findall(self.text)]
        whole = " ".join(document.split())
        return [q for q in said if q and q in whole], [q for q in said if not q or q not in whole]

    def shown(self, document: str) -> str:
        """Return what a judge is shown: verified passages in quotation marks, others marked as not found.

        Args:
            document: The text.
        """
        real, _ = self.quotes(document)

        def one(found: re.Match[str]) -> str:
            quote = " ".join(found.group(1).split())
            return f"“{quote}”" if quote in real else f"{quote} (not in the text)"

        return " ".join(QUOTE.sub(one, self.text).split())


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A case, and what was said about it.

    Attributes:
        case: What was debated.
        protocol: "none", "consultancy" or "debate".
        speeches: In the order in which they were made.
        called: The name of each side, by answer, "" where it did not speak.
        strength: How strong the debaters were, where that is known; else nan.
    """

    case: Case
    protocol: str
    speeches: tuple[Speech, ...] = ()
    called: tuple[str, str] = ("", "")
    strength: float = float("nan")

    @property
    def first(self) -> int | None:
        """The side that spoke first; `None` where nobody did."""
        return self.speeches[0].side if self.speeches else None

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides that spoke."""
        return tuple(dict.fromkeys(s.side for s in self.speeches))

    def document(self) -> str:
        """Return the debate as Markdown: the question, the text that the judge did not see, and what was said."""
        case, lines = self.case, [f"# {self.case.name}", "", f"**Question.** {self.case.pair.stem.strip()}", ""]
        lines += [f"Right: {case.answer(case.right)}. Wrong: {case.answer(1 - case.right)}.", "", f"> {case.document}", ""]
        for speech in self.speeches:
            real, other = speech.quotes(case.document)
            lines += [f"**{self.called[speech.side]}, for “{case.answer(speech.side)}”:** {speech.shown(case.document)}", ""]
            lines += [f"_Passages verified: {len(real)}; not in the text: {len(other)}._", ""] if real or other else []
        return "\n".join(lines)


def with_speeches(transcript: Transcript, form: str = "named") -> ContrastPair:
    """Return the question as a judge is asked it: behind what was said, without the text.

    Args:
        transcript: The debate.
        form: "named": who speaks for which answer, a line each; "consider": each speech in a sentence that begins "Consider that", for
            models that were trained on such claims.

    Returns:
        The contrast pair; `meta` says what stands in front.

    Raises:
        BadInput: No such form.
    """
    if form not in FORMS:
        raise BadInput(f"form={form!r}: one of {', '.join(FORMS)}")
    pair, document = transcript.case.pair, transcript.case.document
    if form == "named":
        head = HEAD.get(transcript.protocol, "") if transcript.speeches else ""
        lines = [f"{transcript.called[s.side]}, for “{transcript.case.answer(s.side)}”: {s.shown(document)}\n" for s in transcript.speeches]
        front = "".join([head, *lines, "\n" if lines else ""])
    else:
        front = "".join(f'Consider that "{s.shown(document)}" ' for s in transcript.speeches)
    end = pair.instruction_end
    meta = {**pair.meta, "protocol": transcript.protocol, "case": transcript.case.name}
    return replace(pair, stem=front + pair.stem, instruction_end=None if end is None else end + len(front), meta=meta)


def called(order: Sequence[int], labels: tuple[str, str] = ("Debater A", "Debater B")) -> tuple[str, str]:
    """Return the name of each side, by answer: the first of an order gets the first name.

    Args:
        order: Both sides.
        labels: The names.
    """
    named = dict(zip(order, labels, strict=False))
    return named.get(0, ""), named.get(1, "")
