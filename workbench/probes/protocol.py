"""The protocol: fit on the training rows of one condition, read the held-out rows of any, with controls beside.

The condition that is fitted and the conditions that are read are separate arguments. Truth and the model's own answer
are both columns of the row table; a probe can be fitted on one and compared with the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..activations import Activations
from ..activations.variants import is_paired
from ..core.errors import BadInput, MissingColumn, UnknownName, WrongModel, unknown
from ..core.stats import proportion
from ..core.tables import units_of
from ..prompts import Split, grouped_split
from . import controls as beside
from .bench import Bench
from .given import column
from .measure import METRICS
from .methods import Fit, Method, by_name, fitting
from .options import Controls, Resampling
from .polarity import opposites

DEFAULT = ("logistic", "mass_mean", "ccs")
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
    methods: Sequence[Method] | None = None,
    split: Split | None = None,
    condition: str = "fit",
    target: str = "label",
    against: Sequence[str] = ("label",),
    metrics: Sequence[str] = METRICS,
    controls: Controls | Iterable[str] | None = None,
    resampling: Resampling | None = None,
    folds: int = 5,
    check_labels: bool = True,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ccs_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    **more: Any,
) -> pd.DataFrame:
    """Fit probes on every layer of one condition and read them on held-out rows of this and of other conditions.

    Args:
        acts: The condition that is fitted; its training rows only. Contrast pairs, or single rows: statements without endings, and
            pairs read at the stem. Searches without labels need pairs.
        test: Further conditions to read, by name; their held-out rows only.
        methods: Of `METHODS`; by default "logistic", "mass_mean" and, of contrast pairs, "ccs". There are linear ones
            ("logistic", "svm", "ridge", "lda", "mass_mean", "difference_in_means"), nonlinear ("mlp",
            "quadratic", "rbf", "knn"), without labels ("ccs", "ccs_circle", "infonce", "spin", "hinge", "bimodal", "drc",
            "rrc", "crc", "vinc", "kmeans", "ccs:mlp", and "polarity_ccs" where the rows have a column
            "polarity"); a loss of your own, a function of (p_negative, p_positive) (see `fit_contrast`); or a supervised method
            of your own, a function of (x_positive, x_negative, seed) (see `fit_layers`). Functions are named by their
            `__name__`; no two methods have one name.
        split: Which identities and rights are held out; by default a third of each, drawn from `seed`. What is tuned is
            tuned on grouped folds of the training rows.
        condition: Name of the fitted condition in the table.
        target: 0/1 column to fit on (without labels: to resolve the sign with).
        against: 0/1 columns to compare the reading with: "label" (truth), "answer" (what the model says).
        metrics: Of `METRICS`. "calibration_error" and "brier" where scores are probabilities (see `Fit.probabilities`).
        controls: Which controls stand beside the reading, `Controls(untrained=…, random_directions=200)`; or only their
            names, of "shuffled_labels", "random_directions" and "bag_of_words". All three by default.
        resampling: Which intervals the table has, `Resampling(level=0.9)`. With `resamples=0` only accuracies are reported.
        folds: Grouped folds of the training rows to tune on, 2 or more.
        check_labels: Refuse prompt forms whose labels contradict the other forms.
        options: By name of the method, passed to its fit.
        ccs_options: The same for "ccs".
        seed: For the split, starts, controls and intervals.
        more: The fields of `Controls` and `Resampling` by their own names, in the place of these objects: `untrained=`,
            `embedding=`, `random_directions=`, `shuffles=`, `text=`, `control_task=`, `burns_exact=`, `resamples=`, …. And the
            normalisation of all methods: `normalise="mean_std" | "mean" | "none"`, `per="variant" | "all" | "template"`,
            `erase_variant=True` (LEACE of the variant direction).

    Returns:
        One row per layer x method x condition x `against` x metric: "accuracy" with a Wilson interval at the effective
        sample size; "auroc", "calibration_error" and "brier"; all clustered by identity. For nonlinear methods
        also "gap" (accuracy minus that of the linear method that validation rows prefer, paired) and, for all supervised
        methods beside them, "selectivity". Columns: `layer, site, method, control, fit_condition, condition, split, against,
        metric, value, low, high, n, band_low, band_high, note`. The bag of words and the embedding have layer -1. An accuracy's
        band holds for all layers at once (Bonferroni): with it, not with `low` and `high`, compare layers (`best_layers`).

    Raises:
        WrongModel: A condition was read from other weights.
        UnknownName: No such method, control or metric.
        BadInput: An option of the controls or of the resampling is given twice, or two methods have one name.
        OneClass, MissingColumn, SplitLeak, FlippedLabels: Before fitting.

    Note:
        "Readable" is not "used": a probe shows what is there, not what the model does with it.

    Example:
        >>> import numpy as np, pandas as pd, torch, workbench as wb
        >>> def medians(x_positive, x_negative, seed):
        ...     return x_positive.median(0).values - x_negative.median(0).values
        >>> labels = np.arange(240) % 2
        >>> values = torch.randn(240, 2, 1, 8, generator=torch.Generator().manual_seed(0))
        >>> values[range(240), labels, 0, 3] += 4  # the true variant is longer along dimension 3
        >>> names = {"identity": [f"i{k // 12}" for k in range(240)], "right": [f"r{k // 2 % 6}" for k in range(240)]}
        >>> rows = pd.DataFrame({**names, "label": labels})
        >>> acts = wb.Activations(values=values, layers=[0], site="resid_post", position="last", rows=rows)
        >>> few = wb.probes.Resampling(resamples=200, level=0.9)
        >>> draws = wb.probes.Controls(names=["random_directions"], random_directions=100)
        >>> table = wb.probe_layers(acts, methods=[medians, "mass_mean"], controls=draws, resampling=few)
        >>> read = table.query("metric == 'accuracy'").set_index("method")
        >>> bool(read.loc["medians", "low"] > read.loc["random", "value"])
        True
    """
    beside_it, how = Controls.of(controls, more), Resampling.of(resampling, more)
    named, others = by_name(fitting(acts, DEFAULT) if methods is None else methods), dict(test or {})
    _check(acts, others, metrics)
    split = split or grouped_split(acts.rows, seed=seed)
    side = split.side(acts.rows)
    if not (side == "test").any() or not (side == "train").any():
        raise BadInput("the split leaves no row for training or none for test: more items, or another split")
    train, read = acts.subset(side == "train"), {condition: acts.subset(side == "test")}
    read |= {name: other.subset(split.side(other.rows) == "test") for name, other in others.items()}
    for name in against:
        for other in read.values():
            column(other, name)
    if "polarity_ccs" in named and "opposite" not in (options or {}).get("polarity_ccs", {}):
        opposites(train.rows)
    y = column(train, target)
    if check_labels and len(np.unique(y)) == 2:
        beside.check_labels(train, y)
    special = {k: dict(v) for k, v in (options or {}).items()}
    special["ccs"] = special.get("ccs", {}) | dict(ccs_options or {})
    bench = Bench(
        methods=named,
        options={name: {**more, **special.get(name, {})} for name in named},
        train=train,
        read=read,
        y=y,
        condition=condition,
        target=target,
        against=tuple(against),
        metrics=tuple(metrics),
        controls=beside_it,
        how=how,
        folds=folds,
        seed=seed,
    )
    rows = [*bench.readings(), *bench.untaught(acts, side), *bench.drawn(), *bench.words()]
    table = pd.DataFrame(rows, columns=ORDER)
    table.attrs["provenance"] = dict(acts.provenance) | {
        "seed": seed,
        "fit_condition": condition,
        "target": target,
        "train_rows": len(train),
        "ccs_sign": f"resolved on {len(train)} training rows of condition {condition!r} by column {target!r}",
    }
    return table


def _check(acts: Activations, others: Mapping[str, Activations], metrics: Sequence[str]) -> None:
    """Raise where a metric is not known, or where conditions do not belong together."""
    stray = sorted(set(metrics) - set(METRICS))
    if stray:
        raise unknown(UnknownName, "metric", stray[0], METRICS)
    for name, other in others.items():
        acts.check_same_model(other)
        missing = sorted(set(acts.layers) - set(other.layers))
        if missing:
            raise WrongModel(f"condition {name!r} lacks layer {missing[0]}, which is fitted; it has: {', '.join(map(str, other.layers))}")
        if is_paired(other) != is_paired(acts):
            raise WrongModel(f"condition {name!r} and the fitted one differ: one has contrast pairs, the other single rows")
        if (other.layers, other.site, other.position) != (acts.layers, acts.site, acts.position):
            raise WrongModel(f"condition {name!r} was captured at other layers, another site or another position")


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
    accuracies = table[(table["metric"] == "accuracy") & (table["control"] == "")]
    rows = []
    for (method, condition, against), part in accuracies.groupby(["method", "condition", "against"], sort=False):
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
        layer: Block to read, counted from 0; one that was fitted.
        by: Column of the rows, for example "identity_tokens" or "form".
        against: 0/1 column to compare with.

    Returns:
        One row per value of the column, with `value` (accuracy, 0 to 1), `low`, `high` (Wilson, clustered by identity) and `n`.

    Raises:
        MissingColumn: The rows have no such column.
        BadInput: The layer was not fitted.
    """
    if by not in acts.rows:
        raise MissingColumn(f"the rows have no column {by!r}; there are: {', '.join(acts.rows.columns)}")
    if layer not in fit.probes:
        raise BadInput(f"layer {layer} was not fitted; there are: {', '.join(map(str, fit.probes))}")
    hits = (fit.scores(acts, layer) > 0) == acts.rows[against].to_numpy()
    rows = []
    for value, index in acts.rows.groupby(by).indices.items():
        estimate = proportion(hits[index], units_of(acts.rows)[index])
        rows.append({"layer": layer, "method": fit.method, by: value, "against": against, "metric": "accuracy", **estimate.row()})
    return pd.DataFrame(rows)
