"""The weak-to-strong study in words and figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick, span
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..fixing_report import first, said
from ..statements import subtitle
from .counted import EMPTY, HELD, NOTHING, RANDOM, TEACHER, TRUTH, UNTAUGHT, UNTRAINED

if TYPE_CHECKING:
    from .study import WeakToStrong

draw = recipes("weak_to_strong")
RECOVERED, EXCESS = "gap recovered", "excess"
CONVENTION = (
    "The share recovered is (student - teacher) / (ceiling - teacher), as accuracies on the same statements: 0 is the teacher, 1 the "
    "ceiling, which is the same student taught by the truth. It is refused where the ceiling is not told to be above the teacher. A "
    "student sees the teacher's probabilities and nothing else. Layers count from 0."
)
LIMITS = (
    "Intervals are over statements, identities and rights, for one teacher and one student each as they were trained: other training "
    "statements or another seed would give other ones.",
    "A strong model that answers rightly by itself has little to be taught: its own answers stand beside its students.",
    "Agreement with the teacher's errors also comes from statements that are hard for everyone: the ceiling, which never saw the teacher, "
    "shows how much.",
    "Full changes are of all weight matrices of all blocks; embeddings and norms stay. The number of updates was fixed beforehand.",
    "Teacher and student differ by planting, depth or size, not by the gap between people and a model that knows more than they do.",
)
SAYS = {
    "refused": "refused",
    "below": "below the teacher",
    "none": "not told from the teacher",
    "part": "a part of the gap",
    "all": "not told from the ceiling",
    "above": "above the ceiling",
    "unknown": "cannot be told: neither from the teacher nor from the ceiling",
}


def closed(low: float, high: float) -> str:
    """Return what is said of a share that is recovered, by its interval: a key of `SAYS`.

    Args:
        low, high: Its ends; `nan` where it was refused.
    """
    if math.isnan(low) or math.isnan(high):
        return "refused"
    if high < 0:
        return "below"
    if low > 1:
        return "above"
    if low > 0:
        return "all" if high >= 1 else "part"
    return "none" if high < 1 else "unknown"


def repeats(row: Any, ceiling: Any) -> str:
    """Return, in words, whether errors are repeated, by the interval of the excess and by that of the ceiling.

    Args:
        row: The student's excess.
        ceiling: The ceiling's; `None` where there is none.
    """
    if math.isnan(row.value):
        return f"nothing can be said ({row.note})"
    if row.low <= 0 <= row.high:
        return "no imitation is told"
    if row.high < 0:
        return "errs where the teacher is right rather than where it is wrong"
    if ceiling is not None and not math.isnan(ceiling.value) and ceiling.high >= row.low:
        return f"more often than independent errors would, but so does the ceiling ({said(ceiling)}), which never saw the teacher"
    return "repeats the teacher's errors"


def taught(table: pd.DataFrame, labels: pd.DataFrame) -> list[Finding]:
    """Return how right teacher and ceilings are on held-out statements, and the labels that students are given.

    Args:
        table: `set, student, trained, metric, value, low, high, n, note`.
        labels: `metric, value, low, high, n`.
    """
    held = pick(table, set=HELD)
    teacher, given = first(held, student=TEACHER, metric="accuracy"), first(labels, metric="accuracy")
    own = first(held, student=UNTAUGHT, metric="accuracy")
    gaps = []
    row: Any
    for row in pick(held, metric="ceiling minus teacher").itertuples():
        if row.student != UNTRAINED:
            gaps.append(f"{row.student} {said(first(held, student=row.student, trained=TRUTH, metric='accuracy'))}")
    text = (
        f"Teacher and ceilings: The teacher is right on {said(teacher)} of held-out statements (n={int(teacher.n)}) and on {said(given)} "
        f"of those that it labels (n={int(given.n)}). Taught by the truth, students reach: {'; '.join(gaps)}. The strong model's own "
        f"answers without any training: {said(own)}."
    )
    return [Finding(text, "weak_to_strong", "labels")]


def _together(lines: list[tuple[str, str]]) -> str:
    """Name what is said, once for all of whom the same is said."""
    by: dict[str, list[str]] = {}
    for name, text in lines:
        by.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in by.items())


def _share(row: Any) -> str:
    verdict = closed(row.low, row.high)
    return f"{SAYS[verdict]} ({row.note})" if verdict == "refused" else f"{said(row)}, {SAYS[verdict]}"


def recovered(table: pd.DataFrame, where: str) -> list[Finding]:
    """Return for each kind of student what it recovers on a set, by loss.

    Args:
        table: `set, student, trained, metric, value, low, high, n, note`.
        where: The set.

    Returns:
        A finding per kind of student.
    """
    out = []
    here = pick(table, set=where, metric=RECOVERED)
    for student in [s for s in dict.fromkeys(here["student"]) if s != UNTRAINED]:
        rows = here[(here["student"] == student) & (here["trained"] != RANDOM)]
        lines = _together([(str(r.trained), _share(r)) for r in rows.itertuples()])
        out.append(Finding(f"Recovered, {where}, {student}: {lines} (n={int(rows['n'].iloc[0])}).", "weak_to_strong"))
    return out


def confidence(table: pd.DataFrame) -> list[Finding]:
    """Return whether confidence losses beat the plain one on held-out statements, as a paired difference of accuracies.

    Args:
        table: `set, student, trained, metric, value, low, high, n, note`.
    """
    lines = []
    row: Any
    for row in pick(table, set=HELD, metric="accuracy minus plain").itertuples():
        word = "better" if row.low > 0 else "worse" if row.high < 0 else "not told apart"
        lines.append((f"{row.student} ({row.trained})", f"{row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}], {word}"))
    return [Finding(f"Confidence losses against the plain one, in accuracy: {_together(lines)}.", "weak_to_strong")] if lines else []


def controls(table: pd.DataFrame) -> list[Finding]:
    """Return what students of control labels and of an untrained copy do on held-out statements.

    Args:
        table: `set, student, trained, metric, value, low, high, n, note`.
    """
    held, lines = pick(table, set=HELD), []
    row: Any
    for row in pick(held, metric=RECOVERED, trained=RANDOM).itertuples():
        right = first(held, student=row.student, trained=RANDOM, metric="accuracy")
        lines.append(f"{row.student} of as many errors at random places: accuracy {said(right)}, share recovered {_share(row)}")
    for row in pick(held, metric="accuracy", trained=EMPTY).itertuples():
        chance = row.low <= 0.5 <= row.high
        why = "" if chance else ": any labels make it find the truth, or its opposite, and the teacher's decide which"
        lines.append(f"{row.student} of labels that say nothing: accuracy {said(row)}{why}")
    for row in held[(held["metric"] == RECOVERED) & (held["student"] == UNTRAINED)].itertuples():
        lines.append(f"{UNTRAINED}: share recovered {_share(row)}")
    return [Finding(f"Controls: {'; '.join(lines)}.", "weak_to_strong")] if lines else []


def imitated(errors: pd.DataFrame, where: str = HELD) -> list[Finding]:
    """Return for each kind of student whether it repeats its teacher's errors.

    Args:
        errors: `set, student, trained, metric, value, low, high, n, note`.
        where: The set.
    """
    out = []
    here = pick(errors, set=where)
    skip = (TRUTH, NOTHING, RANDOM, EMPTY)
    for student in [s for s in dict.fromkeys(here["student"]) if s not in (UNTRAINED, UNTAUGHT)]:
        ceiling = first(here, student=student, trained=TRUTH, metric=EXCESS)
        lines = []
        for trained in [t for t in dict.fromkeys(pick(here, student=student)["trained"]) if t not in skip]:
            rows = {m: first(here, student=student, trained=trained, metric=m) for m in ("agrees", "expected", EXCESS)}
            told = repeats(rows[EXCESS], ceiling)
            if math.isnan(rows[EXCESS].value):
                lines.append((trained, told))
                continue
            numbers = f"{said(rows['agrees'])} of the teacher's wrong answers, {rows['expected'].value:.2f} if errors were independent"
            lines.append((trained, f"{numbers}, excess {said(rows[EXCESS])}, {told}"))
        out.append(Finding(f"Errors, {student}: {_together(lines)}.", "errors"))
    return out


def report(run: Run, study: WeakToStrong) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table, errors, labels = (run.tables[name] for name in ("weak_to_strong", "errors", "labels"))
    settings = study.set
    shifted = [s for s in dict.fromkeys(table["set"]) if s != HELD]
    counted = f"n={span(pick(table, metric='accuracy'))} statements. Bars are 95 % intervals, clustered by identity and by right."
    panels = [
        Panel(
            name="recovered",
            table="weak_to_strong",
            drawing=draw.recovered(table),
            caption=f"0 (dotted) is the teacher, 1 (dashed) the ceiling. Fieller's interval; {counted} A grey cross: refused, for the "
            "ceiling is not told to be above the teacher.",
        ),
        Panel(
            name="accuracies",
            table="weak_to_strong",
            drawing=draw.accuracies(table),
            caption=f"{counted} The dotted line is chance.",
        ),
    ]
    if (errors["metric"].isin(["agrees", "expected"]) & errors["value"].notna()).any():
        panels.append(
            Panel(
                name="repeated",
                table="errors",
                drawing=draw.repeated(errors),
                caption="Diamonds: errors of the student among statements on which the teacher is wrong. Circles: among all statements. "
                f"Sets on which the teacher is wrong fewer than ten times are left out. {counted}",
            )
        )
    found = [*taught(table, labels), *recovered(table, HELD), *confidence(table), *imitated(errors), *controls(table)]
    return Report(
        title=f"A weak teacher and a strong student: {study.name} to {study.info.name}",
        subtitle=subtitle(study, f"; teacher: {study.name}; students read or act at block {study.layer}"),
        findings=found + [f for where in shifted for f in recovered(table, where)],
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Expected before any run: students of random errors recover nearly all of the gap; students of the teacher's own errors "
            "recover less and repeat some of them; confidence losses help where labels are near balance; an untrained copy has no gap to "
            "recover.",
            f"Teacher: {settings.teacher} of {study.name}; the truth of {len(study.teach)} statements (of a probe), labels for "
            f"{len(study.train['strong'])} about other people. Strengths of probes are chosen on the labels that they see, by identity.",
            f"Adapters of rank {settings.rank} at block {study.layer} and full changes: {settings.steps} updates each, all made.",
        ],
    )
