"""The geometry study in words and pictures: findings from the tables, figures, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..answering import unanswered
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Geometry

draw = recipes("geometry")

DESIGNS = {
    "stance": ("harm claim", "good claim"),
    "request": ("input harm", "claim safety"),
    "reply": ("request harm", "response safety"),
}

CONVENTION = (
    "A direction is a difference of means: harm minus its baseline, safety minus its baseline. Cosines are cross-fitted (pairs of rows of "
    "one cluster enter no product) and disattenuated; the verdict is the class that holds the whole 95 % interval: opposite (below -.9), "
    "partly opposite (-.9 to -.2), orthogonal (-.2 to .2), partly aligned, aligned (above .9); otherwise undetermined; refused where other "
    "rows would not show the direction again."
)
LIMITS = (
    "An angle between mean differences is about these contrasts, these rows and one inner product. Another wording, another baseline or "
    "another metric is another question.",
    "In the request design the model's reply depends on both factors (it refuses a harmful request unless the claim asks for every "
    "answer). Where the reply is being formed the two main effects are bound to oppose each other: both carry it.",
    "Erasure is linear. The matrix shows what a nonlinear probe still reads, not what a cleverer one would read.",
    "At equal KL a direction on which little depends is pushed far; the share of the stream's norm beside each push says how far.",
    "One seed, one set of templates; intervals are clustered by identity or by pair of requests.",
)


def _number(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _by_verdict(rows: pd.DataFrame) -> str:
    """Layers by verdict, with the range of cosines: "opposite at layers 3, 4 (-0.94 to -0.92)"."""
    parts = []
    for verdict in dict.fromkeys(rows["verdict"]):
        same = pick(rows, verdict=verdict)
        layers = ", ".join(str(int(layer)) for layer in same["layer"])
        cosines = same["value"].dropna()
        told = len(cosines) and verdict not in ("refused", "undetermined")
        spread = f" ({cosines.min():.2f} to {cosines.max():.2f})" if told else ""
        parts.append(f"{verdict} at layer{'s' if len(same) > 1 else ''} {layers}{spread}")
    return "; ".join(parts)


def _angle(run: Run, study: Geometry, design: str, position: str) -> Finding:
    first, second = DESIGNS[design]
    metric, layer = study.set.metrics[0], study.layer
    table = pick(run.tables["angles"], design=design, position=position)
    angles = pick(table, metric=metric)
    parts = [
        f"{row.metric} refused" if row.verdict == "refused" else f"{row.metric} {row.verdict}, {_number(row)}"
        for row in pick(table, layer=layer).itertuples()
    ]
    at_layer = pick(angles, layer=layer).iloc[0]
    text = (
        f"Angle, {design}: {first} and {second}, {position.replace('_', ' ')}, {metric}: {_by_verdict(angles)}. "
        f"Layer {layer}: {'; '.join(parts)} (n={int(at_layer['n'])})."
    )
    naive, noise = at_layer["naive_cosine"], at_layer["null_naive"]
    if pd.notna(naive):
        text += f" The naive cosine is {naive:.2f}; of noise in this construction it is {noise:.2f}."
    return Finding(text, "angles")


def _parts(run: Run, study: Geometry, design: str, position: str) -> list[Finding]:
    rows = pick(run.tables["effects"], design=design, position=position, layer=study.layer)
    if not len(rows):
        return []
    interaction = rows[rows["effect"].str.contains(" x ")].iloc[0]
    share, p = interaction["share"], interaction["p"]
    sums = [f"; {row.effect}: {row.verdict}, {_number(row)}" for row in pick(rows, metric="cosine").itertuples()]
    text = (
        f"Parts, {design}, layer {study.layer}: The interaction holds {share:.0%} of the effects' squared length "
        f"(p = {p:.2g} against no effect at all){''.join(sums)}."
    )
    return [Finding(text, "effects")]


def _levels(row: Any) -> Finding:
    number = "" if row.representation == "refused" else f" ({_number(row)})"
    return Finding(
        f"Layer {row.layer}: As directions {row.representation}{number}. As information: {row.information}. As causes: {row.cause}.",
        "verdicts",
    )


def _silent(run: Run, study: Geometry) -> str:
    """Why the model does not answer requests, or ""."""
    why = unanswered(run.tables["says"], [("request", "none")], what="requests", words=study.reply_words)
    more = (
        "What a push does to its replies then says little; directions and what can be read are another matter. Other first words: replies=."
    )
    return f"{why} {more}" if why else ""


def _limits(study: Geometry) -> list[str]:
    """What the results do not show; how many sentences stand behind a claim is said of each."""
    numbers = study.sentences
    one = [claim for claim, count in numbers.items() if count == 1]
    many = [f"{claim} ({count})" for claim, count in numbers.items() if count > 1]
    said = []
    if one:
        names = " and ".join(part for part in (", ".join(one[:-1]), one[-1]) if part)
        said.append(f"There is one sentence for {names}: what is found is about that sentence and not about what it says.")
    if many:
        said.append(
            f"Claims are made with several sentences: {', '.join(many)}. Intervals of angles are over sentences too, and wide where there "
            "are few; those of erasure and of pushes are over pairs of requests only."
        )
    return [*LIMITS, *said]


def _findings(run: Run, study: Geometry) -> list[Finding]:
    angles = [_angle(run, study, design, position) for design, position in study.places()]
    parts = [*_parts(run, study, "request", study.main), *_parts(run, study, "reply", "last")]
    weak = _silent(run, study)
    mind = [Finding(f"Mind: {weak}", "says")] if weak else []
    return [*mind, *angles, *parts, *(_levels(row) for row in run.tables["verdicts"].itertuples())]


def _angle_panels(run: Run, study: Geometry, pairs: int) -> list[Panel]:
    """The angles of each design, and the plane of the two main effects."""
    angles, cells = run.tables["angles"], run.tables["cells"]
    bars = (
        "Bars are 95 % intervals (Fieller, jackknife over {}); grey: the same product with labels permuted; red crosses: the naive cosine."
    )
    identities, requests = bars.format("identities"), bars.format("pairs of requests")
    below = "Below: the verdict in each inner product."
    return [
        Panel(
            name="stance",
            table="angles",
            drawing=draw.angles(pick(angles, design="stance"), "Harm claim and good claim, against a shared baseline"),
            caption=f"{identities} {study.set.items} statements under each claim; both directions share the neutral baseline, which alone "
            f"gives noise a naive cosine near .5. {below}",
        ),
        Panel(
            name="request",
            table="angles",
            drawing=draw.angles(pick(angles, design="request"), "Input harm and claim safety"),
            caption=f"{requests} Main effects of the 2x2 of {pairs} matched pairs of requests under a claim that asks for every answer "
            f"and under one that protects. {below}",
        ),
        Panel(
            name="reply",
            table="angles",
            drawing=draw.angles(pick(angles, design="reply"), "Request harm and response safety, at the reply"),
            caption=f"{requests} Main effects of the 2x2 of {pairs} matched pairs with a refusal and with compliance (refusing is safe for "
            "the harmful one of a pair, complying for the harmless one: the word itself cancels out of both, and is their interaction). "
            f"{below}",
        ),
        Panel(
            name="plane",
            table="cells",
            drawing=draw.plane(pick(cells, design="request", position=study.main), DESIGNS["request"]),
            caption=f"Means of the four cells along the two main effects, each in units of its length, cross-fitted; n={pairs} pairs. No "
            "interval is drawn here: the angles figure has them. Without an interaction, and with orthogonal effects, they form an upright "
            "square.",
        ),
    ]


def _request_panels(run: Run, study: Geometry) -> list[Panel]:
    """Held-out requests: point by point, with one concept erased, and pushed."""
    points, layer, settings = run.tables["plane"], study.layer, study.set
    return [
        Panel(
            name="points",
            table="plane",
            drawing=draw.points(points),
            caption=f"Each point is a held-out request at layer {layer}; the directions come from the other half of the pairs; "
            f"n={len(points)} points, shown one by one instead of an interval.",
        ),
        Panel(
            name="erasure",
            table="erasure",
            drawing=draw.erasure(run.tables["erasure"], layer),
            caption="Accuracy of probes fitted afresh after one concept was taken out, on held-out pairs of requests; 95 % intervals "
            "clustered by pair (random: mean, smallest and largest of five directions). Chance is .5.",
        ),
        Panel(
            name="cross_steering",
            table="cross_steering",
            drawing=draw.cross(run.tables["cross_steering"], layer),
            caption=f"Mean change on held-out requests when a direction is added at layer {layer} to the last token of the stem, scaled to "
            f"{settings.kl:g} nats from the unpushed model; readings at the last layer in standard deviations over unpushed prompts, "
            "behaviour in log-odds of compliance. Intervals clustered by pair; random: mean, smallest and largest of "
            f"{settings.random} directions.",
        ),
    ]


def report(run: Run, study: Geometry) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    pairs = study.requests().to_frame()["right"].nunique()
    return Report(
        title=f"Opposite or orthogonal? Harm and safety in {study.info.name}",
        subtitle=subtitle(study),
        findings=_findings(run, study),
        panels=[*_angle_panels(run, study, pairs), *_request_panels(run, study)],
        convention=CONVENTION,
        limits=_limits(study),
        warning=_silent(run, study),
        made=[
            "Stance: the same statements about rights under a harm claim, a good claim and a neutral sentence (consider_claim). Request: "
            "matched pairs of requests under a jailbreak and a protecting claim. Reply: the same pairs without a claim, with a refusal and "
            "with compliance. The residual stream after each block.",
            f"Asked: {study.form.name}{f', system message {study.asks.system!r}' if study.asks.system else ''}. Each statement, and "
            "each pair of requests, is shown one of the sentences of a claim, drawn at random.",
            "Whitened: with a shrunk covariance of statements about other identities, which enter no direction. Causal: with the "
            "covariance of the unembedding (Park et al. 2023).",
        ],
    )
