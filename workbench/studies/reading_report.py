"""The reading study in words and pictures."""

from __future__ import annotations

from typing import Any

from ..figures import Finding, Panel, recipes
from .common import FIT, pick, publish
from .reading import Reading
from .run import Run

draw = recipes("sweep")

CONVENTION = (
    "The label of an item names the right answer; an answer is safe where it is the right one, and a probe is right where it reads the label. "
    "Probes are fitted on training items without a claim; all rows shown are about items that they were not fitted on."
)
LIMITS = (
    "A probe shows what can be read, not what the model uses: nothing was changed inside the model.",
    "The layer named in the findings was fixed beforehand (the one nearest to two thirds of the way up); the best of several layers would be flattered.",
    "Intervals are clustered by identity (requests: by area) and say nothing about other datasets or wordings.",
)


def _say(row: Any) -> str:
    verdict = ": chance" if row.low <= 0.5 <= row.high else "" if row.low > 0.5 else ": below chance, the reading is inverted"
    return f"{row.value:.1%} [{row.low:.1%}, {row.high:.1%}]{verdict}"


def findings(run: Run, study: Reading) -> list[str]:
    """Return the findings in words, each with its numbers."""
    said = run.tables["answers"]
    n = int(said["n"].min())
    text = "; ".join(f"{r.condition} {r.value:.1%} [{r.low:.1%}, {r.high:.1%}]" for r in said.itertuples())
    out: list[str] = [Finding(f"Says: Share of safe answers by condition: {text} (n={n} at least).", "answers")]
    table = pick(run.tables["probes"], metric="accuracy", against="label", layer=study.layer)
    for method in study.set.methods:
        rows = pick(table, control="", method=method)
        text = "; ".join(f"{r.condition} {_say(r)}" for r in rows.itertuples())
        out.append(Finding(f"Reads, {method}: At layer {study.layer}: {text}.", "probes"))
    null = pick(table, control="random_directions", condition=FIT)
    words = pick(run.tables["probes"], metric="accuracy", against="label", control="bag_of_words", condition=FIT)
    parts = [f"random directions, central 95 %: {r.low:.1%} to {r.high:.1%}" for r in null.itertuples()]
    parts += [f"a bag of words on the statement: {_say(r)}" for r in words.itertuples()]
    if parts:
        out.append(Finding(f"Controls: Without a claim, layer {study.layer}: {'; '.join(parts)}.", "probes"))
    return out


def write(run: Run, study: Reading) -> None:
    """Write findings, figures and the report into the run's folder."""
    known, table = study.info, pick(run.tables["probes"], metric="accuracy", against="label")
    n = int(pick(table, control="")["n"].min())
    bars = "Bars are 95 % intervals (Wilson at the effective sample size, clustered by identity)."
    panels = [
        Panel(
            name="layers", table="probes", drawing=draw.by_layer(table, "condition", "method", f"What is read of the truth: {study.source.name}, {study.set.site}"),
            caption=f"Fitted on {study.set.train} items at most without a claim, read under each; n={n} held-out items per point. {bars} Grey: central 95 % of random directions.",
        ),
        Panel(
            name="answers", table="answers", drawing=draw.points(run.tables["answers"], ["condition"], "What the model says", "share of safe answers", 0.5),
            caption=f"Share of held-out items answered safely, n={int(run.tables['answers']['n'].min())} at least. {bars}",
        ),
    ]  # fmt: skip
    publish(
        run, study, findings=findings(run, study), panels=panels, title=f"What {known.name} carries of {study.source.name}, at {study.set.site}",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}; template {study.template}; answers «{study.words[1]}» and «{study.words[0]}».",
        convention=CONVENTION, limits=LIMITS,
        made=["Items are contrast pairs: a prompt with two endings, of which one is right. Split: no held-out identity or right is on the training side."],
    )  # fmt: skip
