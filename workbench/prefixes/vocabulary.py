"""The tokens that a search may use, and the texts that they make."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import BadInput
from ..models.control import control_tokens
from ..models.known import first_of, name_of

WORDS = ("ascii", "any", "readable")
_READABLE = re.compile(r" (?:[A-Za-z][a-z]+|[aAI])|[.,]")
ROWS = 4096


def pieces(model: Any) -> list[str]:
    """Return the text that each token adds behind others.

    Args:
        model: What `load_model` returns, or a described model.

    Returns:
        A text by id; "" for control tokens and for parts of characters, which no text can be searched with.
    """
    tokenizer = model.tokenizer
    anchor, start = _anchor(tokenizer)
    ids = range(len(tokenizer))
    out: list[str] = []
    for first in range(0, len(ids), ROWS):
        out += tokenizer.batch_decode([[*anchor, i] for i in ids[first : first + ROWS]], clean_up_tokenization_spaces=False)
    barred = {*control_tokens(tokenizer), *tokenizer.all_special_ids, *first_of(model)}
    return ["" if i in barred or not text.startswith(start) or "\ufffd" in text else text[len(start) :] for i, text in enumerate(out)]


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text that tokens make behind others, white space included.

    Args:
        tokenizer: A Hugging Face tokenizer.
        ids: Tokens.
    """
    anchor, start = _anchor(tokenizer)
    return tokenizer.decode([*anchor, *ids], clean_up_tokenization_spaces=False)[len(start) :]


def allowed(model: Any, words: str | Sequence[str] = "ascii") -> np.ndarray:
    """Return the tokens that a search may use.

    Args:
        model: What `load_model` returns, or a described model.
        words: "ascii" (printable ASCII), "any" (printable characters of any script), "readable" (whole words behind a space, full stop and
            comma), or texts: only the tokens that these are made of.

    Returns:
        Ids, ascending.

    Raises:
        BadInput: There is no such filter, or nothing passes it.
    """
    if not isinstance(words, str):
        texts = [f" {w.strip()}" for w in words]
        own = {i for ids in model.tokenizer(texts, add_special_tokens=False)["input_ids"] for i in ids} if texts else set()
    elif words not in WORDS:
        raise BadInput(f"words={words!r}: {', '.join(map(repr, WORDS))}, or a list of words")
    else:
        own = None
    passes = [i for i, piece in enumerate(pieces(model)) if piece and (i in own if own is not None else _passes(piece, str(words)))]
    if not passes:
        raise BadInput(f"no token of {name_of(model)} passes the filter words={words!r}: use 'ascii', 'any', or other words")
    return np.array(passes)


def _passes(piece: str, words: str) -> bool:
    if words == "readable":
        return bool(_READABLE.fullmatch(piece))
    printable = all(c == " " or not unicodedata.category(c).startswith(("C", "Z")) for c in piece)
    return printable and (words == "any" or piece.isascii())


def _anchor(tokenizer: Any) -> tuple[list[int], str]:
    """A token behind which others are decoded: alone, some tokenizers write them without their space."""
    ids = tokenizer(".", add_special_tokens=False)["input_ids"][-1:]
    return ids, tokenizer.decode(ids, clean_up_tokenization_spaces=False)
