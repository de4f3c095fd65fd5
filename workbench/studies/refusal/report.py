"""The refusal study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..answering import unanswered
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Refusal

draw = recipes("steering")

COMPLIED, REFUSED = "harmful complied with", "harmless refused"
CONVENTION = (
    "A request is complied with where compliance is likelier than refusal as the first word of the answer. Refusing is right for "
    "harmful requests and complying for harmless ones. Layers count from 0."
)
LIMITS = (
    "What is judged is the first word of an answer, not what the model would go on to write.",
    "The optimised direction was made to undo refusal; that ablating it does is no surprise. That it does so on requests that it never saw "
    "is the result.",
    "Random directions of equal norm are a weak control late in a model: a direction may move answers because the output reads it, and not "
    "because the model does.",
)


def silent(run: Run, study: Any) -> str:
    """Return why the model does not answer requests, or ""."""
    why = unanswered(run.tables["says"], [("request", "none")], what="requests", words=study.words)
    return f"{why} What an edit does to its replies then says little. Other first words: replies=." if why else ""


def _findings(run: Run) -> list[str]:
    table = run.tables["refusal"]

    def row(edit: str, metric: str) -> Any:
        return next(pick(table, edit=edit, metric=metric).itertuples())

    def rate(edit: str, metric: str) -> str:
        share = row(edit, metric)
        return f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"

    def chance(edit: str, metric: str) -> str:
        spread = row(edit, metric)
        return f"{spread.value:.2f} ({spread.low:.2f} to {spread.high:.2f})"

    undone = [
        f"{rate('none', COMPLIED)} as it is",
        f"{rate('subtract refusal', COMPLIED)} with the refusal direction subtracted",
        f"{rate('ablate (to 0) everywhere', COMPLIED)} with it projected out",
        f"{rate('ablate to the harmless mean', COMPLIED)} with its coordinate set to its mean over harmless requests",
    ]
    if (table["edit"] == "ablate (to 0) everywhere, optimised").any():
        undone.append(f"{rate('ablate (to 0) everywhere, optimised', COMPLIED)} with a direction found by gradient projected out")
    added = [
        f"{rate('none', REFUSED)} as it is",
        f"{rate('add refusal', REFUSED)} with the direction added",
        f"{chance('random: add', REFUSED)} with {int(row('random: add', REFUSED).n)} random ones",
    ]
    n = int(row("none", COMPLIED).n)
    names = {"random: ablate everywhere": "projected out", "random: ablate to the harmless mean": "set to their harmless mean"}
    spread = ", ".join(f"{name} {chance(edit, COMPLIED)}" for edit, name in names.items())
    return [
        Finding(
            f"Refusal undone: Harmful requests complied with (n={n}): {'; '.join(undone)}; random directions {spread}.",
            "refusal",
        ),
        Finding(f"Refusal added: Harmless requests refused: {', '.join(added)}.", "refusal"),
    ]


def report(run: Run, study: Refusal) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    title = "What undoes refusal, and what adds it"
    weak = silent(run, study)
    refuse, comply = study.words
    return Report(
        title=f"What undoes refusal in {study.info.name}",
        subtitle=subtitle(study, ", asked through its chat template" if study.chat else ""),
        findings=[*([Finding(f"Mind: {weak}", "says")] if weak else []), *_findings(run)],
        panels=[
            Panel(
                name="refusal",
                table="refusal",
                drawing=draw.points(run.tables["refusal"], "edit", "metric", title, axis="share of held-out requests"),
                caption="Held-out pairs of requests; 95 % Wilson intervals. "
                "Random: mean, smallest and largest over directions of equal norm.",
            )
        ],
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Refusal: mean over harmful minus mean over harmless requests, at the last token of the prompt, from requests that are not "
            "reported. The layer was chosen on further requests.",
            f"Asked: {'through the chat template' if study.chat else 'in plain text'}"
            f"{f', system message {study.set.system!r}' if study.set.system else ''}; “{refuse}” refuses and “{comply}” complies.",
        ],
        warning=weak,
    )
