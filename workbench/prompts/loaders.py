"""Outside data as contrast pairs: tables (csv, json, jsonl, parquet, in memory) with a column mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, MissingColumn
from ..core.seeds import numpy_rng
from .asking import Asking
from .cells import Place, check_answers, flaw_of, label_of, name_of, shown, text_of
from .formats import checked_path
from .left_out import each
from .pairs import COLUMNS, ContrastPair, PromptSet
from .rows import normal
from .table import Source, Table, open_table, single
from .templates import Template, get_template, sentences, with_claim

TEXTS = ("stem", "statement", "label", "negative", "positive")
NAMES = ("identity", "group", "right")
STATEMENT = ("statement", "label", "negative", "positive", *NAMES)
STEM = ("stem", "label", "negative", "positive", *NAMES, "claim", "template")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table from a file.

    Args:
        path: A .csv, .json, .jsonl, .ndjson or .parquet file; all but parquet also with .gz.

    Returns:
        The table, one row per row of the file. A column of a csv file is numbers (or True and False) if every cell is written as
        Python writes it; all others are texts as they stand there: "007", "1e5", "NA" and "" too.

    Raises:
        EmptyPromptSet: The file has no rows.
        BadInput: The file does not exist, has another ending, is not UTF-8, names a column twice, cannot be read, or has a cell
            with a control character or half a character; the message gives the line.
    """
    table = open_table(checked_path(path))
    for place, row in table.rows:
        for column, cell in row.items():
            if isinstance(cell, str) and (flaw := flaw_of(cell, blank=True)):
                raise place.error(f"{column!r} {flaw}")
    return pd.DataFrame({column: table.typed(column) for column in table.columns})


def from_table(
    path: Source,
    columns: Mapping[str, str] | None = None,
    *,
    template: str | Template | None = None,
    claim: str | None = None,
    answers: tuple[str, str] = ("no", "yes"),
    model: Any = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    legend: str = "",
    shots: Sequence[ContrastPair] = (),
    phrasings: int = 1,
    seed: int = 0,
    name: str | None = None,
) -> PromptSet:
    """Read contrast pairs from a table.

    Args:
        path: A csv, json, jsonl or parquet file, or a table already in memory: a data frame or a list of mappings.
        columns: The column of each field, `{"statement": "text", "label": "is_true"}`; a field that is left out is read from
            the column of its own name. With a template the fields are `statement` and `label`; without one they are `stem`
            and `label`, and optionally `claim` and `template`. `negative`, `positive`, `identity`, `group`, `right` are optional.
        template: A template of `udhr` or your own text; it needs `{statement}`.
        claim: As for `udhr`.
        answers: The two answer words (no, yes), where the table has no `negative` and `positive`.
        model, chat, system, chat_options, legend: As for `udhr`; with a template only. A stem is read as it stands.
        shots: Examples in front of each question, with their right answers; with a template only.
        phrasings: Sentences of the claim, as for `udhr`; with a template only.
        seed: Draws the sentence of each row.
        name: Name of the set; by default the file's.

    Returns:
        A prompt set. Statements, stems and endings are exactly those of the table, white space at their ends too; names
        (`identity`, `group`, `right`) lose it, and may be whole numbers. Columns that no field uses are kept in `meta` if they
        hold single values, but for those of a name that the set has itself (with a template: `stem`, `claim`, …). Without
        identities each item counts as its own, "row 0", but for repeated texts, which count as one.

    Raises:
        MissingColumn: A needed field has no column (the message lists the columns), or some rows have an identity or a right
            and others have none.
        EmptyPromptSet: The table has no rows.
        BadInput: A text is missing, blank, no text, or holds a control character or half a character; a label is not 0/1,
            true/false or yes/no; `columns` names an unknown field, or a column twice. The message gives file, row and column.
            A chat, a legend or examples are asked for without a template.
        ControlToken: A statement holds a control token of the chat template.
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    if template is None and (chat or system or chat_options or legend or shots or phrasings != 1):
        raise BadInput(
            "a table of stems is read as it stands: chat=, system=, chat_options=, legend=, shots= and phrasings= need a template="
        )
    asking = Asking(
        model=None if template is None else model, chat=chat, system=system, chat_options=chat_options, legend=legend, shots=tuple(shots)
    )
    table = open_table(path)
    pairs = placed_pairs(table, columns, template=template, claim=claim, answers=answers, asking=asking, phrasings=phrasings, seed=seed)
    return PromptSet((pair for _, pair in pairs), name=name or table.name)


def placed_pairs(
    table: Table,
    columns: Mapping[str, str] | None,
    *,
    template: str | Template | None,
    claim: str | None = None,
    answers: tuple[str, str] = ("no", "yes"),
    fields: tuple[str, ...] | None = None,
    asking: Asking | None = None,
    phrasings: int = 1,
    alone: bool = False,
    seed: int = 0,
) -> list[tuple[Place, ContrastPair]]:
    """Return contrast pairs of a table's rows with the places of the rows; see `from_table`.

    Args:
        table: The table.
        columns, template, claim, answers: As for `from_table`.
        fields: Names of the fields that there are; by default those of `from_table`.
        asking: How a rendered template is put to a model; plain by default.
        phrasings, seed: As for `from_table`.
        alone: Make single statements, without endings.

    Raises:
        MissingColumn, BadInput, UnknownTemplate, UnknownClaim, TemplateField: As for `from_table`.
    """
    answers, asking = check_answers(answers), asking or Asking()
    form = get_template(template) if template else None
    claim_name, said = "none", [""]
    if form:
        form.check(("statement", "claim", "yes", "no"), ("statement",))
        claim_name, claim_text = with_claim(form, claim)
        said = sentences(claim_name, claim_text, phrasings)
    fields = fields or (STATEMENT if form else STEM)
    column_of = table.column_of(columns, fields, (fields[0], "label"))
    names = _names(table, {f: c for f, c in column_of.items() if f not in TEXTS})
    used = {*column_of.values(), *COLUMNS, *(("statement",) if form else ())}
    extra = {str(c): table.typed(c) for c in table.columns if c not in used}
    which = numpy_rng(seed, "phrasings").integers(0, len(said), len(table.rows))
    by_text: dict[str, str] = {}

    def pair_of(numbered: tuple[int, Mapping[Any, Any]], place: Place) -> tuple[Place, ContrastPair]:
        i, row = numbered
        text = {f: text_of(row, c, place) for f, c in column_of.items() if f in TEXTS and f != "label"}
        label, name = label_of(row, column_of["label"], place), {field: held[i] for field, held in names.items()}
        meta = {column: value for column, cells in extra.items() if (value := single(cells[i])) is not None}
        stem, end, wording = text[fields[0]], None, None
        try:
            if form:
                whole, end = asking.stem(*form.render(statement=stem, claim=said[which[i]], no=answers[0], yes=answers[1]))
                meta |= {"statement": stem, **whole.meta, **asking.meta, **({"phrasing": said[which[i]]} if len(said) > 1 else {})}
                stem, wording = whole.text, f"{form.wording}\n{whole.wording}"
            if alone:
                meta |= {"statement": stem}
            pair = ContrastPair(
                stem=stem,
                negative="" if alone else text.get("negative", asking.end(stem, answers[0])),
                positive="" if alone else text.get("positive", asking.end(stem, answers[1])),
                label=label,
                identity=name.get("identity") or by_text.setdefault(normal(stem), f"row {place.row}"),
                group=name.get("group", ""),
                right=name.get("right", ""),
                claim=name.get("claim") or claim_name,
                template=form.name if form else name.get("template", ""),
                instruction_end=end,
                wording=wording,
                meta=meta,
            )
        except BadInput as error:
            raise place.error(str(error), type(error)) from None
        return place, pair

    return each(((place, (i, row)) for i, (place, row) in enumerate(table.rows)), pair_of)


def _names(table: Table, column_of: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of each field, one a row; of identities and of rights all rows have one or none has."""
    names = {f: [name_of(row, c, place) for place, row in table.rows] for f, c in column_of.items()}
    for field in ("identity", "right"):
        held = names.get(field, [])
        if any(held) and not all(held):
            place, row = table.rows[held.index("")]
            cell = shown(row.get(column_of[field]))
            what = f"has no {field}, others have one: {column_of[field]!r} is {cell}; fill it in, or leave the column out"
            raise place.error(what, MissingColumn, joint=" ")
    return names
