"""The study of features in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Features

draw = recipes("features")
points = recipes("steering")

NUMBER = 8  # of latents at which shares are told in words
CONVENTION = (
    "A direction points from the harm claim to the good claim (stance, at the last token of the prompt), or from the false to the true "
    "ending (truth, at the last token). Harm and safety point from the neutral sentence to the harm and to the good claim, each on people "
    "of its own. Explained: share of its squared length. Latents are taken by orthogonal matching pursuit with "
    "coefficients of either sign; non-negative least squares is beside it. Layers count from 0."
)
LIMITS = (
    "A dictionary wide enough takes any direction apart: what counts is the distance to random directions, shuffled labels, permuted "
    "dictionaries and a dictionary of the untrained copy.",
    "A latent has no meaning beyond the contexts in which it acts and what happens under a push; names are not given here.",
    "Latents differ between dictionaries of other seeds: the table latents says in which share of them each comes back.",
)


def beyond(table: pd.DataFrame, direction: str, method: str = "omp", number: int = NUMBER) -> dict[str, bool]:
    """Return, by control, whether a direction is explained better than it: its lower end lies above the control's upper end.

    Args:
        table: `direction, method, subject, metric, latents, value, low, high`.
        direction, method, number: Which row.

    Returns:
        By control that the table has.
    """
    rows = pick(table, direction=direction, method=method, metric="explained", latents=number)
    own: Any = next(pick(rows, subject="direction").itertuples())
    least = own.low if own.low == own.low else own.value
    others: list[Any] = [r for r in rows.itertuples() if r.subject != "direction"]
    return {str(r.subject): bool(least > r.high) for r in others}


def _number(table: pd.DataFrame) -> int:
    """The number of latents that is told: 8, or as many as there are."""
    there = sorted(set(pick(table, metric="explained")["latents"]))
    return max([k for k in there if k <= NUMBER], default=NUMBER)


def _said(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" if row.low == row.low else f"{row.value:.2f}"


def _quality(table: pd.DataFrame) -> Finding:
    parts = []
    for metric in dict.fromkeys(table["metric"]):
        rows = pick(table, metric=metric)
        own = rows[rows["dictionary"].str.startswith("seed")]
        first: Any = next(own.itertuples())
        control: Any = next(pick(rows, dictionary="permuted").itertuples())
        over = f"; {own['value'].min():.2f} to {own['value'].max():.2f} over {len(own)} seeds" if len(own) > 1 else ""
        parts.append(f"{metric} {_said(first)} (n={int(first.n)}{over}; permuted {control.value:.2f})")
    return Finding(f"Dictionary: On held-out texts: {'; '.join(parts)}.", "quality")


def _made_of(run: Run, direction: str) -> Finding:
    table = run.tables["decompositions"]
    number = _number(table)
    rows = pick(table, direction=direction, method="omp", metric="explained", latents=number)
    own: Any = next(pick(rows, subject="direction").itertuples())
    others: list[Any] = [r for r in rows.itertuples() if r.subject != "direction"]
    controls = [f"{r.subject} {r.value:.2f} ({r.low:.2f} to {r.high:.2f}, n={int(r.n)})" for r in others]
    verdict = beyond(table, direction, number=number)
    if all(verdict.values()):
        word = "more than every control"
    else:
        word = f"not told from {', '.join(k for k, v in verdict.items() if not v)}"
    need: Any = next(pick(table, direction=direction, method="omp", metric="latents to 90 %", subject="direction").itertuples())
    needed = f"{need.value:.0f} latents reach 90 %" if need.value == need.value else "90 % is not reached"
    return Finding(
        f"{direction.capitalize()}: {number} latents explain {_said(own)} of it (n={int(own.n)} pairs): {word} ({'; '.join(controls)}). "
        f"{needed}.",
        "decompositions",
    )


def _stable(run: Run) -> Finding:
    rows, parts = pick(run.tables["latents"], method="omp"), []
    for name, own in rows.groupby("direction", sort=False):
        back = f"come back in {own['returns'].mean():.2f} of the resamples"
        seeds = (
            f" and have a counterpart in {own['seeds'].mean():.2f} of the dictionaries of other seeds" if own["seeds"].notna().any() else ""
        )
        parts.append(f"the {len(own)} of {name} {back}{seeds}")
    return Finding(f"Which latents come back: On average {'; '.join(parts)}.", "latents")


def _together(run: Run) -> Finding:
    told = []
    for (first, second), table in run.tables["together"].groupby(["first", "second"], sort=False):
        rows: dict[Any, Any] = {r.relation: r for r in table.itertuples()}
        parts = []
        for name in ("shared", "opposed"):
            r = rows[name]
            parts.append(f"{name} {r.value:.0f} ({r.low:.0f} to {r.high:.0f} of {r.n} other directions at this angle, p = {r.p:.2g})")
        alone = f"{rows['only first'].value:.0f} are of {first} alone and {rows['only second'].value:.0f} of {second} alone"
        told.append(f"{first} and {second}: {'; '.join(parts)}; {alone}")
    return Finding(f"Side by side: Latents that two directions both need. {'. '.join(t[0].upper() + t[1:] for t in told)}.", "together")


def _probed(run: Run) -> Finding:
    table, parts = pick(run.tables["probing"], metric="auroc"), []
    for name, rows in table.groupby("direction", sort=False):
        own: list[Any] = list(pick(rows, subject="latents").itertuples())
        null = pick(rows, subject="shuffled labels").set_index("latents")["high"].to_dict()
        dense: Any = next(pick(rows, subject="dense probe on the stream").itertuples())
        told = [f"{r.latents} {_said(r)}{'' if r.low > null[r.latents] else ' (not told from shuffled labels)'}" for r in own]
        axis: Any = next(pick(rows, subject="axes of the stream").itertuples())
        beside = f"{axis.latents} of the stream's own axes, chosen alike, {_said(axis)}; the dense probe {_said(dense)}"
        parts.append(f"{name}: {', '.join(told)}; {beside} (n={int(dense.n)} rows)")
    return Finding(f"Sparse probes: AUROC on held-out identities of probes on so many latents: {'; '.join(parts)}.", "probing")


def _pushes(run: Run) -> Finding:
    rows = {r.edit: r for r in pick(run.tables["steering"], metric="safe_score").itertuples()}
    told = [f"{name} {_said(r)}" for name, r in rows.items()]
    return Finding(f"Pushes: Share of safe answers under the harm claim: {'; '.join(told)}.", "steering")


def report(run: Run, study: Features) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    tables, number = run.tables, _number(run.tables["decompositions"])
    explained = pick(tables["decompositions"], metric="explained", method="omp")
    ends = "bars of the direction are the ends of resamples of its rows, those of a control the central part of its draws"
    panels = [
        Panel(
            name="explained",
            table="decompositions",
            drawing=draw.explained(explained),
            caption=f"Orthogonal matching pursuit at layer {study.place}; {ends}. n={int(explained['n'].max())} pairs at most, "
            f"{study.set.random} draws; intervals of 95 % where there are 39 draws.",
        ),
        Panel(
            name="quality",
            table="quality",
            drawing=draw.quality(tables["quality"]),
            caption="On held-out texts; 95 % intervals clustered by text or identity. Cross-entropy recovered: 0 with the stream's mean "
            f"in its place, 1 for the model itself. n={len(study.held)} texts.",
        ),
        Panel(
            name="probing",
            table="probing",
            drawing=draw.probed(pick(tables["probing"], metric="auroc")),
            caption="Logistic probes on the latents whose mean differs most between the classes. Latents are chosen and probes fitted on "
            f"training identities (n={study.set.fit} pairs), and read on others (n={study.set.test} pairs). Bars are 95 % intervals, "
            f"clustered by identity; those of shuffled labels and random latents are the central part of {study.set.random} draws. Axes of "
            "the stream are chosen in the same way as latents.",
        ),
        Panel(
            name="steering",
            table="steering",
            drawing=points.points(
                pick(tables["steering"], metric="safe_score"),
                "edit",
                "metric",
                "What do the latents of stance do under the harm claim?",
                axis="share of safe answers",
                zero=0.5,
            ),
            caption=f"n={len(study.pushed)} held-out statements under the harm claim, 95 % intervals clustered by identity. Random: mean, "
            "smallest and largest of 5 draws.",
        ),
    ]
    return Report(
        title=f"What directions of {study.info.name} are made of",
        subtitle=subtitle(study, f". Layer {study.place}"),
        findings=[
            _quality(tables["quality"]),
            *(_made_of(run, name) for name in ("stance", "truth", "harm", "safety")),
            _stable(run),
            _together(run),
            _probed(run),
            _pushes(run),
        ],
        panels=panels,
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"Dictionaries ({study.set.dictionary or study.set.kind}) of the stream after block {study.place}, trained on every token of "
            f"{len(study.train)} prompts of training identities without attention sinks, with SAELens's trainer.",
            "Directions: mean differences of paired rows; resamples and shuffled labels by identity. "
            "The encoder is not used on directions.",
            f"Shares in words are at {number} latents, fixed beforehand.",
        ],
    )
