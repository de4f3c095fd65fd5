"""The repair study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..fixing_report import depth_panels, first, minded, said, silent
from ..outside_report import outside, outside_panels
from ..statements import FIT, subtitle

if TYPE_CHECKING:
    from .study import Repair

draw = recipes("training")

CONVENTION = (
    "An answer is safe where it grants the right. Adapters act on the residual stream after one block, on every token but the first and "
    "attention sinks. Gain is the difference from nothing done, over the same statements. Layers count from 0."
)
LIMITS = (
    "Statements, identities and rights that are reported were not trained on; the sentence of each claim was.",
    "The layer is the one with the lowest loss on held-out training identities: no label of theirs, and no row that is reported.",
    "A fix that mends every answer towards one word would look safe on statements of one kind; each set holds as many that grant as deny.",
    "Survival is asked about truth under the harm claim. That a fix leaves truth readable says nothing of what it does to other knowledge.",
    "The student project that this grows from reported, with a contrastive loss in a residual adapter, averaged over layers: since-claim "
    ".65/.47 (good/harm) before and 1.0/1.0 after, consider-claim .45/.71 and .78/.81. It had no interval and no held-out identities, "
    "and another model: the numbers stand here to be compared with, not to be reached.",
)
MEANS = {
    "erased": "it can no longer be read",
    "rotated": "it is read, along another direction",
    "hidden": "it is read as before, while the answers changed",
    "untouched": "it is read as before, and the answers are as before",
    "undetermined": "cannot be told",
}
RANDOM = "adapter on random labels"
TRAINED = "since_claim"


def mended(before: Any, gain: Any) -> str:
    """What became of the safe answers under the harm claim, by the interval of the gain.

    Args:
        before: The row of nothing done.
        gain: The row of the gain.
    """
    if gain.low > 0:
        missing = 1 - before.value
        return "mends most of them" if missing > 0 and gain.low > 0.5 * missing else "mends some"
    if gain.high < 0:
        return "makes them worse"
    return "is not told from nothing done" if gain.high - gain.low < 0.2 else "cannot be told from nothing done: the interval is wide"


def _rows(run: Run, study: Repair) -> tuple[pd.DataFrame, str, str]:
    table = run.tables["behaviour"]
    names = [n for n in dict.fromkeys(table["fix"]) if n != "nothing"]
    return table, names[0], study.harm


def findings(run: Run, study: Repair) -> list[Finding]:
    """Return the findings, each decided by the interval beside it.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table, chosen, harm = _rows(run, study)
    out = []
    before = first(table, fix="nothing", form=TRAINED, condition=harm, metric="safe_score")
    free = first(table, fix="nothing", form="base_short", condition=FIT, metric="safe_score")
    out.append(
        Finding(
            f"Broken: Without a claim {said(free)} of the answers are safe; under the {harm} claim, in the form that is trained on, "
            f"{said(before)} (n={int(before.n)}).",
            "behaviour",
        )
    )
    lines = []
    for fix in dict.fromkeys(table["fix"]):
        gain = first(table, fix=fix, form=TRAINED, condition=harm, metric="gain")
        if gain is None:
            continue
        after = first(table, fix=fix, form=TRAINED, condition=harm, metric="safe_score")
        labels = f", sees {after.labels}" if isinstance(after.labels, str) and after.labels else ""
        sure = first(table, fix=fix, form=TRAINED, condition=harm, metric="p_safe")
        lines.append(f"{fix} {mended(before, gain)} ({said(after)}, at a mean probability of {sure.value:.2f}{labels})")
    out.append(Finding(f"Mended: Under the {harm} claim, {'; '.join(lines)}.", "behaviour"))
    others = pick(table, fix=chosen, condition=harm, metric="safe_score")
    far = [f"{r.form} {said(r)}" for r in others.itertuples() if r.form != TRAINED]
    if far:
        text = f"Elsewhere: The adapter ({chosen}), under the {harm} claim in forms that it was never trained on: {'; '.join(far)}."
        out.append(Finding(text, "behaviour"))
    price = run.tables["price"]
    costs = [
        f"{fix}: {said(first(price, fix=fix, metric='answers changed without a claim'))} of the answers changed, "
        f"KL {first(price, fix=fix, metric='kl without a claim').value:.2g} nats"
        for fix in dict.fromkeys(price["fix"])
        if fix != "nothing" and not any(str(fix).endswith(f" {k}") and RANDOM in str(fix) for k in range(2, 9))
    ]
    out.append(Finding(f"Price: Where no claim is made, {'; '.join(costs)}.", "price"))
    out += outside(run)
    words = [f"{r.fix}: {MEANS[str(r.verdict)]} ({r.verdict}: {r.why})" for r in run.tables["verdicts"].itertuples()]
    out.append(Finding(f"Inside: What becomes of truth under the {harm} claim. {'; '.join(words)}.", "verdicts"))
    out.append(_space(run))
    out.append(_foretold(run))
    return out


def _space(run: Run) -> Finding:
    table = run.tables["space"]
    lines = []
    row: Any
    for row in pick(table, metric="cosine").itertuples():
        null: Any = first(table, place=row.place, direction=row.direction, metric="random spaces")
        above = "more than random spaces do" if row.value > null.high else "no more than random spaces do"
        lines.append(
            f"at {row.place} it holds the direction of the {row.direction} at a cosine of {row.value:.2f}, {above} "
            f"({null.value:.2f}, central 95 % {null.low:.2f} to {null.high:.2f})"
        )
    return Finding(f"Where it writes: The adapter's output space: {'; '.join(lines)}.", "space")


def _foretold(run: Run) -> Finding:
    table = run.tables["foretold"]
    lines = []
    row: Any
    for row in table.itertuples():
        if row.value != row.value:
            lines.append(f"{row.method}: {row.note}")
            continue
        told = "yes" if row.low > 0 else "the reverse" if row.high < 0 else "cannot be told"
        lines.append(f"{row.method}: {told}, Spearman {row.value:.2f} [{row.low:.2f}, {row.high:.2f}] over {int(row.n)} layers")
    return Finding(
        f"Foretold: Does a probe's accuracy at a layer foretell how well an adapter there mends? {'; '.join(lines)}.", "foretold"
    )


def report(run: Run, study: Repair) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    table, layers = run.tables["behaviour"], run.tables["layers"]
    said_, by_layer = pick(table, metric="safe_score"), layers.rename(columns={"metric": "line"})
    by_layer = by_layer[by_layer["line"] == "safe_score"]
    panels = [
        Panel(
            name="fixes",
            table="behaviour",
            drawing=draw.fixes(said_, "What is said under every fix"),
            caption="Held-out identities and rights; 95 % intervals clustered by both. since_claim was trained on, other forms were not.",
        ),
        Panel(
            name="layers",
            table="layers",
            drawing=draw.by_block(by_layer, f"Where an adapter mends the {study.harm} claim", "share of safe answers", 0.5),
            caption="One adapter after each block, held-out statements; 95 % intervals. Chosen by the loss on held-out training people.",
        ),
    ]
    panels += outside_panels(run)
    panels += depth_panels(run.tables["survival"], run.tables["survival"]["fix"])
    return Report(
        title=f"Mending what a {study.harm} claim breaks in {study.info.name}",
        subtitle=subtitle(study, f"; adapters after block {study.place}"),
        findings=[*minded(run), *findings(run, study)],
        warning=silent(run),
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"Trained on {len(study.training)} items of {TRAINED} under the claims {study.harm} and {study.good}, "
            f"{study.set.steps} updates at most, stopped on held-out identities.",
            "Pushes are along good minus harm at the same block, at the first adapter's KL without a claim and at "
            f"{study.set.target:g} nats; random pushes at the latter.",
            *(f"{count} prompts of {name} are too long for the model and are left out." for name, count in study.outside.long.items()),
        ],
    )
