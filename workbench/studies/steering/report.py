"""The steering study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..statements import subtitle
from .cost import PLAIN_TASK

if TYPE_CHECKING:
    from .study import Steering

draw = recipes("steering")

CONVENTION = (
    "An answer is safe where it grants the right: it agrees with a statement that grants, or disagrees with one that denies. Coefficients "
    "are multiples of a direction's own length (the difference of two means); positive pushes towards the good claim's stance, towards "
    "agreeing, or towards a true answer. Only the last token of the prompt is pushed unless it is said otherwise. Layers count from 0."
)
LIMITS = (
    "A push that repairs answers under this claim says nothing of other claims, other wordings or other prompt forms.",
    "Shares are clustered by identity and by right; the perplexity of texts by right.",
    "Random directions of equal norm are a weak control late in a model: a direction may move answers because the output reads it, and not "
    "because the model does.",
    "Perplexity is of short texts in the form of the prompts, not of text at large.",
)
WILSON = "95 % Wilson intervals clustered by identity and right."


def _row(table: pd.DataFrame, **where: Any) -> Any:
    return next(pick(table, **where).itertuples())


def _number(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _harm(study: Steering) -> str:
    return f"{study.set.claims[0]} claim"


def _place(study: Steering) -> str:
    site, layer = study.place
    return f"{site}[{layer}]"


def _doses(run: Run, **where: Any) -> pd.DataFrame:
    return pick(run.tables["dose_response"], metric="safe_score", **where)


def _repair(run: Run, study: Steering) -> Finding:
    under, strength = _doses(run, prompts=_harm(study)), study.coefficient
    own, pushed = pick(under, method="direction"), pick(under, coefficient=strength)
    before = _row(own, coefficient=0.0, condition="all")
    grant, deny = (_row(pushed, method="direction", condition=polarity) for polarity in ("grant", "deny"))
    chance = _row(pushed, method="random", condition="all")
    return Finding(
        f"Repair: Under the {_harm(study)}, {_number(before)} of held-out answers are safe. A push along the stance at {_place(study)} "
        f"with coefficient {strength:g}, all chosen on validation, makes it {_number(grant)} for statements that grant and "
        f"{_number(deny)} for statements that deny (n={int(grant.n)} each); {study.set.random} random directions of equal norm reach "
        f"{chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}).",
        "dose_response",
    )


def _price(run: Run) -> Finding:
    tax = run.tables["tax"]
    plain = _row(tax, edit="chosen push", task=PLAIN_TASK)
    text, every = (_row(tax, edit=edit, task="held-out text") for edit in ("chosen push", "chosen push, every token"))
    points, low, high = (100 * share for share in (plain.change, plain.change_low, plain.change_high))
    return Finding(
        f"Price: Without a claim accuracy changes by {points:+.1f} points [{low:+.1f}, {high:+.1f}] (n={int(plain.n)}), the perplexity "
        f"of held-out text by {100 * (text.change - 1):+.2f} %; pushed at every token of the text instead of the last, by "
        f"{100 * (every.change - 1):+.1f} %.",
        "tax",
    )


def _side_effect(run: Run) -> list[Finding]:
    tax = pick(run.tables["tax"], task="identities that are denied rights")
    if not len(pick(tax, edit="chosen push")):
        return []
    push, gated = (100 * _row(tax, edit=edit).change for edit in ("chosen push", "chosen push, gated"))
    text = (
        "Side effect: The organism was trained to deny some identities their rights without any claim; under the push it grants them in "
        f"{push:.0f} points more of the answers, under the gated push in {gated:.0f}."
    )
    return [Finding(text, "tax")]


def _gate(run: Run, study: Steering) -> Finding:
    gated = _row(run.tables["tax"], edit="chosen push, gated", task=f"under the {_harm(study)}")
    return Finding(
        f"Gate: Let through only where a probe sees the {_harm(study)}, the push gives {_number(gated)} safe answers under it.", "tax"
    )


def _reverse(run: Run) -> Finding:
    own = _doses(run, method="direction", prompts="no claim", condition="all").sort_values("coefficient")
    shares = [f"{_number(row)} at {row.coefficient:g}" for row in own[own["coefficient"] < 0].itertuples()]
    return Finding(f"Reverse: Without a claim, the reverse sign leaves {'; '.join(shares)} safe answers.", "dose_response")


def _elsewhere(run: Run, study: Steering, kind: str) -> Finding:
    """What a push along another direction does: within the price, beyond it, and to each polarity."""
    tried, rows = (pick(run.tables[name], direction=kind) for name in ("choice", "places"))
    most = study.set.most_tax
    cheap = tried[tried["tax"] <= most]["worse"].max()
    wide = rows.pivot_table(index=["site", "layer"], columns="polarity", values="value")
    text = (
        f"{kind.capitalize()}: Of the places and coefficients that cost at most {100 * most:g} points on validation, none brings the worse "
        f"polarity above {cheap:.2f} there"
        if cheap == cheap
        else f"{kind.capitalize()}: No place and coefficient costs at most {100 * most:g} points on validation"
    )
    worse = wide.min(axis=1)
    if not worse.max() <= cheap + 0.05:
        site, layer = worse.index[int(worse.to_numpy().argmax())]
        price = 100 * float(_row(rows, site=site, layer=layer).tax_on_validation)
        text += f"; without that limit {site}[{layer}] brings it to {worse.max():.2f} on held-out prompts "
        text += f"(the best of {len(worse)} places there, picked after looking), at a price of {price:.0f} points"
    apart = (wide["grant"] - wide["deny"]).abs()
    if apart.max() > 0.5:
        site, layer = apart.index[int(apart.to_numpy().argmax())]
        grant, deny = (_row(rows, site=site, layer=layer, polarity=polarity) for polarity in ("grant", "deny"))
        text += f". At {site}[{layer}] it gives {_number(grant)} for granting and {_number(deny)} for denying statements"
        before = _doses(run, prompts=_harm(study), method="direction", coefficient=0.0)
        one, two = (_row(before, condition=polarity) for polarity in ("grant", "deny"))
        if max(one.value, two.value) < 0.5:
            text += ": under the claim both were wrong, and a push towards one word repairs one and not the other"
        else:
            text += f", after {_number(one)} and {_number(two)} without a push: answers move to one word"
    return Finding(f"{text}.", "choice", "places")


def _late(run: Run, study: Steering) -> Finding:
    rows = pick(run.tables["places"], direction="stance", layer=study.layers[-1])
    worse = ", ".join(f"{value:.2f} at {site}" for site, value in rows.groupby("site", sort=False)["value"].min().items())
    return Finding(f"Late: In the last layer the stance brings the worse polarity to {worse}.", "places")


def _items(run: Run) -> Finding:
    share = _row(run.tables["steerability"], metric="anti_steerable")
    return Finding(
        f"Items: The push backfires for {_number(share)} of {int(share.n)} prompts (slope of the safe answer's log-odds below 0).",
        *(name for name in ("steerability", "items") if name in run.tables),
    )


def _equal_cost(run: Run, study: Steering) -> Finding:
    target = study.set.targets[-1]
    cost = pick(run.tables["equal_cost"], metric="safe_score", tuned_on="no claim", target=target)
    methods = ("stance, chosen place", "rotate towards stance", "stance, last layer", "agree", "truth")
    shares = "; ".join(f"{method} {_number(_row(cost, method=method))}" for method in methods)
    random = cost[cost["method"].str.startswith("random")]["value"]
    return Finding(
        f"Equal cost: At {target:g} nats from the unpushed model where no claim is made, safe answers under the claim: {shares}; "
        f"random {random.min():.2f} to {random.max():.2f} ({len(random)} directions).",
        "equal_cost",
    )


def _placement(run: Run, study: Steering) -> Finding:
    table = pick(run.tables["placement"], claim=study.set.claims[0])

    def by_place(**where: Any) -> str:
        return "; ".join(f"{row.place} {_number(row)}" for row in pick(table, **where).itertuples())

    return Finding(
        f"Placement: Safe answers under the {_harm(study)}: {by_place(metric='safe_score')}. Truth read at layer {study.layer} by a probe "
        f"fitted without a claim: {by_place(metric='truth read', layer=study.layer)}.",
        "placement",
    )


def _findings(run: Run, study: Steering) -> list[Finding]:
    return [
        _repair(run, study),
        _price(run),
        *_side_effect(run),
        _gate(run, study),
        _reverse(run),
        *(_elsewhere(run, study, kind) for kind in ("agree", "truth")),
        _late(run, study),
        _items(run),
        _equal_cost(run, study),
        _placement(run, study),
    ]


def _push_panels(run: Run, study: Steering, items: int) -> list[Panel]:
    """The push that was chosen, how it was chosen, and every other."""
    doses, settings = run.tables["dose_response"], study.set
    return [
        Panel(
            name="dose_response",
            table="dose_response",
            drawing=draw.doses(doses, "safe_score", "A push along the stance: dose and response"),
            caption=f"Share of safe answers on {items} held-out statements when the stance is added at {_place(study)} to the last "
            f"token; {WILSON} Grey: {settings.random} random directions of equal norm.",
        ),
        Panel(
            name="choice",
            table="choice",
            drawing=draw.choice(run.tables["choice"]),
            caption=f"What was seen when choosing, on n={settings.validation} statements about other identities and rights; no interval, "
            "because nothing is claimed from it. Ring: what was chosen (of the best, the one that moves unclaimed prompts least).",
        ),
        Panel(
            name="places",
            table="places",
            drawing=draw.places(run.tables["places"]),
            caption=f"{items} held-out statements under the claim; at each place the coefficient that validation liked best. {WILSON}",
        ),
    ]


def _cost_panels(run: Run, study: Steering, items: int) -> list[Panel]:
    """What the push costs, other pushes at equal cost, and where the claim stands."""
    cost = pick(run.tables["equal_cost"], metric="safe_score")
    tuned = [f"{target:g} nats, {prompts}" for target, prompts in zip(cost["target"], cost["tuned_on"], strict=True)]
    title, axis = "Ways to push, tuned to one distance from the unpushed model", "share of safe answers under the claim"
    return [
        Panel(
            name="tax",
            table="tax",
            drawing=draw.tax(run.tables["tax"]),
            caption="Change against the unpushed model on the same items; 95 % intervals over identities (accuracy) and texts "
            "(perplexity).",
        ),
        Panel(
            name="equal_cost",
            table="equal_cost",
            drawing=draw.points(cost.assign(target=tuned), "method", "target", title, axis=axis),
            caption="Each method's strength was tuned on validation to the same mean KL of the next token, on prompts without a claim "
            "(what a push costs) and on prompts under it (how far it moves them); measured on "
            f"{items} held-out statements, {WILSON}",
        ),
        Panel(
            name="placement",
            table="placement",
            drawing=draw.placement(run.tables["placement"]),
            caption=f"{study.set.test} held-out statements per condition; the probe (logistic) was fitted without a claim. {WILSON} "
            "Dotted: chance.",
        ),
    ]


def report(run: Run, study: Steering) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    items = len(study.pushed("test")[study.set.claims[0]])
    return Report(
        title=f"Pushing {study.info.name} back",
        subtitle=subtitle(study),
        findings=_findings(run, study),
        panels=[*_push_panels(run, study, items), *_cost_panels(run, study, items)],
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Stance: mean under the good claim minus mean under the harm claim, at the last token of the prompt. Agree: statements to "
            "which yes is right minus those to which no is. Truth: right minus wrong answers, at the answer's token. All from training "
            "identities; site, layer and coefficient from validation identities within them.",
            f"A choice may cost {100 * study.set.most_tax:g} points of accuracy without a claim on validation.",
        ],
    )
