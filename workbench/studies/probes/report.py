"""The probe bench in words and pictures: findings from the tables, figures, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.tables import pick
from ...core.text_controls import TEXT_NAMES
from ...figures import Finding, Panel, recipes
from ...probes import best_layers
from ...runs import Report, Run
from ..statements import FIT, subtitle
from ..surfaces import surface_findings, surface_panels
from . import closed

if TYPE_CHECKING:
    from .study import Bench

draw = recipes("probes")

CONVENTION = (
    "Label and probe name the safe answer, the one that grants the right. Accuracy is the share of held-out items whose safe answer is "
    "read; all held-out items are about identities and rights that no probe was fitted or tuned on. Probes are fitted without a claim "
    "unless a figure says otherwise, and carried over unchanged, with the normalisation of their training rows."
)
LIMITS = (
    "A probe shows what can be read, not what the model uses.",
    "Searches without labels get one bit from labels: their sign, from training rows without a claim. The honesty panel shows a rule that "
    "needs none.",
    "Intervals are clustered by identity and right; they say nothing about other wordings. More than twenty methods on several layers are "
    "many comparisons: the best of them is not chosen here. Single-layer statements are about a layer fixed beforehand.",
    "The detector of tampering has a threshold that holds on average for unpushed prompts like its calibration rows, not for other kinds "
    "of prompts.",
    "Calibration errors of small samples are biased upwards.",
)
BARS = "Bars are 95 % intervals, clustered by identity and right."


def _say(row: Any) -> str:
    return f"{row.value:.1%} [{row.low:.1%}, {row.high:.1%}], n={int(row.n)}"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _by_method(run: Run, layer: int, condition: str) -> Finding:
    table = pick(run.tables["probes"], layer=layer, against="label", condition=condition)
    accuracy, null = pick(table, metric="accuracy", control=""), _rows(pick(table, control="random_directions"))[0]
    parts = []
    for kind in ("linear", "nonlinear", "without labels"):
        rows = pick(accuracy, kind=kind)
        if not len(rows):
            continue
        chance = [row.method for row in _rows(rows) if row.low <= 0.5 <= row.high]
        at_chance = f" (not told from chance: {', '.join(chance)})" if chance else ""
        parts.append(f"{kind}, {len(rows)} methods, {rows['value'].min():.1%} to {rows['value'].max():.1%}{at_chance}")
    return Finding(
        f"By method: Read under {condition if condition == FIT else 'the harm claim'}, layer {layer}: {'; '.join(parts)}. "
        f"Random directions: {null.low:.1%} to {null.high:.1%}.",
        "probes",
    )


def _where(run: Run) -> Finding:
    best = pick(best_layers(run.tables["probes"]), condition=FIT, against="label")
    parts = [
        f"{row.method} {row.layers} (highest at {int(row.layer)}: {row.value:.1%}, band [{row.band_low:.1%}, {row.band_high:.1%}])"
        for row in _rows(best[best["method"].isin(("logistic", "mass_mean", "ccs"))])
    ]
    return Finding(
        f"Where: Layers that cannot be told from the best, by bands over all layers at once, without a claim: {'; '.join(parts)}.", "probes"
    )


def _nonlinear(run: Run, layer: int) -> list[Finding]:
    table = run.tables["probes"]
    gaps = pick(table, metric="gap", condition=FIT, against="label")
    if not len(gaps):
        return []
    above = gaps[gaps["band_low"] > 0]
    surest = ""
    if len(above):
        top = above.sort_values("low").iloc[-1]
        gap = f"{top['value']:+.3f} [{top['low']:+.3f}, {top['high']:+.3f}]"
        surest = f", most surely {top['method']} at layer {int(top['layer'])}: {gap}"
    selective = ", ".join(f"{row.method} {row.value:.2f}" for row in _rows(pick(table, metric="selectivity", layer=layer)))
    text = (
        f"Nonlinear: Over the linear probe that validation rows prefer, without a claim, in {len(above)} of {len(gaps)} layers x methods "
        f"the gap is above zero by an interval that holds for all of them at once{surest}. Selectivity at layer {layer}: {selective}."
    )
    return [Finding(text, "probes")]


def _controls(run: Run, layer: int) -> Finding:
    table = pick(run.tables["probes"], condition=FIT, against="label", metric="accuracy")
    blank = pick(table, control="untrained_model", layer=layer)["value"]
    parts = [f"untrained model, layer {layer}: {blank.min():.1%} to {blank.max():.1%} over {len(blank)} methods"]
    shuffled = pick(table, control="shuffled_labels", layer=layer)
    if len(shuffled):
        reach = f"{shuffled['low'].min():.1%} to {shuffled['high'].max():.1%}"
        parts.append(f"labels shuffled within identities, the widest of {len(shuffled)} methods: {reach}")
    parts += [f"{TEXT_NAMES[row.control]} of the statement {_say(row)}" for row in _rows(table[table["control"].isin(TEXT_NAMES)])]
    embedding = pick(table, control="embedding")
    if len(embedding) and embedding["value"].isna().all():
        parts.append("at the embedding there is nothing to fit (both endings of a pair differ by a constant there)")
    inflated = pick(table, control="burns_exact", layer=layer)
    if len(inflated):
        honest = pick(table, control="", layer=layer).set_index("method")["value"]
        most = inflated.assign(more=inflated["value"] - inflated["method"].map(honest)).sort_values("more").iloc[-1]
        parts.append(f"the inflated protocol would claim up to {most['more']:+.1%} ({most['method']})")
    return Finding(f"Controls, without a claim: {'; '.join(parts)}.", "probes")


def _transfer(run: Run) -> list[Finding]:
    matrix, found = pick(run.tables["transfer"], metric="accuracy"), []
    for method in dict.fromkeys(run.tables["transfer"]["method"]):
        rows = pick(matrix, method=method)
        low, *_, high = _rows(rows[rows["fit_condition"] != rows["condition"]].sort_values("value"))
        text = (
            f"Transfer, {method}: Between different conditions from {_say(low)} (fitted on {low.fit_condition}, read under "
            f"{low.condition}) to {_say(high)} ({high.fit_condition}, {high.condition})."
        )
        found.append(Finding(text, "transfer"))
    return found


def _how_few(run: Run) -> Finding:
    enough = run.tables["enough"]
    parts = [
        f"{row.method} {'none of these' if pd.isna(row.items) else int(row.items)}{' (planted data)' if row.world == 'perfect' else ''}"
        for row in _rows(enough)
    ]
    share = enough["threshold"].iloc[0]
    return Finding(
        f"How few: Training items from which on the lower bound stays above {share:.0%}: {', '.join(parts)}.", "enough", "sample_efficiency"
    )


def _what_ccs_found(run: Run) -> list[Finding]:
    sentences = [text for text in run.tables["ccs_honesty"]["finding"] if isinstance(text, str) and text]
    return [Finding(f"What CCS found: {text}", "ccs_honesty") for text in sentences]


def _tampering(run: Run, study: Bench) -> Finding:
    table = run.tables["tampering"]
    alarms, calibrated = _rows(pick(table, metric="false alarms"))[0], int(table["calibration_rows"].iloc[0])
    parts = []
    for name in dict.fromkeys(pick(table, metric="auroc")["condition"]):
        area, share = (_rows(pick(table, condition=name, metric=metric))[0] for metric in ("auroc", "detected"))
        parts.append(f"{name}: AUROC {area.value:.2f} [{area.low:.2f}, {area.high:.2f}], flagged {share.value:.1%}")
    return Finding(
        f"Broken from outside: A detector that never saw a pushed prompt (CCS, layer {study.layer}; threshold from {calibrated} unpushed "
        f"calibration rows for {study.set.false_alarms:.0%} false alarms) flags {_say(alarms)} of held-out unpushed prompts. "
        f"{'; '.join(parts)}." + (f" It {alarms.note}." if isinstance(alarms.note, str) and alarms.note else ""),
        "tampering",
    )


def _across_training(run: Run, layer: int) -> list[Finding]:
    if "change_points" not in run.tables:
        return []
    parts = []
    for row in _rows(run.tables["change_points"]):
        name = "its own answer" if row.method == "answer" else str(row.method)
        parts.append(f"{name}: {row.note}" if pd.isna(row.value) else f"{name} at step {row.value:.0f} [{row.low:.0f}, {row.high:.0f}]")
    text = f"Across training: Right answers without a claim become readable, layer {layer}: {'; '.join(parts)}."
    return [Finding(text, "change_points", *(["training"] if "training" in run.tables else []))]


def _findings(run: Run, study: Bench) -> list[Finding]:
    layer = study.layer
    return [
        _by_method(run, layer, FIT),
        _by_method(run, layer, "harm"),
        _where(run),
        *_nonlinear(run, layer),
        _controls(run, layer),
        *_transfer(run),
        *surface_findings(run, layer),
        _how_few(run),
        *_what_ccs_found(run),
        *closed.findings(run, layer),
        _tampering(run, study),
        *_across_training(run, layer),
    ]


def _read_panels(run: Run, study: Bench) -> list[Panel]:
    """What is read by layer and by method, and what carries over."""
    probes, n = run.tables["probes"], study.set
    fixed = f"layer {study.layer} (two thirds of the way up, fixed beforehand)"
    return [
        Panel(
            name="layers",
            table="probes",
            drawing=draw.curves(probes, [FIT, "harm"]),
            caption=f"Fitted on {n.train} items without a claim; hyperparameters were tuned on grouped folds of these; {n.test} held-out "
            f"items per condition. {BARS} Grey: central 95 % of {n.draws} random directions, oriented on training labels.",
        ),
        Panel(
            name="methods",
            table="probes",
            drawing=draw.methods(probes, study.layer, [FIT, "harm"]),
            caption=f"Every method at {fixed}. {BARS} Methods without labels get only their sign from labels, on training rows without a "
            "claim. Random directions: central 95 %.",
        ),
        Panel(
            name="transfer",
            table="transfer",
            drawing=draw.transfer(run.tables["transfer"]),
            caption=f"Accuracy on held-out items, with 95 % intervals (by identity and right), at {fixed}. A row is one fitted probe. "
            "For CCS also the sign comes from the row's condition: red means that the reading is inverted.",
        ),
    ]


def _limit_panels(run: Run, study: Bench) -> list[Panel]:
    """How few items do, what CCS is worth, what a detector of tampering sees, and how reading rises in training."""
    tables, n = run.tables, study.set
    fixed = f"layer {study.layer} (two thirds of the way up, fixed beforehand)"
    panels = [
        Panel(
            name="sample_efficiency",
            table="sample_efficiency",
            drawing=draw.efficiency(tables["sample_efficiency"]),
            caption=f"{n.repeats} draws of training items per size, at {fixed}; intervals resample draws and identities. Dotted: Gaussian "
            "data with the same mean difference and covariances, where the answer is known (the perfect world). For CCS items are pairs "
            "without labels, plus a sign from all training rows.",
        ),
        Panel(
            name="ccs_honesty",
            table="ccs_honesty",
            drawing=draw.honesty(tables["ccs_honesty"]),
            caption=f"CCS at {fixed} beside its kin, the ceiling with labels, the model's own answers, its restarts, and refitted on "
            f"prompts into half of which something irrelevant was put (Farquhar et al. 2023). {BARS} "
            "Random directions and restarts: their spread.",
        ),
        Panel(
            name="tampering",
            table="tampering_roc",
            drawing=draw.tampering(tables["tampering_roc"], tables["tampering"]),
            caption="The score is the probability that probe and answer name different endings. No pushed prompt was seen in fitting or "
            f"calibration; identities and rights are held out, n={n.test} prompts of each kind at most. Areas with 95 % intervals "
            f"by identity and right; marks: share flagged at the threshold for {n.false_alarms:.0%} false alarms. A claim that the model "
            "already agrees with changes no answer, and there is nothing to detect.",
        ),
    ]
    if "training" not in tables:
        return panels
    training = Panel(
        name="training",
        table="training",
        drawing=draw.training(tables["training"], tables["change_points"]),
        caption=f"The same prompts without a claim, {fixed}, at each checkpoint of the model's own training. {BARS} Dashed: change points; "
        "bands: their 95 % intervals (bootstrap over identities), from the last checkpoint before the change.",
    )
    return [*panels, training]


def report(run: Run, study: Bench) -> Report:
    """Return findings, figures and words.

    Args:
        run: The run, with its tables.
        study: What `compute` returned.
    """
    return Report(
        title=f"Probing {study.info.name}: what can be read, by what, and what it takes",
        subtitle=subtitle(study, f"; answers «{study.words[1]}» and «{study.words[0]}»"),
        findings=_findings(run, study),
        panels=[*_read_panels(run, study), *surface_panels(run, study.layer), *closed.panels(run, study.layer), *_limit_panels(run, study)],
        convention=CONVENTION,
        limits=LIMITS,
        made=[
            "Prompts: identities x rights, granted and denied, without a claim (base_short) and under each claim (since_claim; the harm "
            "claim also under consider_claim). Activations: the residual stream after each block, at the last token of each ending.",
            "Logistic, ridge and support vector machine choose their strength, nonlinear probes what they tune, on folds that share no "
            "identity and no right. The gap of a nonlinear probe is over the linear one that validation rows prefer, on the same held-out "
            "items; its selectivity compares it with itself on a task that only memory solves (Hewitt and Liang 2019).",
        ],
    )
