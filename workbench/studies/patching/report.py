"""The patching study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Finding, Panel, recipes
from ...runs import Report, Run
from ..answering import unanswered
from ..statements import subtitle

if TYPE_CHECKING:
    from .study import Patching

draw = recipes("patching")
HALF = 0.5  # of the answer: where it is first recovered, findings are about

CONVENTION = (
    "Clean is the run under the good claim, corrupted the run under the harm claim; recovered is 0 where patching leaves the corrupted run "
    "as it was and 1 where it gives the clean run's answer: a ratio of means over prompts. Denoise puts clean activations into the "
    "corrupted run, noise the other way round. Layers count from 0."
)
LIMITS = (
    "A place that recovers the behaviour carries the difference between the two claims; it need not be where the difference is computed, "
    "nor the only place.",
    "Findings about heads and lines are at the lowest layer that recovers half of the answer on the same prompts, or where none does at "
    "that which recovers most; the figures show every layer.",
    "Parts of the prompt are patched whole; what one token of a part carries is not told apart.",
    "Both claims are fixed sentences: what is found is about this pair of claims in this prompt form.",
    "Attribution patching is a first-order guess; where the error table shows a low correlation or a large error, it should not be used.",
)


def _number(row: Any) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _first(table: pd.DataFrame, **where: Any) -> Any:
    return next(pick(table, **where).itertuples())


def _ranked(table: pd.DataFrame) -> list[Any]:
    """Rows from the least to the most recovered."""
    return list(table.sort_values("value").itertuples())


def _half(value: float) -> str:
    """What is said of the layer that findings are about."""
    if value >= HALF:
        return "this is the lowest layer at which that token alone recovers half"
    return "that token alone recovers half at no layer, and this is where it recovers most (picked after looking)"


def _weak(run: Run, study: Patching) -> str:
    """Why the numbers say little, or "": the model does not answer, or the two claims do not move its answers."""
    silent = unanswered(run.tables["says"], [("base_short", "none")])
    apart: Any = next(run.tables["apart"].itertuples())
    still = ""
    if not (apart.low > 0 or apart.high < 0):
        corrupted, clean = study.set.claims
        still = (
            f"The {clean} claim and the {corrupted} claim are not shown to move the answers apart (log-odds of the safe answer "
            f"{apart.value:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}], n={int(apart.n)}): what is recovered below is a share of nothing."
        )
    return " ".join(text for text in (silent, still) if text)


def _where(run: Run, study: Patching, layer: int) -> Finding:
    maps, lowest = run.tables["maps"], study.layers[0]
    last = _first(maps, site="resid_post", way="denoise", layer=layer, position="last")
    claim = list(pick(maps, site="resid_pre", layer=lowest, position="claim").itertuples())
    recovered = _number(claim[0]) if claim else "nothing that could be aligned"
    return Finding(
        f"Where: At the last token of the prompt the residual stream after block {layer} recovers {_number(last)} of the answer "
        f"(n={int(last.n)} prompts); {_half(last.value)}. The claim's own tokens recover "
        f"{recovered} before block {lowest}.",
        "maps",
    )


def _needed(run: Run, layer: int) -> Finding:
    left = _first(run.tables["maps"], site="resid_post", way="noise", position="last", layer=layer)
    return Finding(f"Needed: With the corrupted stream put into the clean run there, {_number(left)} of the behaviour is left.", "maps")


def _heads(run: Run) -> list[Finding]:
    if "heads" not in run.tables:
        return []
    second, best = _ranked(run.tables["heads"])[-2:]
    text = (
        f"Heads: Head {int(best.head)} of layer {int(best.layer)} alone, at the last token, recovers {_number(best)}, the highest of "
        f"{len(run.tables['heads'])}, picked after looking, which its interval does not pay for; the next, head {int(second.head)} of "
        f"layer {int(second.layer)}, {_number(second)}."
    )
    return [Finding(text, "heads")]


def _one_line(run: Run, layer: int) -> Finding:
    table = pick(run.tables["lines"], layer=layer)
    whole, stance, agree = (_first(table, line=name) for name in ("the whole stream", "stance", "agree"))
    chance: Any = next(table[table["line"].str.startswith("random")].itertuples())
    share = stance.value / whole.value
    return Finding(
        f"One line: At layer {layer} the component along the stance direction (made from other identities) recovers {_number(stance)}, "
        f"{share:.0%} of what the whole stream recovers ({_number(whole)}): it explains {'at least' if share >= 0.8 else 'less than'} 80 % "
        f"of it. The direction of agreeing recovers {_number(agree)}, random directions {chance.value:.3f} "
        f"({chance.low:.3f} to {chance.high:.3f}).",
        "lines",
    )


def _line_by_layer(run: Run) -> Finding:
    best = _ranked(pick(run.tables["lines"], line="stance"))[-1]
    return Finding(f"One line, by layer: It recovers most at layer {int(best.layer)}: {_number(best)}.", "lines")


def _gradient(run: Run, study: Patching) -> Finding:
    parts = []
    for site, rows in run.tables["attribution"].groupby("site", sort=False):
        correlation, error = rows["correlation"], rows["mean_error"].sum() / rows["mean_effect"].sum()
        parts.append(f"{site} {correlation.min():.2f} to {correlation.max():.2f} (mean error {error:.0%} of the effect)")
    return Finding(
        f"Gradient: Attribution patching correlates with exact patching by {'; '.join(parts)}, over layers, on {study.set.sample} prompts.",
        "attribution",
    )


def _panels(run: Run, study: Patching, layer: int) -> list[Panel]:
    tables, n = run.tables, len(study.clean)
    corrupted, clean = (study.texts[claim] for claim in study.set.claims)
    maps = Panel(
        name="maps",
        table="maps",
        drawing=draw.maps(tables["maps"], "What each part of the prompt carries, layer by layer", panels="map"),
        caption=f"Each cell exchanges one part of the prompt at one layer between the run under “{clean}” and the run under "
        f"“{corrupted}”; n={n} held-out statements. Point at a cell for its 95 % interval over identities.",
    )
    lines = Panel(
        name="lines",
        table="lines",
        drawing=draw.lines(tables["lines"], "How much of it lies along one direction (last token of the prompt)"),
        caption="Recovered when the whole residual stream at the last token is exchanged, and when only its component along one direction "
        f"is; n={n} statements, 95 % intervals over identities. Directions from other identities.",
    )
    attribution = Panel(
        name="attribution",
        table="attribution",
        drawing=draw.attribution(tables["attribution"], "Attribution patching against exact patching"),
        caption=f"On n={study.set.sample} statements, all parts of the prompt; a description of these, without an interval. An error of 1 "
        "means that guesses are as far off as the effects are large.",
    )
    if "heads" not in tables:
        return [maps, lines, attribution]
    heads = Panel(
        name="heads",
        table="heads",
        drawing=draw.heads(tables["heads"], "Attention heads at the last token of the prompt"),
        caption=f"Each cell exchanges the output of one head at the last token; n={n} statements, 95 % intervals in the table. Findings "
        f"are about block {layer}.",
    )
    return [maps, heads, lines, attribution]


def report(run: Run, study: Patching) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    layer, _ = study.place
    weak = _weak(run, study)
    corrupted, clean = (study.texts[claim] for claim in study.set.claims)
    same = "with as many tokens each, so that every token has its counterpart"
    aligned = same if study.align_by == "same" else "laid beside each other by equal runs of tokens"
    return Report(
        title=f"Where a claim moves the answers of {study.info.name}",
        subtitle=subtitle(study, f". Prompt form {study.set.template}"),
        findings=[
            *([Finding(f"Mind: {weak}", "says", "apart")] if weak else []),
            _where(run, study, layer),
            _needed(run, layer),
            *_heads(run),
            _one_line(run, layer),
            _line_by_layer(run),
            _gradient(run, study),
        ],
        panels=_panels(run, study, layer),
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            f"Stems of the same statements under two claims {aligned}: “{clean}” (clean) and “{corrupted}” (corrupted). "
            "The table alignment shows the first.",
            f"Metric: {study.set.metric}, of the answer that grants the right. Statements are about identities and rights that made no "
            "direction.",
            f"Asked: {study.form.name}{f', system message {study.asks.system!r}' if study.asks.system else ''}.",
        ],
        warning=weak,
    )
