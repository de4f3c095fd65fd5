"""Which token of one prompt stands where which token of another stands, and what the parts of a prompt are called."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..core.errors import Alignment, BadInput, ShapeMismatch
from ..models.spans import spans as spans_of
from ..models.tokens import encode_pairs
from ..prompts import ContrastPair, PromptSet, claims

WAYS = ("same", "diff", "end")


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Two stems token by token.

    Attributes:
        clean, corrupted: Ids of the two stems.
        pairs: Columns that stand for each other, (clean, corrupted), in order.
        groups: Per name of a part, which of the pairs belong to it.
    """

    clean: list[int]
    corrupted: list[int]
    pairs: list[tuple[int, int]]
    groups: dict[str, list[int]]


def align(
    model: Any, clean: PromptSet, corrupted: PromptSet, *, how: str = "same", positions: str | Sequence[int] = "token"
) -> list[Aligned]:
    """Lay the stems of two prompt sets beside each other, item by item.

    Args:
        model: Whose tokens.
        clean, corrupted: Item i of one goes with item i of the other.
        how: "same": column by column, stems must be equally long; "diff": runs of equal tokens, and runs of equal length between them;
            "end": from the last token back.
        positions: What is patched together: "token", each column by itself, named by its distance from the end (-1 is the last); "segment",
            the parts of a prompt (claim, statement, what lies before, between and after them, last token); "last"; or such distances.

    Returns:
        One per item: the ids of both stems, the pairs of columns that stand for each other, and which pairs make up each named part.

    Raises:
        ShapeMismatch: The sets differ in length. Alignment: stems that cannot be laid beside each other so. BadInput: an argument.
    """
    if len(clean) != len(corrupted):
        raise ShapeMismatch(f"{len(clean)} clean and {len(corrupted)} corrupted items: they go in pairs")
    if how not in WAYS:
        raise BadInput(f"align={how!r}: one of {', '.join(WAYS)}")
    if isinstance(positions, str) and positions not in ("token", "segment", "last"):
        raise BadInput(f"positions={positions!r}: 'token', 'segment', 'last' or distances from the end (-1 is the last)")
    if not isinstance(positions, str) and (not list(positions) or any(p >= 0 for p in positions)):
        raise BadInput(f"positions={list(positions)}: distances from the end, -1 for the last token")
    both = zip(encode_pairs(model, clean), encode_pairs(model, corrupted), strict=True)
    out: list[Aligned] = []
    for i, (a, b) in enumerate(both):
        x, y = a.negative[: a.stem], b.negative[: b.stem]
        pairs = _pairs(x, y, how, i)
        groups = _groups(model, corrupted[i], x, y, pairs, positions, i)
        out.append(Aligned(clean=x, corrupted=y, pairs=pairs, groups=groups))
    return out


def _pairs(x: list[int], y: list[int], how: str, item: int) -> list[tuple[int, int]]:
    if how == "same":
        if len(x) != len(y):
            raise Alignment(
                f"item {item}: the clean stem has {len(x)} tokens and the corrupted one {len(y)}. Choose texts of equal length, or say how "
                "they go together: align='diff' (equal runs) or 'end' (from the last token back)"
            )
        return [(k, k) for k in range(len(x))]
    if how == "end":
        size = min(len(x), len(y))
        return [(len(x) - size + k, len(y) - size + k) for k in range(size)]
    out: list[tuple[int, int]] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, x, y, autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and b - a == d - c):
            out += zip(range(a, b), range(c, d), strict=True)
    if not out:
        raise Alignment(f"item {item}: the two stems share no token")
    return out


def _groups(
    model: Any, pair: ContrastPair, x: list[int], y: list[int], pairs: list[tuple[int, int]], positions: str | Sequence[int], item: int
) -> dict[str, list[int]]:
    if positions == "segment":
        names = segments(model, pair, y)
        out: dict[str, list[int]] = {}
        for k, (_, c) in enumerate(pairs):
            out.setdefault(names[c], []).append(k)
        return out
    back = {c - len(y): k for k, (_, c) in enumerate(pairs)}
    wanted = sorted(back) if positions == "token" else [-1] if positions == "last" else [int(p) for p in positions]
    missing = [p for p in wanted if p not in back]
    if missing:
        raise Alignment(f"item {item}: position {missing[0]} of the corrupted stem ({len(y)} tokens) has no counterpart in the clean one")
    return {str(p): [back[p]] for p in wanted}


def segments(model: Any, pair: ContrastPair, ids: Sequence[int]) -> list[str]:
    """Name the part of the prompt that each token of a stem belongs to: by where its claim and its statement stand in the text."""
    text, spans = pair.stem, []
    known = claims() | claims("requests")
    said = str(pair.meta.get("claim_text", known.get(pair.claim, "")))
    for name, part in (("claim", said), ("statement", str(pair.meta.get("statement", "")))):
        at = text.find(part) if part else -1
        if at >= 0:
            spans.append((at, at + len(part), name))
    spans.sort()
    whole = model.tokenizer.decode(list(ids))
    # what stands before the text: a first token of our own; those of a chat template are part of the text
    at = whole.find(text)
    before_text = at if at >= 0 else max(0, len(whole) - len(text))
    stops = [end - before_text for _, end in spans_of(model.tokenizer, ids, whole)]
    out = []
    for k in range(len(ids)):
        # the character that the token ends on says where it is; a token may begin with a space
        at = max(0, stops[k] - 1)
        name = next((n for a, b, n in spans if a <= at < b), "")
        if not name:
            before = [n for _, b, n in spans if b <= at]
            after = [n for a, _, n in spans if a > at]
            name = "between" if before and after else f"before {after[0]}" if after else f"after {before[-1]}" if before else "prompt"
        out.append(name)
    out[-1] = "last"
    return out


def alignment_table(
    model: Any, clean: PromptSet, corrupted: PromptSet, item: int = 0, *, how: str = "same", positions: str = "segment"
) -> pd.DataFrame:
    """Show how two stems are laid beside each other.

    Args:
        model: Whose tokens.
        clean, corrupted: As for `align`.
        item: Which of the items.
        how, positions: As for `align`.

    Returns:
        One row per pair of columns, from left to right: `clean_position, clean` (the token), `corrupted_position, corrupted, same` (whether
        the two tokens are equal) and `part` (what is patched together; "" where nothing is). Columns without a counterpart are left out.

    Raises:
        Alignment, BadInput: As for `align`.
    """
    laid = align(model, clean.subset([item]), corrupted.subset([item]), how=how, positions=positions)[0]
    part = {k: name for name, members in laid.groups.items() for k in members}
    rows = [
        {
            "clean_position": a,
            "clean": model.tokenizer.decode([laid.clean[a]]),
            "corrupted_position": c,
            "corrupted": model.tokenizer.decode([laid.corrupted[c]]),
            "same": laid.clean[a] == laid.corrupted[c],
            "part": part.get(k, ""),
        }
        for k, (a, c) in enumerate(laid.pairs)
    ]
    return pd.DataFrame(rows)
