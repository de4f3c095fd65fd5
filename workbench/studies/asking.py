"""In which form a study asks: given by its settings, or found on training rows without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import BadInput
from ..evaluation.agreement import REPLIES, choose_answers
from ..evaluation.eliciting import SHOTS, WORDS, Form
from ..prompts import ContrastPair, PromptSet
from ..prompts.asking import in_random_order

TABLES = {"elicitation": "form chat shots words metric | value low high n note"}  # what a study that asks declares
WORDINGS = ("base_short", "base_long")  # the question in two wordings, without a claim


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """How a study that asks in one form puts its questions.

    Attributes:
        chat: Whether questions are put through the chat template; left open, where there is one and the model is no organism of this
            project.
        system: A system message.
        chat_options: Variables of the chat template.
    """

    chat: bool | None = None
    system: str = ""
    chat_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # on a command line a truth value is a word; as a text a template would take it for true
        told = {k: {"true": True, "false": False}.get(v, v) if isinstance(v, str) else v for k, v in self.chat_options.items()}
        object.__setattr__(self, "chat_options", told)

    def through(self, model: Any, chat: bool) -> dict[str, Any]:
        """Return keywords of `prompts.udhr` and `prompts.requests`: `model`, `chat`, `system`, `chat_options`.

        Args:
            model: Whose chat template.
            chat: Whether it is used.
        """
        options = dict(self.chat_options) if chat and self.chat_options else None
        return {"model": model if chat else None, "chat": chat, "system": self.system or None, "chat_options": options}


@dataclass(frozen=True, kw_only=True)
class AskSettings(ChatSettings):
    """How a study asks. What is left open is found on training rows without labels, unless the model is an organism of this project.

    Attributes:
        chat: Whether questions are put through the chat template; left open, whichever serves.
        system: A system message.
        chat_options: Variables of the chat template.
        shots: Examples in front of each question, an even number; left open, as many as serve.
        words: The positive and the negative answer word, "yes/no"; empty, those that serve.
        elicit: Statements that each form is tried on; 0 tries none, and asks through the chat template where there is one.
    """

    shots: int | None = None
    words: str = ""
    elicit: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots is not None and (self.shots < 0 or self.shots % 2):
            raise BadInput(f"shots: an even number of examples, got {self.shots}")
        if self.elicit < 0 or 0 < self.elicit < 8:
            raise BadInput(f"elicit: 8 statements at least, or 0 for none, got {self.elicit}")
        check_words("words", self.words, "yes/no")


def check_words(setting: str, words: str, example: str) -> None:
    """Raise unless a setting is empty or names a positive and a negative word.

    Args:
        setting: Its name.
        words: Its value.
        example: What it could be.

    Raises:
        BadInput: It does not.
    """
    parts = [w.strip() for w in words.split("/")]
    if words and (len(parts) != 2 or not all(parts)):
        raise BadInput(f"{setting}: the positive and the negative word with a slash between, as in {example}; got {words!r}")


def _pair(words: str) -> tuple[str, str]:
    positive, negative = (w.strip() for w in words.split("/"))
    return negative, positive


def reply_words(model: Any, replies: str) -> tuple[str, str]:
    """Return the first word of a refusal and of compliance.

    Args:
        model: What `load_model` returns, or a described model.
        replies: Those of the settings, "Sure/Sorry"; empty, the first of the usual pairs that the tokenizer writes as single tokens.

    Raises:
        AnswerTokens: A word is no single token.
    """
    return choose_answers(model, [_pair(replies)] if replies else REPLIES)


def vocabulary(settings: AskSettings) -> dict[tuple[str, str], str]:
    """Return the answer words to try, negative and positive, with what tells the model of them.

    Args:
        settings: How the study asks.
    """
    if not settings.words:
        return dict(WORDS)
    pair = negative, positive = _pair(settings.words)
    return {pair: WORDS.get(pair, f"Answer {positive} or {negative}.")}


def numbers(settings: AskSettings) -> tuple[int, ...]:
    """Return the numbers of examples to try.

    Args:
        settings: How the study asks.
    """
    return SHOTS if settings.shots is None else (settings.shots,)


def uses_chat(settings: ChatSettings, model: Any, planted: bool) -> bool:
    """Return whether questions go through the chat template where forms are not compared: as said, else where there is one.

    Args:
        settings: How the study asks.
        model: Whose template.
        planted: Whether it is an organism of this project, which is asked in plain text.
    """
    return (bool(getattr(model.tokenizer, "chat_template", None)) and not planted) if settings.chat is None else settings.chat


def simplest(among: Sequence[Form], chat: bool) -> Form:
    """Return the form for a model whose forms are not compared: no examples, the first words.

    Args:
        among: The forms that its tokenizer admits.
        chat: Whether it is asked through the chat template.
    """
    return next(form for form in among if form.chat == chat)


def examples(prompts: PromptSet, k: int, seed: int) -> tuple[ContrastPair, ...]:
    """Choose examples: half of each label, in an order drawn at random.

    Args:
        prompts: Training statements without a claim, in the form in which they are to be shown.
        k: How many, an even number.
        seed: Draws the order.

    Raises:
        BadInput: There are not so many statements of a label.
    """
    chosen: list[ContrastPair] = []
    taken: set[tuple[str, str]] = set()
    for wanted in range(k):
        label = wanted % 2
        fresh = [p for p in prompts if p.label == label and p not in chosen]
        if not fresh:
            raise BadInput(f"{k} examples: {prompts.name} has too few statements labelled {label}")
        one = next((p for p in fresh if (p.identity, p.right) not in taken), fresh[0])
        taken.add((one.identity, one.right))
        chosen.append(one)
    return in_random_order(chosen, seed)
