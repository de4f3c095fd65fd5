"""The unlearning study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..fixing_report import depth_panels, first, minded, said, silent
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Unlearning

draw = recipes("training")

CONVENTION = (
    "An answer is safe where it grants the right. The forget set are prompts under the harm claim: what is to be forgotten is how the "
    "model answers there. The coefficient is a multiple of the stream's mean norm at the layer. Layers count from 0."
)
LIMITS = (
    "Streams are sent elsewhere at one layer; what the model then says follows from that and was not trained.",
    "Survival is asked about truth under the harm claim, and at one coefficient of each target.",
    "That ablating the target gives answers back says that they were not gone; that it does not, says nothing of other ways.",
)
FORGET, RETAIN = "forget: harm claim", "retain: no claim"
NOTHING = "nothing"


def _name(row: Any) -> str:
    return f"{row.target}, {row.mode}, {row.coefficient:g}"


def findings(run: Run) -> list[Finding]:
    """Return the findings.

    Args:
        run: The run, with its tables.
    """
    table = run.tables["unlearning"]
    before = {c: first(table, target=NOTHING, condition=c, metric="safe_score") for c in (FORGET, RETAIN)}
    out = [
        Finding(
            f"Before: {said(before[FORGET])} of the answers are safe under the claim that is to be forgotten, and {said(before[RETAIN])} "
            f"without a claim (n={int(before[FORGET].n)}).",
            "unlearning",
        )
    ]
    lines = []
    for row in pick(table, condition=FORGET, metric="safe_score").itertuples():
        if row.target == NOTHING:
            continue
        here = {"target": row.target, "mode": row.mode, "coefficient": row.coefficient}
        sure = first(table, **here, condition=FORGET, metric="p_safe")
        kept = first(table, **here, condition=RETAIN, metric="answers_changed")
        spent = first(table, **here, condition=RETAIN, metric="kl")
        lines.append(
            f"{_name(row)}: safe {said(row)} at a mean probability of {sure.value:.2f}, without a claim {said(kept)} of the answers "
            f"changed and KL {spent.value:.2g} nats"
        )
    out.append(Finding(f"Forgotten and kept: {'; '.join(lines)}.", "unlearning"))
    words = [f"{_name(r)}: {r.verdict} ({r.why})" for r in run.tables["verdicts"].itertuples()]
    out.append(Finding(f"Inside: What becomes of truth under the claim. {'; '.join(words)}.", "verdicts"))
    out += _given_back(run.tables["survival"])
    out += _again(run.tables["survival"])
    return out


def _given_back(table: pd.DataFrame) -> list[Finding]:
    """What ablating the target gives back, beside random directions."""
    lines = []
    for keys, part in pick(table, aspect="ablation", metric="answers_as_before").groupby(["target", "mode", "coefficient"], sort=False):
        alone, target = first(part, detail="nothing ablated"), first(part, detail="the target")
        chance = part[part["detail"].str.startswith("random direction")]
        if target is None or not len(chance):
            continue
        told = "gives some back" if target.low > max(alone.high, chance["value"].max()) else "is not shown to give anything back"
        where = f"{keys[0]}, {keys[1]}, {keys[2]:g}"  # pyright: ignore[reportIndexIssue]
        lines.append(
            f"{where}: ablating it {told} ({said(alone)} of the answers are the old ones without, {said(target)} with; {len(chance)} "
            f"random directions {chance['value'].min():.2f} to {chance['value'].max():.2f})"
        )
    return [Finding(f"Target ablated: {'; '.join(lines)}.", "survival")] if lines else []


def _again(table: pd.DataFrame) -> list[Finding]:
    """How fast answers that follow the truth come back."""
    rows = pick(table, aspect="relearning")
    gap = rows[rows["detail"].str.contains(" less ")]
    if not len(gap):
        return []
    row: Any = next(gap.itertuples())
    told = "faster than" if row.low > 0 else "no faster than" if row.high < 0.2 else "not told from"
    text = f"Learned again: {row.metric}, the changed model comes back {told} a model that never knew: {said(row)}."
    return [Finding(text, "survival")]


def report(run: Run, study: Unlearning) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table = run.tables["unlearning"]
    shown = pick(table, metric="safe_score").rename(columns={"condition": "form"})
    shown = shown.assign(
        fix=[
            NOTHING if t == NOTHING else f"{t}, {m}, {c:g}"
            for t, m, c in zip(shown["target"], shown["mode"], shown["coefficient"], strict=True)
        ],
        condition="safe answers",
    )
    panels = [
        Panel(
            name="unlearning",
            table="unlearning",
            drawing=draw.fixes(shown, "Safe answers where the claim is made, and where it is not"),
            caption="Held-out identities and rights; 95 % intervals clustered by both. Names: target, what is changed, coefficient.",
        )
    ]
    survived = run.tables["survival"]
    panels += depth_panels(survived, survived["target"] + ", " + survived["mode"])
    return Report(
        title=f"Unlearning a {study.harm} claim in {study.info.name}",
        subtitle=subtitle(study, f"; streams are sent after block {study.place}"),
        findings=[*minded(run), *findings(run)],
        warning=silent(run),
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"{len(study.forget)} prompts under the claim to forget, {len(study.retain)} without one to retain; "
            f"{study.set.steps} updates at most, stopped on held-out identities.",
        ],
    )
