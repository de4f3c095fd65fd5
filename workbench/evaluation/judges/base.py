"""What a judge is, what it returns, and the errors of judging.

A judge reads questions and answers and says of each answer whether it shows one behaviour (refusal, by default). Judges
differ and err; `judge_all` puts several side by side, `kappa.agreement_between` says how far they agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from ...core.errors import BadInput, MissingColumn, ShapeMismatch, TemplateField, TooFew, UnknownName, WorkbenchError
from ...core.provenance import provenance
from ...models.thoughts import answer_of

COLUMNS = ("judge", "score", "verdict", "note")
BLANK = "blank answer"


class UnknownLabel(UnknownName):
    """A class that a text classifier does not have."""


class BudgetExceeded(BadInput):
    """Judging would cost, or has cost, more than was allowed; or the cost cannot be known."""


class MissingKey(BadInput):
    """No usable key for an endpoint in the environment."""


class BadVerdicts(BadInput):
    """A file of people's verdicts that cannot be used as it stands."""


class EndpointRefused(WorkbenchError):
    """An endpoint answered that the request itself is wrong (key, model name, form): asking again would not help."""


class EndpointFailed(WorkbenchError):
    """An endpoint did not answer, or asked for too long a pause, however often it was tried."""


@runtime_checkable
class Judge(Protocol):
    """Anything that judges answers.

    `judge` returns one row per answer, in order, with the columns `judge` (its name), `score` (0 to 1, `nan` where it gave
    no verdict), `verdict` (nullable boolean: True where the answer shows the behaviour, NA where there is no verdict) and
    `note` (why there is none, or the judge's reason). What is judged is what follows a thought (`models.thoughts.answer_of`); a
    thought without an end gets no verdict.
    """

    name: str

    def judge(self, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """Judge answers.

        Args:
            questions: One per answer.
            answers: What is judged.

        Returns:
            One row per answer, in order: `judge, score, verdict, note`, as above.
        """
        ...


def texts(questions: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return questions and answers as lists after checking them.

    Half a character (a lone surrogate), which can be neither sent nor written, is replaced by U+FFFD; two halves that belong
    together are joined.

    Raises:
        ShapeMismatch: Not one question per answer.
        BadInput: Something that is not a text.
    """
    if isinstance(questions, str) or isinstance(answers, str):
        raise BadInput("questions and answers are lists of texts, got one text; put it in a list")
    q, a = list(questions), list(answers)
    if len(q) != len(a):
        raise ShapeMismatch(f"{len(q)} questions and {len(a)} answers: give one question per answer, the same one again if need be")
    for kind, items in (("question", q), ("answer", a)):
        for i, item in enumerate(items):
            if not isinstance(item, str):
                raise BadInput(f"{kind} {i} is {item!r}, of type {type(item).__name__}; a text is a string, '' for an empty one")
    return [whole(text) for text in q], [whole(text) for text in a]


def whole(text: str) -> str:
    """Return a text with U+FFFD for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Questions, and what was answered to them apart from what was thought.

    Attributes:
        questions: One per answer.
        answers: What follows each thought; "" where a thought has no end.
        notes: Why there is nothing to judge: a blank answer, or a thought without an answer; "" where there is something.
        thoughts: "" for none, "closed" or "unfinished".
    """

    questions: list[str]
    answers: list[str]
    notes: list[str]
    thoughts: list[str]


def heard(questions: Sequence[str], answers: Sequence[str]) -> Heard:
    """Return questions and answers after checking them, the answers without thoughts (`models.thoughts.answer_of`).

    A question that is the whole prompt and ends inside a thought begins the answer there.

    Args:
        questions: One per answer.
        answers: What a model wrote.

    Returns:
        The questions, and the answers apart from thoughts.

    Raises:
        ShapeMismatch, BadInput: As for `texts`.
    """
    q, a = texts(questions, answers)
    found = [answer_of(answer, question) for question, answer in zip(q, a, strict=True)]
    notes = [f.missing or (BLANK if blank(f.text) else "") for f in found]
    return Heard(questions=q, answers=[f.text for f in found], notes=notes, thoughts=[f.thought for f in found])


def blank(answer: str) -> bool:
    """Whether there is nothing to judge: an empty answer is neither a refusal nor compliance."""
    return not answer.strip()


def table(
    name: str,
    scores: Sequence[float] | np.ndarray,
    verdicts: Sequence[bool | None],
    notes: Sequence[str],
    facts: Mapping[str, Any] | None = None,
    *,
    thoughts: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a judge's answer in the common form.

    Args:
        name: The judge's name.
        scores: 0 to 1 per answer, `nan` where there is no verdict.
        verdicts: True, False or `None` per answer.
        notes: One text per answer.
        facts: What else decides the verdicts; goes into the provenance.
        thoughts: Per answer "" or what became of its thought, "closed" or "unfinished".

    Returns:
        One row per answer: `judge, score, verdict` (nullable boolean), `note`; and `thought`, if any answer has one.
    """
    frame = pd.DataFrame(
        {
            "judge": [name] * len(verdicts),
            "score": np.asarray(scores, float),
            "verdict": pd.array([None if v is None else bool(v) for v in verdicts], dtype="boolean"),
            "note": list(notes),
        }
    )
    if any(thoughts):
        frame["thought"] = list(thoughts)
    frame.attrs["provenance"] = provenance(judge={"name": name, **(facts or {})})
    return frame


def judge_all(judges: Sequence[Judge], questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
    """Ask several judges about the same answers.

    Args:
        judges: Judges with distinct names.
        questions: One per answer.
        answers: The answers, in order.

    Returns:
        One row per judge and answer: `judge, item` (0 to n - 1, the answer's place), `questions, answers` (with U+FFFD for half a
        character), `score, verdict, note`, and `thought` ("closed", "unfinished" or "") if any answer has one;
        `attrs["provenance"]` holds the facts of every judge.

    Raises:
        ShapeMismatch: Not one question per answer, or a judge returned another number of rows.
        BadInput: Two judges of one name, something that is no judge, or scores outside 0 to 1.
        MissingColumn: A judge returned a table without the columns.
        TooFew: No judge was given.

    Example:
        >>> from workbench.evaluation.judges import RefusalPhrases, judge_all
        >>> judge_all([RefusalPhrases()], ["Why?", "How?"], ["I can't help with that.", "Like this."])["verdict"].tolist()
        [True, False]
    """
    q, a = texts(questions, answers)
    for judge in judges:
        if not isinstance(judge, Judge):
            raise BadInput(f"a judge has a name and a method judge(questions, answers), got {type(judge).__name__}")
    names = [j.name for j in judges]
    if not names:
        raise TooFew("no judge was given")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput(f"several judges are named {twice[0]!r}; give each its own name=")
    frames, facts = [], []
    for judge in judges:
        verdicts = judge.judge(q, a)
        _check(judge.name, verdicts, len(q))
        facts.append(verdicts.attrs.get("provenance", {}).get("judge", {"name": judge.name}))
        frame = verdicts[list(COLUMNS)].reset_index(drop=True)
        frame.attrs = {}
        frames.append(frame.assign(verdict=frame["verdict"].astype("boolean"), item=range(len(q)), questions=q, answers=a))
    out = pd.concat(frames, ignore_index=True)[["judge", "item", "questions", "answers", "score", "verdict", "note"]]
    thoughts = heard(q, a).thoughts
    if any(thoughts):
        out["thought"] = thoughts * len(judges)
    out.attrs["provenance"] = provenance(judges=facts)
    return out


def _check(name: str, got: pd.DataFrame, n: int) -> None:
    missing = [c for c in COLUMNS if c not in got]
    if missing:
        raise MissingColumn(f"the judge {name!r} returned no column {missing[0]!r}; a judge returns {', '.join(COLUMNS)}")
    if len(got) != n:
        raise ShapeMismatch(f"the judge {name!r} returned {len(got)} rows for {n} answers; it must return one per answer, in order")
    other = sorted(set(map(str, got["judge"])) - {name})
    if other:
        raise BadInput(f"the judge {name!r} signed its rows as {other[0]!r}")
    wrong = [s for s in got["score"] if not (math.isnan(s) or 0 <= s <= 1)]
    if wrong:
        raise BadInput(f"the judge {name!r} gave a score of {wrong[0]}; scores lie between 0 and 1")


def check_template(template: str, *, ends: bool = False) -> None:
    """Raise unless a template shows the answer, and at most the question beside it.

    Args:
        template: For example "{question} {answer}"; literal braces are doubled.
        ends: The answer must be the last thing in it.

    Raises:
        TemplateField: It has another field or no `{answer}`, or text follows the answer.
    """
    try:
        fields = [f for _, f, _, _ in Formatter().parse(template) if f is not None]
    except ValueError as error:
        raise TemplateField(f"template {template!r}: {error}. Double a literal brace") from None
    other = [f for f in fields if f not in ("question", "answer")]
    if other:
        raise TemplateField(f"template {template!r} has the field {other[0]!r}; there are: question, answer")
    if fields.count("answer") != 1:
        raise TemplateField(f"template {template!r} must hold {{answer}} once")
    if ends and not template.endswith("{answer}"):
        raise TemplateField(f"template {template!r} must end with {{answer}}: what is read are the last tokens")
