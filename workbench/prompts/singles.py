"""Single statements that are true or false, and contrast pairs made of them: in question form, or of a statement and its negation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import BadInput
from .cells import Place, label_of, name_of, text_of
from .loaders import NAMES, from_table, placed_pairs
from .pairs import ContrastPair, PromptSet
from .table import Source, open_table
from .templates import Template

FIELDS = ("statement", "label", *NAMES)


def single_statements(source: Source, columns: Mapping[str, str] | None = None, *, name: str | None = None) -> PromptSet:
    """Read single statements, each true or false, as they stand: nothing is asked.

    Args:
        source: A csv, json, jsonl or parquet file, or a table in memory, with one statement a row.
        columns: The column of each of the fields `statement`, `label`, `identity`, `group`, `right`, as for `from_table`.
        name: Name of the set; by default the file's.

    Returns:
        A prompt set without endings. `capture` reads both variants of an item at the same tokens; probes that see labels are fitted on one
        row a statement. The statement stands in `meta` too.

    Raises:
        MissingColumn, EmptyPromptSet, BadInput: As for `from_table`.

    Example:
        >>> import workbench as wb
        >>> facts = [{"statement": "Ice is cold.", "label": 1}, {"statement": "Ice is hot.", "label": 0}]
        >>> wb.prompts.single_statements(facts).single
        True
    """
    table = open_table(source)
    pairs = placed_pairs(table, columns, template=None, fields=FIELDS, alone=True)
    return PromptSet((pair for _, pair in pairs), name=name or table.name)


def as_questions(prompts: PromptSet, template: str | Template = "base_short", claim: str | None = None, **asking: Any) -> PromptSet:
    """Make contrast pairs of single statements: does one agree?

    Args:
        prompts: Single statements.
        template: A template of `udhr`, or your own text with `{statement}`.
        claim: As for `udhr`.
        asking: As for `from_table`: `answers=`, `model=`, `chat=`, `system=`, `shots=`, `phrasings=`, `seed=`, `name=`.

    Returns:
        The questions in the order of the statements, with their names, labels and `meta`.

    Raises:
        BadInput: These are contrast pairs already.
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    if not prompts.single:
        raise BadInput(f"{prompts.name!r} holds contrast pairs already")
    taken = {"identity", "group", "right"}
    rows = [
        {
            **{k: v for k, v in pair.meta.items() if k not in taken},
            "statement": pair.stem,
            "label": pair.label,
            "identity": pair.identity,
            **({"right": pair.right} if pair.right else {}),
            "group": pair.group,
        }
        for pair in prompts
    ]
    asking.setdefault("name", f"{prompts.name}, asked")
    return from_table(rows, template=template, claim=claim, **asking)


def negation_pairs(source: Source, columns: Mapping[str, str] | None = None, *, name: str | None = None) -> PromptSet:
    """Make contrast pairs of a statement and its negation, which begin alike.

    Args:
        source: A file or a table in memory with the columns `statement`, `negation` and `label` (whether the statement is true), and
            optionally `identity`, `group`, `right`.
        columns: The column of each field, as for `from_table`.
        name: Name of the set; by default the file's.

    Returns:
        A prompt set: the stem is what both begin with; variant 1 goes on as the statement, variant 0 as its negation; `label` is 1 where
        the statement is true.

    Raises:
        MissingColumn: A column is missing.
        BadInput: A row's two texts do not begin with the same words, or one begins the other; the message gives the row.
    """
    table = open_table(source)
    column_of = table.column_of(columns, ("statement", "negation", "label", *NAMES), ("statement", "negation", "label"))
    pairs = []
    for place, row in table.rows:
        one, other = (text_of(row, column_of[f], place) for f in ("statement", "negation"))
        stem = _alike(one, other, place)
        names = {f: name_of(row, column_of[f], place) if f in column_of else "" for f in NAMES}
        pairs.append(
            ContrastPair(
                stem=stem,
                negative=other[len(stem) :],
                positive=one[len(stem) :],
                label=label_of(row, column_of["label"], place),
                identity=names["identity"] or f"row {place.row}",
                group=names["group"],
                right=names["right"],
                template="negation",
                meta={"statement": one},
            )
        )
    return PromptSet(pairs, name=name or f"{table.name}, negated")


def _alike(one: str, other: str, place: Place) -> str:
    """What two texts begin with, up to a space that is left to what follows."""
    count = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    at = one.rfind(" ", 0, count + 1)
    if at < 1 or min(len(one), len(other)) == at:
        raise place.error("the statement and its negation must begin with the same words and then differ")
    return one[:at]
