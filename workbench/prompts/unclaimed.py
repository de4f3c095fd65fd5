"""The same questions without the claim that pushes: what a model says by itself is what a repair is trained towards."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import BadInput
from .cells import shown
from .pairs import ContrastPair, PromptSet
from .templates import get_claim, templates

FRAMES = ('Consider that "{claim}" ', ' Since "{claim}", I choose:')  # what a claim adds to a prompt form


def without_claim(prompts: PromptSet) -> PromptSet:
    """Return the same items without their claims, in the same order.

    What the project's own prompt forms put around a claim is taken out of each stem, also inside a chat and behind examples.

    Args:
        prompts: Made by `udhr` or `requests`, with or without a claim.

    Returns:
        Items with the claim "none" and, where there is one, the name of the prompt form that is left.

    Raises:
        BadInput: A stem does not hold its claim in one of these frames: give the items without a claim yourself.
    """
    return PromptSet((_bare(pair, i) for i, pair in enumerate(prompts)), name=f"{prompts.name}, without the claim")


def _bare(pair: ContrastPair, number: int) -> ContrastPair:
    if pair.claim == "none":
        return pair
    kinds = ("udhr", "requests")
    own = {str(pair.meta[k]) for k in ("phrasing", "claim_text") if k in pair.meta}
    for kind in kinds:
        try:
            own.add(get_claim(pair.claim, kind)[1])
        except BadInput:
            continue
    for text in sorted(own, key=len, reverse=True):
        for frame in FRAMES:
            piece = frame.format(claim=text)
            if pair.stem.count(piece) == 1:
                at = pair.stem.index(piece)
                end = pair.instruction_end
                if end is not None and at < end:
                    end -= len(piece)
                return replace(
                    pair,
                    stem=pair.stem.replace(piece, ""),
                    instruction_end=end,
                    claim="none",
                    template=_left(pair.template),
                    meta={k: v for k, v in pair.meta.items() if k not in ("phrasing", "claim_text")},
                )
    raise BadInput(
        f"item {number}: its claim {shown(pair.claim)} does not stand in the stem as {' or '.join(map(repr, FRAMES))}. "
        "Give the same items without a claim: towards="
    )


def _left(template: str) -> str:
    """The prompt form that is left of one with a claim."""
    for kind in ("udhr", "requests"):
        known = templates(kind)
        if template not in known:
            continue
        text = known[template].text
        for frame in FRAMES:
            text = text.replace(frame, "")
        return next((name for name, form in known.items() if form.text == text), f"{template}, without the claim")
    return f"{template}, without the claim"
