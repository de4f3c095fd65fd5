"""The protocol: fit on the training rows of one condition, read the held-out rows of any, with controls beside.

The condition that is fitted and the conditions that are read are separate arguments. Truth and the model's own answer
are both columns of the row table; a probe can be fitted on one and compared with the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..activations import Activations
from ..core.errors import BadInput, MissingColumn, UnknownName, WrongModel, unknown
from ..core.stats import Estimate, auroc, paired_difference, proportion, undefined
from ..prompts import Split, grouped_split
from . import controls as beside
from .calibration import brier, calibration_error
from .linear import LINEAR
from .methods import Fit, Method, column, fit_layers, name_of
from .nonlinear import NONLINEAR
from .text import bag_of_words

DEFAULT = ("logistic", "mass_mean", "ccs")
CONTROLS = ("shuffled_labels", "random_directions", "bag_of_words")
METRICS = ("accuracy", "auroc", "ece", "brier")
ORDER = [
    "layer",
    "site",
    "method",
    "control",
    "fit_condition",
    "condition",
    "split",
    "against",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "band_low",
    "band_high",
    "note",
]


def probe_layers(
    acts: Activations,
    *,
    test: Mapping[str, Activations] | None = None,
    methods: Sequence[Method] = DEFAULT,
    split: Split | None = None,
    condition: str = "fit",
    target: str = "label",
    against: Sequence[str] = ("label",),
    untrained: Activations | None = None,
    embedding: Activations | None = None,
    controls: Iterable[str] = CONTROLS,
    text: str = "statement",
    metrics: Sequence[str] = METRICS,
    random_directions: int = 50,
    shuffles: int = 20,
    resamples: int = 1000,
    folds: int = 5,
    burns_exact: bool = False,
    check_labels: bool = True,
    control_task: str = "right",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ccs_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    **normalisation: Any,
) -> pd.DataFrame:
    """Fit probes on every layer of one condition and read them on held-out rows of this and of other conditions.

    Args:
        acts: The condition that is fitted; its training rows only.
        test: Further conditions to read, by name; their held-out rows only.
        methods: Of `METHODS`: linear ("logistic", "svm", "ridge", "lda", "mass_mean", "difference_in_means"), nonlinear ("mlp",
            "quadratic", "rbf", "knn"), without labels ("ccs", "ccs_circle", "infonce", "spin", "hinge", "bimodal", "crc", "vinc",
            "kmeans", "ccs:mlp"), or a loss of your own (see `fit_contrast`).
        split: Which identities and rights are held out; by default a third of each, drawn from `seed`. What is tuned is
            tuned on grouped folds of the training rows.
        condition: Name of the fitted condition in the table.
        target: Column to fit on (without labels: to resolve the sign with).
        against: Columns to compare the reading with: "label" (truth), "answer" (what the model says).
        untrained: The fitted condition read from an untrained copy of the model: a control.
        embedding: The same read before the first block (`site="resid_pre"`, layer 0): a control, at layer -1.
        controls: Of `CONTROLS`. "shuffled_labels" fits mass-mean probes on permuted training labels;
            "random_directions" draws directions and orients them on training labels; both give the middle of their
            distribution with its central 95 %. "bag_of_words" reads the text column alone.
        text: Column of the rows with the text for the bag of words.
        metrics: Of `METRICS`. "ece" and "brier" where scores are probabilities (see `Fit.probabilities`).
        random_directions, shuffles: Draws of the two controls.
        resamples: Bootstrap draws for the intervals; 0 leaves all but the accuracy out.
        folds: Grouped folds to tune on.
        burns_exact: Add what the reference protocol of CCS would claim (control "burns_exact"): normalised with test statistics,
            the better sign taken on test labels.
        check_labels: Refuse prompt forms whose labels contradict the other forms.
        control_task: With nonlinear methods: the column whose values get random labels, for the selectivity.
        options: By method, passed to the fit.
        ccs_options: The same for "ccs".
        seed: For the split, starts, controls and intervals.
        normalisation: For all methods: `normalise="mean_std" | "mean" | "none"`, `per="variant" | "all" | "template"`,
            `erase_variant=True` (LEACE of the variant direction).

    Returns:
        One row per layer x method x condition x `against` x metric: "accuracy" with a Wilson interval at the effective
        sample size; "auroc", "ece" (monotone bins) and "brier" with a bootstrap; all clustered by identity. For nonlinear methods
        also "gap" (accuracy minus that of the linear method that validation rows prefer, paired) and, for these and
        linear methods, "selectivity". Columns: `layer, site, method, control, fit_condition, condition, split, against, metric,
        value, low, high, n, band_low, band_high, note`. The bag of words and the embedding have layer -1. An accuracy's band holds for
        all layers at once (Bonferroni): with it, not with `low` and `high`, compare layers (`best_layers`).

    Raises:
        WrongModel: A condition was read from other weights.
        OneClass, MissingColumn, SplitLeak, FlippedLabels, BadInput: Before fitting.

    Note:
        "Readable" is not "used": a probe shows what is there, not what the model does with it.
    """
    others = dict(test or {})
    _check(acts, others, methods, controls, metrics)
    split = split or grouped_split(acts.rows, seed=seed)
    side = split.side(acts.rows)
    if not (side == "test").any() or not (side == "train").any():
        raise BadInput("the split leaves no row for training or none for test: more items, or another split")
    train, read = acts.subset(side == "train"), {condition: acts.subset(side == "test")}
    read |= {name: other.subset(split.side(other.rows) == "test") for name, other in others.items()}
    for name in against:
        for other in read.values():
            column(other, name)
    y = column(train, target)
    if check_labels and len(np.unique(y)) == 2:
        beside.check_labels(train, y)
    special = {k: dict(v) for k, v in (options or {}).items()}
    special["ccs"] = special.get("ccs", {}) | dict(ccs_options or {})
    names = [name_of(m) for m in methods]
    nonlinear = [n for n in names if n in NONLINEAR]
    columns = {"site": acts.site, "fit_condition": condition, "split": "test"}
    rows: list[dict[str, Any]] = []
    hits: dict[tuple[str, int, str, str], np.ndarray] = {}

    def fit(some: Activations, method: Method, name: str) -> Fit:
        supervised = name in LINEAR or name in NONLINEAR
        wanted = supervised and bool(nonlinear or (name != "logistic" and resamples and {"ece", "brier"} & set(metrics)))
        return fit_layers(
            some,
            method,
            target=target,
            condition=condition,
            folds=folds,
            validate=wanted,
            seed=seed,
            **{**normalisation, **special.get(name, {})},
        )

    def add(found: Fit, conditions: Mapping[str, Activations], control: str = "", level: int | None = None) -> None:
        for where, held in conditions.items():
            for layer in held.layers:
                scores = found.scores(held, layer)
                place = {
                    "layer": layer if level is None else level,
                    "method": found.method,
                    "control": control,
                    "condition": where,
                    **columns,
                }
                rows.extend(
                    place | row
                    for row in _measure(
                        scores, held.rows, against, resamples, seed, metrics, found.probabilities(scores, layer), len(held.layers)
                    )
                )
                for name in () if control else against:
                    hits[found.method, layer, where, name] = (scores > 0) == held.rows[name].to_numpy()
                    if burns_exact and not found.supervised:
                        claimed = beside.inflated(found, held, layer, name)
                        note = "test statistics, and the better sign on test labels"
                        rows.append(
                            place | {"control": "burns_exact", "against": name, "metric": "accuracy", **claimed.row(), "note": note}
                        )

    fits = {name: fit(train, method, name) for method, name in zip(methods, names, strict=True)}
    for found in fits.values():
        add(found, read)
    if nonlinear:
        rows += [r | columns for r in _gaps(fits, nonlinear, read, hits, resamples, seed)]
        for method, name in zip(methods, names, strict=True):
            if name in LINEAR or name in NONLINEAR:
                extra = {**normalisation, **special.get(name, {})}
                found = beside.selectivity(train, method, target=target, task=control_task, resamples=resamples, seed=seed, **extra)
                for layer, (value, control) in found.items():
                    row = {
                        "layer": layer,
                        "method": name,
                        "control": "",
                        "condition": condition,
                        "against": target,
                        "metric": "selectivity",
                    }
                    note = f"on other identities of the training rows; control task by {control_task!r}: {control.value:.3f}"
                    rows.append(row | columns | value.row() | {"split": "validation", "note": note})
    for control, other in (("untrained_model", untrained), ("embedding", embedding)):
        if other is None:
            continue
        if len(other) != len(acts) or other.rows["stem"].tolist() != acts.rows["stem"].tolist():
            raise WrongModel(f"{control.split('_')[0]}=: it must have read the same prompts in the same order")
        other = other.with_rows(acts.rows)  # with the columns that were added to the rows since
        blank, held = other.subset(side == "train"), {condition: other.subset(side == "test")}
        level = -1 if control == "embedding" else None
        for method, name in zip(methods, names, strict=True):
            try:
                add(fit(blank, method, name), held, control, level)
            except BadInput as error:  # nothing to fit on: at the embedding both variants of a pair differ by a constant
                none = undefined(str(error), len(held[condition]))
                rows += [
                    {
                        "layer": -1,
                        "method": name,
                        "control": control,
                        "condition": condition,
                        "against": a,
                        "metric": "accuracy",
                        **columns,
                        **none.row(),
                        "note": none.note,
                    }
                    for a in against
                ]
    if "shuffled_labels" in controls:
        rows += [r | columns for r in beside.shuffled(train, read, y, against, shuffles, seed)]
    if "random_directions" in controls:
        rows += [r | columns for r in beside.random_directions(train, read, y, against, random_directions, seed)]
    if "bag_of_words" in controls and text in acts.rows:
        for where, held in read.items():
            scores = bag_of_words(train.rows[text].tolist(), y, held.rows[text].tolist())
            place = {"layer": -1, "method": "bag_of_words", "control": "bag_of_words", "condition": where, **columns}
            rows.extend(place | row for row in _measure(scores, held.rows, against, resamples, seed, ("accuracy", "auroc"), None))
    table = pd.DataFrame(rows, columns=ORDER)
    table.attrs["provenance"] = dict(acts.provenance) | {
        "seed": seed,
        "fit_condition": condition,
        "target": target,
        "train_rows": len(train),
        "ccs_sign": f"resolved on {len(train)} training rows of condition {condition!r} by column {target!r}",
    }
    return table


def _check(
    acts: Activations, others: Mapping[str, Activations], methods: Sequence[Method], controls: Iterable[str], metrics: Sequence[str]
) -> None:
    for method in methods:
        name_of(method)
    for kind, asked, known in (("control", controls, CONTROLS), ("metric", metrics, METRICS)):
        stray = sorted(set(asked) - set(known))
        if stray:
            raise unknown(UnknownName, kind, stray[0], known)
    first = acts.layer(acts.layers[0])
    if torch.equal(first[:, 0], first[:, 1]):
        raise BadInput(f"both variants were read at {acts.position!r} and are the same there: a pair probe needs position='last'")
    for name, other in others.items():
        acts.check_same_model(other)
        missing = sorted(set(acts.layers) - set(other.layers))
        if missing:
            raise WrongModel(f"condition {name!r} lacks layer {missing[0]}, which is fitted; it has: {', '.join(map(str, other.layers))}")
        if (other.layers, other.site, other.position) != (acts.layers, acts.site, acts.position):
            raise WrongModel(f"condition {name!r} was captured at other layers, another site or another position")


def _measure(
    scores: np.ndarray,
    rows: pd.DataFrame,
    against: Sequence[str],
    resamples: int,
    seed: int,
    metrics: Sequence[str],
    probability: np.ndarray | None,
    layers: int = 1,
) -> list[dict[str, Any]]:
    out = []
    clusters = rows["identity"].to_numpy()
    for name in against:
        y = rows[name].to_numpy()
        found: dict[str, Estimate] = {}
        if "accuracy" in metrics:
            found["accuracy"] = proportion((scores > 0) == y, clusters)
        if resamples and "auroc" in metrics and len(np.unique(y)) == 2:
            found["auroc"] = auroc(scores, y, clusters, resamples=resamples, seed=seed)
        if resamples and probability is not None:
            if "ece" in metrics:
                found["ece"] = calibration_error(probability, y, clusters, resamples=resamples, seed=seed)
            if "brier" in metrics:
                found["brier"] = brier(probability, y, clusters, resamples=resamples, seed=seed)
        out += [{"against": name, "metric": metric, **e.row(), "note": e.note} for metric, e in found.items()]
        if "accuracy" in metrics:
            wide = proportion((scores > 0) == y, clusters, level=1 - 0.05 / layers)
            out[-len(found)] |= {"band_low": wide.low, "band_high": wide.high}
    return out


def _gaps(
    fits: Mapping[str, Fit],
    nonlinear: Sequence[str],
    read: Mapping[str, Activations],
    hits: Mapping[tuple[str, int, str, str], np.ndarray],
    resamples: int,
    seed: int,
) -> Iterable[dict[str, Any]]:
    """Accuracy of each nonlinear method minus that of the linear one that validation rows prefer, on the same held-out rows."""
    linear = [name for name in fits if name in LINEAR]
    for method, layer, where, name in list(hits):
        if method not in nonlinear or not linear:
            continue
        best = max(linear, key=lambda m: fits[m].validation[layer])
        people = read[where].rows["identity"].to_numpy()
        gap = paired_difference(hits[method, layer, where, name], hits[best, layer, where, name], people, resamples=resamples, seed=seed)
        yield {
            "layer": layer,
            "method": method,
            "control": "",
            "condition": where,
            "against": name,
            "metric": "gap",
            **gap.row(),
            "note": f"over {best}, which validation rows prefer" + (f"; {gap.note}" if gap.note else ""),
        }


def best_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Say at which layers each method reads best: all those that the data cannot tell from the best.

    Args:
        table: From `probe_layers`.

    Returns:
        One row per method, condition and `against`: the layer of the highest accuracy, with its band over all layers, and `layers`:
        those whose band reaches up to the highest lower end of any.

    Note:
        The highest of several accuracies is itself biased upwards; fix a layer beforehand, or on other rows, to quote one.
    """
    some = table[(table["metric"] == "accuracy") & (table["control"] == "")]
    rows = []
    for (method, condition, against), part in some.groupby(["method", "condition", "against"], sort=False):
        part = part.sort_values("layer")
        best = part.iloc[int(part["value"].argmax())]
        near = part.loc[part["band_high"] >= part["band_low"].max(), "layer"]
        columns = {"method": method, "condition": condition, "against": against, "metric": "best layer"}
        rows.append(columns | dict(best[["layer", "value", "band_low", "band_high", "n"]]) | {"layers": ", ".join(map(str, near))})
    return pd.DataFrame(rows)


def accuracy_by(fit: Fit, acts: Activations, layer: int, by: str, *, against: str = "label") -> pd.DataFrame:
    """Return a fitted probe's accuracy on these (held-out) rows for each value of a column.

    Args:
        fit: From `fit_layers`.
        acts: Held-out rows.
        layer: Block to read.
        by: Column of the rows, for example "identity_tokens" or "form".
        against: Column to compare with.
    """
    if by not in acts.rows:
        raise MissingColumn(f"the rows have no column {by!r}; there are: {', '.join(acts.rows.columns)}")
    if layer not in fit.probes:
        raise BadInput(f"layer {layer} was not fitted; there are: {', '.join(map(str, fit.probes))}")
    hits = (fit.scores(acts, layer) > 0) == acts.rows[against].to_numpy()
    rows = []
    for value, index in acts.rows.groupby(by).indices.items():
        estimate = proportion(hits[index], acts.rows["identity"].to_numpy()[index])
        rows.append({"layer": layer, "method": fit.method, by: value, "against": against, "metric": "accuracy", **estimate.row()})
    return pd.DataFrame(rows)
