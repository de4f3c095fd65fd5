"""Where tokens stand in their text: characters that are several tokens, tokens that are several characters, normalised texts.

A byte-level tokenizer splits one character (an emoji, a Chinese character) over several tokens. Each of them has the whole
character as its span, and the character is read when the last of them is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def spans(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Return which characters each token stands for.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: Tokens.
        text: The text that they were made of, or what they decode to.

    Returns:
        Per token its first character and the one behind its last. Spans overlap where a character is several tokens.
    """
    found = _encoded(tokenizer, ids, text)
    return _decoded(tokenizer, ids, text) if found is None else found


def cut(tokenizer: Any, ids: Sequence[int], text: str, end: int) -> tuple[int, int] | None:
    """Cut a text's tokens at a character.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: The tokens of the text, behind any first tokens that are not of the text itself.
        text: The text.
        end: The character, 0 to the length of the text, before which the text is cut.

    Returns:
        The number of tokens up to and including the last one that holds something before the cut, and the number of the first
        token that holds something after it. A token that holds both makes the second smaller than the first. `None` where the
        tokenizer cannot say where its tokens stand.
    """
    found = _encoded(tokenizer, ids, text)
    if found is None:
        return None
    lead = len(ids) - len(found)
    before = max((k + 1 for k, (a, b) in enumerate(found) if a < min(end, b)), default=lead)
    after = min((k for k, (a, b) in enumerate(found) if b > max(end, a)), default=len(found))
    return before, after


def token_of(tokenizer: Any, ids: Sequence[int], text: str) -> int | None:
    """Return the token that completes the last occurrence of a text.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: Tokens.
        text: What to look for, as written, else as the tokenizer writes it (without accents or capitals, if it drops them).

    Returns:
        The token's number, or `None` where the text does not occur.
    """
    whole = tokenizer.decode(list(ids))
    at = whole.rfind(text)
    end = at + len(text)
    if at < 0:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        written = tokenizer.decode(own)
        if not written.strip() or tokenizer.unk_token_id in own:
            return None
        at = whole.rfind(written)
        end = at + len(written)
    if at < 0:
        return None
    return max((k for k, (a, b) in enumerate(spans(tokenizer, ids, whole)) if a < min(end, b)), default=None)


def _encoded(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
    """The spans that the tokenizer itself gives, if it makes the same tokens of the text; those before them have none."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    lead = len(ids) - len(found["input_ids"])
    if lead < 0 or list(ids[lead:]) != list(found["input_ids"]):
        return None
    out = [(int(a), int(b)) for a, b in found["offset_mapping"]]
    k = 0
    while k < len(out):  # several unknown characters in a row may get one span together
        stop = next((m for m in range(k, len(out)) if out[m] != out[k]), len(out))
        a, b = out[k]
        if stop - k > 1 and b - a > 1 and tokenizer.decode(found["input_ids"][k:stop]) == text[a:b]:
            out[k:stop] = [(a + x, a + y) for x, y in _decoded(tokenizer, found["input_ids"][k:stop], text[a:b])]
        k = stop
    return [(0, 0)] * lead + out


def _decoded(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Spans by what longer and longer beginnings decode to; part of a character gives U+FFFD, which the text does not have there."""
    out: list[tuple[int, int]] = []
    done = 0
    for k in range(len(ids)):
        got = tokenizer.decode(list(ids[: k + 1]))
        same = len(got) if text.startswith(got) else next((i for i, (a, b) in enumerate(zip(got, text, strict=False)) if a != b), len(text))
        start, done = done, max(done, same)  # bytes of an unfinished character may spoil those before it
        out.append((start, min(len(text), done + 1) if len(got) > same else done))
    return out
