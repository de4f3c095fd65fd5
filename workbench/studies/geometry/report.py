"""The geometry study in words and pictures: findings from the tables, figures, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ...core.tables import pick
from ...figures import Panel, recipes
from ...runs import Report, Run
from ..statements import linked

if TYPE_CHECKING:
    from .study import Geometry

draw = recipes("geometry")

DESIGNS = {
    "stance": ("harm claim", "good claim"),
    "request": ("input harm", "claim safety"),
    "reply": ("request harm", "response safety"),
}

CONVENTION = (
    "A direction is a difference of means: harm minus its baseline, safety minus its baseline. Cosines are cross-fitted (pairs of rows of one "
    "cluster enter no product) and disattenuated; the verdict is the class that holds the whole 95 % interval: opposite (below -.9), partly opposite "
    "(-.9 to -.2), orthogonal (-.2 to .2), partly aligned, aligned (above .9); otherwise undetermined; refused where other rows would not show the direction again."
)
LIMITS = (
    "An angle between mean differences is about these contrasts, these rows and one inner product. Another wording, another baseline or another "
    "metric is another question.",
    "In the request design the model's reply depends on both factors (it refuses a harmful request unless the claim asks for every answer). Where "
    "the reply is being formed the two main effects are bound to oppose each other: both carry it.",
    "Erasure is linear: what a nonlinear probe still reads is in the matrix, what a cleverer one would read is not.",
    "At equal KL a direction on which little depends is pushed far; the share of the stream's norm beside each push says how far.",
    "One seed, one set of templates; intervals are clustered by identity or by pair of requests.",
)

SOURCES = {
    "Angle": ("angles",),
    "Parts": ("effects",),
    "Layer": ("verdicts",),
}


def _run_of(rows: pd.DataFrame) -> str:
    """Layers by verdict, with the range of cosines: "opposite at 3, 4 (-0.94 to -0.92)"."""
    parts = []
    for word in dict.fromkeys(rows["verdict"]):
        some = rows[rows["verdict"] == word]
        layers = ", ".join(str(int(v)) for v in some["layer"])
        values = some["value"].dropna()
        spread = f" ({values.min():.2f} to {values.max():.2f})" if len(values) and word not in ("refused", "undetermined") else ""
        parts.append(f"{word} at layer{'s' if len(some) > 1 else ''} {layers}{spread}")
    return "; ".join(parts)


def findings(run: Run, study: Geometry) -> list[str]:
    """Return the findings in words, each with its numbers."""
    angles, layer = run.tables["angles"], study.layer
    out = []
    for design, position in study.places():
        first, second = DESIGNS[design]
        here = pick(angles, design=design, position=position)
        rows = pick(here, metric=study.set.metrics[0])
        text = (
            f"Angle, {design}: {first} and {second}, {position.replace('_', ' ')}, {study.set.metrics[0]}: {_run_of(rows)}. Layer {layer}: "
        )
        parts = []
        for one in pick(here, layer=layer).to_dict("records"):
            if one["verdict"] == "refused":
                parts.append(f"{one['metric']} refused")
                continue
            parts.append(f"{one['metric']} {one['verdict']}, {one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]")
        one = pick(rows, layer=layer).iloc[0]
        text += "; ".join(parts) + f" (n={int(one['n'])})."
        if one["naive_cosine"] == one["naive_cosine"]:
            text += f" The naive cosine is {one['naive_cosine']:.2f}; of noise in this construction it is {one['null_naive']:.2f}."
        out.append(text)
    effects = run.tables["effects"]
    for design, position in (("request", study.main), ("reply", "last")):
        rows = pick(effects, design=design, position=position, layer=layer)
        if not len(rows):
            continue
        inter = rows[rows["effect"].str.contains(" x ")].iloc[0]
        sums = rows[rows["metric"] == "cosine"]
        text = f"Parts, {design}, layer {layer}: The interaction holds {inter['share']:.0%} of the effects' squared length (p = {inter['p']:.2g} against no effect at all)"
        for s in sums.itertuples():
            text += f"; {s.effect}: {s.verdict}, {s.value:.2f} [{s.low:.2f}, {s.high:.2f}]"
        out.append(text + ".")
    for row in run.tables["verdicts"].itertuples():
        number = "" if row.representation == "refused" else f" ({row.value:.2f} [{row.low:.2f}, {row.high:.2f}])"
        out.append(
            f"Layer {row.layer}: As directions {row.representation}{number}. As information: {row.information}. As causes: {row.cause}."
        )
    return out


def panels(run: Run, study: Geometry) -> list[Panel]:
    """Return the figures with their captions."""
    t, n, layer = run.tables, study.set, study.layer
    base = (
        "Bars are 95 % intervals (Fieller, jackknife over {}); grey: the same product with labels permuted; red crosses: the naive cosine. "
    )
    how = "Below: the verdict in each inner product."
    pairs = study.requests().to_frame()["right"].nunique()
    found = [
        Panel(
            name="stance", table="angles", drawing=draw.angles(pick(t["angles"], design="stance"), "Harm claim and good claim, against one neutral sentence"),
            caption=base.format("identities") + f"{n.items} statements under each claim; both directions share the neutral baseline, which alone gives noise a naive cosine near .5. {how}",
        ),
        Panel(
            name="request", table="angles", drawing=draw.angles(pick(t["angles"], design="request"), "Input harm and claim safety"),
            caption=base.format("pairs of requests") + f"Main effects of the 2x2 of {pairs} matched pairs of requests under a sentence that asks for every answer and under one that protects. {how}",
        ),
        Panel(
            name="reply", table="angles", drawing=draw.angles(pick(t["angles"], design="reply"), "Request harm and response safety, at the reply"),
            caption=base.format("pairs of requests") + f"Main effects of the 2x2 of {pairs} matched pairs with a refusal and with compliance (refusing is safe for the harmful one of a pair, complying for the harmless one: the word itself cancels out of both, and is their interaction). {how}",
        ),
        Panel(
            name="plane", table="cells", drawing=draw.plane(pick(t["cells"], design="request", position=study.main), DESIGNS["request"]),
            caption=f"Means of the four cells along the two main effects, each in units of its length, cross-fitted; n={pairs} pairs. No interval is drawn here: the angles figure has them. Without an interaction, and with orthogonal effects, they form an upright square.",
        ),
        Panel(
            name="points", table="plane", drawing=draw.points(t["plane"]),
            caption=f"Each point is a held-out request at layer {layer}; the directions come from the other half of the pairs; n={len(t['plane'])} points, shown one by one instead of an interval.",
        ),
        Panel(
            name="erasure", table="erasure", drawing=draw.erasure(t["erasure"], layer),
            caption="Accuracy of probes fitted afresh after one concept was taken out, on held-out pairs of requests; 95 % intervals clustered by pair (random: mean, smallest and largest of five directions). Chance is .5.",
        ),
        Panel(
            name="cross_steering", table="cross_steering", drawing=draw.cross(t["cross_steering"], layer),
            caption=f"Mean change on held-out requests when a direction is added at layer {layer} to the last token of the stem, scaled to {n.kl:g} nats from the unpushed model; readings at the last layer in standard deviations over unpushed prompts, behaviour in log-odds of compliance. Intervals clustered by pair; random: mean, smallest and largest of {n.random} directions.",
        ),
    ]  # fmt: skip
    return found


def report(run: Run, study: Geometry) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    known = study.info
    return Report(
        findings=linked(findings(run, study), SOURCES, run), panels=panels(run, study), title=f"Opposite or orthogonal? Harm and safety in {known.name}",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}.", convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Stance: the same statements about rights under a harm claim, a good claim and a neutral sentence (consider_claim). Request: matched pairs of "
            "requests under a jailbreak and a protecting claim. Reply: the same pairs without a claim, with a refusal and with compliance. "
            "The residual stream after each block.",
            "Whitened: with a shrunk covariance of statements about other identities, which enter no direction. Causal: with the covariance of the "
            "unembedding (Park et al. 2023).",
        ],
    )  # fmt: skip
