"""The layout of "Steering Llama 2 via Contrastive Activation Addition": behaviours as questions with two answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ..core.errors import BadInput, UnknownName, unknown
from .cells import Place, name_of, need, text_of
from .choices import LETTERS, Choice
from .formats import Row
from .left_out import each
from .rows import normal, numbered, text_id

FILES = {
    "generate": ("generate", "generate_dataset.json"),
    "test": ("test", "test_dataset_ab.json"),
    "open_ended": ("test", "test_dataset_open_ended.json"),
}
BEHAVIOUR = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
RIGHT = ("prompt", "correct", "incorrect")
_OPTION = re.compile(r"\n[ \t]*\(([A-Z])\)[ \t]*")
_ANSWER = re.compile(r"\s*\(?([A-Z])\)?\s*")
_TAIL = re.compile(r"\s*\n\s*Answer:\s*$")


def parse_options(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Separate a question from the lettered options at its end, one a line, with or without a line "Choices:" before them.

    Args:
        text: The question with its options.

    Returns:
        The question and the options, without the white space around them, or `None` where the text does not end in lines (A), (B), …
    """
    marks = list(_OPTION.finditer(text))
    starts = [i for i, mark in enumerate(marks) if mark[1] == "A"]
    # the last run of letters that begins with A; an earlier one belongs to the question
    run = marks[starts[-1] :] if starts else []
    if len(run) < 2 or "".join(mark[1] for mark in run) != LETTERS[: len(run)]:
        return None
    ends = [mark.start() for mark in run[1:]] + [len(text)]
    question = text[: run[0].start()].rstrip()
    above = question.removesuffix("Choices:")
    if "\n" in above[len(above.rstrip()) :]:
        question = above
    question = question.strip()
    return (question, tuple(text[m.end() : e].strip() for m, e in zip(run, ends, strict=True))) if question else None


def _letter(row: Row, column: str, count: int, where: Place) -> int:
    value = text_of(row, column, where)
    letter = _ANSWER.fullmatch(value)
    if letter is None:
        raise where.error(f"{column!r} is {value[:40]!r}, and must be a letter in brackets, like '(A)'")
    index = LETTERS.index(letter[1])
    if index >= count:
        raise where.error(f"{column!r} is ({letter[1]}), and the options are (A)-({LETTERS[count - 1]})")
    return index


def _words(row: Row, columns: tuple[str, str, str], where: Place) -> tuple[str, str] | None:
    """The two answers as words ("Yes", "No"); `None` where they are letters."""
    texts = [row[column] for column in columns[1:]]
    if not all(isinstance(text, str) and text.strip() for text in texts) or any(_ANSWER.fullmatch(text) for text in texts):
        return None
    right, other = (text_of(row, column, where).strip() for column in columns[1:])
    if right == other:
        raise where.error(f"both answers are {right!r}")
    return right, other


def choice(row: Row, where: Place, columns: tuple[str, str, str], prefix: str, meta: dict[str, Any], category: str = "") -> Choice:
    """Return a question with options of a row.

    Args:
        row: The row.
        where: Its place.
        columns: Where the question, the answer that counts and the other one stand (`BEHAVIOUR`, `RIGHT`).
        prefix: Begins the item's name.
        meta: Goes into the item's `meta`.
        category: The kind of question.

    Returns:
        The question. Its options are lettered lines at the end of the text, or where the answers are words, those words.

    Raises:
        MissingColumn: A column is missing.
        BadInput: An answer is not among the options, or both are the same.
    """
    need(row, columns, where)
    text = _TAIL.sub("", text_of(row, columns[0], where))
    parsed, said = parse_options(text), _words(row, columns, where)
    if parsed is None and said is None:
        meta = {**meta, "raw": True}
    question, options = parsed or (text, ("A", "B"))
    if said is not None and parsed is None:
        options, meta = tuple(sorted(said, reverse=True)), {**meta, "words": True}  # Yes before No, whichever matches
        target, foil = (options.index(word) for word in said)
    else:
        foils = row[columns[2]] if isinstance(row[columns[2]], list) else [row[columns[2]]]
        target = _letter(row, columns[1], len(options), where)
        others = [_letter({columns[2]: one}, columns[2], len(options), where) for one in foils]
        if target in others or not others:
            raise where.error(f"both answers are ({LETTERS[target]})" if others else f"{columns[2]!r} is empty")
        foil = others[0] if len(others) == 1 else None
    if not all(options):
        meta = {**meta, "empty_option": True}
    try:
        return Choice(
            question=question,
            options=options,
            target=target,
            foil=foil if len(options) > 2 else None,
            category=category,
            name=f"{prefix}/{text_id(question)}",
            meta=meta,
        )
    except BadInput as error:
        raise where.error(str(error), type(error)) from None


def _root(folder: Path) -> Path:
    if not folder.is_dir():
        raise BadInput(f"no file or folder {folder.name!r}")
    for root in (folder, folder / "datasets"):
        if (root / "generate").is_dir() or (root / "test").is_dir():
            return root
    here = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
    raise BadInput(f"{folder.name!r} is not a CAA folder: it needs generate/BEHAVIOUR/{FILES['generate'][1]}; it holds: {here}")


def caa_behaviours(folder: str | Path) -> list[str]:
    """Return the behaviours of a CAA folder (its `generate` and `test` folders), by name.

    Raises:
        BadInput: The folder does not exist or has another layout.
    """
    root = _root(Path(folder))
    return sorted({p.parent.name for part, file in FILES.values() for p in root.glob(f"{part}/*/{file}")})


def caa_splits(folder: str | Path, behaviour: str) -> list[str]:
    """Return the splits that a behaviour of a CAA folder has.

    Args:
        folder: As for `caa_behaviours`.
        behaviour: Name of the behaviour.

    Returns:
        Some of "generate", "test", "open_ended".

    Raises:
        BadInput: The folder does not exist or has another layout.
    """
    root = _root(Path(folder))
    return [name for name, (part, file) in FILES.items() if root.joinpath(part, behaviour, file).is_file()]


def _find(folder: Path, behaviour: str | None, split: str) -> tuple[Path, str]:
    root, known = _root(folder), caa_behaviours(folder)
    if behaviour is None and len(known) != 1:
        raise BadInput(f"{folder.name!r} holds {len(known)} behaviours, name one: {', '.join(known) or 'none'}")
    behaviour = behaviour or known[0]
    if behaviour not in known:
        raise unknown(UnknownName, "behaviour", behaviour, known)
    file = root.joinpath(FILES[split][0], behaviour, FILES[split][1])
    if not file.is_file():
        raise BadInput(f"{behaviour!r} has no split {split!r}; it has: {', '.join(caa_splits(folder, behaviour))}")
    return file, behaviour


if TYPE_CHECKING:

    @overload
    def load_caa(
        folder_or_file: str | Path,
        behaviour: str | None = None,
        split: Literal["generate", "test"] = "generate",
        *,
        drop_shared: bool = False,
    ) -> list[Choice]: ...
    @overload
    def load_caa(
        folder_or_file: str | Path, behaviour: str | None = None, *, split: Literal["open_ended"], drop_shared: bool = False
    ) -> list[str]: ...
    @overload
    def load_caa(
        folder_or_file: str | Path, behaviour: str | None = None, split: str = "generate", *, drop_shared: bool = False
    ) -> list[Choice] | list[str]: ...


def load_caa(
    folder_or_file: str | Path, behaviour: str | None = None, split: str = "generate", *, drop_shared: bool = False
) -> list[Choice] | list[str]:
    """Load one behaviour in the CAA layout.

    Args:
        folder_or_file: A folder with `generate/BEHAVIOUR/generate_dataset.json` and `test/BEHAVIOUR/test_dataset_ab.json`
            (or one that holds it as `datasets`), or one such file.
        behaviour: Name of the behaviour; not needed where the folder holds one. For a file, the name to give it (by default
            its folder's name).
        split: "generate" (to extract a vector from), "test" or "open_ended" (questions without options).
        drop_shared: Leave out the questions that are in the other split too ("generate" against "test", the other two
            against "generate"), so that no test question helped to make the vector.

    Returns:
        Questions with options; plain questions for "open_ended". `target` is the answer that matches the behaviour. Where
        the file shows more than two options, all are kept and `foil` is the one it names as not matching. A question
        whose options are in an unknown layout is kept whole, with `raw=True` in its `meta`.

    Raises:
        UnknownName: There is no such behaviour or split; the message lists those that exist.
        MissingColumn: The file lacks a column.
        BadInput: The JSON is broken, or an answer is not among the options.
    """
    if split not in FILES:
        raise unknown(UnknownName, "split", split, FILES)
    path = Path(folder_or_file)
    file, called = (path, behaviour or path.resolve().parent.name) if path.is_file() else _find(path, behaviour, split)
    # every behaviour's file has the same name: the folder's name tells them apart in messages
    label = f"{called}/{file.name}"
    rows = list(numbered([file], label))
    other: list[Choice] = []
    if drop_shared:
        if path.is_file():
            raise BadInput("drop_shared compares two files of one folder: pass the folder and a behaviour, or use shared_stems")
        other = load_caa(path, behaviour, "test" if split == "generate" else "generate")
    seen = {normal(item.question) for item in other}
    if split == "open_ended":
        questions = [text_of(row, "question", where) for where, row in rows]
        return [question for question in questions if normal(question) not in seen]
    columns = BEHAVIOUR
    items = each(
        rows, lambda row, where: choice(row, where, columns, called, {"dataset": f"caa/{called}", "part": split, "row": where.row})
    )
    return [item for item in items if normal(item.question) not in seen]


def load_ab(path: str | Path) -> list[Choice]:
    """Load questions with two answers of which one is correct: rows `prompt, correct, incorrect, category`.

    The CAA repository keeps MMLU and TruthfulQA in this form, to measure the capability that steering costs.

    Args:
        path: A json, jsonl, csv or parquet file.

    Returns:
        Questions with options; `target` is the correct one. A row with an empty option has `empty_option=True` in its
        `meta` (five of its 817 TruthfulQA rows do: they can be answered by excluding the empty one).

    Raises:
        MissingColumn: The file lacks a column.
        BadInput: The file cannot be read, or an answer is not among the options.
    """
    path = Path(path)

    def one(row: Row, where: Place) -> Choice:
        return choice(row, where, RIGHT, path.stem, {"dataset": path.stem, "row": where.row}, name_of(row, "category", where))

    return each(numbered([path]), one)


def shared_stems(a: Iterable[Choice | str], b: Iterable[Choice | str]) -> list[str]:
    """Find the questions that two sets share; options, white space and case do not count.

    Args:
        a, b: Questions with options, or texts.

    Returns:
        The shared questions, each once, as `a` writes them and in its order.

    Example:
        >>> from workbench.prompts.caa import shared_stems
        >>> shared_stems(["How are you?", "Who am I?"], ["how  are you?"])
        ['How are you?']
    """

    def texts(items: Iterable[Choice | str]) -> dict[str, str]:
        by_normal: dict[str, str] = {}
        for item in items:
            text = item if isinstance(item, str) else item.question
            by_normal.setdefault(normal(text), text)
        return by_normal

    first, second = texts(a), texts(b)
    return [text for key, text in first.items() if key in second]
