"""What stands beside every reading: random directions, the inflated protocol, a control task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from ..activations import Activations
from ..activations.variants import variants
from ..core.errors import BadInput, FlippedLabels
from ..core.nulls import central
from ..core.seeds import numpy_rng
from ..core.stats import Estimate, paired_difference, proportion
from ..core.tables import units_of
from ..core.types import Float, Int
from ..prompts import grouped_split
from .ccs import ContrastProbe
from .given import scaled
from .linear import fit_mass_mean
from .methods import Fit, Method, fit_layers
from .scaling import Normaliser, Scaler, matrix, pair

Conditions = Mapping[str, Activations]
Key = TypeVar("Key")


def _spread(hits: Float[np.ndarray, " draw"], n: int, level: float, **names: Any) -> dict[str, Any]:
    """Middle and central part of the accuracies of many draws."""
    part = central(hits, level)
    ends = {"value": part.middle, "low": part.low, "high": part.high, "n": n, "note": part.note}
    return {**names, "split": "test", "metric": "accuracy", **ends}


def random_directions(
    train: Activations, read: Conditions, y: Int[np.ndarray, " item"], against: Sequence[str], draws: int, seed: int, level: float = 0.95
) -> Iterable[dict[str, Any]]:
    """Draw directions, orient each on training labels, and read held-out rows.

    Args:
        train: Training rows of the fitted condition, whose statistics normalise and whose labels orient.
        read: Held-out rows, by name of their condition.
        y: Label of each training row, 0 or 1.
        against: Columns of the held-out rows to compare with.
        draws: Directions per layer, 1 or more; raising it steadies the ends of the spread.
        seed: Draws the directions.
        level: Of the central part (`core.nulls.central`).

    Yields:
        One row of a table per layer, condition and column: `value` is the middle accuracy, `low` and `high` the ends of the
        spread, `n` the held-out rows.
    """
    for layer in train.layers:
        hits = random_hits(train, read, y, against, layer, draws, seed)
        for (where, name), h in hits.items():
            place = {"layer": layer, "method": "random", "control": "random_directions", "condition": where, "against": name}
            yield _spread(h, len(read[where]), level, **place)


def random_hits(
    train: Activations, read: Conditions, y: Int[np.ndarray, " item"], against: Sequence[str], layer: int, draws: int, seed: int
) -> dict[tuple[str, str], Float[np.ndarray, " draw"]]:
    """Return the accuracy of each random direction, by condition and column."""
    scores = random_scores(train, read, y, layer, draws, seed)
    guesses = {where: s > 0 for where, s in scores.items()}
    return {(where, name): (g == read[where].rows[name].to_numpy()[:, None]).mean(0) for where, g in guesses.items() for name in against}


def random_scores(
    train: Activations, read: Mapping[Key, Activations], y: Int[np.ndarray, " item"], layer: int, draws: int, seed: int
) -> dict[Key, Float[np.ndarray, "held draw"]]:
    """Draw directions, orient each on training labels, and score held-out rows along them.

    Args:
        train: Training rows, whose statistics normalise.
        read: Held-out rows, by condition.
        y: Label of each training row, 0 or 1.
        layer: Where.
        draws: How many directions.
        seed: Draws the directions.

    Returns:
        By condition one score per held-out item and direction, above 0 for class 1.
    """
    positive, negative = variants(train, layer)
    scaler = Scaler.fit(matrix(positive, "rows")) if negative is None else Normaliser.fit(*pair(positive, negative))
    directions = torch.tensor(numpy_rng(seed, "random directions", layer).standard_normal((draws, positive.shape[-1]))).float()

    def score(acts: Activations) -> Float[np.ndarray, "held draw"]:
        a, b = scaled(scaler, *variants(acts, layer))
        return ((a if b is None else a - b) @ directions.T).numpy()

    own = score(train)
    # a direction says nothing of a threshold: on single rows it lies half-way between the classes' means, as that of a difference of means
    middle = (own[y == 1].mean(0) + own[y == 0].mean(0)) / 2 if negative is None else np.zeros(draws)
    sign = np.where(((own > middle) == y[:, None]).mean(0) >= 0.5, 1, -1)
    return {where: (score(held) - middle) * sign for where, held in read.items()}


def inflated(fit: Fit, held: Activations, layer: int, against: str, level: float = 0.95) -> Estimate:
    """Return what the reference protocol of CCS would claim: test statistics to normalise with, the better sign on test labels.

    Args:
        fit: Of a search without labels.
        held: Held-out rows.
        layer: The block, counted from 0.
        against: Column of the held-out rows to compare with.
        level: Confidence level of the interval.

    Returns:
        The accuracy that it would claim, never below one half.

    Raises:
        BadInput: A supervised method.

    Note:
        At chance it reads .556 with 50 rows and .528 with 200: it is here to be compared with, not to be believed.
    """
    probe = fit.probes[layer]
    if not isinstance(probe, ContrastProbe):
        raise BadInput("the inflated protocol is that of searches without labels")
    x = held.layer(layer)
    own = Normaliser.fit(*pair(x[:, 1], x[:, 0]), normalise=probe.scaler.kind, per="variant")
    hits = replace(probe, scaler=own).predict(x[:, 1], x[:, 0]) == held.rows[against].to_numpy()
    hits = hits if hits.mean() >= 0.5 else ~hits
    return proportion(hits, units_of(held.rows), level)


def selectivity(
    train: Activations, method: Method, *, target: str = "label", task: str = "right", level: float = 0.95, seed: int = 0, **options: Any
) -> dict[int, tuple[Estimate, Estimate]]:
    """Compare a method with itself on a control task, layer by layer.

    The control task gives every value of a column a random label: nothing but memory solves it. Both tasks are fitted on
    70 % of these identities and read on the rest, who share the column's values.

    Args:
        train: Training rows.
        method: As for `fit_layers`: a name, a loss or a function of your own.
        target: The 0/1 column of the real task.
        task: The column whose values get random labels; it needs four values at least.
        level: Confidence level of both intervals.
        seed: Draws labels and the split.
        options: Passed to the fit.

    Returns:
        By layer: accuracy on the real task minus that on the control task, -1 to 1, with a paired interval (high: the probe reads
        rather than remembers); and the accuracy on the control task.

    Raises:
        BadInput: The column has fewer than four values.

    References:
        Hewitt and Liang 2019, arXiv 1909.03368.
    """
    values, codes = np.unique(train.rows[task].astype(str), return_inverse=True)
    if len(values) < 4:
        raise BadInput(f"a control task needs four values of {task!r} at least; there are {len(values)}")
    coins = numpy_rng(seed, "control task").permutation(np.arange(len(values)) % 2)
    acts = train.with_column("control_task", coins[codes])
    side = grouped_split(acts.rows, by=("identity",), test=0.3, seed=seed).side(acts.rows)
    part, rest = acts.subset(side == "train"), acts.subset(side == "test")
    fits = [fit_layers(part, method, target=t, by=("identity",), folds=3, seed=seed, **options) for t in (target, "control_task")]
    out, people = {}, units_of(rest.rows)
    for layer in train.layers:
        real, control = (
            (f.scores(rest, layer) > 0) == rest.rows[t].to_numpy() for f, t in zip(fits, (target, "control_task"), strict=True)
        )
        out[layer] = (
            paired_difference(real, control, people, level=level, reach=1),
            proportion(control, people, level),
        )
    return out


def check_labels(train: Activations, y: Int[np.ndarray, " item"], by: str = "template") -> None:
    """Raise where the labels of one prompt form are the opposite of what the other forms say, at every layer that reads them.

    Raises:
        FlippedLabels: The variants of a form were swapped.
    """
    if by not in train.rows:
        return
    forms = train.rows[by].to_numpy()
    names = [n for n in np.unique(forms) if (forms == n).sum() >= 20]
    if len(names) < 2:
        return
    for name in names:
        here = forms == name
        if len(np.unique(y[here])) < 2 or len(np.unique(y[~here])) < 2:
            continue
        for layer in train.layers:
            own, other = variants(train.subset(here), layer), variants(train.subset(~here), layer)
            across = (fit_mass_mean(*other, y[~here]).predict(*own) == y[here]).mean()
            within = (fit_mass_mean(*own, y[here]).predict(*own) == y[here]).mean()
            if across < 0.1 and within > 0.9:
                raise FlippedLabels(
                    f"{by} {name!r}: at layer {layer} a direction fitted on the other forms is right in {across:.0%} of its items. "
                    "Are its two variants swapped, or its labels? probe_layers(check_labels=False) goes on"
                )
