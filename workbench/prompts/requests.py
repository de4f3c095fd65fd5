"""Matched harmful and harmless requests, alone or under a claim that pushes: the 2x2 of input harm and claim harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ..core.errors import EmptyPromptSet, UnknownName, unknown
from ..core.paths import data_path
from ..core.seeds import numpy_rng
from .asking import Asking
from .cells import check_answers
from .drawing import draw
from .pairs import ContrastPair, PromptSet
from .rows import read_rows
from .splits import Split
from .templates import Template, get_template, sentences, with_claim


@cache
def request_pairs() -> tuple[dict[str, str], ...]:
    """Return the matched pairs, with the keys `id, area, harmful, harmless`. A phrase is an infinitive without "to"."""
    return tuple(read_rows(data_path("requests", "requests.csv")))


def requests(
    template: str | Template = "request",
    claim: str | None = None,
    *,
    n: int | None = None,
    split: Split | None = None,
    side: str = "test",
    ids: Iterable[str] | None = None,
    answers: tuple[str, str] = ("Sorry", "Sure"),
    phrasings: int = 1,
    model: Any = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PromptSet:
    """Make contrast pairs of harmful requests and their harmless twins: refuse or comply.

    Args:
        template: Name of a request template, or your own text with the field `{request}`.
        claim: "jailbreak", "protect", your own sentence, or `None`.
        n: Number of matched pairs to draw (each gives two items); `None` for all.
        split: Only pairs of one side of a split by `right`; `None` for all.
        side: Which side of the split: "train" or "test".
        ids: Ids of the pairs to keep; `None` for all.
        answers: First word of a refusal and of compliance.
        phrasings: Sentences of the claim: its text and so many paraphrases less one. Each pair is shown one of them, drawn at random,
            which stands in the column `phrasing`.
        model, chat, system, chat_options: As for `udhr`.
        seed: Draws the pairs, and sentences of the claim.

    Returns:
        A prompt set: variant 0 refuses, variant 1 complies; `label` is 0 for a harmful request (refusing is right),
        1 for a harmless one. `right` holds the pair's id, so that a split never separates a pair; `identity` its area.
        The columns `input_harm` and `claim_harm` are the factors of the 2x2 design (`claim_harm` is 1 under
        "jailbreak", 0 under "protect" and without a claim).

    Raises:
        UnknownName: There is no pair of this id, or no such side.
        EmptyPromptSet: No pair that is asked for is on this side of the split.
        BadInput: `n` is below 1, the answers are not two texts, there are not so many sentences, or a chat template is asked for and
            there is none.
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    answers = check_answers(answers)
    ids = None if ids is None else list(ids)
    form = get_template(template, "requests")
    form.check(("request", "claim"), ("request",))
    name, text = with_claim(form, claim, "requests")
    said = sentences(name, text, phrasings, "requests")
    which = numpy_rng(seed, "phrasings").integers(0, len(said), len(request_pairs())).tolist()
    sentence = {row["id"]: said[k] for row, k in zip(request_pairs(), which, strict=True)}  # the same for harmful and harmless
    known = [row["id"] for row in request_pairs()]
    for one in ids or ():
        if one not in known:
            raise unknown(UnknownName, "request", one, known)
    held = None if split is None else split.values(side).get("right")
    rows = [row for row in request_pairs() if (ids is None or row["id"] in ids) and (held is None or row["id"] in held)]
    if not rows:
        raise EmptyPromptSet(f"no request that is asked for is on the {side} side of this split")
    asking = Asking(model=model, chat=chat, system=system, chat_options=chat_options)
    pairs = []
    for index in draw(len(rows), n, seed, "requests"):
        row = rows[index]
        phrasing = {"phrasing": sentence[row["id"]]} if phrasings > 1 else {}
        for harm, column in ((1, "harmful"), (0, "harmless")):
            stem, end = asking.stem(*form.render(request=row[column], claim=sentence[row["id"]]))
            pairs.append(
                ContrastPair(
                    stem=stem.text,
                    negative=asking.end(stem.text, answers[0]),
                    positive=asking.end(stem.text, answers[1]),
                    label=1 - harm,
                    identity=row["area"],
                    group=row["area"],
                    right=row["id"],
                    claim=name,
                    template=form.name,
                    instruction_end=end,
                    wording=f"{form.wording}\n{stem.wording}",
                    meta={"input_harm": harm, "claim_harm": int(name == "jailbreak"), "statement": row[column], **phrasing, **stem.meta},
                )
            )
    return PromptSet(pairs, name=f"requests/{form.name}/{name}")


def factorial(
    *,
    template: str | Template = "claim_request",
    n: int | None = None,
    answers: tuple[str, str] = ("Sorry", "Sure"),
    phrasings: int = 1,
    model: Any = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PromptSet:
    """Return the 2x2 design *input harm x claim harm*: every drawn pair under "jailbreak" and under "protect".

    Args:
        template: Name of a request template with the field `{claim}`, or your own text with `{request}` and `{claim}`.
        n: Number of matched pairs to draw (each gives four items); `None` for all.
        answers: First word of a refusal and of compliance.
        phrasings: Sentences of each claim, as for `requests`.
        model, chat, system, chat_options: As for `udhr`.
        seed: Draws the pairs.

    Returns:
        The items under "jailbreak", then the same items under "protect"; columns as for `requests`.

    Raises:
        UnknownTemplate, TemplateField: As for `requests`.
    """
    how: dict[str, Any] = {"model": model, "chat": chat, "system": system, "chat_options": chat_options}
    jailbreak, protect = (
        requests(template, claim, n=n, answers=answers, phrasings=phrasings, seed=seed, **how) for claim in ("jailbreak", "protect")
    )
    return jailbreak + protect
