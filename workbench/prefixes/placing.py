"""Where words are put into a prompt: before the question, behind it, or into the system message.

before    [opening of the chat] TEXT question … answer
after     [opening of the chat] question TEXT … answer
system    the system message is TEXT; in plain text a paragraph in front
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import BadInput, UnknownName, unknown
from ..models.known import name_of
from ..prompts import ContrastPair, PromptSet
from ..prompts.chat import Chat, has_chat

WHERE = ("before", "after", "system")
_PROBE, _SYSTEM = "9f3c the text of the user 9f3c", "7b1e the system message 7b1e"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The two texts between which words are put.

    Attributes:
        head, tail: What stands before the words and behind them, white space included.
        end: Where the instruction ends without words, counted in the tail; `None` where it ends with the stem.
        opening: What a chat template writes around the words that it did not write before, or "".
        bare: The stem without words.
    """

    head: str
    tail: str
    end: int | None
    opening: str
    bare: str

    def fill(self, text: str) -> str:
        """Return the stem with words: one space stands before them where nothing else separates them; "" changes nothing."""
        return self.head + self.lead(text) + text + self.tail if text else self.bare

    def lead(self, text: str) -> str:
        """Return what must stand between the head and the words."""
        return " " if self.head and not self.head[-1].isspace() and not text[:1].isspace() else ""


def slots(prompts: Iterable[ContrastPair], where: str, model: Any = None) -> list[Slot]:
    """Find where words go in each prompt.

    Args:
        prompts: Contrast pairs, in plain text or asked through the model's chat template.
        where: "before" the question, "after" it (where the instruction ends), or "system".
        model: The model whose chat template the prompts were asked through; `None` for plain text.

    Returns:
        A slot for each prompt.

    Raises:
        UnknownName: There is no such place.
        BadInput: A prompt ends its instruction at its very beginning, or a chat begins otherwise than this model's chats do.
    """
    if where not in WHERE:
        raise unknown(UnknownName, "place of a prefix", where, WHERE)
    return [_slot(pair, where, *_openings(model)) for pair in prompts]


def put(prompts: PromptSet, text: str, where: str = "before", *, model: Any = None, name: str = "") -> PromptSet:
    """Return prompts with words put into them.

    Args:
        prompts: Contrast pairs.
        text: The words; "" changes nothing.
        where: "before" the question, "after" it, or "system".
        model: The model whose chat template the prompts were asked through; `None` for plain text.
        name: What the words are called, for the column `prefix`.

    Returns:
        The prompts in their order, with a column `prefix`.

    Raises:
        UnknownName: There is no such place.
        BadInput: A chat begins otherwise than this model's chats do.

    Example:
        >>> import workbench as wb
        >>> wb.prefixes.put(wb.prompts.udhr(n=1), "Be kind.")[0].stem[:20]
        'Be kind. Statement: '
    """
    out = []
    for pair, slot in zip(prompts, slots(prompts, where, model), strict=True):
        stem = slot.fill(text)
        wording = pair.wording if pair.wording is None or not slot.opening else f"{pair.wording}\n{slot.opening}"
        meta = dict(pair.meta) | {"prefix": name or text or "none"}
        end = pair.instruction_end if not text or slot.end is None else len(stem) - len(slot.tail) + slot.end
        out.append(replace(pair, stem=stem, instruction_end=end, wording=wording, meta=meta))
    return PromptSet(out, f"{prompts.name}, {name}" if name else prompts.name)


def _slot(pair: ContrastPair, where: str, opening: str, system: tuple[str, str] | None) -> Slot:
    stem, end = pair.stem, pair.instruction_end
    chat = bool(opening) and stem.startswith(opening)
    if opening and not chat and pair.wording is not None and any(mark in stem for mark in _marks(opening)):
        raise BadInput(
            f"a prompt is a chat that begins otherwise than those of this model: {stem[:60]!r}. Give each model prompts of its own "
            "(prompts.udhr(…, model=model)), without a system message"
        )
    if where == "after":
        at = len(stem) if end is None else end
        return Slot(head=stem[:at], tail=stem[at:], end=None if end is None else 0, opening="", bare=stem)
    cut = len(opening) if chat else 0
    rest = stem[cut:]
    left = None if end is None else end - cut
    if where == "system" and chat and system is not None:
        return Slot(
            head=system[0], tail=system[1] + rest, end=None if left is None else left + len(system[1]), opening="".join(system), bare=stem
        )
    joint = " " if where == "before" else "\n\n"
    return Slot(head=stem[:cut], tail=joint + rest, end=None if left is None else left + len(joint), opening="", bare=stem)


def _marks(opening: str) -> list[str]:
    """The first line of a chat's opening: what a chat of this template holds and a plain text does not."""
    return [line for line in opening.splitlines() if line.strip()][:1]


def _openings(model: Any) -> tuple[str, tuple[str, str] | None]:
    """What a chat of this model begins with, and the same around a system message; "" and nothing without a chat template.

    Raises:
        BadInput: The chat template changes what is said.
    """
    if model is None or not has_chat(model):
        return "", None
    opening = Chat(model=model).stem(_PROBE, "").text.partition(_PROBE)[0]
    whole = Chat(model=model, system=_SYSTEM).stem(_PROBE, "").text.partition(_PROBE)[0]
    head, found, tail = whole.partition(_SYSTEM)
    if not found:
        raise BadInput(f"the chat template of {name_of(model)} leaves a system message out; use where='before'")
    return opening, (head, tail)
