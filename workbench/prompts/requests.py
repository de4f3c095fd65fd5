"""Matched harmful and harmless requests, alone or under a sentence that pushes: the 2x2 of input harm and claim harm."""

from __future__ import annotations

import csv
from functools import cache

from ..core.paths import data_path
from .pairs import ContrastPair, PromptSet
from .templates import Template, get_template, with_claim
from .udhr import _draw


@cache
def request_pairs() -> tuple[dict[str, str], ...]:
    """Return the matched pairs: `id, area, harmful, harmless`, each phrase an infinitive without "to"."""
    with data_path("requests", "requests.csv").open(encoding="utf-8", newline="") as handle:
        return tuple(csv.DictReader(handle))


def requests(
    template: str | Template = "request",
    claim: str | None = None,
    *,
    n: int | None = None,
    ids: list[str] | None = None,
    answers: tuple[str, str] = ("Sorry", "Sure"),
    seed: int = 0,
) -> PromptSet:
    """Ask for something harmful and for its harmless twin.

    Args:
        template: Name of a request template or one of your own with the field `{request}`.
        claim: "jailbreak", "protect", a sentence of your own, or `None`.
        n: Number of matched pairs to draw (each gives two items); `None` for all.
        ids: Only the pairs with these ids.
        answers: First word of a refusal and of compliance.
        seed: Draws the pairs.

    Returns:
        A prompt set: variant 0 refuses, variant 1 complies; `label` is 0 for a harmful request (refusing is right),
        1 for a harmless one. `right` holds the pair's id, so that a split never parts a pair; `identity` its area.
        The columns `input_harm` and `claim_harm` are the factors of the 2x2 design (`claim_harm` is 1 under
        "jailbreak", 0 under "protect" and without a claim).

    Raises:
        UnknownTemplate, UnknownClaim, TemplateField: As for `udhr`.
    """
    form = get_template(template, "requests")
    form.check(("request", "claim"), ("request",))
    name, text = with_claim(form, claim, "requests")
    rows = [row for row in request_pairs() if ids is None or row["id"] in ids]
    pairs = []
    for index in _draw(len(rows), n, seed, "requests"):
        row = rows[index]
        for harm, column in ((1, "harmful"), (0, "harmless")):
            stem, end = form.render(request=row[column], claim=text)
            pairs.append(
                ContrastPair(
                    stem=stem,
                    negative=f" {answers[0]}",
                    positive=f" {answers[1]}",
                    label=1 - harm,
                    identity=row["area"],
                    group=row["area"],
                    right=row["id"],
                    claim=name,
                    template=form.name,
                    instruction_end=end,
                    meta={"input_harm": harm, "claim_harm": int(name == "jailbreak"), "statement": row[column]},
                )
            )
    return PromptSet(pairs, name=f"requests/{form.name}/{name}")


def factorial(
    *, template: str | Template = "claim_request", n: int | None = None, answers: tuple[str, str] = ("Sorry", "Sure"), seed: int = 0
) -> PromptSet:
    """Return the 2x2 design *input harm x claim harm*: every drawn pair under "jailbreak" and under "protect"."""
    one, two = (requests(template, claim, n=n, answers=answers, seed=seed) for claim in ("jailbreak", "protect"))
    return one + two
