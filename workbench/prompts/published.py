"""How published layouts are read: questions with options, statements, requests, conversations, lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, UnknownName, unknown
from ..core.seeds import numpy_rng
from .benchmarks import mmlu_question, truth_of
from .caa import BEHAVIOUR, FILES, RIGHT, choice
from .cells import Place, name_of, text_of
from .choices import Choice, choices_to_prompts
from .conversations import conversations
from .formats import csv_lines, read_text
from .left_out import distinct, each
from .loaders import from_table, placed_pairs
from .outside import instruction_pairs, xstest_row
from .pairs import ContrastPair
from .peek import Peek
from .rows import normal, numbered, sample
from .singles import FIELDS
from .student import Sentence, student_form, student_identities, student_rights
from .student_prompts import project_pairs, student_project
from .two_options import to_ab

QUESTION = "In a paragraph, could you tell me what you know about {entity}?"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was read.

    Attributes:
        pairs: Prompts; `None` where the items are no prompts.
        items: What the source holds, before it was put into prompts.
        name: A name of its own; "" for the source's.
        notes: What a reader should know.
    """

    items: Sequence[Any]
    pairs: Sequence[ContrastPair] | None = None
    name: str = ""
    notes: Sequence[str] = ()


# ------------------------------------------------------------------ questions with options


def _asked(items: list[Choice], asked: Any, name: str, notes: Sequence[str] = ()) -> Found:
    """Prompts of questions with options; those of more than two with no foil are cut to two."""
    items = sample(items, asked.n, asked.seed, name or "question")
    wide = [i for i in items if len(i.options) > 2 and i.foil is None]
    if wide:
        notes = [*notes, f"{len(wide):,} questions with more than two options: the right one and one drawn of the others are shown"]
        items = [to_ab([i], asked.seed)[0] if len(i.options) > 2 and i.foil is None else i for i in items]
    if not items:
        return Found(items=[], pairs=[], name=name, notes=notes)
    pairs = choices_to_prompts(items, model=asked.model, many=True, name=name or "questions", **asked.asking)
    return Found(items=items, pairs=list(pairs), name=name, notes=notes)


def _behaviour(files: Iterable[tuple[Path, str, str]], asked: Any, name: str) -> Found:
    items: list[Choice] = []
    for file, called, part in files:
        meta = {"dataset": f"caa/{called}", "part": part}
        items += each(numbered([file], f"{called}/{file.name}"), lambda r, w: choice(r, w, BEHAVIOUR, called, {**meta, "row": w.row}))  # noqa: B023
    return _asked(items, asked, name)


def read_caa_folder(peek: Peek, asked: Any) -> Found:
    """Read: Behaviours in the layout of contrastive activation addition."""
    folder = peek.folder
    assert folder is not None
    root = folder if any((folder / part).is_dir() for part in ("generate", "test")) else folder / "datasets"
    names = [p.name for part in ("generate", "test") for p in root.glob(f"{part}/*") if p.is_dir() and any(p.glob("*dataset*.json"))]
    known = sorted(set(names))
    if asked.behaviour is not None and asked.behaviour not in known:
        raise unknown(UnknownName, "behaviour", asked.behaviour, known)
    parts = [p for p in ("generate", "test") if asked.split in (None, p)]
    if asked.split is not None and not parts:
        raise unknown(UnknownName, "split", asked.split, FILES)
    wanted = known if asked.behaviour is None else [asked.behaviour]
    files = [(root / FILES[p][0] / b / FILES[p][1], b, p) for b in wanted for p in parts]
    return _behaviour([f for f in files if f[0].is_file()], asked, asked.behaviour or peek.name)


def read_caa_file(peek: Peek, asked: Any) -> Found:
    """Read: One file of one behaviour."""
    assert peek.file is not None
    return _behaviour([(peek.file, peek.file.resolve().parent.name, "test" if "test" in peek.file.name else "generate")], asked, "")


def read_evals(peek: Peek, asked: Any) -> Found:
    """Model-written evals: one file or a folder of them, cut into a part to make vectors of and a part to test."""
    if asked.behaviour is not None and asked.behaviour not in {p.stem for p in peek.tables}:
        raise unknown(UnknownName, "behaviour", asked.behaviour, {p.stem for p in peek.tables} or {peek.name})
    files = [p for p in peek.tables if asked.behaviour in (None, p.stem)] if peek.folder else [peek.file]
    items: list[Choice] = []
    for file in files:
        rows, called = (peek.rows, peek.name) if file is None else (list(numbered([file])), file.stem)
        meta = {"dataset": f"model_written_evals/{called}"}
        items += _halved(each(rows, lambda r, w: choice(r, w, BEHAVIOUR, called, {**meta, "row": w.row})), asked.seed, called)  # noqa: B023
    if asked.split not in (None, "generate", "test"):
        raise unknown(UnknownName, "split", asked.split, ("generate", "test"))
    items = [i for i in items if asked.split in (None, i.meta["part"])]
    note = "cut by itself into a part to make vectors of ('generate') and one to test, by question, with as many of each answer in both"
    return _asked(items, asked, "" if peek.file else peek.name, [note])


def _halved(items: list[Choice], seed: int, name: str) -> list[Choice]:
    """The items with their part in `meta`: in turn "generate" and "test" within each answer, in an order drawn at random."""
    order, turn, part = numpy_rng(seed, "parts", name).permutation(len(items)), {}, {}
    for k in order.tolist():
        item = items[k]
        about = item.options[item.target] if item.words else item.target
        if item.name not in part:
            part[item.name] = ("generate", "test")[turn.get(about, 0) % 2]
            turn[about] = turn.get(about, 0) + 1
    return [replace(item, meta={**item.meta, "part": part[item.name]}) for item in items]


def read_ab(peek: Peek, asked: Any) -> Found:
    """Read: Questions with two options, of which one is correct."""

    def one(row: Any, place: Place) -> Choice:
        return choice(row, place, RIGHT, peek.name, {"dataset": peek.name, "row": place.row}, name_of(row, "category", place))

    return _asked(each(peek.rows, one), asked, "")


def read_truthfulqa(peek: Peek, asked: Any) -> Found:
    """Read: TruthfulQA."""
    truths = each(_rows(peek, "TruthfulQA.csv", "multiple_choice/*", "generation/*"), truth_of)
    truths = sample(truths, asked.n, asked.seed, "truthfulqa")
    found = _asked(to_ab((t.mc1 for t in truths), asked.seed), replace(asked, n=None), "truthfulqa")
    return replace(found, items=truths, notes=["the best answer against one that is false, in a random order; all answers are in .items"])


def read_mmlu(peek: Peek, asked: Any) -> Found:
    """Read: MMLU."""
    split = asked.split or "test"
    rows = _rows(peek, f"all/{split}*", f"{split}*", f"data/{split}*", f"*/{split}*", several=True)
    return _asked(each(rows, mmlu_question), asked, "mmlu")


def _rows(peek: Peek, *patterns: str, several: bool = False) -> list[tuple[Place, Any]]:
    """The rows of a file or a table, or of the files in a folder."""
    if peek.folder is None:
        return peek.rows
    files = peek.inside(*patterns) or peek.tables
    if len(files) > 1 and not several:
        raise BadInput(f"several files of {peek.name!r} fit: {', '.join(p.name for p in files[:8])}. Pass the one you mean")
    return list(numbered(files))


# ------------------------------------------------------------------ statements


def read_statements(peek: Peek, asked: Any) -> Found:
    """Single statements, or questions about them."""
    table = peek.table
    fields = FIELDS
    columns = dict(asked.columns or {})
    if asked.template is None and (asked.claim or asked.asking):
        what = "claim" if asked.claim else next(iter(asked.asking))
        raise BadInput(f"{what}= is for statements that are asked about: give a template=, or leave it out")
    if asked.template is None:
        pairs = placed_pairs(table, columns, template=None, fields=fields, alone=True)
        made = [replace(pair, meta={**pair.meta, "row": place.row}) for place, pair in pairs]
    else:
        rows = [{**row, "row": place.row} for place, row in table.rows]
        made = list(
            from_table(rows, columns, template=asked.template, claim=asked.claim, model=asked.model, seed=asked.seed, **asked.asking)
        )
    made = sample(made, asked.n, asked.seed, "statement")
    return Found(items=[str(p.meta["statement"]) for p in made], pairs=made)


def read_stems(peek: Peek, asked: Any) -> Found:
    """Read: Contrast pairs of the user's own."""
    pairs = [replace(pair, meta={**pair.meta, "row": place.row}) for place, pair in placed_pairs(peek.table, asked.columns, template=None)]
    return Found(items=[p.stem for p in pairs], pairs=sample(pairs, asked.n, asked.seed, "stem"))


# ------------------------------------------------------------------ requests and conversations


def _requests(placed: Iterable[tuple[Place, dict[str, Any]]], asked: Any, name: str, notes: Sequence[str] = ()) -> Found:
    """Refusing against complying, of requests with the columns `instruction`, `harmful`, and what else is known."""
    rows = sample(distinct(placed, lambda row: normal(row["instruction"])), asked.n, asked.seed, "request")
    frame = pd.DataFrame(rows, columns=["instruction", "harmful", "category"] if not rows else None)
    two = [frame[frame["harmful"].astype(bool)], frame[~frame["harmful"].astype(bool)]]
    made = instruction_pairs(*two, model=asked.model, name=name or "requests", **asked.asking) if rows else []
    return Found(items=rows, pairs=list(made), name=name, notes=notes)


def read_xstest(peek: Peek, asked: Any) -> Found:
    """Read: XSTest."""

    def one(row: Any, place: Place) -> tuple[Place, dict[str, Any]]:
        seen = xstest_row(row, place)
        return place, {"instruction": seen["question"], "harmful": not seen["safe"], "category": seen["kind"]}

    return _requests(each(_rows(peek, "xstest*.csv"), one), asked, "xstest")


def harmful(peek: Peek) -> bool | None:
    """Whether a file's name says that what it holds is harmful, or harmless; `None` where it says neither."""
    name = (peek.hub or peek.name).lower()
    return False if any(word in name for word in ("harmless", "benign", "alpaca")) else True if "harm" in name or "adv" in name else None


COLUMN = ("instruction", "goal", "Goal", "behavior", "Behavior", "prompt", "text", "request")


def read_instructions(peek: Peek, asked: Any) -> Found:
    """Read: Harmful or harmless instructions."""
    column = next((c for c in COLUMN if c in peek.has), COLUMN[0])
    rows = list(numbered([f for f in peek.tables if "harm" in f.name])) if peek.folder else peek.rows
    rows = rows if not peek.lines or peek.rows else [(Place(peek.name, i), {column: line}) for i, line in enumerate(peek.lines)]
    column = next((c for c in COLUMN if rows and c in rows[0][1]), column)
    if asked.split is not None and peek.folder:
        rows = [(place, row) for place, row in rows if asked.split in place.source]

    def one(row: Any, place: Place) -> tuple[Place, dict[str, Any]]:
        bad = "harmless" not in place.source.lower() if peek.folder else harmful(peek)
        category = name_of(row, "category", place) or name_of(row, "Category", place)
        return place, {"instruction": text_of(row, column, place).strip(), "harmful": bad is not False, "category": category}

    notes = [] if peek.folder or harmful(peek) is not None else ["nothing says whether these are harmful: taken as harmful"]
    return _requests(each(rows, one), asked, "", notes)


def read_hex_phi(peek: Peek, asked: Any) -> Found:
    """Eleven csv files without a head, a harmful instruction a line."""
    rows: list[tuple[Place, Any]] = []
    for file in peek.inside("category_*.csv", "data/category_*.csv"):
        # a line is one instruction, whatever commas it holds
        cells = csv_lines(read_text(file, file.name), file.name)
        rows += [(Place(file.name, i), {"instruction": ",".join(c), "category": file.stem}) for i, (_, c) in enumerate(cells)]
    rows = rows or peek.rows
    column = next((c for c in COLUMN if rows and c in rows[0][1]), COLUMN[0])

    def one(row: Any, place: Place) -> tuple[Place, dict[str, Any]]:
        return place, {"instruction": text_of(row, column, place).strip(), "harmful": True, "category": name_of(row, "category", place)}

    return _requests(each(rows, one), asked, "hex_phi")


def read_hh(peek: Peek, asked: Any) -> Found:
    """Read: Pairs of conversations."""
    rows = _rows(peek, "harmless-base/test.jsonl*", "test.jsonl*", "*test*.jsonl*")
    kept = sample([{**row, "row": place.row} for place, row in rows], asked.n, asked.seed, "conversation")
    options = {k: v for k, v in asked.asking.items() if k in ("max_chars", "chosen", "rejected")}
    form = {} if asked.template is None else {"template": asked.template}
    pairs = conversations(kept, claim=asked.claim, seed=asked.seed, **form, **options)
    return Found(items=kept, pairs=list(pairs), name="hh_rlhf")


def read_entities(peek: Peek, asked: Any) -> Found:
    """Read: Questions about entities."""
    texts = each(_rows(peek, "*.jsonl", "*.parquet"), lambda row, place: QUESTION.format(entity=text_of(row, "entity", place).strip()))
    return Found(items=sample(texts, asked.n, asked.seed, "entity"), notes=["open questions: what does the model say of each?"])


def read_questions(peek: Peek, asked: Any) -> Found:
    """Read: Open questions."""
    texts = each(peek.rows, lambda row, place: text_of(row, "question", place).strip())
    return Found(items=sample(texts, asked.n, asked.seed, "question"), notes=["open questions, without options"])


# ------------------------------------------------------------------ lists of text


def read_identities(peek: Peek, asked: Any) -> Found:
    """Read: Identities under headings."""
    people = student_identities(peek.file)  # pyright: ignore[reportArgumentType]
    return Found(items=people, notes=[f"{len({p.group for p in people})} groups"])


def read_rights(peek: Peek, asked: Any) -> Found:
    """Read: Sentences about rights."""
    said: list[Sentence] = student_rights(peek.file)  # pyright: ignore[reportArgumentType]
    return Found(items=said, notes=[f"{len({s.article for s in said})} articles"])


def read_form(peek: Peek, asked: Any) -> Found:
    """Read: A prompt form."""
    return Found(items=[student_form(peek.text, peek.name)], notes=["a prompt form; answers 0 and 1 (answers=('0', '1'))"])


def read_project(peek: Peek, asked: Any) -> Found:
    """Read: The student project's folder."""
    project = student_project(peek.folder)  # pyright: ignore[reportArgumentType]
    form = asked.template or "base_short"
    pairs = project_pairs(project, form, asked.claim, n=asked.n, seed=asked.seed, model=asked.model, **asked.asking)
    return Found(items=[project], pairs=list(pairs), name=f"{peek.name}/{form}/{asked.claim or 'none'}", notes=[project.says])


def read_texts(peek: Peek, asked: Any) -> Found:
    """Read: A list of texts."""
    return Found(items=sample(peek.lines, asked.n, asked.seed, "line"), notes=["a list of texts, one a line"])
