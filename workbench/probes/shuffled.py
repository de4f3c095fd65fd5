"""What a method reads where labels say nothing: labels permuted within identities, of training and of held-out rows, and a fit on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..activations import Activations
from ..activations.variants import variants
from ..core.nulls import central, permutation_p
from ..core.seeds import numpy_rng
from ..core.types import Int
from .ccs import ContrastProbe
from .linear_probe import LinearProbe
from .methods import Fit, Method, fitter
from .nonlinear import NonlinearProbe

Hits = Mapping[tuple[str, int, str, str], np.ndarray]


def permuted(labels: Int[np.ndarray, " item"], identities: np.ndarray, rng: np.random.Generator) -> Int[np.ndarray, " item"]:
    """Permute labels within each identity; where an identity has one label only, whole identities exchange theirs.

    Args:
        labels: One label per row.
        identities: The identity of each row.
        rng: Draws the permutation.

    Returns:
        The permuted labels, in the order of the rows.
    """
    out, alike = labels.copy(), []
    _, codes = np.unique(identities.astype(str), return_inverse=True)
    for k in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero(codes == k)
        if len(np.unique(labels[rows])) > 1:
            out[rows] = labels[rng.permutation(rows)]
        else:
            alike.append(rows)
    for rows, other in zip(alike, rng.permutation(len(alike)), strict=True):
        out[rows] = labels[alike[other][0]]
    return out


def shuffled(
    fit: Fit,
    method: Method,
    train: Activations,
    read: Mapping[str, Activations],
    y: Int[np.ndarray, " item"],
    hits: Hits,
    *,
    draws: int,
    seed: int,
    level: float,
    folds: int,
    options: Mapping[str, Any],
) -> Iterable[dict[str, Any]]:
    """Read every layer with fits on permuted labels, tuned as the fit on the real labels was.

    A search without labels is not made again: permuted labels resolve its sign anew.

    Args:
        fit: On the real labels of the training rows.
        method: What was fitted.
        train: The training rows.
        read: Held-out rows, by name of their condition.
        y: The label of each training row, 0 or 1.
        hits: Where the real fit is right, by method, layer, condition and the column that it is compared with.
        draws: Permutations, 1 or more; raising it makes smaller p-values possible.
        seed: Draws the permutations.
        level: Of the central part that is given.
        folds: As for the fit, for methods that need them.
        options: As for the fit.

    Yields:
        One row of a table per layer, condition and column: `value` is the middle accuracy, `low` and `high` the ends of the central
        part, and the note has p: the share of draws, with the real fit among them, that read as well as it.

    References:
        Ojala and Garriga 2010, J. Mach. Learn. Res. 11:1833; Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    rng = numpy_rng(seed, "shuffled labels")
    people = train.rows["identity"].to_numpy()
    labels = [p if len(np.unique(p := permuted(y, people, rng))) > 1 else y for _ in range(draws)]
    places = [(where, name) for m, _, where, name in hits if m == fit.method]
    targets = {
        (where, name): [permuted(read[where].rows[name].to_numpy(), read[where].rows["identity"].to_numpy(), rng) for _ in range(draws)]
        for where, name in dict.fromkeys(places)
    }
    for layer in train.layers:
        right: dict[tuple[str, str], list[float]] = {place: [] for place in targets}
        for k, permutation in enumerate(labels):
            one = _again(fit, method, train, layer, permutation, seed, folds, dict(options))
            guesses = {where: one.scores(held, layer) > 0 for where, held in read.items()}
            for where, name in targets:
                right[where, name].append(float((guesses[where] == targets[where, name][k]).mean()))
        for (where, name), null in right.items():
            part, p = central(null, level), permutation_p(float(hits[fit.method, layer, where, name].mean()), null)
            yield {
                "layer": layer,
                "method": fit.method,
                "control": "shuffled_labels",
                "condition": where,
                "against": name,
                "split": "test",
                "metric": "accuracy",
                "value": part.middle,
                "low": part.low,
                "high": part.high,
                "n": len(read[where]),
                "note": f"{part.note}, labels permuted within identity in training and test; p = {p:.3g}",
            }


def _again(
    fit: Fit,
    method: Method,
    train: Activations,
    layer: int,
    y: Int[np.ndarray, " item"],
    seed: int,
    folds: int,
    options: dict[str, Any],
) -> Fit:
    """The same fit on other labels, at one layer, with what was tuned as it is."""
    probe = fit.probes[layer]
    if isinstance(probe, ContrastProbe):
        right = ((fit.scores(train, layer) > 0) == y).mean()
        return replace(fit, probes={layer: probe if right >= 0.5 else replace(probe, sign=-probe.sign)})
    if isinstance(probe, LinearProbe) and np.isfinite(probe.strength):
        options["shrinkage" if fit.method == "lda" else "c"] = probe.strength
    if isinstance(probe, NonlinearProbe):
        options |= {"knn": {"neighbours": [int(probe.chosen)]}, "mlp": {"penalties": [probe.chosen]}}.get(fit.method, {"c": probe.chosen})
    if fit.forms:
        options["groups"] = train.rows["template"].tolist()
    make = fitter(train, method, fit.method, options, folds, seed=seed)
    return replace(fit, probes={layer: make(*variants(train, layer), y, **options)})
