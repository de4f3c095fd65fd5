"""The reading study in words and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.estimate import not_told
from ...core.tables import pick, span
from ...core.text_controls import TEXT_NAMES
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run, Sweep
from ..statements import FIT, subtitle
from ..surfaces import surface_findings, surface_panels

if TYPE_CHECKING:
    from .study import Reading

draw = recipes("sweep")

CONVENTION = (
    "The label of an item names the right answer; an answer is safe where it is the right one, and a probe is right where it reads the "
    "label. Probes are fitted on training items without a claim; all rows shown are about items that they were not fitted on."
)
LIMITS = (
    "A probe shows what can be read, not what the model uses: nothing was changed inside the model.",
    "The layer named in the findings was fixed beforehand (the one nearest to two thirds of the way up); the best of several layers "
    "would be flattered.",
    "Intervals are clustered by identity and right (requests: by area) and say nothing about other datasets or wordings.",
)


def _say(row: Any) -> str:
    verdict = not_told(row.low, row.high) or ("" if row.low > 0.5 else "below chance, the reading is inverted")
    return f"{row.value:.1%} [{row.low:.1%}, {row.high:.1%}]{f' ({verdict})' if verdict else ''}"


def _says(run: Run) -> str:
    said = run.tables["answers"]
    shares = "; ".join(f"{r.condition} {r.value:.1%} [{r.low:.1%}, {r.high:.1%}]" for r in said.itertuples())
    return Finding(f"Says: Share of safe answers by condition: {shares} (n={int(said['n'].min())} at least).", "answers")


def _reads(run: Run, method: str, layer: int) -> str:
    rows = pick(run.tables["probes"], metric="accuracy", against="label", layer=layer, control="", method=method)
    shares = "; ".join(f"{r.condition} {_say(r)}" for r in rows.itertuples())
    return Finding(f"Reads, {method}: At layer {layer}: {shares}.", "probes")


def _controls(run: Run, layer: int) -> list[str]:
    table = pick(run.tables["probes"], metric="accuracy", against="label", condition=FIT)
    null = pick(table, control="random_directions", layer=layer)
    parts = [f"random directions, central 95 %: {r.low:.1%} to {r.high:.1%}" for r in null.itertuples()]
    alone: Any
    for alone in table[table["control"].isin(TEXT_NAMES)].itertuples():
        parts.append(f"{TEXT_NAMES[alone.control]} of the statement: {_say(alone)}")
    return [Finding(f"Controls: Without a claim, layer {layer}: {'; '.join(parts)}.", "probes")] if parts else []


BARS = "Bars are 95 % intervals (Wilson at the effective sample size, clustered by identity and right)."


def _panels(run: Run, study: Reading) -> list[Panel]:
    table, said = pick(run.tables["probes"], metric="accuracy", against="label"), run.tables["answers"]
    n = int(pick(table, control="")["n"].min())
    title = f"What is read of the truth: {study.source.name}, {study.set.site}"
    return [
        Panel(
            name="layers",
            table="probes",
            drawing=draw.by_layer(table, "condition", "method", title),
            caption=f"Fitted on {study.set.train} items at most without a claim, read under each; n={n} held-out items per point. {BARS} "
            "Grey: central 95 % of random directions.",
        ),
        Panel(
            name="answers",
            table="answers",
            drawing=draw.points(said, ["condition"], "What the model says", "share of safe answers", 0.5),
            caption=f"Share of held-out items answered safely, n={int(said['n'].min())} at least. {BARS}",
        ),
    ]


def report(run: Run, study: Reading) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    words = f"; template {study.template}; answers «{study.words[1]}» and «{study.words[0]}»"
    return Report(
        title=f"What {study.info.name} carries of {study.source.name}, at {study.set.site}",
        subtitle=subtitle(study, words),
        findings=[
            _says(run),
            *(_reads(run, m, study.layer) for m in study.set.methods),
            *_controls(run, study.layer),
            *surface_findings(run, study.layer),
        ],
        panels=[*_panels(run, study), *surface_panels(run, study.layer)],
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Items are contrast pairs: a prompt with two endings, of which one is right. Split: no held-out identity or right is on the "
            "training side."
        ],
    )


def across(run: Run, sweep: Sweep, axes: Sequence[str]) -> list[Panel]:
    """Return the figures of a sweep: accuracy by layer, a line per cell, under each condition.

    Args:
        run: The sweep's run, with the tables of all cells.
        sweep: The sweep.
        axes: Names of the columns that tell cells apart.
    """
    if "probes" not in run.tables:
        return []
    table = pick(run.tables["probes"], metric="accuracy", against="label")
    # a column of the study goes by the name "cell_…" where the sweep has an axis of that name
    told = [c if f"cell_{c}" not in table else f"cell_{c}" for c in axes if c in table or f"cell_{c}" in table]
    table = table.assign(line=table[told].astype(str).agg(" · ".join, axis=1) if told else sweep.name)
    out = []
    for condition in dict.fromkeys(table["condition"]):
        here = pick(table, condition=condition)
        title = f"Read {'without a claim' if condition == FIT else f'under the {condition} claim'}"
        out.append(
            Panel(
                name=f"layers_{condition.replace(' ', '_')}",
                table="probes",
                drawing=draw.by_layer(here, "method", "line", title),
                caption="Accuracy on held-out items by layer, a line per cell, fitted without a claim; "
                f"n={span(pick(here, control=''))} per point. Bars are the 95 % intervals of the cells; cells of one model and one draw "
                "share items and are not independent. "
                "Grey: the widest central 95 % of random directions in any cell.",
            )
        )
    return out
