"""The sources of a study's statements, with one interface: the UDHR statements, the pairs of requests, or the user's own table.

Each source has a `name` (for tables), a `kind` (its templates and claims), the template `plain` without a claim and the
templates `pushed` with one, and the flag `own` for a user's table. `rows()` are the cells that a split divides. `prompts(...)`
makes contrast pairs of the statements of one side, under a template and a claim. `digest()` is a hash of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, OneClass, UnknownName, unknown
from ..core.provenance import content_hash
from ..core.seeds import numpy_rng
from .cells import check_text
from .left_out import Skipped, distinct, leaving_out
from .loaders import from_table, placed_pairs
from .pairs import PromptSet
from .requests import request_pairs, requests
from .rows import normal
from .splits import Split
from .student_prompts import StudentProject, student_project
from .table import Source, open_table
from .udhr import identities, rights, udhr

FEWEST = 16
DECLARED = ("asks", "positive", "negative")
FIT = "no claim"  # the condition that probes are fitted in


@dataclass(frozen=True, kw_only=True)
class UdhrStatements:
    """The statements written for this project (`prompts.udhr`)."""

    name: str = "udhr"
    asks: str = "rights"
    positive: str = "safe"
    negative: str = "unsafe"
    kind: str = "udhr"
    plain: str = "base_short"
    pushed: tuple[str, ...] = ("since_claim", "consider_claim")
    own: bool = False

    def rows(self) -> pd.DataFrame:
        """Every identity with every right."""
        names = [[i.identity for i in identities()], [r.right for r in rights()]]
        return pd.MultiIndex.from_product(names, names=["identity", "right"]).to_frame(index=False)

    def prompts(
        self,
        template: str,
        claim: str | None,
        *,
        n: int | None,
        answers: tuple[str, str],
        seed: int,
        held: Mapping[str, Sequence[str]],
        **asking: Any,
    ) -> PromptSet:
        """Return statements about the identities and rights in `held` (all without), `n` at most, drawn by `seed`, asked so."""
        who: dict[str, Any] = {f"{k[:-1]}ies" if k == "identity" else f"{k}s": sorted(v) for k, v in held.items()}
        return udhr(template, claim, n=n, answers=answers, seed=seed, **asking, **who)

    def digest(self) -> str:
        """Return a hash of the content."""
        return content_hash("udhr", [str(i) for i in identities()], [str(r) for r in rights()])


@dataclass(frozen=True, kw_only=True)
class RequestStatements:
    """The matched pairs of a harmful and a harmless request (`prompts.requests`); no split separates a pair."""

    name: str = "requests"
    asks: str = "requests"
    positive: str = "safe"
    negative: str = "unsafe"
    kind: str = "requests"
    plain: str = "request"
    pushed: tuple[str, ...] = ("claim_request",)
    own: bool = False

    def rows(self) -> pd.DataFrame:
        """Every pair, as `right`; areas are on both sides of a split."""
        return pd.DataFrame({"right": [row["id"] for row in request_pairs()]}).assign(identity="")

    def prompts(
        self,
        template: str,
        claim: str | None,
        *,
        n: int | None,
        answers: tuple[str, str],
        seed: int,
        held: Mapping[str, Sequence[str]],
        **asking: Any,
    ) -> PromptSet:
        """Return statements about the identities and rights in `held` (all without), `n` at most, drawn by `seed`, asked so."""
        ids = sorted(held["right"]) if "right" in held else None
        return requests(template, claim, n=None if n is None else max(1, n // 2), ids=ids, answers=answers, seed=seed, **asking)

    def digest(self) -> str:
        """Return a hash of the content."""
        return content_hash("requests", list(request_pairs()))


@dataclass(frozen=True, kw_only=True)
class OwnStatements:
    """A table of the user's own, with a statement a row and whether agreeing with it is right.

    Attributes:
        frame: The table, with the columns `statement`, `label`, `identity`, `right`, `group`, `polarity`.
        name: Name of the source in tables.
        kind: The templates and claims that it uses, those of `udhr`.
        plain: Name of its template without a claim.
        pushed: Names of its templates with a claim.
        own: Always true: the table is the user's.
        asks: What the statements are about, as reports say it.
        positive, negative: What an answer is that the label calls right, and one that it calls wrong.
        skipped: Rows that were left out because their statement stands there already.
    """

    frame: pd.DataFrame = field(repr=False)
    name: str
    kind: str = "udhr"
    plain: str = "base_short"
    pushed: tuple[str, ...] = ("since_claim", "consider_claim")
    own: bool = True
    asks: str = "statements"
    positive: str = "right"
    negative: str = "wrong"
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)

    def rows(self) -> pd.DataFrame:
        """The distinct pairs of identity and right."""
        return self.frame[["identity", "right"]].drop_duplicates(ignore_index=True)

    def prompts(
        self,
        template: str,
        claim: str | None,
        *,
        n: int | None,
        answers: tuple[str, str],
        seed: int,
        held: Mapping[str, Sequence[str]],
        **asking: Any,
    ) -> PromptSet:
        """Return statements of one side, `n` at most, drawn by `seed`, with as many of each label as there are, asked so."""
        keep = np.ones(len(self.frame), bool)
        for column, values in held.items():
            keep &= self.frame[column].isin(list(values)).to_numpy()
        chosen = self.frame[keep]
        if not len(chosen):
            raise BadInput(f"{self.name}: no statement is left for {', '.join(held)} of one side of the split: it needs more rows")
        if n is not None and n < len(chosen):
            order = numpy_rng(seed, "own statements").permutation(len(self.frame))[np.flatnonzero(keep)]
            ranked = chosen.assign(_order=order).sort_values("_order")
            turn = ranked.groupby("label").cumcount()
            chosen = ranked.assign(_turn=turn).sort_values(["_turn", "_order"]).head(n).sort_index().drop(columns=["_order", "_turn"])
        name = f"{self.name}/{template}/{claim or 'none'}"
        return from_table(chosen, template=template, claim=claim, answers=answers, seed=seed, name=name, **asking)

    def digest(self) -> str:
        """Return a hash of the content."""
        return hashlib.sha256(self.frame.to_csv(index=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class StudentStatements(OwnStatements):
    """The student project's folder: every identity with every right, granted and denied.

    Attributes:
        project: Its lists and prompt forms.
    """

    project: StudentProject = field(repr=False)


Statements = UdhrStatements | RequestStatements | OwnStatements


def student_statements(folder: str | Path) -> StudentStatements:
    """Read the statements of the student project's folder.

    Args:
        folder: As for `student_project`.

    Returns:
        The source of statements; names and groups are the project's.

    Raises:
        BadInput: As for `student_project`.
    """
    project = student_project(folder)
    frame = project.to_frame().drop(columns="article")
    words: dict[str, Any] = {"asks": "rights", "positive": "safe", "negative": "unsafe"}
    return StudentStatements(frame=frame, name=project.name, project=project, **words)


def own_statements(source: Source, columns: Mapping[str, str] | None = None, *, strict: bool = False, **declared: str) -> OwnStatements:
    """Read the user's own statements.

    Args:
        source: A csv, json, jsonl or parquet file, or a table in memory, with one statement a row; its text is read as it stands.
        columns: The column of each of the fields `statement`, `label`, `identity`, `right`, `group`; a field that is left out
            is read from the column of its own name. `label` says whether agreeing with the statement is right (1, true, yes)
            or not (0, false, no). `identity` is the person or people that the statement is about: statements of one identity
            are held out together, and intervals are clustered by it. Without it every row is its own identity.

        declared: What reports say: `asks="capitals"`, `positive="true"`, `negative="false"`.
        strict: Refuse statements that stand there twice; by default the first is used, and the others are named in `.skipped`.

    Returns:
        The source of statements.

    Raises:
        MissingColumn: There is no statement or no label, or only some rows have an identity or a right.
        BadInput: There are too few statements, a cell or `columns` will not do for `from_table` (the message gives file, row and
            column), or, with `strict`, a statement stands there twice.
        OneClass: All labels are the same.
    """
    table = open_table(source)
    name = table.name
    placed = placed_pairs(table, columns, template="base_short", fields=("statement", "label", "identity", "right", "group"))
    with leaving_out() as skipped:  # held-out rows must be new to a probe
        pairs = distinct(placed, lambda pair: normal(str(pair.meta["statement"])))
    if strict and skipped:
        raise BadInput(f"{skipped[0]} ({len(skipped):,} such rows): held-out rows must be new to a probe")
    if len(pairs) < 4 * FEWEST:
        raise BadInput(f"{name}: {len(pairs)} statements; {4 * FEWEST} at least, so that each side of the split has {FEWEST} or so")
    text = [str(p.meta["statement"]) for p in pairs]
    labels = [p.label for p in pairs]
    if len(set(labels)) < 2:
        raise OneClass(f"{name}: every label is {labels[0]}; a probe needs statements of both kinds")
    frame = pd.DataFrame(
        {
            "statement": text,
            "label": labels,
            "identity": [p.identity for p in pairs],
            "right": [p.right for p in pairs],
            "group": [p.group for p in pairs],
            "polarity": np.where(np.array(labels) == 1, "grant", "deny"),
        }
    )
    return OwnStatements(frame=frame, name=name, skipped=tuple(skipped), **_declared(declared))


def _declared(words: Mapping[str, str]) -> dict[str, Any]:
    """What a data set says of itself, checked."""
    for field_name, word in words.items():
        if field_name not in DECLARED:
            raise unknown(UnknownName, "word of a data set", field_name, DECLARED)
        check_text(word, f"{field_name} of a data set")
    return dict(words)


def statements(
    source: Source | Statements = "udhr", columns: Mapping[str, str] | None = None, words: Mapping[str, str] | None = None
) -> Statements:
    """Return a source of statements.

    Args:
        source: "udhr" (or ""), "requests", a table of your own (as for `own_statements`), the student project's folder, or a source.
        columns: The columns of your own table, as for `own_statements`.
        words: What reports say of your own table (`asks`, `positive`, `negative`), as for `own_statements`.

    Returns:
        The source.

    Raises:
        BadInput: There is no dataset of this name, the table cannot be used, or columns are given where there is none.
        MissingColumn, OneClass: As for `own_statements`.
    """
    if isinstance(source, str) and source in ("", "udhr", "requests"):
        source = RequestStatements() if source == "requests" else UdhrStatements()
    if isinstance(source, UdhrStatements | RequestStatements | OwnStatements):
        if columns:
            raise BadInput(f"columns are those of a table of your own, and {source.name!r} is none; leave them out")
        return source
    if isinstance(source, str | Path) and Path(source).is_dir():
        return student_statements(source)
    if isinstance(source, str) and not Path(source).suffix:
        raise BadInput(
            f"no dataset {source!r}: there are udhr, requests, a .csv, .jsonl or .parquet file of yours, or the student project's folder"
        )
    declared: dict[str, Any] = dict(words or {})
    return own_statements(source, columns, **declared)


def check_sides(source: Statements, split: Split, fewest: int = FEWEST) -> None:
    """Raise unless both sides of a split hold enough statements of both labels. Only a user's own table is checked.

    Args:
        source: The source of the statements.
        split: A split of its rows.
        fewest: Statements that a side should have; half of them must have each label.

    Raises:
        BadInput: A side has fewer than half of `fewest` statements of a label.
    """
    if not source.own:
        return
    for side in ("train", "test"):
        held = split.values(side)
        prompts = source.prompts(source.plain, None, n=None, answers=("no", "yes"), seed=0, held=held)
        for label in (0, 1):
            count = prompts.labels.count(label)
            if count < fewest // 2:
                raise BadInput(
                    f"{source.name}: the {side} side has {count} statements labelled {label}, of {len(prompts)}; {fewest // 2} at "
                    "least: add rows, or identities, so that the split has some of both on either side"
                )
