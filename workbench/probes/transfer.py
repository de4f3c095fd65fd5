"""Does a direction carry over? Fit on one condition, read every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..activations import Activations
from ..core.errors import BadInput, WrongModel
from ..core.stats import auroc, proportion
from ..prompts import Split, grouped_split
from .methods import Method, column, fit_layers


def transfer_matrix(
    conditions: Mapping[str, Activations],
    *,
    method: Method = "logistic",
    layers: Sequence[int] | None = None,
    split: Split | None = None,
    target: str = "label",
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Fit a method on the training rows of each condition and read the held-out rows of each.

    Args:
        conditions: Activations by name (templates, claims, datasets), of one model, site and position.
        method: As for `fit_layers`.
        layers: Blocks; by default all that every condition has.
        split: Which identities and rights are held out, the same for all conditions; by default drawn from those of all of
            them together, so that no condition's training rows share one with another's held-out rows.
        target: Column to fit on and to compare with.
        resamples: Bootstrap draws for the AUROC; 0 leaves it out.
        seed: For the split, folds and intervals.
        options: Passed to `fit_layers`.

    Returns:
        One row per layer x fit_condition x condition x metric, with the usual columns. Normalisation is that of the fitted
        condition's training rows throughout.

    Raises:
        WrongModel: Conditions of different models, sites or positions.
        BadInput: Fewer than two conditions, or no common layer.
    """
    if len(conditions) < 2:
        raise BadInput("a transfer matrix needs two conditions at least")
    (_, first), *others = conditions.items()
    common = set(first.layers)
    for name, other in others:
        first.check_same_model(other)
        if (other.site, other.position) != (first.site, first.position):
            raise WrongModel(f"condition {name!r} was captured at another site or position")
        common &= set(other.layers)
    chosen = sorted(common) if layers is None else list(layers)
    if not chosen or set(chosen) - common:
        raise BadInput(f"layers {sorted(set(chosen) - common)} are not in every condition; common: {sorted(common)}")
    if split is None:
        split = grouped_split(pd.concat([a.rows for a in conditions.values()], ignore_index=True), seed=seed)
    parts = {}
    for name, acts in conditions.items():
        side, some = split.side(acts.rows), acts.where(layers=chosen)
        parts[name] = some.subset(side == "train"), some.subset(side == "test")
        if not len(parts[name][0]) or not len(parts[name][1]):
            raise BadInput(f"condition {name!r} has no row for {'test' if len(parts[name][0]) else 'training'} in this split")
    rows = []
    for source, (train, _) in parts.items():
        fit = fit_layers(train, method, target=target, condition=source, seed=seed, **options)
        for where, (_, held) in parts.items():
            y, people = column(held, target), held.rows["identity"].to_numpy()
            for layer in chosen:
                scores = fit.scores(held, layer)
                place = {
                    "layer": layer,
                    "site": held.site,
                    "method": fit.method,
                    "fit_condition": source,
                    "condition": where,
                    "split": "test",
                    "against": target,
                }
                rows.append(place | {"metric": "accuracy", **proportion((scores > 0) == y, people).row()})
                if resamples and len(set(y.tolist())) == 2:
                    rows.append(place | {"metric": "auroc", **auroc(scores, y, people, resamples=resamples, seed=seed).row()})
    return pd.DataFrame(rows)
