"""The patching study in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...figures import Panel, recipes
from ...runs import Report, Run
from ..statements import linked

if TYPE_CHECKING:
    from .study import Patching

draw = recipes("patching")

CONVENTION = (
    "Clean is the run under the good claim, corrupted the run under the harm claim; recovered is 0 where patching leaves the corrupted run as it was and 1 "
    "where it gives the clean run's answer: a ratio of means over prompts. Denoise puts clean activations into the corrupted run, noise the other way "
    "round. Layers count from 0."
)
LIMITS = (
    "A place that recovers the behaviour carries the difference between the two claims; it need not be where the difference is computed, nor the only place.",
    "The layer at which heads and lines are spoken of is the lowest that recovers half of the answer on the same prompts; the figures show every layer.",
    "Parts of the prompt are patched whole; what one token of a part carries is not told apart.",
    "Both claims are fixed sentences: what is found is about this pair of claims in this prompt form.",
    "Attribution patching is a first-order guess; where the error table shows a low correlation or a large error, it should not be used.",
)

SOURCES = {
    "Where": ("maps",),
    "Needed": ("maps",),
    "Heads": ("heads",),
    "One line": ("lines",),
    "": ("attribution",),
}


def _number(row: object) -> str:
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"  # pyright: ignore[reportAttributeAccessIssue]


def findings(run: Run, study: Patching) -> list[str]:
    """Return the findings as sentences with their numbers."""
    t, out = run.tables, []
    layer, _ = study.place
    maps = t["maps"]
    stream = maps[(maps["site"] == "resid_post") & (maps["way"] == "denoise")]
    first = maps[(maps["site"] == "resid_pre") & (maps["layer"] == study.layers[0])]
    top = stream[(stream["layer"] == layer) & (stream["position"] == "last")].iloc[0]
    out.append(
        f"Where: At the last token of the prompt the residual stream after block {layer} recovers {_number(top)} of the answer (n={int(top['n'])} prompts); this is the "
        f"lowest layer at which that token alone recovers half. The claim's own tokens recover "
        + (
            _number(first[first["position"] == "claim"].iloc[0])
            if (first["position"] == "claim").any()
            else "nothing that could be aligned"
        )
        + f" before block {study.layers[0]}."
    )
    noise = maps[(maps["site"] == "resid_post") & (maps["way"] == "noise") & (maps["position"] == "last") & (maps["layer"] == layer)].iloc[
        0
    ]
    out.append(f"Needed: With the corrupted stream put into the clean run there, {_number(noise)} of the behaviour is left.")
    if "heads" in t:
        best = t["heads"].sort_values("value").iloc[-1]
        rest = t["heads"].sort_values("value").iloc[-2]
        out.append(
            f"Heads: Head {int(best['head'])} of layer {int(best['layer'])} alone, at the last token, recovers {_number(best)}; the next, head {int(rest['head'])} of layer {int(rest['layer'])}, {_number(rest)}."
        )
    lines: dict[str, Any] = {str(r["line"]): pd.Series(r) for r in t["lines"][t["lines"]["layer"] == layer].to_dict("records")}
    whole, stance = lines["the whole stream"], lines["stance"]
    chance = next(row for name, row in lines.items() if name.startswith("random"))
    share = float(stance["value"] / whole["value"])
    word = "explains at least 80 % of it" if share >= 0.8 else "explains less than 80 % of it"
    out.append(
        f"One line: At layer {layer} the component along the stance direction (training identities only) recovers {_number(stance)}, {share:.0%} of what the whole stream recovers "
        f"({_number(whole)}): it {word}. The direction of agreeing recovers {_number(lines['agree'])}, random directions {chance['value']:.3f} ({chance['low']:.3f} to {chance['high']:.3f})."
    )
    best_layer = t["lines"][t["lines"]["line"] == "stance"].sort_values("value").iloc[-1]
    out.append(f"One line, by layer: It recovers most at layer {int(best_layer['layer'])}: {_number(best_layer)}.")
    a = t["attribution"]
    out.append(
        "Gradient: Attribution patching correlates with exact patching by "
        + "; ".join(
            f"{site} {rows['correlation'].min():.2f} to {rows['correlation'].max():.2f} (mean error {(rows['mean_error'].sum() / rows['mean_effect'].sum()):.0%} of the effect)"
            for site, rows in a.groupby("site", sort=False)
        )
        + f", over layers, on {study.set.sample} prompts."
    )
    return out


def panels(run: Run, study: Patching) -> list[Panel]:
    """Return the figures with their captions."""
    t, n = run.tables, len(study.clean)
    layer, _ = study.place
    clean, corrupted = study.texts[study.set.claims[1]], study.texts[study.set.claims[0]]
    out = [
        Panel(
            name="maps", table="maps", drawing=draw.maps(t["maps"], "What each part of the prompt carries, layer by layer", panels="map"),
            caption=f"Each cell exchanges one part of the prompt at one layer between the run under “{clean}” and the run under “{corrupted}”; n={n} held-out statements. Point at a cell for its 95 % interval over identities.",
        ),
        Panel(
            name="lines", table="lines", drawing=draw.lines(t["lines"], "How much of it lies along one direction (last token of the prompt)"),
            caption=f"Recovered when the whole residual stream at the last token is exchanged, and when only its component along one direction is; n={n} statements, 95 % intervals over identities. Directions from training identities.",
        ),
        Panel(
            name="attribution", table="attribution", drawing=draw.attribution(t["attribution"], "Attribution patching against exact patching"),
            caption=f"On n={study.set.sample} statements, all parts of the prompt; a description of these, without an interval. An error of 1 means that guesses are as far off as the effects are large.",
        ),
    ]  # fmt: skip
    if "heads" in t:
        out.insert(1, Panel(
            name="heads", table="heads", drawing=draw.heads(t["heads"], "Attention heads at the last token of the prompt"),
            caption=f"Each cell exchanges the output of one head at the last token; n={n} statements, 95 % intervals in the table. The stream there first recovers half after block {layer}.",
        ))  # fmt: skip
    return out


def report(run: Run, study: Patching) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    known = study.info
    return Report(
        findings=linked(findings(run, study), SOURCES, run), panels=panels(run, study), title=f"Where a claim overrides the truth in {known.name}",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}. Prompt form {study.set.template}.", convention=CONVENTION, limits=LIMITS,
        made=[
            "Stems of the same statements under two claims "
            + ("with as many tokens each, so that every token has its counterpart" if study.align_by == "same" else "laid beside each other by equal runs of tokens")
            + f": “{study.texts[study.set.claims[1]]}” (clean) and “{study.texts[study.set.claims[0]]}” (corrupted). The table alignment shows the first.",
            f"Metric: {study.set.metric}, of the answer that grants the right. Statements are about identities and rights that made no direction.",
        ],
    )  # fmt: skip
