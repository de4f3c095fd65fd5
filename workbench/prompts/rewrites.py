"""The same statement in other surface forms: a probe that reads the truth reads it in a form that it was not fitted on.

The truth of a statement stays what it was, and whether it has a negator is balanced over truth in each form. Each form is made from the
statement by a rule, without a model.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import BadInput, UnknownName, unknown
from ..core.seeds import numpy_rng
from .pairs import ContrastPair, PromptSet
from .udhr import FORMS, Identity, identities, rights

REWRITES = ("plain", "negator", "passive", "question", "quotation", "typos", "spoken", "capitals")
OF_ANY = ("plain", "question", "quotation", "typos", "spoken", "capitals")
_FRAMES = {
    "question": "{bare}, is that not so? It is so.",
    "quotation": "As a newspaper rightly says, '{whole}'",
    "spoken": "Well, look: {whole} That's just how it is, you know.",
}
_PASSIVE = {
    ("grant", "plain"): "granted to",
    ("grant", "negated"): "not withheld from",
    ("deny", "negated"): "not granted to",
    ("deny", "plain"): "withheld from",
}
LONG = 5  # letters of a word in which two may change places


def rewrites_of(prompts: PromptSet) -> tuple[str, ...]:
    """Return the surface forms that these prompts can be put in: all eight for UDHR statements, six for any others.

    Args:
        prompts: Contrast pairs with their `statement` in the meta.
    """
    return REWRITES if all(_from_udhr(pair) for pair in prompts) else OF_ANY


def rewrite(prompts: PromptSet, surface: str, *, seed: int = 0) -> PromptSet:
    """Return the same prompts with each statement in another surface form.

    Args:
        prompts: Contrast pairs whose meta has the `statement` that the stem contains.
        surface: "plain" (as it is), "negator" (the same said with a negator, or without), "passive", "question" (with its answer),
            "quotation", "typos" (in a third of the longer words two letters change places), "spoken" (another register) or "capitals".
            "negator" and "passive" are for UDHR statements.
        seed: Draws the typos.

    Returns:
        The prompts in the same order, with the form in a column `surface` and the new `statement`.

    Raises:
        UnknownName: There is no such form.
        BadInput: A stem does not hold its statement, or the form is not for these statements.

    Example:
        >>> import workbench as wb
        >>> one = wb.prompts.udhr(identities=["women"], rights=["vote"], forms="grant_plain")
        >>> wb.prompts.rewrite(one, "passive")[0].meta["statement"]
        'The right to vote in free elections is granted to women.'
    """
    if surface not in REWRITES:
        raise unknown(UnknownName, "surface form", surface, REWRITES)
    return PromptSet((_rewritten(pair, surface, seed) for pair in prompts), f"{prompts.name}, {surface}")


def _rewritten(pair: ContrastPair, surface: str, seed: int) -> ContrastPair:
    old = str(pair.meta.get("statement", ""))
    if not old or old not in pair.stem:
        raise BadInput(f"a statement is rewritten where it stands; this stem does not hold one: {pair.stem[:80]!r}")
    if surface not in OF_ANY and not _from_udhr(pair):
        raise BadInput(f"{surface!r} is made from the right and whether it is granted; of other statements there are {', '.join(OF_ANY)}")
    new = _say(pair, old, surface, seed)
    at = pair.stem.rfind(old)  # examples stand in front
    end = pair.instruction_end
    end = end + len(new) - len(old) if end is not None and end > at else end
    stem = pair.stem[:at] + new + pair.stem[at + len(old) :]
    form = {"form": _other(pair)} if surface == "negator" else {}
    return replace(pair, stem=stem, instruction_end=end, meta=dict(pair.meta) | {"statement": new, "surface": surface} | form)


def _from_udhr(pair: ContrastPair) -> bool:
    return pair.right in _rights() and pair.meta.get("polarity") in ("grant", "deny") and pair.meta.get("form") in ("plain", "negated")


def _rights() -> dict[str, object]:
    return {right.right: right for right in rights()}


def _other(pair: ContrastPair) -> str:
    return "plain" if pair.meta["form"] == "negated" else "negated"


def _say(pair: ContrastPair, old: str, surface: str, seed: int) -> str:
    if surface in _FRAMES:
        return _FRAMES[surface].format(whole=old, bare=old.rstrip(" ."))
    if surface == "capitals":
        return old.upper()
    if surface == "typos":
        return _mistyped(old, seed)
    if surface == "plain":
        return old
    right = next(r for r in rights() if r.right == pair.right)
    if surface == "passive":
        whether = _PASSIVE[str(pair.meta["polarity"]), str(pair.meta["form"])]
        return f"The right to {right.phrase} is {whether} {pair.identity}."
    form = f"{pair.meta['polarity']}_{_other(pair)}"
    assert form in FORMS
    known = {i.identity: i for i in identities()}
    who = known.get(pair.identity) or Identity(identity=pair.identity, group=pair.group or "other", number=_number(pair, old))
    return right.statement(who, form)


def _number(pair: ContrastPair, statement: str) -> str:
    """The grammatical number of an identity of the user's own: that in which its statement agrees."""
    right = next(r for r in rights() if r.right == pair.right)
    form = f"{pair.meta['polarity']}_{pair.meta['form']}"
    singular = Identity(identity=pair.identity, group="other", number="singular")
    return "singular" if right.statement(singular, form) == statement else "plural"


def _mistyped(text: str, seed: int) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= LONG and word[1:-1].isalpha()]
    rng = numpy_rng(seed, "typos", text)
    for i in rng.permutation(long)[: -(-len(long) // 3)].tolist():
        word = words[i]
        at = int(rng.integers(1, len(word) - 2))
        words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
