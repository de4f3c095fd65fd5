"""How a statement is put to a model: plain or as a chat, with which answer words, and after which examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..core.errors import BadInput
from ..core.seeds import numpy_rng
from .cells import check_text, shown
from .chat import Chat, Stem, ending
from .pairs import ContrastPair

FIELDS = ("model", "chat", "system", "chat_options", "legend", "shots")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a statement is put to a model.

    Attributes:
        model: The model whose chat template to use; `None` for plain text.
        chat: `None` uses the template if the tokenizer has one, `False` never, `True` insists.
        system: A system message.
        chat_options: Variables of the chat template.
        legend: A sentence put where the instruction ends, which tells the answer words: "(A) yes (B) no". "" for none.
        shots: Examples with their right answers, put in front; in a chat they are earlier turns.

    Raises:
        BadInput, UnknownName, ControlToken: As for `Chat`; or the legend is no text.
    """

    model: Any = None
    chat: bool | None = None
    system: str | None = None
    chat_options: Mapping[str, Any] | None = None
    legend: str = ""
    shots: Sequence[ContrastPair] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_text(self.legend, "the legend", blank=True)
        if self.system is not None:
            check_text(self.system, "the system message", blank=True)
        for one in self.shots:
            if not isinstance(one, ContrastPair):
                raise BadInput(f"an example is a ContrastPair, got {shown(one)}")
        self.how  # noqa: B018  (which is checked before any prompt is made)

    @cached_property
    def how(self) -> Chat:
        """The chat, or plain text."""
        return Chat(model=self.model, system=self.system, chat=self.chat, options=self.chat_options)

    @cached_property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """The examples: what is asked, and what is answered."""
        return tuple((x.stem[: x.instruction_end], _tail(x) + (x.negative, x.positive)[x.label]) for x in self.shots)

    @property
    def plain(self) -> bool:
        """Whether a prompt form is shown as it is, with nothing around it."""
        return not (self.how.used or self.system or self.legend or self.shots)

    def stem(self, text: str, end: int | None) -> tuple[Stem, int | None]:
        """Put a rendered prompt form into the chat, behind the examples.

        Args:
            text: The prompt form, filled in.
            end: Character offset at which its instruction ends; `None` for at the end of the text.

        Returns:
            The stem, and the offset at which the instruction ends in it; `None` where the form says none and is shown as it is.

        Raises:
            BadInput, ControlToken: As for `Chat.stem`.
        """
        user, tail = (text, "") if end is None else (text[:end], text[end:])
        if self.legend:
            user = f"{user} {self.legend}"
        stem = self.how.stem(user, tail, turns=self.turns)
        return stem, None if end is None and self.plain else stem.end

    def end(self, stem: str, word: str) -> str:
        """Return an answer word as it follows a stem."""
        return ending(stem, word) if self.how.used else f" {word}"

    @property
    def meta(self) -> dict[str, int]:
        """What a contrast pair keeps of this: `shots`, where there are examples."""
        return {"shots": len(self.shots)} if self.shots else {}


def _tail(pair: ContrastPair) -> str:
    return "" if pair.instruction_end is None else pair.stem[pair.instruction_end :]


def in_random_order(pairs: Sequence[ContrastPair], seed: int) -> tuple[ContrastPair, ...]:
    """Return examples in an order drawn at random.

    Args:
        pairs: The examples.
        seed: Draws the order.

    Returns:
        The same pairs.
    """
    order = numpy_rng(seed, "order of the examples").permutation(len(pairs))
    return tuple(pairs[i] for i in order)
