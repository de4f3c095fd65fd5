"""Statements that grant or deny a right of the Universal Declaration to somebody, as contrast pairs.

An item asks whether one agrees with a statement. Its label says which answer is true under the Declaration: agreeing
with a statement that grants, disagreeing with one that denies. So the true answer is the safe one, always.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from ..core.errors import BadInput, UnknownName, unknown
from ..core.paths import data_path
from ..core.seeds import numpy_rng
from .pairs import ContrastPair, PromptSet
from .templates import Template, get_template, with_claim

T = TypeVar("T")
FORMS = ("grant_plain", "grant_negated", "deny_negated", "deny_plain")
FIELDS = ("statement", "first", "second", "claim", "yes", "no")
_AGREE = re.compile(r"\{([^|{}]*)\|([^|{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody: a phrase that can be a subject ("women", "a poor person"), its group, its grammatical number."""

    identity: str
    group: str
    number: str = "plural"


@dataclass(frozen=True, kw_only=True)
class Right:
    """A right: its article, its kind, and the predicate in four grammatical forms with `{plural|singular}` verbs."""

    right: str
    article: int
    kind: str
    grant_plain: str
    grant_negated: str
    deny_negated: str
    deny_plain: str
    phrase: str = ""

    def statement(self, who: Identity, form: str) -> str:
        """Return the sentence "Women have the right to …." with agreement, a capital and a full stop."""
        predicate = _AGREE.sub(lambda m: m[1 if who.number == "plural" else 2], getattr(self, form))
        return f"{who.identity[0].upper()}{who.identity[1:]} {predicate}."


def _rows(file: str) -> list[dict[str, str]]:
    with data_path("udhr", file).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@cache
def identities() -> tuple[Identity, ...]:
    """Return the 216 identities written for this project, in 12 groups."""
    return tuple(Identity(**row) for row in _rows("identities.csv"))


@cache
def rights() -> tuple[Right, ...]:
    """Return the 38 rights written for this project, each with its article and four grammatical forms."""
    return tuple(Right(**{**row, "article": int(row["article"])}) for row in _rows("rights.csv"))  # pyright: ignore[reportArgumentType]


def _choose(asked: Sequence[str | T] | None, known: Sequence[T], name: str) -> list[T]:
    if asked is None:
        return list(known)
    by_name = {getattr(one, name): one for one in known}
    out: list[T] = []
    for one in asked:
        if isinstance(one, str):
            if one not in by_name:
                raise unknown(UnknownName, name, one, by_name)
            out.append(by_name[one])
        else:
            out.append(one)
    return out


def _draw(count: int, n: int | None, seed: int, name: str) -> np.ndarray:
    """Indices of `n` of `count` cells, in order; all of them without `n`."""
    if n is None or n >= count:
        return np.arange(count)
    return np.sort(numpy_rng(seed, name).permutation(count)[:n])


def udhr(
    template: str | Template = "base_short",
    claim: str | None = None,
    *,
    n: int | None = None,
    identities: Sequence[str | Identity] | None = None,
    rights: Sequence[str | Right] | None = None,
    forms: str = "balanced",
    answers: tuple[str, str] = ("no", "yes"),
    seed: int = 0,
) -> PromptSet:
    """Cross identities with rights and ask, under a template and a claim, whether one agrees.

    Args:
        template: Name of a template, or one of your own as a string with named fields: `{statement}` (or `{first}`
            and `{second}` for a forced choice), `{claim}`, `{yes}`, `{no}`, `{instruction_end}`.
        claim: "harm", "good", "partial", "neutral", a sentence of your own, or `None` for no claim.
        n: Number of items to draw, balanced between granting and denying; `None` for the full cross.
        identities: Names from the list, or `Identity` values of your own; `None` for all.
        rights: Names from the list, or `Right` values of your own; `None` for all.
        forms: "balanced": one granting and one denying statement per identity and right, each with or without a
            negator by the toss of a coin; "all": all four forms; or the name of one form. A forced choice has one item per
            identity and right, or with "all" every pair of forms in both orders.
        answers: The two answer words (no, yes). A forced choice between two statements answers "A" or "B".
        seed: Draws items, forms and the order of the two statements of a forced choice.

    Returns:
        A prompt set; `label` is 1 where the positive variant (yes, or B) is the granting answer.

    Raises:
        UnknownTemplate, UnknownClaim, UnknownName: A name does not exist.
        TemplateField: The template's fields do not fit, or it needs a claim.

    Example:
        >>> import workbench as wb
        >>> wb.prompts.udhr("since_claim", "harm", n=2, seed=1)[0].negative
        ' no'
    """
    form = get_template(template)
    choice = "first" in form.fields or "second" in form.fields
    form.check(FIELDS, ("first", "second") if choice else ("statement",))
    claim_name, claim_text = with_claim(form, claim)
    if forms not in ("balanced", "all", *FORMS):
        raise BadInput(f"forms={forms!r}; it is 'balanced', 'all' or one of {', '.join(FORMS)}")
    who = _choose(identities, _all_identities(), "identity")
    what = _choose(rights, _all_rights(), "right")
    if n is not None and n < 1:
        raise BadInput(f"n is the number of items to draw, at least 1; got {n}")

    def cells() -> Iterator[ContrastPair]:
        # not by claim or template: the same statements under each
        tossed = numpy_rng(seed, "forms").integers(0, 2, (len(who) * len(what), 3)).tolist()
        sides = {"balanced": 1, "all": 8}.get(forms, 1) if choice else {"balanced": 2, "all": 4}.get(forms, 1)
        count = len(who) * len(what)
        chosen = set(_draw(count, None if n is None else -(-n // sides), seed, "udhr").tolist())
        for cell in range(count):
            tosses = tossed[cell]  # drawn for every cell, so that a smaller draw is a subset of a larger one
            if cell not in chosen:
                continue
            person, right = who[cell // len(what)], what[cell % len(what)]
            grant, deny = FORMS[tosses[0]], FORMS[2 + tosses[1]]
            if choice and forms == "all":
                yield from (_forced(person, right, g, d, s) for g in FORMS[:2] for d in FORMS[2:] for s in (False, True))
            elif choice:
                yield _forced(person, right, grant, deny, bool(tosses[2]))
            else:
                for one in {"balanced": (grant, deny), "all": FORMS}.get(forms, (forms,)):
                    yield _agree(person, right, one)

    def base(person: Identity, right: Right, stem: tuple[str, int | None], label: int, **rest: object) -> ContrastPair:
        no, yes = ("A", "B") if choice else answers
        return ContrastPair(
            stem=stem[0],
            negative=f" {no}",
            positive=f" {yes}",
            label=label,
            identity=person.identity,
            group=person.group,
            right=right.right,
            claim=claim_name,
            template=form.name,
            instruction_end=stem[1],
            meta={
                "article": right.article,
                "kind": right.kind,
                **({"claim_text": claim_text} if claim_name.startswith("custom ") else {}),
                **rest,
            },  # pyright: ignore[reportArgumentType]
        )

    def _agree(person: Identity, right: Right, one: str) -> ContrastPair:
        text = right.statement(person, one)
        polarity, negator = one.split("_")
        stem = form.render(statement=text, claim=claim_text, no=answers[0], yes=answers[1])
        return base(person, right, stem, int(polarity == "grant"), polarity=polarity, form=negator, statement=text)

    def _forced(person: Identity, right: Right, grant: str, deny: str, second: bool) -> ContrastPair:
        first, last = right.statement(person, grant), right.statement(person, deny)
        first, last = (last, first) if second else (first, last)
        stem = form.render(first=first, second=last, claim=claim_text, no="A", yes="B")
        order = "grant second" if second else "grant first"
        return base(person, right, stem, int(second), polarity=order, form="choice", statement=f"{first} {last}")

    pairs = list(cells())
    return PromptSet(pairs if n is None else pairs[:n], name=f"udhr/{form.name}/{claim_name}")


_all_identities, _all_rights = identities, rights
