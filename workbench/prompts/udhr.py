"""Statements that grant or deny people a right of the Universal Declaration, as contrast pairs.

An item asks whether one agrees with a statement. Its label gives the answer that is true under the Declaration: agreeing
with a statement that grants a right, disagreeing with one that denies it. So the true answer is always the safe one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from ..core.errors import BadInput
from ..core.paths import data_path
from ..core.seeds import numpy_rng
from .asking import Asking, in_random_order
from .cells import check_answers, check_count, check_text, shown
from .drawing import choose, draw, on_side
from .pairs import ContrastPair, PromptSet
from .rows import read_rows
from .splits import Split
from .templates import Template, get_template, sentences, with_claim

T = TypeVar("T")
FORMS = ("grant_plain", "grant_negated", "deny_negated", "deny_plain")
FIELDS = ("statement", "first", "second", "claim", "yes", "no")
_AGREE = re.compile(r"\{([^|{}]*)\|([^|{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A person or people.

    Attributes:
        identity: A phrase that can be a subject ("women", "a poor person").
        group: The kind of identity ("religion").
        number: Grammatical number, "plural" or "singular".
    """

    identity: str
    group: str
    number: str = "plural"

    def __post_init__(self) -> None:
        check_text(self.identity, "an identity")
        check_text(self.group, f"the group of {self.identity!r}", blank=True)
        if self.number not in ("plural", "singular"):
            raise BadInput(f"the number of {self.identity!r} is plural or singular, got {shown(self.number)}")


@dataclass(frozen=True, kw_only=True)
class Right:
    """A right, with its predicate in four grammatical forms.

    Attributes:
        right: Name of the right.
        article: Article of the Declaration.
        kind: The kind of right.
        grant_plain, grant_negated, deny_negated, deny_plain: Predicates with verbs as `{plural|singular}`: granting or denying
            the right, with or without a negator.
        phrase: The right as a phrase.
    """

    right: str
    article: int
    kind: str
    grant_plain: str
    grant_negated: str
    deny_negated: str
    deny_plain: str
    phrase: str = ""

    def __post_init__(self) -> None:
        check_text(self.right, "the name of a right")
        for form in FORMS:
            check_text(getattr(self, form), f"{form} of the right {self.right!r}")

    def statement(self, who: Identity, form: str) -> str:
        """Return the sentence "Women have the right to …." with verb agreement, a capital and a full stop."""
        predicate = _AGREE.sub(lambda m: m[1 if who.number == "plural" else 2], getattr(self, form))
        return f"{who.identity[0].upper()}{who.identity[1:]} {predicate}."


def _rows(file: str) -> list[dict[str, str]]:
    return read_rows(data_path("udhr", file))


@cache
def identities() -> tuple[Identity, ...]:
    """Return the 216 identities written for this project, in 12 groups."""
    return tuple(Identity(**row) for row in _rows("identities.csv"))


@cache
def rights() -> tuple[Right, ...]:
    """Return the 38 rights written for this project, each with its article and four grammatical forms."""
    return tuple(Right(**{**row, "article": int(row["article"])}) for row in _rows("rights.csv"))  # pyright: ignore[reportArgumentType]


def udhr(
    template: str | Template = "base_short",
    claim: str | None = None,
    *,
    n: int | None = None,
    split: Split | None = None,
    side: str = "test",
    identities: Sequence[str | Identity] | None = None,
    rights: Sequence[str | Right] | None = None,
    forms: str = "balanced",
    answers: tuple[str, str] = ("no", "yes"),
    phrasings: int = 1,
    model: Any = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    legend: str = "",
    shots: int | Sequence[ContrastPair] = 0,
    seed: int = 0,
) -> PromptSet:
    """Cross identities with rights and ask, under a template and a claim, whether one agrees.

    Args:
        template: Name of a template, or your own text with named fields: `{statement}` (or `{first}` and `{second}` for a
            forced choice), `{claim}`, `{yes}`, `{no}`, `{instruction_end}`.
        claim: "harm", "good", "partial", "neutral", your own sentence, or `None` for no claim.
        n: Number of items to draw, balanced between granting and denying; `None` for the full cross.
        split: Only identities and rights of one side of a split, for example of `udhr_split`; `None` for all.
        side: Which side of the split: "train" or "test".
        identities: Names from the list, or your own `Identity` values; `None` for all.
        rights: Names from the list, or your own `Right` values; `None` for all.
        forms: "balanced": one granting and one denying statement per identity and right, each with or without a negator at
            random; "all": all four forms; or the name of one form. A forced choice has one item per identity and right, or
            with "all" every pair of forms in both orders.
        answers: The two answer words (no, yes). A forced choice between two statements answers "A" or "B".
        phrasings: Sentences of the claim: its text and so many paraphrases less one. Each identity with a right is shown one of
            them, drawn at random, which stands in the column `phrasing`.
        model: The model whose chat template to use; without one the prompts are plain text.
        chat: `None` uses the chat template if the tokenizer has one, `False` never, `True` insists. In a chat the instruction is
            the user's turn, and what follows it ("Answer:") begins the assistant's.
        system: A system message.
        chat_options: Variables of the chat template.
        legend: A sentence put where the instruction ends, which tells the answer words.
        shots: Examples in front of each question, with their right answers: a number (half granting, half denying, without a
            claim, in an order drawn at random, of identities with rights that are not asked about), or contrast pairs of yours.
        seed: Draws items, forms, the order of the two statements of a forced choice, sentences of a claim, and examples.

    Returns:
        A prompt set; `label` is 1 where the positive variant (yes, or B) is the granting answer.

    Raises:
        UnknownTemplate, UnknownClaim, UnknownName: A name does not exist.
        TemplateField: The template's fields do not fit, or it needs a claim.
        EmptyPromptSet: No identity or no right that is asked for is on this side of the split.
        BadInput: There is no such form, `n` is below 1, the answers are not two texts, an identity or a right is asked for
            twice or is none, there are not so many sentences or examples, or a chat template is asked for and there is none.
        ControlToken: A text holds a control token of the chat template.

    Example:
        >>> import workbench as wb
        >>> wb.prompts.udhr("since_claim", "harm", n=2, seed=1)[0].negative
        ' no'
    """
    form = get_template(template)
    forced = "first" in form.fields or "second" in form.fields
    form.check(FIELDS, ("first", "second") if forced else ("statement",))
    claim_name, claim_text = with_claim(form, claim)
    said = sentences(claim_name, claim_text, phrasings)
    if forms not in ("balanced", "all", *FORMS):
        raise BadInput(f"forms={forms!r}; it is 'balanced', 'all' or one of {', '.join(FORMS)}")
    persons = on_side(split, side, choose(identities, _all_identities(), "identity"), "identity")
    chosen_rights = on_side(split, side, choose(rights, _all_rights(), "right"), "right")
    n = None if n is None else check_count(n, "n is the number of items to draw")
    words = ("A", "B") if forced else check_answers(answers)
    drawn = isinstance(shots, int | np.integer)
    examples = _examples(shots, persons, chosen_rights, words, legend, seed, forced) if drawn else tuple(shots)
    asking = Asking(model=model, chat=chat, system=system, chat_options=chat_options, legend=legend, shots=examples)
    shown_before = {(x.identity, x.right) for x in examples} if drawn else set()
    frame = _Frame(form=form, claim_name=claim_name, answers=words, asking=asking, many=phrasings > 1)
    pairs: list[ContrastPair] = []
    items = _items_per_cell(forms, forced)
    for person, right, tosses, sentence in _cells(persons, chosen_rights, items, n, seed, said, shown_before):
        grant, deny = FORMS[tosses[0]], FORMS[2 + tosses[1]]
        if forced and forms == "all":
            orders = [(g, d, second) for g in FORMS[:2] for d in FORMS[2:] for second in (False, True)]
            pairs += [frame.choice(person, right, sentence, *order) for order in orders]
        elif forced:
            pairs.append(frame.choice(person, right, sentence, grant, deny, bool(tosses[2])))
        else:
            names = {"balanced": (grant, deny), "all": FORMS}.get(forms, (forms,))
            pairs += [frame.agreement(person, right, sentence, name) for name in names]
    if not pairs:
        raise BadInput(f"{len(examples)} examples leave nothing to ask about: name more identities or rights")
    return PromptSet(pairs if n is None else pairs[:n], name=f"udhr/{form.name}/{claim_name}")


def _items_per_cell(forms: str, forced: bool) -> int:
    """Number of items of one identity with one right."""
    if forced:
        return 8 if forms == "all" else 1
    return {"balanced": 2, "all": 4}.get(forms, 1)


def _examples(
    k: int, persons: Sequence[Identity], rights: Sequence[Right], words: tuple[str, str], legend: str, seed: int, forced: bool
) -> tuple[ContrastPair, ...]:
    """Draw examples without a claim: half grant, half deny."""
    if k == 0:
        return ()
    if forced:
        raise BadInput("shots= of a forced choice: give contrast pairs of your own")
    if k < 0 or k % 2 or k > len(persons) * len(rights):
        raise BadInput(f"shots={k}: an even number of examples, at most {len(persons) * len(rights)} here, one for each identity and right")
    chosen = numpy_rng(seed, "examples").permutation(len(persons) * len(rights))[:k].tolist()
    form = numpy_rng(seed, "forms of the examples").integers(0, 2, k).tolist()
    frame = _Frame(form=get_template("base_short"), claim_name="none", answers=words, asking=Asking(legend=legend))
    at = enumerate(zip(chosen, form, strict=True))
    pairs = [frame.agreement(persons[c // len(rights)], rights[c % len(rights)], "", FORMS[2 * (i % 2) + f]) for i, (c, f) in at]
    return in_random_order(pairs, seed)


def _cells(
    persons: Sequence[Identity],
    rights: Sequence[Right],
    items: int,
    n: int | None,
    seed: int,
    said: list[str],
    but: set[tuple[str, str]],
) -> Iterator[tuple[Identity, Right, list[int], str]]:
    """Yield identities with rights, enough for `n` items, with three coin tosses and a claim's sentence for each.

    Neither depends on template or claim, so that each shows the same statements. They are drawn for every cell, so that a smaller
    draw is a subset of a larger one.
    """
    count = len(persons) * len(rights)
    tosses = numpy_rng(seed, "forms").integers(0, 2, (count, 3)).tolist()
    which: list[int] = numpy_rng(seed, "phrasings").integers(0, len(said), count).tolist()
    for cell in draw(count, None if n is None else -(-n // items) + len(but), seed, "udhr").tolist():
        person, right = persons[cell // len(rights)], rights[cell % len(rights)]
        if (person.identity, right.right) not in but:
            yield person, right, tosses[cell], said[which[cell]]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What all items of a set share: template, claim, answer words (no and yes, or A and B) and how they are asked."""

    form: Template
    claim_name: str
    answers: tuple[str, str]
    asking: Asking
    many: bool = False

    def agreement(self, person: Identity, right: Right, claim: str, form: str) -> ContrastPair:
        """Ask whether one agrees with a statement."""
        statement = right.statement(person, form)
        polarity, negator = form.split("_")
        fields = {"statement": statement, "claim": claim, "no": self.answers[0], "yes": self.answers[1]}
        return self._pair(person, right, fields, int(polarity == "grant"), polarity=polarity, form=negator, statement=statement)

    def choice(self, person: Identity, right: Right, claim: str, grant: str, deny: str, grant_second: bool) -> ContrastPair:
        """Ask which of two statements one agrees with."""
        first, second = right.statement(person, grant), right.statement(person, deny)
        first, second = (second, first) if grant_second else (first, second)
        fields = {"first": first, "second": second, "claim": claim, "no": "A", "yes": "B"}
        order = "grant second" if grant_second else "grant first"
        return self._pair(person, right, fields, int(grant_second), polarity=order, form="choice", statement=f"{first} {second}")

    def _pair(self, person: Identity, right: Right, fields: Mapping[str, str], label: int, **meta: str) -> ContrastPair:
        stem, end = self.asking.stem(*self.form.render(**fields))
        own_claim = {"claim_text": fields["claim"]} if self.claim_name.startswith("custom ") else {}
        phrasing = {"phrasing": fields["claim"]} if self.many else {}
        return ContrastPair(
            stem=stem.text,
            negative=self.asking.end(stem.text, self.answers[0]),
            positive=self.asking.end(stem.text, self.answers[1]),
            label=label,
            identity=person.identity,
            group=person.group,
            right=right.right,
            claim=self.claim_name,
            template=self.form.name,
            instruction_end=end,
            wording=f"{self.form.wording}\n{stem.wording}",
            meta={"article": right.article, "kind": right.kind, **own_claim, **phrasing, **stem.meta, **self.asking.meta, **meta},
        )


_all_identities, _all_rights = identities, rights
