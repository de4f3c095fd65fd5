"""The judge that is people: a table to fill in, and its way back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import pandas as pd

from ...core.errors import BadInput, OutputFolder
from ...core.provenance import content_hash
from ...core.seeds import numpy_rng
from ...prompts.formats import csv_lines, read_text
from .base import BadVerdicts, Heard, heard, table

COLUMNS = ("id", "question", "answer", "verdict", "comment")
_WORDS: dict[str, bool | None] = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False, "": None}
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class PeopleJudge:
    """A judge whose verdicts people write into a csv file.

    Attributes:
        path: The file.
        name: The judge's name; one per person or panel.

    Note:
        The file is blind: it shows neither where an answer comes from nor what other judges say. Tell the person in words
        what yes means, the same words for everybody.
    """

    path: str | Path
    _: KW_ONLY
    name: str = "people"

    def write(self, questions: Sequence[str], answers: Sequence[str], *, seed: int = 0, overwrite: bool = False) -> Path:
        """Write the file to fill in: one row per distinct question and answer, shuffled. Thoughts are not shown.

        An answer that a thought leaves out (one without an end, or with nothing behind it) has no row.

        `verdict` takes yes or no (or 1/0, true/false), blank for none; `comment` anything. A cell that a spreadsheet would run
        as a formula begins with an apostrophe, which reading takes away again.

        Args:
            questions: One per answer.
            answers: What is judged.
            seed: Draws the order.
            overwrite: Replace a file that is there, with the verdicts in it.

        Returns:
            The path.

        Raises:
            OutputFolder: The file is there already.
            BadInput: There is nothing to judge.
        """
        said = heard(questions, answers)
        rows = list({_id(*pair): pair for pair in _asked(said)}.items())
        if not rows:
            raise BadInput("no answers to write")
        path = Path(self.path)
        if path.exists() and not overwrite:
            raise OutputFolder(f"{path.name} is there already and may hold verdicts; choose another path, or overwrite=True")
        # a byte-order mark: without it spreadsheets read UTF-8 as something else
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for k in numpy_rng(seed, "people").permutation(len(rows)):
                key, (question, answer) = rows[int(k)]
                writer.writerow([key, _guard(question), _guard(answer), "", ""])
        return path

    def judge(self, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """Read the verdicts back; rows about other answers are left alone.

        Returns:
            The table of a `Judge`: score 1 or 0, the comment as the note. An answer that a thought leaves out gets no verdict.

        Raises:
            BadVerdicts: No such file or column, a verdict that is neither yes nor no, a missing or doubled id, a row whose
                text is not the one of its id (columns sorted apart), each with its line number; or no row for an answer.
        """
        said = heard(questions, answers)
        found = self._read({_id(*pair): pair for pair in _asked(said)})
        verdicts, notes = [], []
        for i, pair in enumerate(zip(said.questions, said.answers, strict=True)):
            if _left_out(said, i):
                verdicts.append(None)
                notes.append(said.notes[i])
                continue
            if _id(*pair) not in found:
                raise BadVerdicts(
                    f"{Path(self.path).name} has no row for answer {i} ({pair[1][:60]!r}); write the file anew with all answers, or judge "
                    "those that it holds"
                )
            verdict, comment = found[_id(*pair)]
            verdicts.append(verdict)
            notes.append(comment or ("left blank" if verdict is None else ""))
        scores = [float("nan") if v is None else float(v) for v in verdicts]
        facts = {"kind": "people", "file": Path(self.path).name}
        return table(self.name, scores, verdicts, notes, facts, thoughts=said.thoughts)

    def _read(self, asked: dict[str, tuple[str, str]]) -> dict[str, tuple[bool | None, str]]:
        path = Path(self.path)
        if not path.is_file():
            raise BadVerdicts(f"no file {path.name}; make it with .write(questions, answers) and fill it in")
        lines = _rows(path)
        head = [name.strip().lower() for name in (lines[0][1] if lines else [])]
        for name in COLUMNS:
            if head.count(name) > 1:
                raise BadVerdicts(f"{path.name} has two columns {name!r} in line 1; remove one")
        missing = [name for name in COLUMNS if name not in head]
        if missing:
            raise BadVerdicts(f"{path.name} has no column {missing[0]!r} in line 1; it needs: {', '.join(COLUMNS)}")
        at = {name: head.index(name) for name in COLUMNS}
        out: dict[str, tuple[bool | None, str]] = {}
        seen: dict[str, int] = {}
        for number, cells in lines[1:]:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path.name}, line {number}"
            if len(cells) < len(head) or any(cell.strip() for cell in cells[len(head) :]):
                raise BadVerdicts(f"{where}: {len(cells)} cells, and the first line has {len(head)}; a text with a comma needs quotes")
            row = {name: cells[k] for name, k in at.items()}
            key, word = row["id"].strip(), _bare(row["verdict"]).strip().lower()
            if not key:
                raise BadVerdicts(f"{where}: the id is missing; copy it from the file as it was written")
            if key in seen:
                raise BadVerdicts(f"{where}: the id {key} was in line {seen[key]} already; keep one of the two")
            seen[key] = number
            if word not in _WORDS:
                raise BadVerdicts(f"{where}: the verdict {row['verdict']!r}; it is yes or no, 1 or 0, true or false, or blank")
            same = [_spaced(_bare(row[name])) for name in ("question", "answer")]
            if key in asked and same != [_spaced(text) for text in asked[key]]:
                raise BadVerdicts(
                    f"{where}: question and answer are not those of the id {key}; columns may have been sorted apart or edited"
                )
            out[key] = _WORDS[word], _bare(row["comment"]).strip()
        return out


def _left_out(said: Heard, i: int) -> bool:
    return bool(said.thoughts[i] and said.notes[i])


def _asked(said: Heard) -> list[tuple[str, str]]:
    """What people are shown: blank answers too, but none that a thought leaves out."""
    return [(q, a) for i, (q, a) in enumerate(zip(said.questions, said.answers, strict=True)) if not _left_out(said, i)]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a file with the lines on which they begin; some spreadsheets save with semicolons or tabs."""
    try:
        return list(csv_lines(read_text(path, path.name), path.name, ",;\t"))
    except BadInput as error:
        raise BadVerdicts(f"{path.name} cannot be read as csv in UTF-8 ({error}); save it as 'CSV UTF-8'") from None


def _id(question: str, answer: str) -> str:
    # a letter in front: a spreadsheet would read "12345678" or "1e5…" as a number and write it back as another
    return f"a{content_hash(question, answer)}"


def _dangerous(text: str) -> bool:
    return text.startswith("'") or text.lstrip().startswith(_FORMULA)


def _guard(text: str) -> str:
    """Keep a spreadsheet from running a cell; a text that begins with an apostrophe gets a second one, so that this can be undone."""
    return f"'{text}" if _dangerous(text) else text


def _bare(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _dangerous(cell[1:]) else cell


def _spaced(text: str) -> str:
    return " ".join(text.split())
