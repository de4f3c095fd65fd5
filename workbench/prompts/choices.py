"""Questions with lettered options, and their contrast pairs: the same text, then one letter or the other."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from ..core.errors import AnswerTokens, BadInput, TokenBoundary, UnknownTemplate, unknown
from ..models.known import name_of
from ..models.tokens import answer_tokens, encode_pairs
from .cells import check_text
from .chat import Chat, Stem, ending
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
        name: A stable id. The same question has the same id in every data set, so that it is one cluster.
        meta: Anything else, by name; scalars only. `raw=True` says that the options are inside the question, in an unknown
            layout. `options` are then bare letters, and only the given order can be shown. `words=True` says that the options are the
            answers themselves ("Yes", "No"): no letters are shown.
        foil: Index of the option that the source sets against the target; `None` where any other option may be. With more
            than two options, the others may match the behaviour too.
    """

    question: str
    options: tuple[str, ...]
    target: int
    category: str = ""
    name: str = ""
    meta: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    foil: int | None = None

    def __post_init__(self) -> None:
        check_text(self.question, "the question of a choice")
        if not isinstance(self.options, tuple):
            raise BadInput(f"the options of a choice are a tuple of texts, got {type(self.options).__name__}: {self.options!r:.60}")
        for option in self.options:
            check_text(option, "an option of a choice", blank=True)
        count = len(self.options)
        if not isinstance(self.target, int) or not isinstance(self.foil, int | None):
            raise BadInput(f"target and foil of a choice are numbers of options, got {self.target!r} and {self.foil!r}")
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
        """Whether the options are inside the question."""
        return bool(self.meta.get("raw", False))

    @property
    def words(self) -> bool:
        """Whether the options are the answers themselves, without letters."""
        return bool(self.meta.get("words", False))

    def wrong(self) -> list[int]:
        """Return the indices of the options whose text differs from the target's."""
        right = self.options[self.target].strip()
        return [i for i, text in enumerate(self.options) if text.strip() != right]

    def swapped(self) -> Choice:
        """Return the question with its two options in the other order, so that the target has the other letter.

        Raises:
            BadInput: There are more than two options, or they are inside the question.
        """
        if len(self.options) != 2:
            raise BadInput(f"{called(self)} has {len(self.options)} options; two can be swapped. See to_ab")
        if self.raw:
            raise BadInput(f"the options of {called(self)} stand inside its question and cannot be swapped")
        foil = None if self.foil is None else 1 - self.foil
        return replace(self, options=self.options[::-1], target=1 - self.target, foil=foil)


def letter_form(
    model: Any,
    *,
    letters: str = "AB",
    system: str | None = None,
    chat: bool | None = None,
    chat_options: Mapping[str, Any] | None = None,
) -> Template:
    """Choose the form in which this model's tokenizer makes single tokens of the answer letters.

    The published form of contrastive activation addition ends the stem in "(", with the letter right after it
    ("ab_paren"). Where a tokenizer merges the two, or gives the letter another id there than alone, the stem ends in
    "Answer:" and the letter follows after a space ("ab_word").

    Args:
        model: What `load_model` returns.
        letters: The letters of the options.
        system, chat, chat_options: As for `choices_to_prompts`.

    Returns:
        The first of the two forms that fits.

    Raises:
        AnswerTokens: Neither form fits; the message says why.
        BadInput, UnknownName, ControlToken: As for `choices_to_prompts`.
    """
    return _letter_form(Chat(model=model, system=system, chat=chat, options=chat_options), letters)


def _letter_form(chat: Chat, letters: str) -> Template:
    tried = []
    for form in AB_FORMS.values():
        try:
            _check_letters(chat, form, letters)
        except (TokenBoundary, AnswerTokens) as error:
            tried.append(f"{form.name} ({str(error).removeprefix('item 0: ')})")
        else:
            return form
    raise AnswerTokens(
        f"{name_of(chat.model)} has answer letters that are not single tokens. Tried: {'; '.join(tried)}. Pass form=… of your own"
    )


def _check_letters(chat: Chat, form: Template, letters: str) -> None:
    item = Choice(question="Is it so?", options=("Yes", "No"), target=0)
    made = _stem(item, form, chat)
    stem, wording = made.text, made.wording + form.wording
    for letter, following in pairwise(letters):
        pair = ContrastPair(stem=stem, negative=ending(stem, following), positive=ending(stem, letter), label=1, wording=wording)
        encoded = encode_pairs(chat.model, [pair])[0]
        known = answer_tokens(chat.model, (pair.negative, pair.positive))
        for ids, text, forms in zip((encoded.negative, encoded.positive), (pair.negative, pair.positive), known, strict=True):
            # answers are read at the ids of the letter alone, so that these must be its ids in the text too
            if ids[encoded.stem :] != ids[-1:] or ids[-1] not in forms:
                raise AnswerTokens(f"after {stem[-10:]!r} the tokenizer writes {text!r} otherwise than alone")


def get_form(form: str | Template) -> Template:
    """Return a form by name ("ab_paren", "ab_word"); a text with braces is the user's own form.

    Raises:
        UnknownTemplate: No form has this name.
        TemplateField: The form lacks `{question}` or `{choices}`, or names another field.
    """
    if isinstance(form, str) and form not in AB_FORMS and "{" not in form:
        raise unknown(UnknownTemplate, "form", form, ["ab", *AB_FORMS])
    template = form if isinstance(form, Template) else AB_FORMS.get(form) or Template(name="custom", text=form)
    template.check(("question", "choices"), ("question", "choices"))
    return template


def _stem(item: Choice, form: Template, chat: Chat) -> Stem:
    if item.words:
        form = AB_FORMS["ab_word"]
    if item.raw or item.words:
        _, mark, tail = form.text.partition("{" + END + "}")
        form = Template(name=form.name, text="{question}" + mark + tail)
    lines = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, item.options, strict=False))
    text, end = form.render(question=item.question, choices=lines)
    end = len(text) if end is None else end
    return chat.stem(text[:end], text[end:], called=f"the question {called(item)}")


def choices_to_prompts(
    items: Iterable[Choice],
    *,
    model: Any = None,
    system: str | None = None,
    orders: str = "given",
    form: str | Template = "ab",
    chat: bool | None = None,
    chat_options: Mapping[str, Any] | None = None,
    many: bool = False,
    name: str | None = None,
) -> PromptSet:
    """Make contrast pairs of questions with options: the stem shows question and options, the endings are two letters.

    Args:
        items: Questions with two options (`to_ab` reduces questions with more).
        model: Its tokenizer chooses the form and, if it has a chat template, puts the question into the user's turn. Without
            a model the text is plain, in the published form.
        system: A system message. It gets the system role where the chat template has one, else it precedes the question.
        orders: "given", "swapped" (each option gets the other letter) or "both" (twice the items: the letter is then
            independent of the target, and `identity` keeps the two orders in one cluster).
        form: "ab" (`letter_form` of the model), "ab_paren", "ab_word", or your own text with `{question}` and `{choices}`.
            The text after its `{instruction_end}` begins the assistant's turn in a chat.
        chat: `None` uses the chat template if there is one, `False` never, `True` insists.
        chat_options: Variables of the chat template, `{"enable_thinking": False}`. A thought that the template opens is closed
            before the answer begins, with or without them.
        many: Show all options of items that have more than two, and compare the target's letter with the foil's: the
            published form of such items. Only in the given order.
        name: Name of the set; by default from the data set and the form.

    Returns:
        A prompt set: `positive` is the target's letter, `negative` the other, `label` is 1. `identity` is the item's name.
        Columns beside the item's own `meta`: `order`, `letter` (the target's, or its word), `category`, `dataset`; where there is something
            to say `thought` ("closed" or "skipped", see `prompts.chat.Stem`) and `chat_options` (as JSON).

    Raises:
        BadInput: An item has more than two options, or its layout does not allow these orders; or there are options for a chat
            template and none is used.
        UnknownName: The chat template ignores an option.
        ControlToken: A question or the system message holds a control token of the tokenizer.
        AnswerTokens: The tokenizer has no single tokens for the letters.
        UnknownTemplate, TemplateField: As for `get_form`.

    Note:
        `label` is 1 for every item, so that no probe can be fitted to it. Compare the two endings instead, and balance the
        letters with `orders="both"`; otherwise a direction may encode the letter.

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
    how = Chat(model=model, system=system, chat=chat, options=chat_options)
    letters = LETTERS[: max([2, *(len(item.options) for item in items)])]
    if form != "ab" or all(item.words for item in items):
        chosen = get_form("ab_word" if form == "ab" else form)
        if model is not None and not all(item.words for item in items):
            _check_letters(how, chosen, letters)
    else:
        chosen = _letter_form(how, letters) if model is not None else AB_FORMS["ab_paren"]
    pairs = []
    for item in items:
        for order in ORDERS[:1] if item.words else ORDERS[:2] if orders == "both" else (orders,):
            ordered = item.swapped() if order == "swapped" else item
            made = _stem(ordered, chosen, how)
            foil = 1 - ordered.target if ordered.foil is None else ordered.foil
            right, other = ((item.options if item.words else LETTERS)[k] for k in (ordered.target, foil))
            stem, about = made.text, {"order": order, "letter": right}
            pairs.append(
                ContrastPair(
                    stem=stem,
                    negative=ending(stem, other),
                    positive=ending(stem, right),
                    label=1,
                    identity=item.name or text_id(item.question),
                    group=item.category,
                    template=chosen.name,
                    instruction_end=made.end,
                    meta={"dataset": "", **item.meta, **about, "category": item.category, **made.meta},
                    wording=made.wording + chosen.wording,
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
    """Return an item's name for messages: its own, else the beginning of its question."""
    return repr(item.name or item.question[:60])
