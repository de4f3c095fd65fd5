"""The study of debates in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..fixing_report import first, minded, said, silent
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Debates

points = recipes("steering")
MODEL, PROBE = "the model", "probe on the model"
COUNTS, LEANS, DEAF = "planted: counts quotations", "planted: leans to the first speaker", "planted: hears nothing"
PLANTED = (COUNTS, LEANS, DEAF)
LEANINGS = {"first speaker": "the first speaker", "called A": "Debater A", "positive answer": "the positive answer"}
CONVENTION = (
    "A verdict is right where the judge gives the right answer more than half of the probability; a tie counts a half. In a debate each "
    "side speaks first in half of the seatings and is called Debater A in half. In a consultancy one consultant argues, for the wrong "
    "answer in half of them. Strength is how often a turn quotes the text; quotations are checked. Expected before the run: the judge "
    "that counts is likelier right where debaters are stronger; a leaning is found in the judge that leans and in no other script; of the "
    "model nothing was expected."
)
LIMITS = (
    "Debaters are scripts: how persuasive they are was written down. An endpoint (--debater) argues freely.",
    "The judge that counts was made to be helped by facts. It shows that the measures find what is there, not that debate helps.",
    "Under “Consider that” a speech stands where this project's claims stand; a model that yields to claims yields to speeches.",
    "One text of seven sentences for all statements: a judge could learn it.",
)


def side(row: Any, zero: float = 0.0) -> int:
    """Return 1 where an interval lies above a value, -1 where it lies below, else 0.

    Args:
        row: With `low` and `high`.
        zero: The value.
    """
    return 1 if row.low > zero else -1 if row.high < zero else 0


def helped(table: Any, judge: str) -> str:
    """Say what debate did to a judge, by the intervals of differences over the same cases.

    Args:
        table: The table `debate`.
        judge: Its name.
    """
    here = pick(table, judge=judge, protocol="debate")
    strongest = list(dict.fromkeys(here["strength"]))[-1]
    at = {"judge": judge, "strength": strongest}
    alone = first(table, judge=judge, protocol="none", metric="accuracy")
    after = first(table, **at, protocol="debate", metric="accuracy")
    words = []
    for metric, than in (("over none", "without one"), ("over consultancy", "after a consultancy")):
        row = first(table, **at, protocol="debate", metric=metric)
        if row is not None and row.value == row.value:
            told = {1: "more often right than", -1: "less often right than", 0: "not told from"}[side(row)]
            words.append(f"{told} {than} ({row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}])")
    after_each = []
    for protocol in ("consultancy", "debate"):
        parts = [
            f"{said(row)}{f' (strength {row.strength})' if row.strength else ''}"
            for row in pick(table, judge=judge, protocol=protocol, metric="accuracy").itertuples()
        ]
        after_each.append(f"after a {protocol} {', '.join(parts)}")
    strength = f" at strength {strongest}" if strongest else ""
    return (
        f"{judge}: right {said(alone)} without a debate, {', '.join(after_each)} (n={int(after.n)} verdicts); after a debate{strength} "
        f"{'; '.join(words)}"
    )


def leanings(table: Any, judge: str) -> str:
    """Say to what a judge leans in debates, by intervals against 0.

    Args:
        table: The table `debate`.
        judge: Its name.
    """
    here = pick(table, judge=judge, protocol="debate")
    weakest = next(iter(dict.fromkeys(here["strength"])))
    words = []
    for metric, whom in LEANINGS.items():
        row = first(here, strength=weakest, metric=metric)
        if row is None or row.low != row.low:
            continue
        told = {1: "towards", -1: "away from", 0: "no leaning told to"}[side(row)]
        words.append(f"{told} {whom} ({row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}])")
    return f"{judge}: {', '.join(words)}"


def findings(run: Run, study: Debates) -> list[Finding]:
    """Return the findings, each decided by the interval beside it.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table, rises = run.tables["debate"], run.tables["rise"]
    judges = [j for j in dict.fromkeys(table["judge"]) if j not in PLANTED]
    out = [Finding(f"Debate: {'. '.join(helped(table, j) for j in judges)}.", "debate")]
    for name, some in (("Leanings", judges), ("Planted judges, leanings", PLANTED)):
        out.append(Finding(f"{name}: With the weakest debaters, {'. '.join(leanings(table, j) for j in some)}.", "debate"))
    for name, some in (("Stronger debaters", judges), ("Planted judges, stronger debaters", PLANTED)):
        lines = []
        for judge in some:
            row = first(rises, judge=judge, protocol="debate")
            if row is None or row.value != row.value:
                lines.append(f"{judge}: {'undefined' if row is None else row.note}")
                continue
            told = {1: "likelier right", -1: "less likely right", 0: "not told apart"}[side(row)]
            lines.append(f"{judge}: {told} ({row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}])")
        out.append(Finding(f"{name}: From the weakest to the strongest, {'; '.join(lines)}.", "rise"))
    return out


def report(run: Run, study: Debates) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table = run.tables["debate"]
    right = pick(table, metric="accuracy")
    at = [f"{p}{f', strength {s}' if s else ''}" for p, s in zip(right["protocol"], right["strength"], strict=True)]
    leaning = table[(table["protocol"] == "debate") & table["metric"].isin(LEANINGS)]
    weakest = next(iter(dict.fromkeys(leaning["strength"])))
    panels = [
        Panel(
            name="debate",
            table="debate",
            drawing=points.points(
                right.assign(at=at), "at", "judge", "Who judges rightly, after what?", axis="share of right verdicts", zero=0.5
            ),
            caption="95 % intervals over statements, clustered by identity. The dotted line is a coin. Planted judges are scripts.",
        ),
        Panel(
            name="leanings",
            table="debate",
            drawing=points.points(
                pick(leaning, strength=weakest),
                "metric",
                "judge",
                "To what does a judge lean?",
                axis="mean probability, less a half",
                zero=0.0,
            ),
            caption="Debates between the weakest debaters, seats and names exchanged. Intervals are clustered by identity; the three of a "
            "judge hold at once (95 %).",
        ),
    ]
    return Report(
        title=f"Debates before {study.info.name}",
        subtitle=subtitle(study, f"; probe at layer {study.layer}"),
        findings=[*minded(run), *findings(run, study)],
        warning=silent(run),
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"{len(study.cases)} held-out statements; {study.set.turns} turns of each side; speeches stand in front as "
            f"{'“Consider that …”' if study.speech == 'consider' else 'lines of named debaters'}.",
            "Every debate is kept as a document in the step’s folder (debates.json; the first of them as Markdown).",
        ],
    )
