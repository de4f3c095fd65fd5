"""TruthfulQA and MMLU: questions with a right answer, which measure the capability that an edit of a model costs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, MissingColumn, UnknownName, unknown
from .caa import load_ab
from .cells import Place, check_text, flaw_of, label_of, name_of, need, shown, text_of, to_name
from .choices import LETTERS, Choice
from .left_out import each
from .rows import find_files, hub_rows, numbered, read_rows, sample, text_id
from .two_options import to_ab

TRUTHFULQA_HUB = "truthfulqa/truthful_qa"
MMLU_HUB = "cais/mmlu"
_AB = {"prompt", "correct", "incorrect"}
_CSV = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
_GENERATION = ("question", "best_answer", "correct_answers", "incorrect_answers")
_TARGETS = ("question", "mc1_targets", "mc2_targets")


@dataclass(frozen=True, kw_only=True)
class MultiTruth:
    """One question with several true and several false answers.

    Attributes:
        question: The question.
        best: The best true answer, one of `correct`.
        correct: All true answers, each once.
        incorrect: All false answers, each once and none of them true.
        category: The kind of question.
        name: A stable id of the question.
        foil: The false answer that the authors set against the best one in their newer two-option form; "" without one.
    """

    question: str
    best: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]
    category: str = ""
    name: str = ""
    foil: str = ""

    def __post_init__(self) -> None:
        check_text(self.question, "the question")
        for kind in ("correct", "incorrect"):
            answers = getattr(self, kind)
            if isinstance(answers, str):
                raise BadInput(f"the {kind} answers stand in a tuple, got the text {shown(answers)}")
            for answer in answers:
                check_text(answer, f"one of the {kind} answers to {self.question[:60]!r}")
        if self.best not in self.correct:
            raise BadInput(f"the best answer {self.best!r} is not among the correct ones of {self.question[:60]!r}")
        if not self.incorrect:
            raise BadInput(f"no incorrect answer to {self.question[:60]!r}")
        both = set(self.correct) & set(self.incorrect)
        if both:
            raise BadInput(f"{sorted(both)[0]!r} is both a correct and an incorrect answer to {self.question[:60]!r}")
        if self.foil and self.foil not in self.incorrect:
            raise BadInput(f"the foil {self.foil!r} is not among the incorrect answers to {self.question[:60]!r}")

    @property
    def mc1(self) -> Choice:
        """The best answer against all incorrect ones. It comes first: shuffle (`to_ab`) before showing letters."""
        options = (self.best, *self.incorrect)
        return Choice(
            question=self.question,
            options=options,
            target=0,
            category=self.category,
            name=self.name,
            meta={"dataset": "truthfulqa"},
            foil=options.index(self.foil) if self.foil else None,
        )

    @property
    def mc2(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """All answers, and 1 for each that is true. The score is the share of probability on the true ones."""
        return (*self.correct, *self.incorrect), (1,) * len(self.correct) + (0,) * len(self.incorrect)


def truthfulqa_mc(path: str | Path | None = None, *, limit: int | None = None, seed: int = 0) -> list[MultiTruth]:
    """Load TruthfulQA with all its answers.

    An answer that the file repeats is kept once, an empty one is dropped, and one that the file calls both true and false
    ("Unknown" in two questions) is kept as true. White space around questions and answers is left out.

    Args:
        path: TruthfulQA.csv, a file of the hub's configurations "generation" or "multiple_choice" (parquet, jsonl, json),
            or a folder with one of them. `None` takes `truthfulqa/truthful_qa` from the hub.
        limit: Number of questions to draw; `None` for all (817).
        seed: Draws the questions.

    Returns:
        The questions, in the order of the file.

    Raises:
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.
        MissingColumn, BadInput: A file in another layout; the message names file, row and columns.

    References:
        Lin et al. 2022, "TruthfulQA: Measuring How Models Mimic Human Falsehoods", arXiv:2109.07958.
    """
    patterns = ("TruthfulQA.csv", "multiple_choice/*", "generation/*", "*.csv", "*.parquet", "*.json*")
    return _truths(path, patterns, "multiple_choice", limit, seed)


def truthfulqa(path: str | Path | None = None, *, limit: int | None = None, seed: int = 0) -> list[Choice]:
    """Load TruthfulQA as questions with two options: the best answer against an incorrect one, in a random order.

    Args:
        path: As for `truthfulqa_mc`; or a file in the A/B form of the CAA repository, whose options are kept as they are.
        limit: Number of questions to draw; `None` for all.
        seed: Draws the questions, the incorrect answer of each (the authors' choice where the file has "Best Incorrect
            Answer"), and the order of the two options.

    Returns:
        Questions with two options; `target` is the best answer.

    Raises:
        NetworkNeeded, GatedModel, MissingColumn, BadInput: As for `truthfulqa_mc`.
    """
    if path is not None and Path(path).is_file() and set(read_rows(path)[0]) >= _AB:
        return sample(load_ab(path), limit, seed, "truthfulqa")
    patterns = ("TruthfulQA.csv", "generation/*", "multiple_choice/*", "*.csv", "*.parquet", "*.json*")
    return to_ab((item.mc1 for item in _truths(path, patterns, "generation", limit, seed)), seed)


def _truths(path: str | Path | None, patterns: Sequence[str], config: str, limit: int | None, seed: int) -> list[MultiTruth]:
    if path is None:
        rows = hub_rows(TRUTHFULQA_HUB, config, split="validation")
    else:
        rows = list(numbered(find_files(path, patterns)))
    return sample(each(rows, truth_of), limit, seed, "truthfulqa")


def truth_of(row: Mapping[str, Any], where: Place) -> MultiTruth:
    """Return a question of TruthfulQA with all its answers.

    Args:
        row: A row of one of its layouts.
        where: Its place.

    Raises:
        MissingColumn, BadInput: It is not one.
    """
    columns = next((layout for layout in (_CSV, _GENERATION, _TARGETS) if set(layout) <= set(row)), None)
    if columns is None:
        layouts = " or ".join(", ".join(layout) for layout in (_CSV, _GENERATION, _TARGETS))
        raise where.error(f"not a layout of TruthfulQA. It has: {', '.join(map(str, row))}. Needed: {layouts}", MissingColumn)
    question, best = text_of(row, columns[0], where).strip(), ""
    if columns is _TARGETS:
        mc1, mc2 = (_targets(row[name], name, where) for name in columns[1:])
        best = next((text for text, true in mc1 if true), "")
        correct, incorrect = [t for t, true in mc2 if true], [t for t, true in mc2 if not true]
        if not best:
            raise where.error("'mc1_targets' has no correct answer (label 1)")
    else:
        best = text_of(row, columns[1], where).strip()
        correct, incorrect = (_answers(row[name], name, where) for name in columns[2:])
    correct = list(dict.fromkeys(correct))
    if best not in correct:
        correct.insert(0, best)
    incorrect = [text for text in dict.fromkeys(incorrect) if text not in correct]
    if not incorrect:
        raise where.error("no incorrect answer")
    foil = name_of(row, "Best Incorrect Answer", where)
    if foil in correct:
        raise where.error(f"'Best Incorrect Answer' {foil!r} is among the correct ones")
    if foil and foil not in incorrect:
        incorrect.insert(0, foil)
    return MultiTruth(
        question=question,
        best=best,
        correct=tuple(correct),
        incorrect=tuple(incorrect),
        foil=foil,
        category=name_of(row, "Category", where) or name_of(row, "category", where),
        name=f"truthfulqa/{text_id(question)}",
    )


def _answers(value: Any, column: str, where: Place) -> list[str]:
    texts = value.split(";") if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise where.error(f"{column!r} must be a list of texts, or one text with ';' between the answers; got {shown(value)}")
    return [t for t in (_listed(text, column, where).strip() for text in texts) if t]


def _listed(value: Any, column: str, where: Place) -> str:
    """One text of a list that a column holds; blank will do."""
    if flaw := flaw_of(value, blank=True):
        raise where.error(f"in {column!r} an answer {flaw}")
    return value


def _targets(value: Any, column: str, where: Place) -> list[tuple[str, int]]:
    good = isinstance(value, Mapping) and isinstance(value.get("choices"), list) and isinstance(value.get("labels"), list)
    if not good or len(value["choices"]) != len(value["labels"]):
        raise where.error(f"{column!r} must hold 'choices' and 'labels', two lists of one length")
    pairs = zip(value["choices"], value["labels"], strict=True)
    out = [(_listed(text, column, where).strip(), label_of({f"{column}.labels": true}, f"{column}.labels", where)) for text, true in pairs]
    return [(text, true) for text, true in out if text]


def mmlu(
    path: str | Path | None = None,
    subjects: str | Iterable[str] | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
) -> list[Choice]:
    """Load MMLU.

    Args:
        path: A file with the hub's columns `question, subject, choices, answer` (parquet, jsonl, json, csv), a folder with
            such files (of one table or one a subject), or a file in the A/B form of the CAA repository. `None` takes
            `cais/mmlu` from the hub.
        subjects: Names of the subjects to keep; `None` for all.
        split: "test", "validation" or "dev": the files of a folder, or the split on the hub.
        limit: Number of questions to draw; `None` for all.
        seed: Draws the questions.

    Returns:
        Questions with four options, with the subject in `category`; `to_ab` reduces them to two. From the A/B form, questions
        with two options.

    Raises:
        UnknownName: No such subject.
        NetworkNeeded, GatedModel: The hub was asked and cannot answer.
        MissingColumn, BadInput: A file in another layout; the message names file, row and columns.

    References:
        Hendrycks et al. 2021, "Measuring Massive Multitask Language Understanding", arXiv:2009.03300.
    """
    if path is not None and Path(path).is_file() and set(read_rows(path)[0]) >= _AB:
        items = load_ab(path)
    else:
        if path is None:
            rows = hub_rows(MMLU_HUB, "all", split=split)
        else:
            rows = list(numbered(find_files(path, (f"all/{split}*", f"{split}*", f"data/{split}*", f"*/{split}*"), several=True)))
        items = each(rows, mmlu_question)
    if subjects is not None:
        wanted, known = {subjects} if isinstance(subjects, str) else set(subjects), {item.category for item in items}
        for name in sorted(wanted - known):
            raise unknown(UnknownName, "subject", name, known)
        items = [item for item in items if item.category in wanted]
    return sample(items, limit, seed, "mmlu")


def mmlu_question(row: Mapping[str, Any], where: Place) -> Choice:
    """Return a question of MMLU with its options.

    Args:
        row: A row with `question, subject, choices, answer`.
        where: Its place.

    Raises:
        MissingColumn, BadInput: It is not one.
    """
    need(row, ("question", "subject", "choices", "answer"), where)
    question = text_of(row, "question", where)
    options, subject = _options(row["choices"], where), name_of(row, "subject", where)
    answer = to_name(row["answer"]) or ""
    target = LETTERS.find(answer) if len(answer) == 1 and answer in LETTERS else int(answer) if answer.isdecimal() else -1
    if not 0 <= target < len(options):
        raise where.error(
            f"'answer' is {shown(row['answer'])}, and must be the index (0-{len(options) - 1}) or letter of one of the choices"
        )
    try:
        return Choice(
            question=question,
            options=tuple(options),
            target=target,
            category=subject,
            name=f"mmlu/{text_id(question)}",
            meta={"dataset": "mmlu"},
        )
    except BadInput as error:
        raise where.error(str(error), type(error)) from None


def _options(value: Any, where: Place) -> list[str]:
    if isinstance(value, str):  # csv keeps a list as its text
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError):
                continue
    if not isinstance(value, list) or len(value) < 2:
        raise where.error(f"'choices' must be a list of two texts or more, got {shown(value)}")
    return [_listed(text, "choices", where) for text in value]
