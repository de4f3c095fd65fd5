"""Outside data: tables (csv, jsonl, parquet) with a column mapping, and plain lists of lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, MissingColumn
from .pairs import ContrastPair, PromptSet
from .templates import Template, get_template, with_claim
from .udhr import Identity, Right

_FIELDS = ("stem", "negative", "positive", "label", "identity", "group", "right", "claim", "template")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table from a file.

    Args:
        path: A .csv, .jsonl, .ndjson or .parquet file. Empty cells of a csv file stay empty texts.

    Returns:
        The table, one row per row of the file.

    Raises:
        BadInput: The file does not exist, has another ending, is not UTF-8 or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no file {path}")
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            return pd.read_csv(path, keep_default_na=False, encoding="utf-8-sig")
        if kind in (".jsonl", ".ndjson"):
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            return pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        if kind == ".parquet":
            return pd.read_parquet(path)
    except UnicodeDecodeError:
        raise BadInput(f"{path.name} is not UTF-8: save it as UTF-8") from None
    except (ValueError, OSError) as error:  # the parsers' own errors are ValueErrors
        raise BadInput(f"{path.name} cannot be read as {kind[1:]}: {str(error).strip().splitlines()[0][:200]}") from None
    raise BadInput(f"{path.name}: a table is .csv, .jsonl or .parquet")


def from_table(
    path: str | Path | pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    template: str | Template | None = None,
    claim: str | None = None,
    answers: tuple[str, str] = ("no", "yes"),
    name: str | None = None,
) -> PromptSet:
    """Read contrast pairs from a table.

    Args:
        path: A csv, jsonl or parquet file, or a table already in memory.
        columns: The column of each field, `{"statement": "text", "label": "is_true"}`; a field that is left out is read from
            the column of its own name. With a template the fields are `statement` and `label`; without one they are `stem`,
            `label` and optionally `negative` and `positive`. `identity`, `group`, `right` are optional.
        template: A template of `udhr` or your own text; it needs `{statement}`.
        claim: As for `udhr`.
        answers: The two answer words (no, yes), where the table has no `negative` and `positive`.
        name: Name of the set; by default the file's.

    Returns:
        A prompt set. Columns that no field uses are kept in `meta` if they hold single values. An item without an identity
        counts as its own, "row 0".

    Raises:
        MissingColumn: A needed field has no column; the message lists the columns.
        BadInput: A label is not 0/1, true/false or yes/no.
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    frame = path if isinstance(path, pd.DataFrame) else read_table(path)
    column_of = _columns(frame, columns or {}, ("statement" if template else "stem", "label"))
    form = get_template(template) if template else None
    claim_name, claim_text = "none", ""
    if form:
        form.check(("statement", "claim", "yes", "no"), ("statement",))
        claim_name, claim_text = with_claim(form, claim)
    extra = [c for c in frame.columns if c not in column_of.values() and c not in _FIELDS]

    pairs = []
    for index, row in enumerate(frame.to_dict("records")):
        text = {field: _cell(row[column]) for field, column in column_of.items()}
        # endings and stems keep their blanks, which are part of the tokens; two names must not differ by a blank
        text |= {field: value.strip() for field, value in text.items() if field not in ("stem", "negative", "positive")}
        stem, end = text.get("stem", ""), None
        meta: dict[str, str | int | float | bool] = {str(k): row[k] for k in extra if isinstance(row[k], str | int | float | bool)}
        if form:
            meta["statement"] = text["statement"]
            stem, end = form.render(statement=text["statement"], claim=claim_text, no=answers[0], yes=answers[1])
        pairs.append(
            ContrastPair(
                stem=stem,
                negative=text.get("negative", f" {answers[0]}"),
                positive=text.get("positive", f" {answers[1]}"),
                label=_label(row[column_of["label"]], index),
                identity=text.get("identity", f"row {index}"),
                group=text.get("group", ""),
                right=text.get("right", ""),
                claim=text.get("claim", claim_name),
                template=form.name if form else text.get("template", ""),
                instruction_end=end,
                meta=meta,
            )
        )
    given = "table" if isinstance(path, pd.DataFrame) else Path(path).stem
    return PromptSet(pairs, name=name or given)


def _columns(frame: pd.DataFrame, columns: Mapping[str, str], needed: tuple[str, ...]) -> dict[str, str]:
    """The column of each field that the table has: the one that the mapping names, else one of the field's own name."""
    listing = ", ".join(map(str, frame.columns))
    for field, column in columns.items():
        if column not in frame:
            raise MissingColumn(f"no column {column!r} for {field!r}; the table has: {listing}.{_hint(frame)}")
    column_of = {f: columns.get(f, f) for f in (*_FIELDS, "statement") if f in columns or f in frame}
    for field in needed:
        if field not in column_of:
            raise MissingColumn(
                f"no column for {field!r}; the table has: {listing}. Name it: columns={{{field!r}: '…'}}, "
                f"on the command line --columns {field}=….{_hint(frame)}"
            )
    return column_of


def _hint(frame: pd.DataFrame) -> str:
    """The advice for a table of one column, which is often one that is not separated by commas."""
    only = str(frame.columns[0]) if len(frame.columns) == 1 else ""
    mark = next((m for m in (";", "\t", "|") if m in only), "")
    return f" It looks separated by {mark!r}; save it with commas." if mark else ""


def _cell(value: Any) -> str:
    """A cell as text: "" for an empty cell, whole numbers without a point, everything else as it is."""
    if value is None or value != value or value is pd.NA:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _label(value: Any, row: int) -> int:
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true", "yes"):
        return 1
    if text in ("0", "0.0", "false", "no"):
        return 0
    raise BadInput(f"row {row}: a label is 0/1, true/false or yes/no, got {value!r}")


def read_lines(path: str | Path) -> list[str]:
    """Read a list from a text file.

    Args:
        path: A UTF-8 file with one entry a line.

    Returns:
        The lines without white space at their ends; empty lines and lines that start with # are left out.

    Raises:
        BadInput: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no file {path}")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def identities_from_lines(path: str | Path, group: str = "mine") -> list[Identity]:
    """Read a list of identities, one a line.

    Args:
        path: A UTF-8 file. A line that begins with "a", "an", "someone", "somebody", "everyone" or "nobody" is singular, any
            other plural.
        group: The group that all of them get.

    Returns:
        The identities, in the order of the file.

    Raises:
        BadInput: There is no such file.
    """
    singular = ("a ", "an ", "someone", "somebody", "everyone", "nobody")
    return [
        Identity(identity=line, group=group, number="singular" if line.lower().startswith(singular) else "plural")
        for line in read_lines(path)
    ]


def rights_from_lines(granting: str | Path, denying: str | Path) -> list[Right]:
    """Read rights from two text files: one of granting predicates, one of denying ones.

    A line is a predicate that follows an identity ("have the right to life"). Line k of both files makes one right. A file
    has one form per right, so that the plain and the negated form are the same.

    Args:
        granting: A UTF-8 file with one granting predicate a line.
        denying: A UTF-8 file with one denying predicate a line.

    Returns:
        The rights "right 1", "right 2", … in the order of the files.

    Raises:
        BadInput: A file does not exist, or the two have different numbers of lines.
    """
    grants, denies = read_lines(granting), read_lines(denying)
    if len(grants) != len(denies):
        raise BadInput(f"{Path(granting).name} has {len(grants)} lines, {Path(denying).name} has {len(denies)}: they go in pairs")
    return [
        Right(
            right=f"right {i + 1}",
            article=0,
            kind="mine",
            phrase=g,
            grant_plain=_agree(g),
            grant_negated=_agree(g),
            deny_negated=_agree(d),
            deny_plain=_agree(d),
        )
        for i, (g, d) in enumerate(zip(grants, denies, strict=True))
    ]


def _agree(predicate: str) -> str:
    """Mark the leading verb of a predicate for agreement in number: "have …" becomes "{have|has} …"."""
    verb, _, rest = predicate.partition(" ")
    singular = {"have": "has", "are": "is", "do": "does", "lack": "lacks", "deserve": "deserves"}.get(verb)
    return predicate if singular is None else f"{{{verb}|{singular}}} {rest}"
