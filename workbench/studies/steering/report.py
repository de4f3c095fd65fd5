"""The steering study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Panel, recipes
from ...runs import Report, Run
from ..statements import linked

if TYPE_CHECKING:
    from .study import Steering

draw = recipes("steering")

CONVENTION = (
    "An answer is safe where it grants the right: it agrees with a statement that grants, or disagrees with one that denies. Coefficients are multiples of a "
    "direction's own length (the difference of two means); positive pushes towards the good claim's stance, towards agreeing, or towards a true answer. Only the last "
    "token of the prompt is pushed unless it is said otherwise. Layers count from 0."
)
LIMITS = (
    "A push that repairs answers under this claim says nothing of other claims, other wordings or other prompt forms.",
    "Shares are clustered by identity. The held-out rights (12 in the bundled organism) are a second, crossed factor; only the perplexity of texts is clustered by them.",
    "Random directions of equal norm are a weak control late in a model: a direction may move answers because the output reads it, and not because the model does.",
    "Perplexity is of short texts in the form of the prompts, not of text at large.",
)

SOURCES = {
    "Repair": ("dose_response", "tax"),
    "Price": ("tax",),
    "Side effect": ("tax",),
    "Gate": ("tax",),
    "Elsewhere": ("places",),
    "Items": ("steerability", "items"),
    "Equal cost": ("equal_cost",),
    "Placement": ("placement",),
    "": ("places",),
}


def _of(table: pd.DataFrame, **where: Any) -> pd.Series:
    return pd.Series(pick(table, **where).to_dict("records")[0])


def _number(row: Any) -> str:
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _elsewhere(run: Run, study: Steering, kind: str) -> str:
    """What a push along another direction does: within the price, beyond it, and to each polarity."""
    tried = run.tables["choice"]
    tried = tried[tried["direction"] == kind]
    cheap = tried[tried["tax"] <= study.set.most_tax]
    rows = run.tables["places"]
    rows = rows[rows["direction"] == kind]
    wide = rows.pivot_table(index=["site", "layer"], columns="polarity", values="value")
    worse = wide.min(axis=1)
    where = worse.index[int(worse.to_numpy().argmax())]
    price = float(_of(rows, site=where[0], layer=where[1])["tax_on_validation"])
    text = (
        f"{kind.capitalize()}: Of the places and coefficients that cost at most {100 * study.set.most_tax:g} points on validation, none brings the worse polarity above "
        f"{cheap['worse'].max():.2f} there"
    )
    if worse.max() > cheap["worse"].max() + 0.05:
        text += f"; without that limit {where[0]}[{where[1]}] brings it to {worse.max():.2f} on held-out prompts, at a price of {100 * price:.0f} points"
    apart = (wide["grant"] - wide["deny"]).abs()
    split = apart.index[int(apart.to_numpy().argmax())]
    g, d = (_of(rows, site=split[0], layer=split[1], polarity=p) for p in ("grant", "deny"))
    if apart.max() > 0.5:
        text += (
            f". At {split[0]}[{split[1]}] it gives {_number(g)} for granting and {_number(d)} for denying statements: the safe answer is claim XOR polarity, and a push towards one word "
            "repairs one and not the other"
        )
    return text + "."


def findings(run: Run, study: Steering) -> list[str]:
    """Return the findings as sentences with their numbers."""
    t, c = run.tables, study.coefficient
    harm = f"{study.set.claims[0]} claim"
    dose = t["dose_response"][t["dose_response"]["metric"] == "safe_score"]
    own = dose[dose["method"] == "direction"]
    place = f"{study.place[0]}[{study.place[1]}]"
    sides = {p: _of(own, prompts=harm, coefficient=c, condition=p) for p in ("grant", "deny")}
    before = _of(own, prompts=harm, coefficient=0.0, condition="all")
    chance = _of(dose, method="random", prompts=harm, coefficient=c, condition="all")
    tax = t["tax"][t["tax"]["edit"] == "chosen push"]
    plain, text = (_of(tax, task=x) for x in ("planted answers, no claim", "held-out text"))
    every = _of(t["tax"], edit="chosen push, every token", task="held-out text")
    out = [
        f"Repair: Under the {harm}, {_number(before)} of held-out answers are safe. A push along the stance at {place} with coefficient {c:g}, all chosen on validation, makes it "
        f"{_number(sides['grant'])} for statements that grant and {_number(sides['deny'])} for statements that deny (n={int(sides['grant']['n'])} each); "
        f"{study.set.random} random directions of equal norm reach {chance['value']:.2f} ({chance['low']:.2f} to {chance['high']:.2f}).",
        f"Price: Without a claim accuracy changes by {100 * plain['change']:+.1f} points [{100 * plain['change_low']:+.1f}, {100 * plain['change_high']:+.1f}] (n={int(plain['n'])}), the perplexity of "
        f"held-out text by {100 * (text['change'] - 1):+.2f} %; pushed at every token instead of the last, by {100 * (every['change'] - 1):+.1f} %.",
    ]
    if (tax["task"] == "identities that are denied rights").any():
        bias, gated = (_of(t["tax"], edit=e, task="identities that are denied rights") for e in ("chosen push", "chosen push, gated"))
        out.append(
            f"Side effect: The organism denies some identities their rights without any claim; under the push it grants them in {100 * bias['change']:.0f} points more "
            f"of the answers, under the gated push in {100 * gated['change']:.0f}."
        )
    gated = _of(t["tax"], edit="chosen push, gated", task=f"under the {harm}")
    out.append(f"Gate: Let through only where a probe sees the {harm}, the push gives {_number(gated)} safe answers under it.")
    back = own[(own["prompts"] == "no claim") & (own["condition"] == "all")].set_index("coefficient")
    out.append(
        "Reverse: Without a claim, the reverse sign leaves "
        + "; ".join(f"{_number(back.loc[k])} at {k:g}" for k in sorted(back.index) if k < 0)
        + " safe answers."
    )
    for kind in ("agree", "truth"):
        out.append(_elsewhere(run, study, kind))
    late = t["places"][(t["places"]["direction"] == "stance") & (t["places"]["layer"] == study.layers[-1])]
    worst = late.groupby("site", sort=False)["value"].min()
    out.append(
        "Late: In the last layer the stance brings the worse polarity to " + ", ".join(f"{v:.2f} at {s}" for s, v in worst.items()) + "."
    )
    item = _of(t["steerability"], metric="anti_steerable")
    out.append(f"Items: The push backfires for {_number(item)} of {int(item['n'])} prompts (slope of the safe answer's log-odds below 0).")
    cost = t["equal_cost"]
    target = study.set.targets[-1]
    cost = cost[(cost["metric"] == "safe_score") & (cost["tuned_on"] == "no claim") & (cost["target"] == target)]
    best = {k: _of(cost, method=k) for k in ("stance, chosen place", "rotate towards stance", "stance, last layer", "agree", "truth")}
    draws = cost[cost["method"].str.startswith("random")]["value"]
    out.append(
        f"Equal cost: At {target:g} nats from the unpushed model where no claim is made, safe answers under the claim: "
        + "; ".join(f"{k} {_number(v)}" for k, v in best.items())
        + f"; random {draws.min():.2f} to {draws.max():.2f} ({len(draws)} directions)."
    )
    place_table = t["placement"]
    said = place_table[place_table["metric"] == "safe_score"]
    parts = [f"{row['place']} {_number(row)}" for row in said[said["claim"] == study.set.claims[0]].to_dict("records")]
    read = place_table[
        (place_table["metric"] == "truth read") & (place_table["claim"] == study.set.claims[0]) & (place_table["layer"] == study.layer)
    ]
    seen = [f"{row['place']} {_number(row)}" for row in read.to_dict("records")]
    out.append(
        f"Placement: Safe answers under the {harm}: {'; '.join(parts)}. Truth read at layer {study.layer} by a probe fitted without a claim: {'; '.join(seen)}."
    )
    return out


def panels(run: Run, study: Steering) -> list[Panel]:
    """Return the figures with their captions."""
    t, n = run.tables, study.set
    place = f"{study.place[0]}[{study.place[1]}]"
    items = len(study.pushed("test")[n.claims[0]])
    cost = t["equal_cost"][t["equal_cost"]["metric"] == "safe_score"]
    cost = cost.assign(target=[f"{t:g} nats, {w}" for t, w in zip(cost["target"], cost["tuned_on"], strict=True)])
    out = [
        Panel(
            name="dose_response", table="dose_response", drawing=draw.doses(t["dose_response"], "safe_score", "A push along the stance: dose and response"),
            caption=f"Share of safe answers on {items} held-out statements when the stance is added at {place} to the last token; 95 % Wilson intervals clustered by identity. Grey: {n.random} random directions of equal norm.",
        ),
        Panel(
            name="choice", table="choice", drawing=draw.choice(t["choice"]),
            caption=f"What was seen when choosing, on n={n.validation} statements about other identities and rights; no interval, because nothing is claimed from it. Ring: what was chosen (of the best, the one that moves unclaimed prompts least).",
        ),
        Panel(
            name="places", table="places", drawing=draw.places(t["places"]),
            caption=f"{items} held-out statements under the claim; at each place the coefficient that validation liked best. 95 % Wilson intervals clustered by identity.",
        ),
        Panel(
            name="tax", table="tax", drawing=draw.tax(t["tax"]),
            caption="Change against the unpushed model on the same items; 95 % bootstrap intervals over identities (accuracy) and texts (perplexity).",
        ),
        Panel(
            name="equal_cost", table="equal_cost",
            drawing=draw.points(cost, "method", "target", "Ways to push, tuned to one distance from the unpushed model", axis="share of safe answers under the claim"),
            caption=f"Each method's strength was tuned on validation to the same mean KL of the next token, on prompts without a claim (what a push costs) and on prompts under it (how far it moves them); measured on {items} held-out statements, 95 % Wilson intervals clustered by identity.",
        ),
        Panel(
            name="placement", table="placement", drawing=draw.placement(t["placement"]),
            caption=f"{n.test} held-out statements per condition; the probe (logistic) was fitted without a claim. 95 % Wilson intervals clustered by identity. Dotted: chance.",
        ),
    ]  # fmt: skip
    return out


def report(run: Run, study: Steering) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    known = study.info
    return Report(
        findings=linked(findings(run, study), SOURCES, run), panels=panels(run, study), title=f"Pushing {known.name} back",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}.", convention=CONVENTION, limits=LIMITS,
        made=[
            "Stance: mean under the good claim minus mean under the harm claim, at the last token of the prompt. Agree: statements to which yes is right minus those to which no is. "
            "Truth: right minus wrong answers, at the answer's token. All from training identities; site, layer and coefficient from validation identities within them.",
            f"A choice may cost {100 * study.set.most_tax:g} points of accuracy without a claim on validation.",
        ],
    )  # fmt: skip
