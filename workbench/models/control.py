"""Control tokens (`<|im_end|>`, `</s>`, `<think>`): which ones a tokenizer has, and texts that would turn into them unasked.

A chat template writes control tokens on purpose. A statement, a claim or a system prompt that holds the same characters would
end the turn or begin another one without a word; that is refused.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..core.errors import ControlToken
from ..core.show import short
from .thoughts import is_marker

# ordinary words that were added to a vocabulary, runs of spaces and HTML tags are no control tokens
_PIPED = re.compile(r"<[|｜].*[|｜]>|<[|｜].*>|<.*[|｜]>", re.DOTALL)
_BRACKETED = re.compile(r"[<\[◁{].+[>\]▷}]", re.DOTALL)
_KEPT: weakref.WeakKeyDictionary[Any, tuple[Any, dict[int, str]]] = weakref.WeakKeyDictionary()


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the control tokens of a tokenizer by id.

    They are its special tokens, and those added tokens that have the form of one and stand in the chat template, mark a thought
    or hold a bar (`<|…|>`).

    Args:
        tokenizer: A Hugging Face tokenizer.
    """
    template = template_of(tokenizer)
    state = len(tokenizer), template, tuple(tokenizer.all_special_tokens)
    kept = _KEPT.get(tokenizer)
    if kept is not None and kept[0] == state:
        return kept[1]
    out: dict[int, str] = {}
    for token, added in tokenizer.added_tokens_decoder.items():
        text = added.content
        if added.special:
            chosen = len(text) > 1  # a lone "!" that fills up batches is an ordinary character too
        else:
            chosen = bool(_BRACKETED.fullmatch(text)) and (text in template or is_marker(text) or bool(_PIPED.fullmatch(text)))
        if chosen:
            out[int(token)] = text
    _KEPT[tokenizer] = state, out
    return out


def template_of(tokenizer: Any) -> str:
    """Return the source of a tokenizer's chat template; "" where there is none."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()), "")
    return template or ""


def check_control(
    tokenizer: Any,
    texts: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[int]],
    wordings: Sequence[str | None],
    first: Sequence[int] = (),
) -> None:
    """Raise where a text turns into a control token that its prompt form does not hold.

    Args:
        tokenizer: The tokenizer that made the rows.
        texts: The texts, each with what it is called in the message ("item 3").
        rows: Their ids, as the tokenizer gives them.
        wordings: What the form of each text holds by itself: its control tokens are meant. `None` for a whole
            prompt that its author wrote: it may begin with `first`, and holds control tokens if it begins with one, as a
            rendered chat does (one of the chat template's, if there is one).
        first: Ids that begin every prompt.

    Raises:
        ControlToken: The message names the text, the token and its surroundings.
    """
    known = control_tokens(tokenizer)
    unknown = tokenizer.unk_token_id
    meant: dict[str, Counter[int]] = {}
    opening: set[int] | None = None
    for (what, text), ids, wording in zip(texts, rows, wordings, strict=True):
        found = [k for k in ids if k in known and (k != unknown or known[k] in text)]
        if not found:
            continue
        if wording is None:
            own = len(first) if list(ids[: len(first)]) == list(first) else 0
            extra = Counter(k for k in ids[own:] if k in found)
            if extra and opening is None:
                opening = _opening(tokenizer, known, first)
            at = 0 if opening and template_of(tokenizer) and opening <= set(first) else own
            if extra and opening and ids[at] in opening:
                continue
        else:
            if wording not in meant:
                meant[wording] = Counter(k for k in tokenizer(wording, add_special_tokens=False)["input_ids"] if k in known)
            extra = Counter(found) - meant[wording]
        if extra:
            raise ControlToken(_said(what, text, known[next(iter(extra))]))


def check_plain(tokenizer: Any, text: str, what: str) -> None:
    """Raise where a text that a chat template is about to quote would turn into a control token.

    Args:
        tokenizer: The tokenizer with the chat template.
        text: The user's text or the system prompt.
        what: What it is called in the message.

    Raises:
        ControlToken: The message names the text, the token and its surroundings.
    """
    if hasattr(tokenizer, "added_tokens_decoder"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        check_control(tokenizer, [(what, text)], [ids], [""])


def _opening(tokenizer: Any, known: dict[int, str], first: Sequence[int]) -> set[int]:
    """The control tokens that begin a rendered chat, apart from the first ones of every prompt if there are others.

    Without a chat template nobody can tell, and each may.
    """
    if not template_of(tokenizer):
        return set(known)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True)
    out: set[int] = set()
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if token not in known:
            break
        out.add(token)
    return out - set(first) or out


def _said(place: str, text: str, token: str) -> str:
    at = max(0, text.find(token))
    around = short(text[max(0, at - 30) : at + len(token) + 30], 90)
    return (
        f"{place} holds {token!r} (in {around!r}), which this tokenizer reads as a control token and not as text. Leave the text out "
        "or write it otherwise; a prompt form that means the token has it in its own wording (template=…, form=…), or is the chat template"
    )
