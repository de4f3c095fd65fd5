"""Deeper alignment by training on recovered answers: answers that begin harmfully for some tokens and then refuse.

A model that was aligned in its first answer tokens goes on once a beginning stands there. What is trained here is the refusal that follows
such a beginning, at every depth, while harmless requests with the same beginnings are held to what the model says of them now.

References:
    Qi et al. 2024, arXiv 2406.05946, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..core.errors import AnswerTokens, BadInput, EmptyPromptSet, ShapeMismatch, TokenBoundary
from ..core.seeds import derive, numpy_rng
from ..core.types import Float
from ..models import generate_texts
from ..models.known import name_of
from ..models.tokens import answer_tokens, encode_pairs
from ..prompts import ContrastPair, PromptSet
from ..training import Adapter, Answered, train_adapter
from .depth import reply_tokens
from .vocabulary import text_of

LONGEST = 8  # tokens of a refusal that are trained
DEPTHS = (0, 1, 2, 3, 5, 8)  # tokens of a harmful beginning after which the refusal is trained


def recovered(
    model: Any,
    prompts: PromptSet,
    replies: Sequence[str] | str,
    *,
    refusals: Sequence[str] | str | None = None,
    depths: Sequence[int] = DEPTHS,
    seed: int = 0,
) -> PromptSet:
    """Return prompts whose stems end with the first tokens of a reply, so that their endings come after it.

    Args:
        model: Whose tokens count.
        prompts: Contrast pairs whose endings begin a reply, such as requests.
        replies: The replies, one for each prompt or one for all.
        refusals: What should follow the beginning in place of the right ending alone, one for each prompt or one for all: each of its
            tokens is a prompt of its own, whose negative ending is that token.
        depths: Numbers of tokens; one is drawn for each prompt, and at most as many as its reply has.
        seed: Draws them.

    Returns:
        The prompts in their order, with a column `beginning` that counts the tokens of the reply. Tokens of a refusal that cannot be
        written as an ending by themselves are left out.

    Raises:
        BadInput: There is no depth, or one is negative.
        ShapeMismatch: There is not one reply, or refusal, per prompt.
        TokenBoundary: A reply merges with its prompt, or no beginning of it can be followed by the endings.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> asked = wb.prompts.requests("request", n=2).where(label=0)
        >>> wb.prefixes.recovered(model, asked, "Sure, here it is.", depths=(1,))[0].stem[-11:]
        'Reply: Sure'
    """
    if not len(depths) or min(depths) < 0:
        raise BadInput(f"depths={list(depths)}: numbers of tokens, 0 or more, one at least")
    said = reply_tokens(model, prompts, replies, max(*depths, 1))
    after = [[]] * len(prompts) if refusals is None else reply_tokens(model, prompts, refusals, LONGEST)
    drawn = numpy_rng(seed, "depths of recovered answers").choice(np.asarray(depths), len(prompts)).tolist()
    out: list[ContrastPair] = []
    for pair, reply, refusal, start in zip(prompts, said, after, drawn, strict=True):
        for many in range(min(start, len(reply)), -1, -1):  # a beginning that merges with an ending is cut shorter
            first = _ending(model, pair, reply[:many], [], many)
            if first is not None:
                rest = [_ending(model, pair, [*reply[:many], *refusal[:k]], refusal[k : k + 1], many) for k in range(1, len(refusal))]
                out += [first, *(p for p in rest if p is not None)]
                break
        else:
            raise TokenBoundary(f"no beginning of the reply {reply!r} can be followed by {pair.negative!r} in {name_of(model)}")
    return PromptSet(out, f"{prompts.name}, recovered")


def _ending(model: Any, pair: ContrastPair, before: list[int], token: list[int], many: int) -> ContrastPair | None:
    """The prompt behind some tokens of a reply, its negative ending another token where one is given; nothing where tokens merge."""
    text = text_of(model.tokenizer, before) if before else ""
    meta = dict(pair.meta) | {"beginning": many}
    try:
        negative = text_of(model.tokenizer, token) if token else pair.negative
        made = replace(pair, stem=pair.stem + text, negative=negative, meta=meta)
        (bare,), (read,) = encode_pairs(model, PromptSet([pair])), encode_pairs(model, PromptSet([made]))
        answer_tokens(model, (made.negative, made.positive))
    except (AnswerTokens, BadInput, TokenBoundary):
        return None
    whole = [*bare.negative[: bare.stem], *before]
    fits = read.negative[: read.stem] == whole and (not token or read.negative[read.stem :] == token)
    return made if fits else None


def deepen(
    model: Any,
    prompts: PromptSet,
    replies: Sequence[str] | str,
    *,
    refusals: Sequence[str] | str | None = None,
    depths: Sequence[int] = DEPTHS,
    copies: int = 2,
    seed: int = 0,
    **how: Any,
) -> Adapter:
    """Train an adapter that refuses harmful requests also after a harmful beginning.

    Args:
        model: What `load_model` returns, with nothing changed.
        prompts: Harmful and harmless requests (label 0 and 1); the ending that the label names is the reply's first word.
        replies: How a reply that complies goes, one for each prompt or one for all.
        refusals: How a refusal goes, one for each prompt or one for all; by default what the model itself says to each harmful request.
        depths: Tokens of the reply after which the refusal is trained; (0,) trains plain refusals, as a control.
        copies: How often each request is used, each time with another beginning.
        seed: Draws depths, batches and matrices.
        how: As for `train_adapter` (`layers`, `rank`, `steps`, `place`, …).

    Returns:
        The adapter. Harmless requests, with the same beginnings, are held to what the unchanged model says.

    Raises:
        EmptyPromptSet: There is no harmful or no harmless request.
        ShapeMismatch: There is not one reply, or refusal, per request.

    Example:
        >>> import workbench as wb
        >>> model = wb.load_model("bundled")
        >>> asked = wb.prompts.requests("request", n=24, seed=0)
        >>> adapter = wb.prefixes.deepen(model, asked, "Sure, here it is.", layers=[3], steps=2, progress=False)
        >>> adapter.kind
        'residual'

    Note:
        Harmful replies are those of one way to comply; whether another beginning is recovered from must be measured (`answer_depth`).

    References:
        Qi et al. 2024, arXiv 2406.05946.
    """
    labels = np.array(prompts.labels)
    if not len(set(labels.tolist())) == 2:
        raise EmptyPromptSet("deepening needs harmful requests to refuse (label 0) and harmless ones to keep (label 1)")
    given: Any
    own: Any
    given, own = ([texts] * len(prompts) if texts is None or isinstance(texts, str) else list(texts) for texts in (replies, refusals))
    if len(given) != len(prompts) or len(own) != len(prompts):
        raise ShapeMismatch(f"{len(given)} replies and {len(own)} refusals for {len(prompts)} prompts: one for each, or one text for all")
    sides = []
    for label in (0, 1):
        rows = np.flatnonzero(labels == label).tolist()
        some, texts = prompts.subset(rows), [given[i] for i in rows]
        told: Any = None
        if label == 0:
            told = [own[i] for i in rows] if refusals is not None else _own(model, some)
        parts = [recovered(model, some, texts, refusals=told, depths=depths, seed=derive(seed, k)) for k in range(copies)]
        sides.append(PromptSet([p for part in parts for p in part], parts[0].name))
    return train_adapter(model, sides[0], loss=refuses, retain=sides[1], seed=seed, **how)


def _own(model: Any, prompts: PromptSet) -> list[str]:
    """What a model says to each prompt, where that begins with the ending that stands for a refusal; else that ending."""
    stems = [pair.negative[: pair.stem] for pair in encode_pairs(model, prompts)]
    wrote = generate_texts(model, stems, max_new_tokens=LONGEST, progress=False)
    return [g.text if g.text.startswith(p.negative) else p.negative for p, g in zip(prompts, wrote, strict=True)]


def refuses(answered: Answered) -> Float[torch.Tensor, ""]:
    """Return the mean negative log-probability of the refusal's next token, among all tokens.

    Args:
        answered: Of harmful requests, whose refusal is the negative ending.
    """
    return -answered.now[:, 0].mean()


__all__ = ["DEPTHS", "deepen", "recovered"]
