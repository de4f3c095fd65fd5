"""The published layouts that `load` knows, and by what each is recognised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..core.errors import BadInput
from .caa import BEHAVIOUR, RIGHT, caa_behaviours
from .peek import Peek
from .published import (
    COLUMN,
    Found,
    harmful,
    read_ab,
    read_caa_file,
    read_caa_folder,
    read_entities,
    read_evals,
    read_form,
    read_hex_phi,
    read_hh,
    read_identities,
    read_instructions,
    read_mmlu,
    read_project,
    read_questions,
    read_rights,
    read_statements,
    read_stems,
    read_texts,
    read_truthfulqa,
    read_xstest,
)
from .student import is_form, is_identities, is_rights
from .student_prompts import is_project


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A published layout.

    Attributes:
        name: Its name.
        holds: What it holds, in words.
        looks: By what it is recognised, in words.
        fits: Whether a source is in it.
        read: Reads a source.
    """

    name: str
    holds: str
    looks: str
    fits: Callable[[Peek], bool]
    read: Callable[[Peek, Any], Found]


def _of(peek: Peek, *columns: str) -> bool:
    return set(columns) <= peek.has


def _first_has(peek: Peek, patterns: Sequence[str], *columns: str) -> bool:
    """Whether the first file of a folder that fits a pattern has these columns."""
    files = peek.inside(*patterns)
    return bool(files) and set(columns) <= Peek.at(files[0]).has


def _is_caa_folder(peek: Peek) -> bool:
    if peek.folder is None:
        return False
    try:
        return bool(caa_behaviours(peek.folder))
    except BadInput:
        return False


def _is_evals(peek: Peek) -> bool:
    if peek.folder is not None:
        return bool(peek.tables) and all(p.suffix == ".jsonl" for p in peek.tables) and Peek.at(peek.tables[0]).has >= set(BEHAVIOUR)
    return _of(peek, *BEHAVIOUR)


def _is_truthfulqa(peek: Peek) -> bool:
    columns = (
        ("Question", "Best Answer", "Incorrect Answers"),
        ("question", "best_answer", "incorrect_answers"),
        ("question", "mc1_targets"),
    )
    if peek.folder is not None:
        return bool(peek.inside("TruthfulQA.csv"))
    return any(_of(peek, *c) for c in columns)


def _is_mmlu(peek: Peek) -> bool:
    if peek.folder is not None:
        files = peek.inside("all/test*", "test*", "data/test*", "*/test*")
        return bool(files) and files[0].suffix != ".json" and Peek.at(files[0]).has >= {"question", "choices", "answer"}
    return _of(peek, "question", "choices", "answer")


def _is_instructions(peek: Peek) -> bool:
    if peek.folder is not None:
        files = peek.inside("harmful_*.json", "harmless_*.json", "*harm*.json", "*harm*.jsonl", "*harm*.csv")
        return bool(files) and bool(Peek.at(files[0]).has & set(COLUMN))
    if peek.is_text:
        return harmful(peek) is not None and not is_form(peek.text)
    return any(_of(peek, c) for c in COLUMN[:5]) or (harmful(peek) is not None and any(_of(peek, c) for c in COLUMN))


def _layout(name: str, holds: str, looks: str, fits: Callable[[Peek], bool], read: Callable[[Peek, Any], Found]) -> tuple[str, Layout]:
    return name, Layout(name=name, holds=holds, looks=looks, fits=fits, read=read)


# the first that fits is taken: the more particular ones stand first
LAYOUTS = dict(
    [
        _layout("udhr_ccs", "the student project: identities, rights, forms", "a folder with UDHR_raw_*.txt", is_project, read_project),
        _layout(
            "caa", "behaviours as questions with two answers", "generate/BEHAVIOUR/generate_dataset.json", _is_caa_folder, read_caa_folder
        ),
        _layout(
            "caa_file",
            "one behaviour",
            "*_dataset*.json with question, answer_matching_behavior, answer_not_matching_behavior",
            lambda p: p.file is not None and p.file.suffix == ".json" and _of(p, *BEHAVIOUR),
            read_caa_file,
        ),
        _layout(
            "model_written_evals",
            "personas, risks, sycophancy: letters or Yes/No",
            "jsonl (or a folder) with the same columns",
            _is_evals,
            read_evals,
        ),
        _layout(
            "truthfulqa",
            "questions with true and false answers",
            "Question, Best Answer, Incorrect Answers",
            _is_truthfulqa,
            read_truthfulqa,
        ),
        _layout("ab", "questions with two options", "prompt, correct, incorrect", lambda p: _of(p, *RIGHT), read_ab),
        _layout("mmlu", "questions with four options", "question, subject, choices, answer", _is_mmlu, read_mmlu),
        _layout(
            "xstest",
            "safe and unsafe requests that look alike",
            "prompt, type, focus",
            lambda p: bool(p.inside("xstest*.csv")) or _of(p, "prompt", "type", "focus"),
            read_xstest,
        ),
        _layout(
            "hh_rlhf",
            "pairs of conversations with a preference",
            "chosen, rejected",
            lambda p: _of(p, "chosen", "rejected") or _first_has(p, ("harmless-base/*.jsonl*", "*.jsonl*"), "chosen", "rejected"),
            read_hh,
        ),
        _layout(
            "hex_phi",
            "harmful instructions in eleven categories",
            "category_1.csv, … without a head",
            lambda p: bool(p.inside("category_*.csv", "data/category_*.csv")),
            read_hex_phi,
        ),
        _layout("wildhallucinations", "entities to be asked about", "entity", lambda p: _of(p, "entity"), read_entities),
        _layout(
            "statements", "statements that are true or false", "statement, label", lambda p: _of(p, "statement", "label"), read_statements
        ),
        _layout("stems", "contrast pairs of your own", "stem, label", lambda p: _of(p, "stem", "label"), read_stems),
        _layout(
            "questions",
            "open questions",
            "question, and nothing else",
            lambda p: p.has in ({"question"}, {"question", "category"}),
            read_questions,
        ),
        _layout(
            "instructions",
            "harmful or harmless instructions",
            "instruction, goal or a list whose name says harm",
            _is_instructions,
            read_instructions,
        ),
        _layout("udhr_ccs_identities", "identities in groups", "ind: GROUP (COUNT)", lambda p: is_identities(p.lines), read_identities),
        _layout("udhr_ccs_rights", "sentences about rights", "ARTICLE {people} …", lambda p: is_rights(p.lines), read_rights),
        _layout("udhr_ccs_form", "a prompt form", "{right}, {clime}", lambda p: p.is_text and is_form(p.text), read_form),
        _layout("lines", "a list of texts", "a text file, one a line", lambda p: p.is_text, read_texts),
    ]
)


def layouts() -> pd.DataFrame:
    """Return the layouts that `load` recognises: `kind`, what it `holds`, and by what it is recognised (`looks like`)."""
    return pd.DataFrame([{"kind": x.name, "holds": x.holds, "looks like": x.looks} for x in LAYOUTS.values()])
