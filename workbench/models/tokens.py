"""Tokens are made here and nowhere else, with one explicit rule for the first token.

A prompt begins with what the tokenizer puts in front of a text, if the text does not begin with it already (chat templates
do). What a tokenizer declares as beginning of text and does not put there is left out. Batches are padded on the right by
default: under causal attention, padding on the right cannot change what a real token attends to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import torch

from ..core.errors import AnswerTokens, BadInput, PromptTooLong, TokenBoundary
from ..core.types import Int, Tensor
from .control import check_control
from .known import context_of, first_of, name_of
from .spans import cut
from .watch import Layout


@runtime_checkable
class PairLike(Protocol):
    """What a contrast pair must have to become tokens.

    It may also have `wording`: what its prompt form holds by itself, whose control tokens are meant.
    """

    @property
    def stem(self) -> str: ...
    @property
    def negative(self) -> str: ...
    @property
    def positive(self) -> str: ...
    @property
    def instruction_end(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class EncodedPair:
    """The ids of one contrast pair.

    Attributes:
        negative, positive: All ids of each variant, stem first.
        stem: Number of ids that both variants share: those of the stem, and what both endings begin with.
        instruction: Number of ids up to and including the last token of the instruction.
        bos: Number of leading ids that begin every prompt, which averages leave out.
    """

    negative: list[int]
    positive: list[int]
    stem: int
    instruction: int
    bos: int


def encode(model: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts, with the model's beginning-of-text token in front.

    Args:
        model: What `load_model` returns, or a described model.
        texts: Texts; one that begins with the beginning-of-text token does not get a second one. Further control tokens are
            accepted in a text that begins as the model's chat template does.

    Returns:
        One row of ids per text, unpadded.

    Raises:
        BadInput: A text is empty and the model has no beginning-of-text token.
        ControlToken: A text holds a control token, and is no chat.
        PromptTooLong: A text does not fit the model's context.
    """
    raw = model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    named = [(f"text {i}", text) for i, text in enumerate(texts)]
    check_control(model.tokenizer, named, raw, [None] * len(raw), first_of(model))
    return _led(model, texts, raw)


def _led(model: Any, texts: Sequence[str], raw: Sequence[list[int]]) -> list[list[int]]:
    """The ids of texts with the model's first tokens in front."""
    first, context = list(first_of(model)), context_of(model)
    out = [ids if ids[: len(first)] == first else [*first, *ids] for ids in raw]
    for ids, text in zip(out, texts, strict=True):
        if not ids:
            raise BadInput("an empty text has no token to read")
        if len(ids) > context:
            raise PromptTooLong(
                f"a prompt of {len(ids)} tokens; {name_of(model)} reads {context}. It begins: {text[:60]!r}. Shorten it, "
                "or use a shorter template"
            )
    return out


def encode_pairs(model: Any, pairs: Sequence[PairLike]) -> list[EncodedPair]:
    """Return the ids of contrast pairs.

    Args:
        model: What `load_model` returns, or a described model.
        pairs: Contrast pairs, or single statements (with empty endings).

    Returns:
        The ids of each pair, in the order of the pairs; both variants of a single statement are its text.

    Raises:
        TokenBoundary: A token spans the boundary between stem and ending.
        PromptTooLong: A prompt does not fit the model's context.
        ControlToken: A pair holds a control token that its prompt form does not hold by itself.
    """
    wordings = [getattr(p, "wording", None) for p in pairs]

    def rows(texts: list[str], check: bool = False) -> list[list[int]]:
        raw = model.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        if check:
            check_control(model.tokenizer, [(f"item {i}", t) for i, t in enumerate(texts)], raw, wordings, first_of(model))
        return _led(model, texts, raw)

    negatives = rows([p.stem + p.negative for p in pairs], check=True)
    positives = rows([p.stem + p.positive for p in pairs], check=True)
    stems = rows([p.stem for p in pairs])
    ends = [p.instruction_end for p in pairs]
    marked = [i for i, end in enumerate(ends) if end is not None and end < len(pairs[i].stem)]
    heads = dict(zip(marked, rows([pairs[i].stem[: ends[i]] for i in marked]), strict=True))
    first = list(first_of(model))
    out = []
    for i, pair in enumerate(pairs):
        stem = stems[i]
        for full, ending in ((negatives[i], pair.negative), (positives[i], pair.positive)):
            if ending and (full[: len(stem)] != stem or len(full) == len(stem)):
                raise TokenBoundary(
                    f"item {i}: the tokenizer merges the end of the stem {pair.stem[-20:]!r} with the ending {ending!r}. "
                    "Let the stem end without a space and the ending begin with one"
                )
        if not getattr(pair, "single", False):
            # what both endings begin with (a space of its own before a digit) belongs to the stem: the answer forms behind it
            least = min(len(negatives[i]), len(positives[i])) - 1
            stem = negatives[i][: max(len(stem), min(shared(negatives[i], positives[i]), least))]
        head = heads.get(i)
        instruction = len(stems[i]) if head is None else len(head)
        if head is not None and stem[: len(head)] != head:
            # where the instruction ends inside a token, that token is its last one
            at = cut(model.tokenizer, stems[i], pair.stem, ends[i] or 0)
            instruction = shared(stem, head) + 1 if at is None else at[0]
        out.append(
            EncodedPair(
                negative=negatives[i],
                positive=positives[i],
                stem=len(stem),
                instruction=min(instruction, len(stem)),
                bos=len(first) if stem[: len(first)] == first else 0,
            )
        )
    return out


def shared(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of the common prefix of two rows.

    Args:
        first, second: Rows of ids, or texts.

    Returns:
        Number of leading ids or characters that are equal, 0 to the length of the shorter row.
    """
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded rows of ids.

    Attributes:
        ids: `row x position`.
        mask: 1 for real tokens and 0 for padding, `row x position`.
        starts: Column of each row's first real token, `row`.
        layout: How many tokens of each row are prompt and instruction; `None` where that is unknown.
    """

    ids: Tensor
    mask: Tensor
    starts: Tensor
    layout: Layout | None = None

    def place(self, index: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """Return the columns of tokens that are counted within their rows.

        Args:
            index: Number of one real token per row, counted from 0.

        Returns:
            Its column in the batch, whatever the padding side.
        """
        return self.starts + index


def pad(
    model: Any,
    rows: Sequence[Sequence[int]],
    side: str = "right",
    *,
    prompt: Sequence[int] | None = None,
    instruction: Sequence[int] | None = None,
) -> Batch:
    """Pad rows of ids to one width.

    Args:
        model: Gives the device of the tensors and the padding token.
        rows: Rows of ids, none of them empty.
        side: "right" or "left".
        prompt: Number of tokens of each row that are prompt (the rest is continuation), for edits with a scope; by default
            all.
        instruction: Number of tokens of each row up to and including the last of the instruction; `None` where it is
            unknown.

    Returns:
        The batch, on the model's device.

    Raises:
        BadInput: The side is neither "left" nor "right".
    """
    if side not in ("left", "right"):
        raise BadInput(f"padding side {side!r}: 'left' or 'right'")
    width = max(map(len, rows))
    filler = model.tokenizer.pad_token_id or 0
    ids = torch.full((len(rows), width), filler)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    starts = torch.zeros(len(rows), dtype=torch.long)
    for i, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        starts[i] = start
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
    device = next(model.parameters()).device
    layout = None
    if prompt is not None or instruction is not None:
        sizes = [len(row) for row in rows] if prompt is None else list(prompt)
        layout = Layout(prompt=torch.tensor(sizes), instruction=None if instruction is None else torch.tensor(list(instruction)))
    return Batch(ids=ids.to(device), mask=mask.to(device), starts=starts.to(device), layout=layout)


def single_token(model: Any, text: str) -> int | None:
    """Return the id of a text that is exactly one token, else `None`."""
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 else None


def answer_tokens(model: Any, answers: Sequence[str]) -> list[list[int]]:
    """Return the ids that count as each answer: the word as given, and those of its other forms that are single tokens.

    The forms are with and without a leading space, as written and capitalised. A form that two answers share counts for
    neither. What all answers begin with, as a space that is a token of its own, does not count: `encode_pairs` puts it into the stem.

    Args:
        model: What `load_model` returns, or a described model.
        answers: Endings as in the contrast pairs, with their leading space (" no", " yes").

    Returns:
        Per answer its ids, in ascending order; the id of the form as given is always among them. No id is in two lists.

    Raises:
        AnswerTokens: An answer is not a single known token, or one begins another.
        ControlToken: An answer is a control token of the tokenizer.
    """
    forms = answer_forms(model, answers)
    if forms is not None:
        return forms
    lengths = {a: len(model.tokenizer(a, add_special_tokens=False)["input_ids"]) for a in answers}
    longest = max(lengths, key=lambda a: lengths[a])
    raise AnswerTokens(
        f"the answer {longest!r} is {lengths[longest]} tokens for {name_of(model)}, and must be one here. Pass answers=(…), or let "
        "workbench.evaluation.choose_answers(model) find a pair"
    )


def answer_forms(model: Any, answers: Sequence[str]) -> list[list[int]] | None:
    """Return the ids that count as each answer, or nothing where an answer is several tokens.

    Args:
        model, answers: As for `answer_tokens`.

    Returns:
        What `answer_tokens` returns; `None` where an answer is several tokens.

    Raises:
        AnswerTokens: An answer is empty or unknown, or one begins another.
        ControlToken: An answer is a control token of the tokenizer.
    """
    pieces = {a: model.tokenizer(a, add_special_tokens=False)["input_ids"] for a in answers}
    check_control(model.tokenizer, [(f"the answer {a!r}", a) for a in pieces], list(pieces.values()), [""] * len(pieces))
    if not all(pieces.values()):
        raise AnswerTokens("an answer is empty: single statements have none; put them in question form (prompts.as_questions)")
    rows = list(pieces.values())
    for a, b in combinations(pieces, 2):
        if pieces[a][: len(pieces[b])] == pieces[b] or pieces[b][: len(pieces[a])] == pieces[a]:
            raise AnswerTokens(f"of the answers {a!r} and {b!r} one begins the other: choose other words")
    alike = min(shared(rows[0], row) for row in rows[1:]) if len(rows) > 1 else 0
    pieces = {a: ids[alike:] for a, ids in pieces.items()}
    if any(len(ids) != 1 for ids in pieces.values()):
        return None
    out: list[list[int]] = []
    for answer, ids in pieces.items():
        bare = answer.strip()
        forms = {f"{lead}{word}" for lead in ("", " ") for word in (bare, bare.capitalize())} if len(bare) > 1 else {bare}
        singles = {token for form in forms if (token := single_token(model, form)) is not None}
        out.append(sorted(singles | set(ids)))
    # a form that several answers have ("A" and "a" capitalised) is left out; the forms as given differ
    kept = [[i for i in ids if sum(i in other for other in out) == 1] for ids in out]
    unknown = model.tokenizer.unk_token_id
    for answer, ids in zip(pieces, kept, strict=True):
        if not ids or pieces[answer][0] not in ids:
            raise AnswerTokens(f"the answer {answer!r} is also a form of another answer: choose other words")
        if unknown is not None and pieces[answer][0] == unknown:
            raise AnswerTokens(f"the tokenizer does not know the answer {answer!r}")
    return kept
