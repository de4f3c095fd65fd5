"""Does a direction carry over? Fit on one condition, read every other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..activations import Activations
from ..core.errors import BadInput, WrongModel
from ..core.stats import auroc, proportion
from ..core.tables import units_of
from ..prompts import Split, grouped_split
from .given import column
from .methods import Fit, Method, fit_layers


def transfer_matrix(
    conditions: Mapping[str, Activations],
    *,
    method: Method = "logistic",
    layers: Sequence[int] | None = None,
    split: Split | None = None,
    target: str = "label",
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Fit a method on the training rows of each condition and read the held-out rows of each.

    Args:
        conditions: Activations by name (templates, claims, datasets), of one model, site and position.
        method: As for `fit_layers`: a name, a loss, or a function (x_positive, x_negative, seed) of your own.
        layers: Blocks, counted from 0; by default all that every condition has.
        split: Which identities and rights are held out, the same for all conditions; by default drawn from those of all of
            them together, so that no condition's training rows share one with another's held-out rows.
        target: 0/1 column to fit on and to compare with.
        seed: For the split, folds and intervals.
        options: Passed to `fit_layers`.

    Returns:
        One row per layer x fit_condition x condition x metric, with the usual columns. Normalisation is that of the fitted
        condition's training rows throughout.

    Raises:
        WrongModel: Conditions of different models, sites or positions.
        BadInput: Fewer than two conditions, or no common layer.
    """
    chosen = _common_layers(conditions, layers)
    if split is None:
        split = grouped_split(pd.concat([a.rows for a in conditions.values()], ignore_index=True), seed=seed)
    parts = {name: _sides(name, acts.where(layers=chosen), split) for name, acts in conditions.items()}
    rows = []
    for source, (train, _) in parts.items():
        fit = fit_layers(train, method, target=target, condition=source, seed=seed, **options)
        for where, (_, held) in parts.items():
            for layer in chosen:
                place = {"layer": layer, "site": held.site, "method": fit.method, "fit_condition": source, "condition": where}
                place |= {"split": "test", "against": target}
                rows += [place | row for row in _read(fit, held, layer, target)]
    return pd.DataFrame(rows)


def _common_layers(conditions: Mapping[str, Activations], layers: Sequence[int] | None) -> list[int]:
    """The layers to read, after checking that all conditions come from one place of one model and have them."""
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
    return chosen


def _sides(name: str, acts: Activations, split: Split) -> tuple[Activations, Activations]:
    """Training and held-out rows of a condition."""
    side = split.side(acts.rows)
    train, held = acts.subset(side == "train"), acts.subset(side == "test")
    if not len(train) or not len(held):
        raise BadInput(f"condition {name!r} has no row for {'test' if len(train) else 'training'} in this split")
    return train, held


def _read(fit: Fit, held: Activations, layer: int, target: str) -> Iterable[dict[str, Any]]:
    y, people = column(held, target), units_of(held.rows)
    scores = fit.scores(held, layer)
    yield {"metric": "accuracy", **proportion((scores > 0) == y, people).row()}
    if len(set(y.tolist())) == 2:
        yield {"metric": "auroc", **auroc(scores, y, people).row()}
