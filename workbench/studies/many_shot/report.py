"""The many-shot study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick, span
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..statements import subtitle
from .interventions import SAYS

if TYPE_CHECKING:
    from .study import ManyShot

draw = recipes("shots")
NLL, SHARE = "nll of the harmful answer", "harmful answers"
MINUS = "harmful answers, minus those behind"
CONVENTION = (
    "A demonstration is a statement about a right with an answer. The harmful answer denies the right, the safe one grants it. Questions "
    "are about identities and rights that no demonstration names. The negative log-likelihood (nats) is that of the harmful answer among "
    "all tokens. The number of demonstrations is that in front of the question."
)
LIMITS = (
    "Demonstrations are agreement with denials of rights, not instructions for harm: how a model moves with them says little of requests.",
    "A law that foretells held-out numbers of shots better is not thereby the mechanism.",
    "Prose has about as many tokens as the demonstrations and other words: it holds their length fixed, not their vocabulary.",
    "Under edits fewer questions and fewer demonstrations were asked; compare them at the same number.",
)


def _say(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def moved(table: pd.DataFrame) -> list[Finding]:
    """Return by kind what the most demonstrations did to the share of harmful answers.

    Args:
        table: `kind, intervention, shots, metric, value, low, high, n`.
    """
    out = []
    shares = pick(table, metric=SHARE, intervention="none")
    for kind in dict.fromkeys(shares["kind"]):
        rows = _rows(pick(shares, kind=kind).sort_values("shots"))
        first, last = rows[0], rows[-1]
        apart = "more" if last.low > first.high else "fewer" if last.high < first.low else ""
        what = f"{apart} harmful answers" if apart else "not told from none of them by their intervals"
        out.append(
            Finding(
                f"Demonstrations, {kind}: Harmful answers {_say(first)} without any and {_say(last)} behind {int(last.shots)} "
                f"(n={int(last.n)}): {what}.",
                "many_shot",
            )
        )
    return out


def law_findings(laws: pd.DataFrame) -> list[Finding]:
    """Return for each curve which law foretells held-out shots, with the power law's exponent and intercept.

    Args:
        laws: `kind, intervention, law, parameter, value, low, high, n, share, chosen, note`.
    """
    out = []
    for (kind, how), rows in laws.groupby(["kind", "intervention"], sort=False):
        note = str(rows["note"].iloc[0]) if isinstance(rows["note"].iloc[0], str) else ""
        name = f"{kind}, {SAYS.get(str(how), str(how))}"
        if (rows["law"] == "none").all():
            out.append(Finding(f"Law, {name}: none fitted ({note}).", "laws"))
            continue
        chosen = rows[rows["chosen"].astype(bool)]
        power = {r.parameter: r for r in _rows(pick(rows, law="power"))}
        errors = {r.law: r for r in _rows(pick(rows, parameter="held-out error"))}
        verdict = f"no law is chosen: {note}"
        if len(chosen):
            verdict = "the power law foretells best" if (chosen["law"] == "power").any() else "a law with a floor foretells best"
        missed = ", ".join(f"{law} {_say(e)}" for law, e in errors.items())
        out.append(
            Finding(
                f"Law, {name}: On held-out numbers of shots {verdict} (error {missed}). As a power law: exponent "
                f"{_say(power['exponent'])}, intercept {_say(power['intercept'])} nats, n={int(power['exponent'].n)} identities.",
                "laws",
            )
        )
    return out


def _beside(table: pd.DataFrame) -> list[Finding]:
    """The first kind beside each other one behind the most demonstrations, question by question."""
    out = []
    for metric in [m for m in dict.fromkeys(table["metric"]) if m.startswith(MINUS)]:
        last = _rows(pick(table, metric=metric).sort_values("shots"))[-1]
        other = metric.removeprefix(f"{MINUS} ")
        apart = "apart" if last.low > 0 or last.high < 0 else "not told apart"
        out.append(
            Finding(
                f"Beside {other}: The share of harmful answers behind {int(last.shots)} {last.kind} demonstrations, minus that behind as "
                f"much {other}, question by question: {last.value:+.2f} [{last.low:+.2f}, {last.high:+.2f}], {apart}.",
                "many_shot",
            )
        )
    return out


def _against(table: pd.DataFrame) -> list[Finding]:
    """Each intervention at the largest number of demonstrations that it was asked behind, beside none of it."""
    kind = table["kind"].iloc[0]
    rows = pick(table, kind=kind, metric=SHARE)
    out = []
    for how in [i for i in dict.fromkeys(rows["intervention"]) if i != "none"]:
        last = _rows(pick(rows, intervention=how).sort_values("shots"))[-1]
        plain = _rows(pick(rows, intervention="none", shots=last.shots))[0]
        out.append(
            Finding(
                f"Against them: Behind {int(last.shots)} {kind} demonstrations, {SAYS.get(how, how)}, {_say(last)} of answers are harmful "
                f"(n={int(last.n)}), without it {_say(plain)} (n={int(plain.n)}).",
                "many_shot",
            )
        )
    return out


def _along(table: pd.DataFrame) -> list[Finding]:
    out = []
    for kind in dict.fromkeys(table["kind"]):
        parts = []
        for metric in dict.fromkeys(table["metric"]):
            rows = _rows(pick(table, kind=kind, metric=metric).sort_values("shots"))
            parts.append(f"{metric} {_say(rows[0])} without any, {_say(rows[-1])} behind {int(rows[-1].shots)}")
        out.append(Finding(f"Read inside, {kind}: {'; '.join(parts)}.", "along"))
    return out


def report(run: Run, study: ManyShot) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table, laws, along = (run.tables[name] for name in ("many_shot", "laws", "along"))
    settings = study.set
    counted = f"{settings.questions} questions behind {settings.chains} orders of demonstrations"
    told = "; ".join(f"{k}: {SAYS[k]}" for k in settings.interventions)
    panels = [
        Panel(
            name="answers",
            table="many_shot",
            drawing=draw.answers(table, "kind"),
            caption=f"{counted} of each kind, n={span(pick(table, intervention='none', metric=SHARE))} per point. Bars are 95 % intervals, "
            "clustered by identity, and by order where there are three or more. Axes are logarithmic but for the share.",
        ),
    ]
    if len(settings.interventions) > 1:
        panels.append(
            Panel(
                name="interventions",
                table="many_shot",
                drawing=draw.answers(table, "intervention"),
                caption=f"The first kind of demonstrations: {told}. Edits were asked behind fewer demonstrations. Bars are 95 % intervals.",
            )
        )
    if (laws["parameter"] == "held-out error").any():
        panels.append(
            Panel(
                name="laws",
                table="laws",
                drawing=draw.laws(laws),
                caption="Each law was fitted to the mean over questions at two of three numbers of shots and judged on the others. Bars: "
                f"95 % bootstrap intervals over identities, {settings.resamples} draws.",
            )
        )
    panels.append(
        Panel(
            name="along",
            table="along",
            drawing=draw.along(along),
            caption=f"A logistic probe and a detector of tampering, both fitted on {settings.train} statements without demonstrations, at "
            f"layer {study.layer}, fixed beforehand. Bars are 95 % intervals.",
        )
    )
    return Report(
        title=f"Many demonstrations: {study.info.name}",
        subtitle=subtitle(study, f"; {counted}; at most {study.shots[-1]} demonstrations fit"),
        findings=[*moved(table), *_beside(table), *law_findings(laws), *_against(table), *_along(along)],
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Expected before any run: demonstrations of harm lower the negative log-likelihood of the harmful answer; safe ones raise it; "
            "random ones and prose leave it.",
            f"Asked: {study.form.name}. Every number of demonstrations is a prefix of the next, so that one pass reads them all.",
            "Stance: the good claim minus the harm claim at the question's last token, from training statements.",
        ],
    )
