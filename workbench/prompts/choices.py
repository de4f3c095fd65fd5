"""Questions with lettered options, and the contrast pairs they make: the same text, then one letter or the other."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from ..core.errors import AnswerTokens, BadInput, TokenBoundary, UnknownTemplate, unknown
from ..core.seeds import numpy_rng
from ..models.known import info
from ..models.tokens import answer_tokens, encode_pairs
from .chat import compose, ending
from .pairs import ContrastPair, PromptSet
from .rows import text_id
from .templates import END, Template

LETTERS = string.ascii_uppercase
AB_FORMS = {
    name: Template(name=name, text="{question}\n\nChoices:\n{choices}{instruction_end}\n\n" + tail)
    for name, tail in (("ab_paren", "Answer: ("), ("ab_word", "Answer:"))
}
ORDERS = ("given", "swapped", "both")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One question with two options or more.

    Attributes:
        question: The question, without the options.
        options: The texts of the options, without letters.
        target: Index of the option that is correct, or that matches the behaviour.
        category: The kind of question.
        name: A stable id; the same question has the same one wherever it stands, so that it is one cluster.
        meta: Anything else, by name; scalars only. `raw=True` says that the options stand inside the question, in a layout
            that was not understood: `options` are then bare letters, and nothing but the given order can be shown.
        foil: Index of the option that the source sets against the target; `None` where any other will do. With more
            than two options the rest may match the behaviour too.
    """

    question: str
    options: tuple[str, ...]
    target: int
    category: str = ""
    name: str = ""
    meta: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    foil: int | None = None

    def __post_init__(self) -> None:
        count = len(self.options)
        if not self.question.strip():
            raise BadInput("a choice has an empty question")
        if count < 2:
            raise BadInput(f"a choice needs two options at least, got {count}: {self.question[:60]!r}")
        if not 0 <= self.target < count:
            raise BadInput(f"target {self.target} of {count} options (0-{count - 1}): {self.question[:60]!r}")
        if self.foil is not None and (not 0 <= self.foil < count or self.foil == self.target):
            raise BadInput(f"foil {self.foil} must be another of the {count} options than the target {self.target}")
        if not self.wrong():
            raise BadInput(f"every option of {self.question[:60]!r} says the same: {self.options[0]!r}")

    @property
    def raw(self) -> bool:
        """Whether the options stand inside the question."""
        return bool(self.meta.get("raw", False))

    def wrong(self) -> list[int]:
        """Return the options that say something else than the target."""
        right = self.options[self.target].strip()
        return [i for i, text in enumerate(self.options) if text.strip() != right]

    def swapped(self) -> Choice:
        """Return the question with its two options in the other order, so that the target has the other letter.

        Raises:
            BadInput: There are more than two options, or they stand inside the question.
        """
        if len(self.options) != 2:
            raise BadInput(f"{called(self)} has {len(self.options)} options; two can be swapped. See to_ab")
        if self.raw:
            raise BadInput(f"the options of {called(self)} stand inside its question and cannot be swapped")
        foil = None if self.foil is None else 1 - self.foil
        return replace(self, options=self.options[::-1], target=1 - self.target, foil=foil)


def to_ab(items: Iterable[Choice], seed: int = 0) -> list[Choice]:
    """Reduce every question to two options: the target and one wrong option, in a random order.

    The wrong option is the item's `foil` where it has one, else drawn. Draw and order depend on the seed and the item's
    name alone, not on which other items there are. The letters are balanced on average; `orders="both"` of
    `choices_to_prompts` balances them exactly.

    Args:
        items: Questions with two options or more.
        seed: Which wrong option and which order.

    Raises:
        BadInput: The options of an item stand inside its question, or no wrong one has a text.
    """
    out = []
    for item in items:
        if item.raw:
            raise BadInput(f"the options of {called(item)} stand inside its question and cannot be reordered")
        coin = numpy_rng(seed, "to_ab", item.name or text_id(item.question))
        first = bool(coin.integers(2))
        wrong = [i for i in item.wrong() if item.options[i].strip()] if item.foil is None else [item.foil]
        if not wrong:
            raise BadInput(f"no wrong option of {called(item)} has a text")
        right, other = item.options[item.target], item.options[wrong[int(coin.integers(len(wrong)))]]
        out.append(replace(item, options=(right, other) if first else (other, right), target=int(not first), foil=None))
    return out


def letter_form(model: Any, *, letters: str = "AB", system: str | None = None, chat: bool | None = None) -> Template:
    """Return the form in which this model's tokenizer writes answer letters as tokens of their own.

    The published form of contrastive activation addition ends the stem in "(", with the letter right after it
    ("ab_paren"). Where a tokenizer merges the two, or writes a letter otherwise there than alone, the stem ends in
    "Answer:" and the letter follows after a space ("ab_word").

    Args:
        model: What `load_model` returns.
        letters: The letters that answers use.
        system: A system message, as for `choices_to_prompts`.
        chat: As for `choices_to_prompts`.

    Raises:
        AnswerTokens: Neither form; the message says what was tried.
    """
    tried = []
    for form in AB_FORMS.values():
        try:
            _check_letters(model, form, letters, system, chat)
        except (TokenBoundary, AnswerTokens) as error:
            tried.append(f"{form.name} ({str(error).removeprefix('item 0: ')})")
        else:
            return form
    raise AnswerTokens(
        f"{info(model).name} has answer letters that are not single tokens. Tried: {'; '.join(tried)}. Pass form=… of your own"
    )


def _check_letters(model: Any, form: Template, letters: str, system: str | None, chat: bool | None) -> None:
    item = Choice(question="Is it so?", options=("Yes", "No"), target=0)
    stem, _ = _stem(item, form, model, system, chat)
    for one, two in pairwise(letters):
        pair = ContrastPair(stem=stem, negative=ending(stem, two), positive=ending(stem, one), label=1)
        encoded = encode_pairs(model, [pair])[0]
        known = answer_tokens(model, (pair.negative, pair.positive))
        for ids, text, forms in zip((encoded.negative, encoded.positive), (pair.negative, pair.positive), known, strict=True):
            # what is read as the answer are the ids of the letter alone: they must be those that stand in the text
            if ids[encoded.stem :] != ids[-1:] or ids[-1] not in forms:
                raise AnswerTokens(f"after {stem[-10:]!r} the tokenizer writes {text!r} otherwise than alone")


def get_form(form: str | Template) -> Template:
    """Return a form by name ("ab_paren", "ab_word"); a text with braces is a form of the user's own.

    Raises:
        UnknownTemplate: No form has this name.
        TemplateField: The form lacks `{question}` or `{choices}`, or names another field.
    """
    if isinstance(form, str) and form not in AB_FORMS and "{" not in form:
        raise unknown(UnknownTemplate, "form", form, ["ab", *AB_FORMS])
    found = form if isinstance(form, Template) else AB_FORMS.get(form) or Template(name="custom", text=form)
    found.check(("question", "choices"), ("question", "choices"))
    return found


def _stem(item: Choice, form: Template, model: Any, system: str | None, chat: bool | None) -> tuple[str, int]:
    if item.raw:
        _, mark, tail = form.text.partition("{" + END + "}")
        form = Template(name=form.name, text="{question}" + mark + tail)
    lines = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, item.options, strict=False))
    text, end = form.render(question=item.question, choices=lines)
    end = len(text) if end is None else end
    return compose(text[:end], text[end:], model=model, system=system, chat=chat)


def choices_to_prompts(
    items: Iterable[Choice],
    *,
    model: Any = None,
    system: str | None = None,
    orders: str = "given",
    form: str | Template = "ab",
    chat: bool | None = None,
    many: bool = False,
    name: str | None = None,
) -> PromptSet:
    """Make contrast pairs of questions with options: the stem shows question and options, the endings are two letters.

    Args:
        items: Questions with two options (see `to_ab` for more).
        model: Chooses the form by its tokenizer and, if that has a chat template, puts the question into the user's turn.
            Without one the text is plain, in the published form.
        system: A system message: the system role where the chat template takes one, else in front of the question.
        orders: "given", "swapped" (the other letter for each option) or "both" (twice the items; a letter then says
            nothing about the target, and `identity` keeps the two orders in one cluster).
        form: "ab" (`letter_form` of the model), "ab_paren", "ab_word", or one of your own with `{question}` and
            `{choices}`; what follows its `{instruction_end}` begins the assistant's turn in a chat.
        chat: `None` uses the chat template if there is one, `False` never, `True` insists.
        many: Show all options of items that have more than two, and set the target's letter against the foil's: the
            published form of such items. Only in the given order.
        name: Name of the set.

    Returns:
        A prompt set: `positive` is the target's letter, `negative` the other, `label` is 1. `identity` is the item's name.
        Columns beside the item's own `meta`: `order`, `letter` (the target's), `category`, `dataset`.

    Raises:
        BadInput: An item has more than two options, or stands in a layout that the orders asked for cannot show.
        AnswerTokens: The tokenizer has no single tokens for the letters.
        UnknownTemplate, TemplateField: As for `get_form`.

    Note:
        `label` is 1 throughout, so a probe has nothing to learn from it: compare the two endings instead, and balance the
        letters with `orders="both"`, else a direction may stand for the letter.

    Example:
        >>> from workbench.prompts.choices import Choice, choices_to_prompts
        >>> item = Choice(question="Is ice cold?", options=("Yes", "No"), target=0, name="ice")
        >>> [(p.positive, p.meta["order"]) for p in choices_to_prompts([item], orders="both")]
        [('A', 'given'), ('B', 'swapped')]

    References:
        Rimsky et al. 2024, "Steering Llama 2 via Contrastive Activation Addition", arXiv:2312.06681, section 3.
    """
    items = list(items)
    if orders not in ORDERS:
        raise BadInput(f"orders={orders!r}: one of {', '.join(ORDERS)}")
    _check_shown(items, orders, many)
    letters = LETTERS[: max([2, *(len(item.options) for item in items)])]
    if form != "ab":
        chosen = get_form(form)
        if model is not None:
            _check_letters(model, chosen, letters, system, chat)
    else:
        chosen = letter_form(model, letters=letters, system=system, chat=chat) if model is not None else AB_FORMS["ab_paren"]
    pairs = []
    for item in items:
        for order in ORDERS[:2] if orders == "both" else (orders,):
            one = item.swapped() if order == "swapped" else item
            stem, end = _stem(one, chosen, model, system, chat)
            foil = 1 - one.target if one.foil is None else one.foil
            pairs.append(
                ContrastPair(
                    stem=stem,
                    negative=ending(stem, LETTERS[foil]),
                    positive=ending(stem, LETTERS[one.target]),
                    label=1,
                    identity=item.name or text_id(item.question),
                    group=item.category,
                    template=chosen.name,
                    instruction_end=end,
                    meta={"dataset": "", **item.meta, "order": order, "letter": LETTERS[one.target], "category": item.category},
                )
            )
    sources = {str(item.meta.get("dataset", "")) for item in items}
    source = sources.pop() if len(sources) == 1 else ""
    return PromptSet(pairs, name=name or f"{source or 'choices'}/{chosen.name}")


def _check_shown(items: list[Choice], orders: str, many: bool) -> None:
    wide, raw = [item for item in items if len(item.options) > 2], [item for item in items if item.raw]
    if wide and not many:
        raise BadInput(
            f"{len(wide)} of {len(items)} items have more than two options; the first, {called(wide[0])}, has {len(wide[0].options)}. "
            "Draw one wrong option with to_ab(items, seed), or show all with many=True"
        )
    for item in wide:
        if item.foil is None:
            raise BadInput(f"{called(item)} names no foil among its {len(item.options)} options: use to_ab(items, seed)")
        if len(item.options) > len(LETTERS):
            raise BadInput(f"{called(item)} has {len(item.options)} options, and there are {len(LETTERS)} letters: use to_ab(items, seed)")
    if wide and orders != "given":
        raise BadInput(f"{len(wide)} items have more than two options and cannot be swapped: orders='given', or to_ab(items, seed)")
    if raw and orders != "given":
        raise BadInput(
            f"{len(raw)} of {len(items)} items hold their options inside the question and cannot be swapped; the first is "
            f"{called(raw[0])}. Use orders='given', or leave out those with item.raw"
        )


def called(item: Choice) -> str:
    """Return what a message calls an item: its name, else how its question begins."""
    return repr(item.name or item.question[:60])
