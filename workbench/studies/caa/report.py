"""The CAA study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ...figures import Panel, recipes
from ...runs import Report, Run
from ..statements import linked

if TYPE_CHECKING:
    from .study import Caa

draw = recipes("steering")

CONVENTION = (
    "P(matching) is the probability of the letter of the answer that matches the behaviour, of both letters' probability. A coefficient of 1 adds the vector once "
    "(all behaviours of a layer have one length). Layers count from 0; each behaviour's layer was chosen on questions that made no vector and are not in the test."
)
LIMITS = (
    "Multiple choice measures which letter is likelier, not what the model would write; the open answers are there to be read.",
    "Phrases of refusal are a poor judge: on this project's labelled sample they miss and invent refusals (see known_errors).",
    "Test questions are those of the folder; a vector that is tested on questions like those it was made from says little of others.",
    "Where the model hardly gives probability to the two letters (column answered), P(matching) is of little meaning.",
)

SOURCES = {
    "Price": ("capability",),
    "": ("test",),
}


def _number(row: pd.Series) -> str:
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def findings(run: Run, study: Caa) -> list[str]:
    """Return the findings as sentences with their numbers."""
    t, out = run.tables, []
    test = t["test"]
    low, high = min(study.set.coefficients), max(study.set.coefficients)
    for b in study.behaviours:
        layer = study.best[b]
        here = test[(test["behaviour"] == b) & (test["layer"] == layer) & (test["system"] == "none")]
        p = here[here["metric"] == "p_matching"].set_index("coefficient")
        text = f"{b}: P(matching) at layer {layer} is {_number(p.loc[low])} at {low:+g}, {_number(p.loc[0.0])} without, {_number(p.loc[high])} at {high:+g} (n={int(p.loc[0.0, 'n'])} prompts)"  # pyright: ignore
        if "random" in t:
            r = t["random"]
            r = r[(r["behaviour"] == b) & (r["coefficient"] == high)].iloc[0]
            text += f"; {int(r['n'])} random directions at {high:+g}: {r['value']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
        if "steerability" in t:
            s = t["steerability"]
            s = s[(s["behaviour"] == b) & (s["metric"] == "anti_steerable")].iloc[0]
            text += f". It backfires for {_number(s)} of the prompts"
        bias = here[(here["metric"] == "position_bias") & (here["coefficient"] == 0)]
        answered = here[(here["metric"] == "answered") & (here["coefficient"] == 0)].iloc[0]
        if len(bias):
            text += f". Without a push it favours A by {_number(bias.iloc[0])}"
        out.append(text + f"; both letters together hold {answered['value']:.3f} of the probability.")
    if "capability" in t:
        c = t["capability"]
        worst = c[c["edit"] != "none"].sort_values("change").iloc[0]
        out.append(
            f"Price: The largest change of accuracy is {100 * worst['change']:+.1f} points [{100 * worst['change_low']:+.1f}, {100 * worst['change_high']:+.1f}], of {worst['task']} under {worst['edit']} (n={int(worst['n'])})."
        )
    return out


def panels(run: Run, study: Caa) -> list[Panel]:
    """Return the figures with their captions."""
    t = run.tables
    test = t["test"]
    own = test[(test["metric"] == "p_matching") & (test["system"] == "none")]
    own = own[[study.best[b] == n for b, n in zip(own["behaviour"], own["layer"], strict=True)]].assign(method="direction", condition="all")
    parts = [own] + ([t["random"].assign(method="random", condition="all")] if "random" in t else [])
    sweep = test[(test["metric"] == "p_matching") & (test["system"] == "none")].assign(
        line=lambda x: x["coefficient"].map(lambda c: f"{c:+g}")
    )
    mine = pd.Series([study.best[b] == n for b, n in zip(test["behaviour"], test["layer"], strict=True)], index=test.index)
    systems = test[(test["metric"] == "p_matching") & mine]
    systems = systems.assign(
        name=systems["behaviour"] + ", system prompt " + systems["system"], dose=systems["coefficient"].map(lambda c: f"{c:+g}")
    )
    same = t["similarity"]
    layer = study.best[study.behaviours[0]]
    across = same[(same["first_layer"] == layer) & (same["second_layer"] == layer)]
    deep = same[(same["first"] == study.behaviours[0]) & (same["second"] == study.behaviours[0])]
    out = [
        Panel(
            name="test", table="test", drawing=draw.doses(pd.concat(parts, ignore_index=True), "p_matching", "Multiple choice by coefficient, at each behaviour's layer", panels="behaviour", unit="coefficient (multiples of the vector)"),
            caption="Held-out test questions; 95 % bootstrap intervals over questions. Grey: random directions of equal norm.",
        ),
        Panel(
            name="layers", table="test", drawing=draw.sweep(sweep, "Multiple choice by layer and coefficient"),
            caption="The published sweep: every layer and coefficient on the test questions; 95 % bootstrap intervals over questions.",
        ),
        Panel(
            name="systems", table="test", drawing=draw.points(systems, "name", "dose", "With a system prompt that asks for the trait, or against it", axis="P(answer matching behaviour)", zero=0.5),
            caption="At each behaviour's layer; 95 % bootstrap intervals over questions.",
        ),
        Panel(
            name="components", table="components", drawing=draw.components(t["components"][t["components"]["behaviour"] == study.behaviours[0]], f"Contrast activations of {study.behaviours[0]} on their first two components"),
            caption=f"n={len(t['components'])} points, one by one instead of an interval. Each point is the letter's token of one ending. If colours (letters) and not symbols (matching or not) come apart, the vector is that of a letter.",
        ),
        Panel(
            name="across_layers", table="similarity", drawing=draw.matrix(deep, "first_layer", "second_layer", f"Vectors of {study.behaviours[0]} across layers"),
            caption="Cosines of the vectors; noise shrinks them (column reliability in the table, with n); without an interval.",
        ),
    ]  # fmt: skip
    if len(study.behaviours) > 1:
        out.append(Panel(
            name="across_behaviours", table="similarity", drawing=draw.matrix(across, "first", "second", f"Vectors of different behaviours at layer {layer}"),
            caption="Cosines of the vectors; noise shrinks them (column reliability in the table, with n); without an interval.",
        ))  # fmt: skip
    if "capability" in t:
        cost = t["capability"]
        out.append(Panel(
            name="capability", table="capability", drawing=draw.points(cost, "edit", "task", "Capability under each vector (A/B form)", axis="accuracy", zero=0.5),
            caption="Accuracy on A/B questions; 95 % Wilson intervals. The table has paired differences.",
        ))  # fmt: skip
    return out


def report(run: Run, study: Caa) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    known = study.info
    return Report(
        findings=linked(findings(run, study), SOURCES, run), panels=panels(run, study), title=f"Contrastive activation addition on {known.name}",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}. Behaviours: {', '.join(study.behaviours)}.", convention=CONVENTION, limits=LIMITS,
        made=["Vectors: mean difference at the letter's token between the two endings of each question; they lie in vectors/ beside this page, one file per behaviour and layer."],
    )  # fmt: skip
