"""The probe bench in words and pictures: findings from the tables, figures, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...figures import Panel, recipes
from ...probes import best_layers
from ...runs import Report, Run
from ..statements import FIT, linked

if TYPE_CHECKING:
    from .study import Bench

draw = recipes("probes")

CONVENTION = (
    "Label and probe name the safe answer, the one that grants the right. Accuracy is the share of held-out items whose safe answer is read; "
    "all held-out items are about identities and rights that no probe was fitted or tuned on. Probes are fitted without a claim unless a "
    "figure says otherwise, and carried over unchanged, with the normalisation of their training rows."
)
LIMITS = (
    "A probe shows what can be read, not what the model uses.",
    "Searches without labels get one bit from labels: their sign, from training rows without a claim. The honesty panel shows a rule that "
    "needs none.",
    "Intervals are clustered by identity; they say nothing about other rights or other wordings. Twenty methods on several layers are many "
    "comparisons: the best of them is not chosen here, single-layer statements are about a layer fixed beforehand.",
    "The detector of tampering has a threshold that holds on average for unpushed prompts like its calibration rows, not for other kinds of prompts.",
    "Calibration errors of small samples are biased upwards.",
)

SOURCES = {
    "By method": ("probes",),
    "Where": ("probes",),
    "Nonlinear": ("probes",),
    "Controls": ("probes",),
    "Carries over": ("transfer",),
    "How few": ("enough", "sample_efficiency"),
    "What CCS found": ("ccs_honesty",),
    "Broken from outside": ("tampering",),
    "Across training": ("change_points", "training"),
    "": ("transfer",),
}


def _say(row: Any) -> str:
    return f"{row.value:.1%} [{row.low:.1%}, {row.high:.1%}], n={int(row.n)}"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def findings(run: Run, study: Bench) -> list[str]:
    """Return the findings in words, each with its numbers, each saying "chance" where it is chance."""
    layer, table = study.layer, run.tables["probes"]
    at = pick(table, layer=layer, metric="accuracy", against="label", control="")
    out = []
    for condition in (FIT, "harm"):
        here = pick(at, condition=condition)
        text = f"By method: Read under {condition if condition == FIT else 'the harm claim'}, layer {layer}: "
        parts = []
        for kind in ("linear", "nonlinear", "without labels"):
            some = pick(here, kind=kind)
            if not len(some):
                continue
            chance = [r.method for r in _rows(some) if r.low <= 0.5 <= r.high]
            parts.append(
                f"{kind}, {len(some)} methods, {some['value'].min():.1%} to {some['value'].max():.1%}"
                + (f" (at chance: {', '.join(chance)})" if chance else "")
            )
        null = _rows(pick(table, layer=layer, control="random_directions", condition=condition, against="label"))[0]
        out.append(text + "; ".join(parts) + f". Random directions: {null.low:.1%} to {null.high:.1%}.")
    parts = []
    where = best_layers(table)
    for r in _rows(
        where[(where["condition"] == FIT) & (where["against"] == "label") & where["method"].isin(("logistic", "mass_mean", "ccs"))]
    ):
        parts.append(f"{r.method} {r.layers} (highest at {int(r.layer)}: {r.value:.1%}, band [{r.band_low:.1%}, {r.band_high:.1%}])")
    out.append(f"Where: Layers that cannot be told from the best, by bands over all layers at once, without a claim: {'; '.join(parts)}.")
    gaps = pick(table, metric="gap", condition=FIT, against="label")
    if len(gaps):
        better = gaps[gaps["low"] > 0]
        text = f"Nonlinear: Over the linear probe that validation rows prefer, without a claim, in {len(better)} of {len(gaps)} layers x methods the "
        text += "gap is above zero by its interval"
        if len(better):
            top = better.sort_values("low").iloc[-1]
            text += (
                f", most surely {top['method']} at layer {int(top['layer'])}: {top['value']:+.3f} [{top['low']:+.3f}, {top['high']:+.3f}]"
            )
        chosen = pick(pick(table, metric="selectivity"), layer=layer)
        text += ". Selectivity at layer " + f"{layer}: " + ", ".join(f"{r.method} {r.value:.2f}" for r in _rows(chosen)) + "."
        out.append(text)
    out.append(_controls(table, layer))
    matrix = run.tables["transfer"]
    for method in dict.fromkeys(matrix["method"]):
        some = pick(matrix, method=method, metric="accuracy")
        off = some[some["fit_condition"] != some["condition"]]
        low, *_, high = _rows(off.sort_values("value"))
        out.append(
            f"Transfer, {method}: Between different conditions from {_say(low)} (fitted on {low.fit_condition}, read under {low.condition}) to "
            f"{_say(high)} ({high.fit_condition}, {high.condition})."
        )
    enough = run.tables["enough"]
    parts = [
        f"{r.method} {'none of these' if pd.isna(r.items) else int(r.items)}{' (planted data)' if r.world == 'perfect' else ''}"
        for r in _rows(enough)
    ]
    out.append(f"How few: Training items from which on the lower bound stays above {enough['threshold'].iloc[0]:.0%}: {', '.join(parts)}.")
    out += [f"What CCS found: {w}" for w in run.tables["ccs_honesty"]["finding"] if isinstance(w, str) and w]
    out.append(_tampering(run.tables["tampering"], study))
    if "change_points" in run.tables:
        parts = []
        for r in _rows(run.tables["change_points"]):
            name = {"answer": "its own answer"}.get(str(r.method), str(r.method))
            parts.append(f"{name} at step {r.value:.0f} [{r.low:.0f}, {r.high:.0f}]" if r.value == r.value else f"{name}: {r.note}")
        out.append(f"Across training: Right answers without a claim become readable, layer {layer}: {'; '.join(parts)}.")
    return out


def _controls(table: pd.DataFrame, layer: int) -> str:
    some = pick(table, condition=FIT, against="label", metric="accuracy")
    blank = pick(some, control="untrained_model", layer=layer)
    text = f"Controls, without a claim: untrained model, layer {layer}: {blank['value'].min():.1%} to {blank['value'].max():.1%} over {len(blank)} methods"
    for row in pick(some, control="shuffled_labels", layer=layer).itertuples():
        text += f"; shuffled labels {row.low:.1%} to {row.high:.1%}"
    for row in pick(some, control="bag_of_words").itertuples():
        text += f"; a bag of words on the statement {_say(row)}"
    odd = pick(some, control="embedding")
    if len(odd) and odd["value"].isna().all():
        text += "; at the embedding there is nothing to fit (both endings of a pair differ by a constant there)"
    burns = pick(some, control="burns_exact", layer=layer)
    plain = pick(some, control="", layer=layer).set_index("method")["value"]
    if len(burns):
        most = burns.assign(more=burns["value"] - burns["method"].map(plain)).sort_values("more").iloc[-1]
        text += f"; the inflated protocol would claim up to {most['more']:+.1%} ({most['method']})"
    return text + "."


def _tampering(table: pd.DataFrame, study: Bench) -> str:
    alarms = _rows(pick(table, metric="false alarms"))[0]
    parts = []
    for name in dict.fromkeys(pick(table, metric="auroc")["condition"]):
        area, share = (_rows(pick(table, condition=name, metric=m))[0] for m in ("auroc", "detected"))
        parts.append(f"{name}: AUROC {area.value:.2f} [{area.low:.2f}, {area.high:.2f}], flagged {share.value:.1%}")
    rows = int(table["calibration_rows"].iloc[0])
    return (
        f"Broken from outside: A detector that never saw a pushed prompt (CCS, layer {study.layer}; threshold from {rows} unpushed "
        f"calibration rows for {study.set.false_alarms:.0%} false alarms) flags {_say(alarms)} of held-out unpushed prompts. {'; '.join(parts)}."
    )


def panels(run: Run, study: Bench) -> list[Panel]:
    """Return the figures with their captions."""
    tables, n, layer = run.tables, study.set, study.layer
    bars = "Bars are 95 % intervals, clustered by identity."
    fixed = f"layer {layer} (two thirds of the way up, fixed beforehand)"
    found = [
        Panel(
            name="layers", table="probes", drawing=draw.curves(tables["probes"], [FIT, "harm"]),
            caption=f"Fitted on {n.train} items without a claim, what is tuned tuned on grouped folds of these; {n.test} held-out items per "
            f"condition. {bars} Grey: central 95 % of {n.draws} random directions, oriented on training labels.",
        ),
        Panel(
            name="methods", table="probes", drawing=draw.methods(tables["probes"], layer, [FIT, "harm"]),
            caption=f"Every method at {fixed}. {bars} Methods without labels get only their sign from labels, on training rows without a claim. "
            "Random directions: central 95 %.",
        ),
        Panel(
            name="transfer", table="transfer", drawing=draw.transfer(tables["transfer"]),
            caption=f"Accuracy on held-out items, with 95 % intervals clustered by identity, at {fixed}. A row is one fitted probe. "
            "For CCS also the sign comes from the row's condition: red means that the reading is inverted.",
        ),
        Panel(
            name="sample_efficiency", table="sample_efficiency", drawing=draw.efficiency(tables["sample_efficiency"]),
            caption=f"{n.repeats} draws of training items per size, at {fixed}; intervals resample draws and identities. Dotted: Gaussian data with "
            "the same mean difference and covariances, where the answer is known (the perfect world). For CCS items are pairs without labels, "
            "plus a sign from all training rows.",
        ),
        Panel(
            name="ccs_honesty", table="ccs_honesty", drawing=draw.honesty(tables["ccs_honesty"]),
            caption=f"CCS at {fixed} beside its kin, the ceiling with labels, the model's own answers, its restarts, and refitted on prompts into "
            f"half of which something irrelevant was put (Farquhar et al. 2023). {bars} Random directions and restarts: their spread.",
        ),
        Panel(
            name="tampering", table="tampering_roc", drawing=draw.tampering(tables["tampering_roc"], tables["tampering"]),
            caption="The score is the probability that probe and answer name different endings. No pushed prompt was seen in fitting or calibration; "
            f"identities and rights are held out, n={n.test} prompts of each kind at most. Areas with 95 % intervals clustered by identity; marks: share flagged at the threshold for {n.false_alarms:.0%} "
            "false alarms. A claim that the model already agrees with changes no answer, and there is nothing to detect.",
        ),
    ]  # fmt: skip
    if "training" in tables:
        panel = Panel(
            name="training", table="training", drawing=draw.training(tables["training"], tables["change_points"]),
            caption=f"The same prompts without a claim, {fixed}, at each checkpoint of the model's own training. {bars} Dashed: change points; "
            "bands: their 95 % intervals (bootstrap over identities), from the last checkpoint before the change.",
        )  # fmt: skip
        found.append(panel)
    return found


def report(run: Run, study: Bench) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    known = study.info
    return Report(
        findings=linked(findings(run, study), SOURCES, run), panels=panels(run, study), title=f"Probing {known.name}: what can be read, by what, and what it takes",
        subtitle=f"{known.name}: {known.n_layers} layers, d_model {known.d_model}, {known.dtype}; answers «{study.words[1]}» and «{study.words[0]}».",
        convention=CONVENTION, limits=LIMITS,
        made=[
            "Prompts: identities x rights, granted and denied, without a claim (base_short) and under each claim (since_claim; the harm claim also "
            "under consider_claim). Activations: the residual stream after each block, at the last token of each ending.",
            "Logistic, ridge and support vector machine choose their strength, nonlinear probes what they tune, on folds that share no identity "
            "and no right. The gap of a nonlinear probe is over the linear one that validation rows prefer, on the same held-out items; its "
            "selectivity compares it with itself on a task that only memory solves (Hewitt and Liang 2019).",
        ],
    )  # fmt: skip
