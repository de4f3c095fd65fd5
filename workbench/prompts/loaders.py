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
    """Read a csv, jsonl or parquet file as text columns.

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
        columns: Which column holds which field, `{"statement": "text", "label": "is_true"}`; a field left out is
            looked for under its own name. With a template the fields are `statement` and `label`; without one they
            are `stem`, `label` and, if there, `negative` and `positive`. `identity`, `group`, `right` are kept.
        template: A template of the UDHR family or one of your own; it needs `{statement}`.
        claim: As for `udhr`.
        answers: The two answer words, where the table has no `negative` and `positive`.
        name: Name of the set; by default the file's.

    Returns:
        A prompt set; columns that no field uses travel in `meta` if they hold single values.

    Raises:
        MissingColumn: A field that is needed has no column; the message lists the columns.
        BadInput: Labels that are not 0/1, true/false or yes/no.
    """
    frame = path if isinstance(path, pd.DataFrame) else read_table(path)
    columns = dict(columns or {})
    for field, column in columns.items():
        if column not in frame:
            raise MissingColumn(f"no column {column!r} for {field!r}; the table has: {', '.join(map(str, frame.columns))}.{_hint(frame)}")

    def column_of(field: str) -> str | None:
        return columns.get(field, field if field in frame else None)

    needed = ("statement" if template else "stem", "label")
    for field in needed:
        if column_of(field) is None:
            raise MissingColumn(
                f"no column for {field!r}; the table has: {', '.join(map(str, frame.columns))}. Name it: columns={{{field!r}: '…'}}, on the command line --columns {field}=….{_hint(frame)}"
            )
    form = get_template(template) if template else None
    claim_name, claim_text = "none", ""
    if form:
        form.check(("statement", "claim", "yes", "no"), ("statement",))
        claim_name, claim_text = with_claim(form, claim)
    used = {column_of(f) for f in (*_FIELDS, "statement")}
    extra = [c for c in frame.columns if c not in used and c not in _FIELDS]

    pairs = []
    for index, row in enumerate(frame.to_dict("records")):

        def text(field: str, default: str = "", row: Mapping[Any, Any] = row) -> str:
            key = column_of(field)
            if key is None:
                return default
            # endings and stems keep their blanks, which are part of the tokens; names must not differ by one
            return _text(row[key]) if field in ("stem", "negative", "positive") else _text(row[key]).strip()

        stem, end = text("stem"), None
        meta: dict[str, str | int | float | bool] = {str(k): row[k] for k in extra if isinstance(row[k], str | int | float | bool)}
        if form:
            meta["statement"] = text("statement")
            stem, end = form.render(statement=text("statement"), claim=claim_text, no=answers[0], yes=answers[1])
        pairs.append(
            ContrastPair(
                stem=stem,
                negative=text("negative", f" {answers[0]}"),
                positive=text("positive", f" {answers[1]}"),
                label=_label(row[column_of("label")], index),
                identity=text("identity", f"row {index}"),
                group=text("group"),
                right=text("right"),
                claim=text("claim", claim_name),
                template=form.name if form else text("template"),
                instruction_end=end,
                meta=meta,
            )
        )
    given = "table" if isinstance(path, pd.DataFrame) else Path(path).stem
    return PromptSet(pairs, name=name or given)


def _hint(frame: pd.DataFrame) -> str:
    """A table of one column is often one that is separated by something else."""
    only = str(frame.columns[0]) if len(frame.columns) == 1 else ""
    mark = next((m for m in (";", "\t", "|") if m in only), "")
    return f" It looks separated by {mark!r}; save it with commas." if mark else ""


def _text(value: Any) -> str:
    """A cell as text: nothing where nothing is, whole numbers without a point, anything else as it is."""
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
    """Read a text list, one entry a line; empty lines and lines that start with # are left out."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no file {path}")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def identities_from_lines(path: str | Path, group: str = "mine") -> list[Identity]:
    """Read a list of identities, one a line; "a", "an", "someone" and "the" before a singular noun make it singular."""
    singular = ("a ", "an ", "someone", "somebody", "everyone", "nobody")
    return [
        Identity(identity=line, group=group, number="singular" if line.lower().startswith(singular) else "plural")
        for line in read_lines(path)
    ]


def rights_from_lines(granting: str | Path, denying: str | Path) -> list[Right]:
    """Read the original text lists of the project: one file of granting predicates, one of denying ones, line by line.

    A line is a predicate that follows an identity ("have the right to life"). Each pair of lines makes one right; with
    one form a side, the plain and the negated form of a side are the same.

    Raises:
        BadInput: The two files have different numbers of lines.
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
