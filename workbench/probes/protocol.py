"""The protocol: fit on the training rows of one condition, read the held-out rows of any, with controls beside.

The condition that is fitted and the conditions that are read are separate arguments. Truth and the model's own answer
are both columns of the row table; a probe can be fitted on one and compared with the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput, MissingColumn, OneClass, UnknownName, WrongModel, unknown
from ..core.seeds import numpy_rng
from ..core.stats import Estimate, auroc, proportion
from ..prompts import Split, grouped_split
from .ccs import CCSProbe, fit_ccs_layers, resolve_sign
from .linear import LinearProbe, fit_logistic, fit_mass_mean
from .scaling import Scaler, pair, two_classes
from .text import bag_of_words

METHODS = ("logistic", "mass_mean", "ccs")
CONTROLS = ("shuffled_labels", "random_directions", "bag_of_words")
Probe = LinearProbe | CCSProbe


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Probes of one method fitted on one condition, one per layer.

    Attributes:
        method: "logistic", "mass_mean" or "ccs".
        probes: By layer.
        target: The column they were fitted on (for CCS: oriented on).
        condition: Name of the condition they were fitted on.
    """

    method: str
    probes: Mapping[int, Probe]
    target: str
    condition: str

    def scores(self, acts: Activations, layer: int) -> np.ndarray:
        """Return one score per item of a layer; above 0 where the positive variant is held true."""
        x = acts.layer(layer)
        return self.probes[layer].score(x[:, 1], x[:, 0])


def column(acts: Activations, name: str) -> np.ndarray:
    """Return a 0/1 column of the row table."""
    if name not in acts.rows:
        raise MissingColumn(f"the rows have no column {name!r}; there are: {', '.join(acts.rows.columns)}")
    return two_classes(acts.rows[name].to_numpy(), len(acts)) if acts.rows[name].nunique() > 1 else acts.rows[name].to_numpy()


def fit_layers(
    acts: Activations, method: str, *, target: str = "label", condition: str = "fit", seed: int = 0, **options: Any
) -> Fit:  # fmt: skip
    """Fit one method on every layer of these (training) activations.

    Args:
        acts: Training rows of the condition to fit.
        method: "logistic", "mass_mean" or "ccs".
        target: 0/1 column of the rows: which variant is true ("label"), or which the model answers ("answer"). CCS is
            fitted without it; only its sign is resolved with it.
        condition: A name for tables.
        seed: For CCS.
        options: Passed to the fit.

    Raises:
        UnknownName: No such method.
        OneClass: The target has one class in these rows.
    """
    if method not in METHODS:
        raise unknown(UnknownName, "method", method, METHODS)
    y = column(acts, target)
    if len(np.unique(y)) < 2:
        raise OneClass(f"all {len(y)} training rows have {target} {y[0]}: a probe needs both classes")
    if method == "ccs":
        found = fit_ccs_layers(acts.values[:, 1], acts.values[:, 0], seed=seed, **options)
        rows = f"training rows of condition {condition!r}"
        return Fit(
            method=method, target=target, condition=condition,
            probes={k: resolve_sign(f, acts.layer(k), y, rows=rows) for k, f in zip(acts.layers, found, strict=True)},
        )  # fmt: skip
    fit = fit_logistic if method == "logistic" else fit_mass_mean
    probes = {k: fit(acts.layer(k)[:, 1], acts.layer(k)[:, 0], y, **options) for k in acts.layers}
    return Fit(method=method, probes=probes, target=target, condition=condition)


def probe_layers(
    acts: Activations, *, test: Mapping[str, Activations] | None = None, methods: Sequence[str] = METHODS,
    split: Split | None = None, condition: str = "fit", target: str = "label", against: Sequence[str] = ("label",),
    untrained: Activations | None = None, controls: Iterable[str] = CONTROLS, text: str = "statement",
    random_directions: int = 50, shuffles: int = 20, resamples: int = 1000, ccs_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Fit probes on every layer of one condition and read them on held-out rows of this and of other conditions.

    Args:
        acts: The condition that is fitted; its training rows only.
        test: Further conditions to read, by name; their held-out rows only.
        methods: "logistic", "mass_mean", "ccs".
        split: Which identities and rights are held out; by default a third of each, drawn from `seed`.
        condition: Name of the fitted condition in the table.
        target: Column to fit on (for CCS: to resolve the sign with).
        against: Columns to compare the reading with: "label" (truth), "answer" (what the model says).
        untrained: The fitted condition read from an untrained copy of the model: a control.
        controls: Of `CONTROLS`. "shuffled_labels" fits mass-mean probes on permuted training labels;
            "random_directions" draws directions and orients them on training labels; both give the middle of their
            distribution with its central 95 %. "bag_of_words" reads the text column alone.
        text: Column of the rows with the text for the bag of words.
        random_directions, shuffles: Draws of the two controls.
        resamples: Bootstrap draws for the AUROC intervals; 0 leaves the AUROC out.
        ccs_options: Passed to `fit_ccs` (restarts, epochs, …).
        seed: For the split, CCS, controls and intervals.

    Returns:
        One row per layer x method x condition x `against` x metric ("accuracy" with a Wilson interval at the effective
        sample size, "auroc" with a bootstrap; both clustered by identity), with the columns `layer, site, method,
        control, fit_condition, condition, split, against, metric, value, low, high, n`. The bag of words has layer -1.

    Raises:
        WrongModel: A condition was read from other weights.
        OneClass, MissingColumn, SplitLeak: Before fitting.

    Note:
        "Readable" is not "used": a probe shows what is there, not what the model does with it.
    """
    others = dict(test or {})
    if torch.equal(acts.values[:, 0], acts.values[:, 1]):
        raise BadInput(f"both variants were read at {acts.position!r} and are the same there: a pair probe needs position='last'")
    for name, other in others.items():
        acts.check_same_model(other)
        if (other.layers, other.site, other.position) != (acts.layers, acts.site, acts.position):
            raise WrongModel(f"condition {name!r} was captured at other layers, another site or another position")
    split = split or grouped_split(acts.rows, seed=seed)
    side = split.side(acts.rows)
    train, read = acts.subset(side == "train"), {condition: acts.subset(side == "test")}
    read |= {name: other.subset(split.side(other.rows) == "test") for name, other in others.items()}
    for name in against:
        for other in read.values():
            column(other, name)
    columns = {"site": acts.site, "fit_condition": condition}
    rows: list[dict[str, Any]] = []

    def add(fit: Fit, conditions: Mapping[str, Activations], control: str = "") -> None:
        for where, held in conditions.items():
            for layer in held.layers:
                scores = fit.scores(held, layer)
                rows.extend(
                    {"layer": layer, "method": fit.method, "control": control, "condition": where, "split": "test", **columns, **row}
                    for row in _measure(scores, held.rows, against, resamples, seed)
                )  # fmt: skip

    options: dict[str, dict[str, Any]] = {"ccs": dict(ccs_options or {})}
    for method in methods:
        add(fit_layers(train, method, target=target, condition=condition, seed=seed, **options.get(method, {})), read)
    if untrained is not None:
        if len(untrained) != len(acts) or untrained.rows["stem"].tolist() != acts.rows["stem"].tolist():
            raise WrongModel("the untrained model must have read the same prompts in the same order")
        untrained = untrained.with_rows(acts.rows)  # with the columns that were added to the rows since
        blank = untrained.subset(side == "train")
        for method in methods:
            fit = fit_layers(blank, method, target=target, condition=condition, seed=seed, **options.get(method, {}))
            add(fit, {condition: untrained.subset(side == "test")}, "untrained_model")
    unknown_controls = set(controls) - set(CONTROLS)
    if unknown_controls:
        raise unknown(UnknownName, "control", sorted(unknown_controls)[0], CONTROLS)
    y = column(train, target)
    if "shuffled_labels" in controls:
        rows += [r | columns for r in _shuffled(train, read, y, against, shuffles, seed)]
    if "random_directions" in controls:
        rows += [r | columns for r in _random(train, read, y, against, random_directions, seed)]
    if "bag_of_words" in controls and text in acts.rows:
        for where, held in read.items():
            scores = bag_of_words(train.rows[text].tolist(), y, held.rows[text].tolist())
            rows.extend(
                {"layer": -1, "method": "bag_of_words", "control": "bag_of_words", "condition": where, "split": "test", **columns, **row}
                for row in _measure(scores, held.rows, against, resamples, seed)
            )  # fmt: skip
    order = ["layer", "site", "method", "control", "fit_condition", "condition", "split", "against", "metric", "value", "low", "high", "n"]
    table = pd.DataFrame(rows)[[*order, "note"]]
    table.attrs["provenance"] = dict(acts.provenance) | {
        "seed": seed, "fit_condition": condition, "target": target, "train_rows": len(train),
        "ccs_sign": f"resolved on {len(train)} training rows of condition {condition!r} by column {target!r}",
    }  # fmt: skip
    return table


def _measure(scores: np.ndarray, rows: pd.DataFrame, against: Sequence[str], resamples: int, seed: int) -> list[dict[str, Any]]:
    out = []
    clusters = rows["identity"].to_numpy()
    for name in against:
        y = rows[name].to_numpy()
        found: dict[str, Estimate] = {"accuracy": proportion((scores > 0) == y, clusters)}
        if resamples and len(np.unique(y)) == 2:
            found["auroc"] = auroc(scores, y, clusters, resamples=resamples, seed=seed)
        out += [{"against": name, "metric": metric, **e.row(), "note": e.note} for metric, e in found.items()]
    return out


def _spread(hits: np.ndarray, held: Activations, **names: Any) -> dict[str, Any]:
    low, middle, high = np.quantile(hits, (0.025, 0.5, 0.975))
    return {
        **names, "layer": names["layer"], "split": "test", "metric": "accuracy", "value": middle, "low": low, "high": high,
        "n": len(held), "note": f"middle and central 95 % of {len(hits)} draws",
    }  # fmt: skip


def _shuffled(
    train: Activations, read: Mapping[str, Activations], y: np.ndarray, against: Sequence[str], draws: int, seed: int
) -> Iterable[dict[str, Any]]:
    rng = numpy_rng(seed, "shuffled labels")
    orders = [rng.permutation(len(y)) for _ in range(draws)]
    for layer in train.layers:
        x = train.layer(layer)
        # mass-mean, because it takes no time: what is asked is how far chance reaches on these rows
        probes = [fit_mass_mean(x[:, 1], x[:, 0], y[order]) for order in orders]
        for where, held in read.items():
            z = held.layer(layer)
            guesses = np.stack([p.predict(z[:, 1], z[:, 0]) for p in probes])
            for name in against:
                hits = (guesses == held.rows[name].to_numpy()).mean(1)
                yield _spread(hits, held, layer=layer, method="mass_mean", control="shuffled_labels", condition=where, against=name)


def _random(
    train: Activations, read: Mapping[str, Activations], y: np.ndarray, against: Sequence[str], draws: int, seed: int
) -> Iterable[dict[str, Any]]:
    for layer in train.layers:
        x = train.layer(layer)
        positive, negative = pair(x[:, 1], x[:, 0])
        scalers = Scaler.fit(negative), Scaler.fit(positive)
        directions = torch.tensor(numpy_rng(seed, "random directions", layer).standard_normal((draws, x.shape[-1]))).float()

        def score(acts: Activations, layer: int = layer, scalers: tuple[Scaler, Scaler] = scalers, w: Tensor = directions) -> np.ndarray:
            z = acts.layer(layer)
            return ((scalers[1](z[:, 1]) - scalers[0](z[:, 0])) @ w.T).numpy()

        sign = np.where(((score(train) > 0) == y[:, None]).mean(0) >= 0.5, 1, -1)
        for where, held in read.items():
            guesses = score(held) * sign > 0
            for name in against:
                hits = (guesses == held.rows[name].to_numpy()[:, None]).mean(0)
                yield _spread(hits, held, layer=layer, method="random", control="random_directions", condition=where, against=name)


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
