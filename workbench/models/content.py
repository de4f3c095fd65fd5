"""Which tokens of a row are text of the user or the assistant, and which ones a chat template has written.

The template is asked, not parsed: it renders a short chat of known texts, and what stands before, between and behind them is what it
writes by itself. These strings are then looked up in a row. The system's turn counts as the template's: most templates write one of
their own.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from .control import control_tokens, template_of
from .spans import spans

FIRST, REPLY, SECOND, SYSTEM = "xquser", "xqreply", "xqagain", "xqsystem"  # texts that no template writes
REMEMBERED = 4096  # rows of one tokenizer
_FORMS: weakref.WeakKeyDictionary[Any, tuple[str, _Form | None]] = weakref.WeakKeyDictionary()
_ROWS: weakref.WeakKeyDictionary[Any, OrderedDict[tuple[int, ...], tuple[bool, ...]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class _Form:
    """What a chat template writes around texts.

    Attributes:
        user: Before the user's first text.
        system: Between a system message and the user's text; "" where the template has no system turn.
        reply: Between the user's text and the assistant's, in a chat that goes on and in one that waits for an answer.
        again: Between the assistant's text and the user's next one; "" where the template allows no second turn.
        end: Behind the assistant's last text.
    """

    user: str
    system: str
    reply: tuple[str, ...]
    again: str
    end: str


def content(tokenizer: Any, ids: Sequence[int]) -> tuple[bool, ...]:
    """Return which tokens of a row are text.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: The row, without padding.

    Returns:
        Per token true where it holds some of the user's or the assistant's text. In a row that is no chat of the tokenizer's template
        every token is text.
    """
    template = template_of(tokenizer)
    if not template:
        return (True,) * len(ids)
    known, key = _ROWS.setdefault(tokenizer, OrderedDict()), (hash(template), *ids)
    if key not in known:
        form = _form(tokenizer, template)
        known[key] = (True,) * len(ids) if form is None else _content(tokenizer, ids, form)
        if len(known) > REMEMBERED:
            known.popitem(last=False)
    return known[key]


def _content(tokenizer: Any, ids: Sequence[int], form: _Form) -> tuple[bool, ...]:
    text = tokenizer.decode(list(ids))
    parts = _parts(text, form)
    if parts is None:
        return (True,) * len(ids)
    control = control_tokens(tokenizer)
    return tuple(
        token not in control and any(a < end and start < b for a, b in parts)
        for token, (start, end) in zip(ids, spans(tokenizer, ids, text), strict=True)
    )


def _parts(text: str, form: _Form) -> list[tuple[int, int]] | None:
    """The user's and the assistant's texts, as first character and the one behind the last; `None` where the text is no chat."""
    at = text.find(form.user)
    if at < 0 or (not form.user.strip() and _next(text, 0, form.reply) is None):
        return None
    start, user = at + len(form.user), True
    told = text.find(form.system, start - len(form.user)) if form.system.strip() else -1
    close = _next(text, start, form.reply)
    if told >= 0 and (close is None or told < close[0]):
        start = max(start, told + len(form.system))
    out = []
    while True:
        start += len(text[start:]) - len(text[start:].lstrip())
        close = _next(text, start, form.reply if user else (form.again,))
        if close is None:
            last = len(text)
            if form.end.strip() and text.endswith(form.end):
                last -= len(form.end)
            return [*out, (start, last)] if start < last else out
        out.append((start, close[0]))
        start, user = close[1], not user


def _next(text: str, start: int, marks: Sequence[str]) -> tuple[int, int] | None:
    """Where the first of some strings stands, and where it ends; of several at one place the longest."""
    found = [(at, -len(mark)) for mark in marks if mark.strip() and (at := text.find(mark, start)) >= 0]
    if not found:
        return None
    at, size = min(found)
    return at, at - size


def _form(tokenizer: Any, template: str) -> _Form | None:
    known = _FORMS.get(tokenizer)
    if known is None or known[0] != template:
        known = _FORMS[tokenizer] = template, _asked(tokenizer)
    return known[1]


def _asked(tokenizer: Any) -> _Form | None:
    """Render chats of known texts; `None` where the template refuses a single question."""

    def between(turns: Sequence[str], *marks: str, ask: bool = False) -> list[str]:
        roles = {FIRST: "user", SECOND: "user", REPLY: "assistant", SYSTEM: "system"}
        chat = [{"role": roles[t], "content": t} for t in turns]
        try:
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)
            text = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception:  # whatever a template raises: it has no such chat
            return []
        out, at = [], 0
        for mark in marks:
            here = text.find(mark, at)
            if here < 0:
                return []
            out.append(text[at:here])
            at = here + len(mark)
        return [*out, text[at:]]

    single = between([FIRST], FIRST, ask=True)
    if not single:
        return None
    whole = between([FIRST, REPLY, SECOND], FIRST, REPLY, SECOND)
    told = between([SYSTEM, FIRST], SYSTEM, FIRST)
    ended = between([FIRST, REPLY], FIRST, REPLY)
    user = single[0]
    if whole:  # what stands before every text of the user; a system turn of the template's own stands before the first only
        pairs = zip(reversed(single[0]), reversed(whole[2]), strict=False)
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        user = single[0][len(single[0]) - same :]
    reply = (single[1], *whole[1:2], *ended[1:2])
    return _Form(
        user=user if user.strip() else "",
        system=told[1] if told else "",
        reply=tuple(r for r in dict.fromkeys(reply) if r.strip()),
        again=whole[2] if whole else "",
        end=ended[2] if ended else "",
    )
