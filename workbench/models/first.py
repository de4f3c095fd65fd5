"""What every prompt begins with: what the tokenizer puts in front of a text, unless the caller says otherwise."""

from __future__ import annotations

import warnings
from typing import Any

from ..core.errors import BadInput
from .known import first_tokens

_SAID: set[tuple[str, tuple[int, ...], int | None]] = set()


def declared_bos(tokenizer: Any) -> int | None:
    """Return the beginning-of-text id that a tokenizer declares, or `None`.

    TransformerLens falls back to the end-of-text token when it boots a model whose tokenizer declares none; that fallback
    does not count here.
    """
    declared = getattr(tokenizer, "init_kwargs", {}).get("bos_token", getattr(tokenizer, "bos_token", None))
    return None if declared is None else tokenizer.bos_token_id


def first_of_prompts(tokenizer: Any, bos: str | int | bool | None, name: str) -> tuple[int, ...]:
    """Choose what every prompt begins with.

    Args:
        tokenizer: The Hugging Face tokenizer.
        bos: "auto" (what the tokenizer puts in front of a text), "declared" or `True` (the token that it declares), `None`,
            `False` or "none" for nothing, or a token or its id.
        name: The model's name in warnings and errors.

    Returns:
        The ids. With "auto", the first time that a tokenizer declares one thing and does another, a warning says so.

    Raises:
        BadInput: There is no such token.
    """
    declared = declared_bos(tokenizer)
    if isinstance(bos, str) and bos == "auto":
        does = first_tokens(tokenizer)
        _say(tokenizer, name, does, declared)
        return does
    if bos is None or bos is False or bos == "none":
        return ()
    if bos is True or bos == "declared":
        if declared is None:
            raise BadInput(f"{name}: its tokenizer declares no beginning-of-text token. Pass bos='auto', None, or a token")
        return (declared,)
    if isinstance(bos, int):
        if not 0 <= bos < len(tokenizer):
            raise BadInput(f"{name}: bos={bos}, and its vocabulary has the ids 0-{len(tokenizer) - 1}")
        return (bos,)
    found = tokenizer.get_vocab().get(bos) if isinstance(bos, str) else None
    if found is None:
        raise BadInput(f"{name}: bos={bos!r} is no token of its vocabulary. Pass 'auto', 'declared', None, or a token or its id")
    return (int(found),)


def _say(tokenizer: Any, name: str, does: tuple[int, ...], declared: int | None) -> None:
    if does == (() if declared is None else (declared,)) or (name, does, declared) in _SAID:
        return
    _SAID.add((name, does, declared))
    says = "no first token" if declared is None else repr(tokenizer.convert_ids_to_tokens(declared))
    puts = "none" if not does else " ".join(map(repr, tokenizer.convert_ids_to_tokens(list(does))))
    instead = "bos='declared'" if declared is not None else "bos=None"
    warnings.warn(
        f"{name}: its tokenizer declares {says} as beginning of text and puts {puts} in front of a text. Prompts are read as it does; "
        f"load_model(…, {instead}) changes that",
        stacklevel=4,
    )
