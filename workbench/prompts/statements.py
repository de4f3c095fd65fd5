"""Where a study's statements come from: the UDHR statements, the pairs of requests, or a table of the user's own, behind one face.

Each source has a `name` (for tables), a `kind` (whose templates and claims it goes by), the template `plain` without a claim and those `pushed`
with one, and says whether it is the user's `own`. `rows()` are the cells that a split goes by; `prompts(...)` asks statements of one side under a
template and a claim; `digest()` is a hash of what it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, MissingColumn, OneClass
from ..core.provenance import content_hash
from ..core.seeds import numpy_rng
from .loaders import from_table, read_table
from .pairs import PromptSet
from .requests import request_pairs, requests
from .splits import Split
from .udhr import identities, rights, udhr

FEWEST = 16

FIT = "no claim"  # the condition that probes are fitted in


@dataclass(frozen=True, kw_only=True)
class UdhrStatements:
    """The statements written for this project (`prompts.udhr`)."""

    name: str = "udhr"
    kind: str = "udhr"
    plain: str = "base_short"
    pushed: tuple[str, ...] = ("since_claim", "consider_claim")
    own: bool = False

    def rows(self) -> pd.DataFrame:
        """Every identity with every right."""
        names = [[i.identity for i in identities()], [r.right for r in rights()]]
        return pd.MultiIndex.from_product(names, names=["identity", "right"]).to_frame(index=False)

    def prompts(
        self, template: str, claim: str | None, *, n: int | None, answers: tuple[str, str], seed: int, held: Mapping[str, Sequence[str]]
    ) -> PromptSet:
        """Return statements about these identities and rights (of all where one is not named), `n` at most, drawn by `seed`."""
        who: dict[str, Any] = {f"{k[:-1]}ies" if k == "identity" else f"{k}s": sorted(v) for k, v in held.items()}
        return udhr(template, claim, n=n, answers=answers, seed=seed, **who)

    def digest(self) -> str:
        """Return a hash of what it holds."""
        return content_hash("udhr", [str(i) for i in identities()], [str(r) for r in rights()])


@dataclass(frozen=True, kw_only=True)
class RequestStatements:
    """The matched pairs of a harmful and a harmless request (`prompts.requests`); a pair is never parted."""

    name: str = "requests"
    kind: str = "requests"
    plain: str = "request"
    pushed: tuple[str, ...] = ("claim_request",)
    own: bool = False

    def rows(self) -> pd.DataFrame:
        """Every pair, as `right`; areas are on both sides of a split."""
        return pd.DataFrame({"right": [row["id"] for row in request_pairs()]}).assign(identity="")

    def prompts(
        self, template: str, claim: str | None, *, n: int | None, answers: tuple[str, str], seed: int, held: Mapping[str, Sequence[str]]
    ) -> PromptSet:
        """Return statements about these identities and rights (of all where one is not named), `n` at most, drawn by `seed`."""
        ids = sorted(held["right"]) if "right" in held else None
        return requests(template, claim, n=None if n is None else max(1, n // 2), ids=ids, answers=answers, seed=seed)

    def digest(self) -> str:
        """Return a hash of what it holds."""
        return content_hash("requests", list(request_pairs()))


@dataclass(frozen=True, kw_only=True)
class OwnStatements:
    """A table of the user's: a statement a row, and whether agreeing with it is right.

    Attributes:
        frame: The table, with `statement`, `label`, and `identity`, `right`, `group` where there are such.
        name: For tables.
    """

    frame: pd.DataFrame = field(repr=False)
    name: str
    kind: str = "udhr"
    plain: str = "base_short"
    pushed: tuple[str, ...] = ("since_claim", "consider_claim")
    own: bool = True

    def rows(self) -> pd.DataFrame:
        """The distinct pairs of identity and right."""
        return self.frame[["identity", "right"]].drop_duplicates(ignore_index=True)

    def prompts(
        self, template: str, claim: str | None, *, n: int | None, answers: tuple[str, str], seed: int, held: Mapping[str, Sequence[str]]
    ) -> PromptSet:
        """Return statements of one side, `n` at most, drawn by `seed`; both labels are drawn alike, as far as they reach."""
        keep = np.ones(len(self.frame), bool)
        for column, values in held.items():
            keep &= self.frame[column].isin(list(values)).to_numpy()
        some = self.frame[keep]
        if not len(some):
            raise BadInput(f"{self.name}: no statement is left for {', '.join(held)} of one side of the split: it needs more rows")
        if n is not None and n < len(some):
            order = numpy_rng(seed, "own statements").permutation(len(self.frame))[np.flatnonzero(keep)]
            ranked = some.assign(_order=order).sort_values("_order")
            turn = ranked.groupby("label").cumcount()
            some = ranked.assign(_turn=turn).sort_values(["_turn", "_order"]).head(n).sort_index().drop(columns=["_order", "_turn"])
        return from_table(some, template=template, claim=claim, answers=answers, name=f"{self.name}/{template}/{claim or 'none'}")

    def digest(self) -> str:
        """Return a hash of what it holds."""
        return hashlib.sha256(self.frame.to_csv(index=False).encode()).hexdigest()[:16]


Statements = UdhrStatements | RequestStatements | OwnStatements


def own_statements(source: str | Path | pd.DataFrame, columns: Mapping[str, str] | None = None) -> OwnStatements:
    """Read statements of the user's own.

    Args:
        source: A csv, jsonl or parquet file, or a table in memory, a row a statement.
        columns: Which column holds which of `statement`, `label`, `identity`, `right`, `group`; one left out is looked for under its own
            name. `label` says whether agreeing with the statement is right (1, true, yes) or not (0, false, no).
            Without an `identity` (who the statement is about: what is held out together, and what intervals are clustered by) every
            row counts as its own.

    Raises:
        MissingColumn: There is no statement or no label.
        BadInput: An empty or doubled statement, or a label that is neither.
        OneClass: All labels are the same.
    """
    table = source if isinstance(source, pd.DataFrame) else read_table(source)
    name = "table" if isinstance(source, pd.DataFrame) else Path(source).stem
    columns = dict(columns or {})
    known = ("statement", "label", "identity", "right", "group")
    if strange := sorted(set(columns) - set(known)):
        turned = columns[strange[0]] in known
        hint = f" The field comes first: {columns[strange[0]]}={strange[0]}." if turned else ""
        raise BadInput(f"columns: no field {strange[0]!r}; there are: {', '.join(known)}.{hint}")
    pairs = from_table(table, columns, template="base_short")  # everything that can be wrong with a table is said there
    if len(pairs) < 4 * FEWEST:
        raise BadInput(f"{name}: {len(pairs)} statements; {4 * FEWEST} at least, so that each side of the split has {FEWEST} or so")
    text = [str(p.meta["statement"]).strip() for p in pairs]
    for row, one in enumerate(text):
        if not one:
            raise BadInput(f"{name}: row {row} has no statement")
    doubled = pd.Series(text)[pd.Series([" ".join(t.casefold().split()) for t in text]).duplicated()]
    if len(doubled):
        raise BadInput(f"{name}: the statement {doubled.iloc[0][:80]!r} stands there twice; held-out rows must be new to a probe")
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
    for field_name in ("identity", "right"):
        if frame[field_name].eq("").any() and frame[field_name].ne("").any():
            raise MissingColumn(f"{name}: row {int(np.flatnonzero(frame[field_name] == '')[0])} has no {field_name}, others have one")
    return OwnStatements(frame=frame, name=name)


def statements(source: str | Path | pd.DataFrame | Statements = "udhr", columns: Mapping[str, str] | None = None) -> Statements:
    """Return a source of statements: "udhr", "requests", or a table of your own (as for `own_statements`)."""
    if isinstance(source, UdhrStatements | RequestStatements | OwnStatements):
        return source
    if isinstance(source, str) and source in ("", "udhr"):
        return UdhrStatements()
    if isinstance(source, str) and source == "requests":
        return RequestStatements()
    if isinstance(source, str) and not Path(source).suffix:
        raise BadInput(f"no dataset {source!r}: there are udhr, requests, or a .csv, .jsonl or .parquet file of yours")
    return own_statements(source, columns)  # pyright: ignore[reportArgumentType]


def check_sides(source: Statements, split: Split, fewest: int = FEWEST) -> None:
    """Raise unless both sides of a split hold statements of both labels.

    Raises:
        BadInput: A side has fewer than `fewest` statements of a label.
    """
    if not source.own:
        return
    for side in ("train", "test"):
        held = {k: sorted(v) for k, v in getattr(split, side).items()}
        prompts = source.prompts(source.plain, None, n=None, answers=("no", "yes"), seed=0, held=held)
        for label in (0, 1):
            count = prompts.labels.count(label)
            if count < fewest // 2:
                raise BadInput(
                    f"{source.name}: the {side} side has {count} statements labelled {label}, of {len(prompts)}; {fewest // 2} at least: add rows, "
                    "or identities, so that the split has some of both on either side"
                )
