"""The CAA study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..statements import subtitle
from .tuning import TAUGHT

if TYPE_CHECKING:
    from .study import Caa

draw = recipes("steering")
_TAUGHT = {
    "none": "not tuned",
    "matching": "taught the matching answers",
    "opposite": "taught the opposite",
    "coin": "taught answers by coin",
}

CONVENTION = (
    "P(matching) is the probability of the letter of the answer that matches the behaviour, of both letters' probability. A coefficient of "
    "1 adds the vector once (all behaviours of a layer have one length). Layers count from 0; each behaviour's layer was chosen on "
    "questions that made no vector and are not in the test."
)
LIMITS = (
    "Multiple choice measures which letter is likelier, not what the model would write; the open answers are there to be read.",
    "Phrases of refusal are a poor judge: on this project's labelled sample they miss and invent refusals (see known_errors).",
    "Test questions are those of the folder; a vector that is tested on questions like those it was made from says little of others.",
    "Where the model hardly gives probability to the two letters (column answered), P(matching) is of little meaning.",
)


def _number(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _first(table: pd.DataFrame, **where: Any) -> Any:
    return next(pick(table, **where).itertuples())


def _signed(coefficient: float) -> str:
    return f"{coefficient:+g}"


def _behaviour(run: Run, study: Caa, behaviour: str) -> Finding:
    """What the vector of one behaviour does to multiple choice, beside random directions, item by item, and without a push."""
    layer, low, high = study.best[behaviour], min(study.set.coefficients), max(study.set.coefficients)
    table = pick(run.tables["test"], behaviour=behaviour, layer=layer, system="none")
    pushed_down, plain, pushed_up = (_first(table, metric="p_matching", coefficient=coefficient) for coefficient in (low, 0.0, high))
    chosen = (
        ""
        if study.moves(behaviour)
        else "no layer moves the answers beyond noise on validation questions (an interval for all layers at once); what "
        "would have been chosen is shown. "
    )
    text = (
        f"{behaviour}: {chosen}P(matching) at layer {layer} is {_number(pushed_down)} at {low:+g}, {_number(plain)} without, "
        f"{_number(pushed_up)} at {high:+g} (n={int(plain.n)} prompts)"
    )
    if "random" in run.tables:
        chance = _first(run.tables["random"], behaviour=behaviour, coefficient=high)
        spread = f"{chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f})"
        text += f"; {int(chance.n)} random directions at {high:+g}: {spread}"
    if "steerability" in run.tables:
        slope, backfires = (_first(run.tables["steerability"], behaviour=behaviour, metric=m) for m in ("slope", "anti_steerable"))
        if slope.low > 0 or slope.high < 0:
            text += f". It backfires for {_number(backfires)} of the prompts"
        else:
            text += f". The slope of the log-odds is not told from 0 ({_number(slope)}), so that for whom it backfires cannot be said"
    for bias in pick(table, metric="position_bias", coefficient=0).head(1).itertuples():
        text += f". Without a push it favours A by {_number(bias)}"
    answered = _first(table, metric="answered", coefficient=0)
    text += f"; both letters together hold {answered.value:.3f} of the probability."
    return Finding(text, *(name for name in ("test", "random", "steerability") if name in run.tables))


def _tuned(run: Run, study: Caa) -> list[Finding]:
    """What fine-tuning does alone, and what the vector still does on top of it."""
    if "tuned" not in run.tables:
        return []
    out, high = [], max(study.set.coefficients)
    for behaviour in study.behaviours:
        table = pick(run.tables["tuned"], behaviour=behaviour, metric="p_matching")
        alone, pushed = (
            {name: _number(_first(table, taught=name, coefficient=coefficient)) for name in ("none", *TAUGHT)}
            for coefficient in (0.0, high)
        )
        told = "; ".join(f"{_TAUGHT[name]} {alone[name]}, with the vector at {high:+g} {pushed[name]}" for name in alone)
        n = int(_first(table, taught="none", coefficient=0.0).n)
        out.append(Finding(f"Fine-tuning, {behaviour} (P(matching), n={n} prompts): {told}.", "tuned"))
    return out


def _tuned_panels(run: Run) -> list[Panel]:
    if "tuned" not in run.tables:
        return []
    table = pick(run.tables["tuned"], metric="p_matching").reset_index(drop=True)
    table["condition"] = table["taught"].map(_TAUGHT)
    table["method"] = "direction"
    return [
        Panel(
            name="tuned",
            table="tuned",
            drawing=draw.doses(
                table,
                "p_matching",
                "Fine-tuned models, alone (0) and under the vector",
                panels="behaviour",
                unit="coefficient (multiples of the vector)",
            ),
            caption="Adapters taught the matching answers, the opposite ones, and answers drawn by coin (the control), on the questions "
            "that made the vector; tested on held-out questions; 95 % intervals over questions. The table has MMLU and TruthfulQA, too.",
        )
    ]


def _price(run: Run) -> list[Finding]:
    if "capability" not in run.tables:
        return []
    table = run.tables["capability"]
    changes = table[table["edit"] != "none"].sort_values("change")
    worst: Any = next(changes.itertuples())
    change, low, high = (f"{100 * share:+.1f}" for share in (worst.change, worst.change_low, worst.change_high))
    text = (
        f"Price: Of {len(changes)} changes of accuracy the lowest, picked after looking, is {change} points [{low}, {high}], "
        f"of {worst.task} under {worst.edit} (n={int(worst.n)})."
    )
    return [Finding(text, "capability")]


def _test_panels(run: Run, study: Caa) -> list[Panel]:
    """Multiple choice at each behaviour's layer, at every layer, and with a system prompt."""
    table = pick(run.tables["test"], metric="p_matching")
    best = table[table["layer"] == table["behaviour"].map(study.best)]
    random = [run.tables["random"].assign(method="random", condition="all")] if "random" in run.tables else []
    doses = pd.concat([pick(best, system="none").assign(method="direction", condition="all"), *random], ignore_index=True)
    by_layer = pick(table, system="none")
    told_so = best[best["system"] != "none"]
    systems = told_so.assign(name=told_so["behaviour"] + ", system prompt " + told_so["system"], dose=told_so["coefficient"].map(_signed))
    unit, axis = "coefficient (multiples of the vector)", "P(answer matching behaviour)"
    at_best, told = (
        "Multiple choice by coefficient, at each behaviour's layer",
        "With a system prompt that asks for the trait, or against it",
    )
    return [
        Panel(
            name="test",
            table="test",
            drawing=draw.doses(doses, "p_matching", at_best, panels="behaviour", unit=unit),
            caption="Held-out test questions; 95 % intervals over questions. Grey: random directions of equal norm.",
        ),
        Panel(
            name="layers",
            table="test",
            drawing=draw.sweep(by_layer.assign(line=by_layer["coefficient"].map(_signed)), "Multiple choice by layer and coefficient"),
            caption="The published sweep: every layer and coefficient on the test questions; 95 % intervals over questions.",
        ),
    ] + (
        []
        if systems.empty
        else [
            Panel(
                name="systems",
                table="test",
                drawing=draw.points(systems, "name", "dose", told, axis=axis, zero=0.5),
                caption="At each behaviour's layer, with the system messages that were given; 95 % intervals over questions.",
            ),
        ]
    )


def _decoded_panels(run: Run) -> list[Panel]:
    """The answer read off every layer under the pushes."""
    if "decoded" not in run.tables:
        return []
    table = pick(run.tables["decoded"], metric="matching")
    table = table.assign(line=table["coefficient"].map(_signed))
    return [
        Panel(
            name="decoded",
            table="decoded",
            drawing=draw.sweep(table, "The answer read off every layer under the push (logit lens)", axis="share that matches"),
            caption="Share of test questions whose matching answer is likelier where the stream after a layer is read through the final "
            "norm and the unembedding; 95 % intervals over questions. In early layers the stream is not in those coordinates yet.",
        )
    ]


def _vector_panels(run: Run, study: Caa) -> list[Panel]:
    """The activations that vectors are made from, and how alike vectors are across layers and behaviours."""
    components, cosines = run.tables["components"], run.tables["similarity"]
    behaviour = study.behaviours[0]
    layer = study.best[behaviour]
    title = f"Contrast activations of {behaviour} on their first two components"
    deep = pick(cosines, first=behaviour, second=behaviour)
    across = pick(cosines, first_layer=layer, second_layer=layer)
    counts = run.tables["vectors"]["n"]
    pairs = f"n={int(counts.min())}" if counts.min() == counts.max() else f"n={int(counts.min())} to {int(counts.max())}"
    noise = f"Cosines of vectors from {pairs} pairs each; noise shrinks them (column reliability in the table); without an interval."
    panels = [
        Panel(
            name="components",
            table="components",
            drawing=draw.components(pick(components, behaviour=behaviour), title),
            caption=f"n={len(components)} points, one by one instead of an interval. Each point is the letter's token of one ending. If "
            "colours (letters) and not symbols (matching or not) come apart, the vector is that of a letter.",
        ),
        Panel(
            name="across_layers",
            table="similarity",
            drawing=draw.matrix(deep, "first_layer", "second_layer", f"Vectors of {behaviour} across layers"),
            caption=noise,
        ),
    ]
    if len(study.behaviours) == 1:
        return panels
    behaviours = Panel(
        name="across_behaviours",
        table="similarity",
        drawing=draw.matrix(across, "first", "second", f"Vectors of different behaviours at layer {layer}"),
        caption=noise,
    )
    return [*panels, behaviours]


def _price_panels(run: Run) -> list[Panel]:
    if "capability" not in run.tables:
        return []
    title = "Capability under each vector (A/B form)"
    return [
        Panel(
            name="capability",
            table="capability",
            drawing=draw.points(run.tables["capability"], "edit", "task", title, axis="accuracy", zero=0.5),
            caption="Accuracy on A/B questions; 95 % Wilson intervals. The table has paired differences.",
        )
    ]


def report(run: Run, study: Caa) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    return Report(
        title=f"Contrastive activation addition on {study.info.name}",
        subtitle=subtitle(study, f". Behaviours: {', '.join(study.behaviours)}"),
        findings=[*(_behaviour(run, study, behaviour) for behaviour in study.behaviours), *_tuned(run, study), *_price(run)],
        panels=[*_test_panels(run, study), *_decoded_panels(run), *_vector_panels(run, study), *_tuned_panels(run), *_price_panels(run)],
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Vectors: mean difference at the letter's token between the two endings of each question; they lie in vectors/ beside this "
            "page, one file per behaviour and layer."
        ],
    )
