"""What superposition looks like in trained toy models: norms, interference, dimensions per feature, and their geometry.

W_i is the column of W of feature i, and w_i the unit vector along it.

    norm             |W_i|                                1 where a feature is represented, 0 where it is not
    interference     sum_{j != i} (w_i . W_j)^2           0 where a feature has a dimension of its own
    dimensionality   |W_i|^2 / sum_j (w_i . W_j)^2        the share of a dimension that a feature has
    per feature      m / |W|_F^2                          dimensions per represented feature

References:
    Elhage et al. 2022, arXiv 2209.10652.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse.csgraph import connected_components

from ..core.errors import BadInput
from ..core.types import Float, Tensor
from .over_seeds import over_seeds, shares
from .toys import TrainedToys

REPRESENTED = 0.5  # the norm from which a feature counts as represented
TIED = 0.1  # the cosine from which two features share dimensions
REGULAR = 0.05  # how far the share of a dimension may lie from that of a regular polytope
STATES = ("absent", "superposed", "own dimension")
# features in so many dimensions, and the share that each has
SHAPES = {
    (1, 1): "own dimension",
    (2, 1): "digon",
    (3, 2): "triangle",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
    (8, 3): "square antiprism",
}


def norms(weights: Float[Tensor, "instance hidden feature"]) -> Float[Tensor, "instance feature"]:
    """Return the length of each feature's column of W: 0 where a feature is absent, about 1 where it is represented.

    Args:
        weights: W of each instance.
    """
    return weights.norm(dim=1)


def _unit(weights: Tensor) -> Tensor:
    return weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-12)


def interference(weights: Float[Tensor, "instance hidden feature"]) -> Float[Tensor, "instance feature"]:
    """Return how much the other features weigh along each feature: sum over j != i of (w_i . W_j)^2.

    Args:
        weights: W of each instance.

    Returns:
        0 where a feature is orthogonal to all others, 1 where another of length 1 lies along it.
    """
    overlap = (_unit(weights).mT @ weights) ** 2
    return overlap.sum(2) - torch.diagonal(overlap, dim1=1, dim2=2)


def dimensionality(weights: Float[Tensor, "instance hidden feature"]) -> Float[Tensor, "instance feature"]:
    """Return the share of a dimension that each feature has: |W_i|^2 / sum over j of (w_i . W_j)^2.

    Args:
        weights: W of each instance.

    Returns:
        0 to 1: 1 for a dimension of its own, 1/2 for antipodal pairs, 2/5 for pentagons.
    """
    overlap = (_unit(weights).mT @ weights) ** 2
    return norms(weights) ** 2 / overlap.sum(2).clamp_min(1e-12)


def per_feature(weights: Float[Tensor, "instance hidden feature"]) -> Float[Tensor, " instance"]:
    """Return the dimensions per represented feature: hidden dimensions / |W|_F^2.

    Args:
        weights: W of each instance.

    Returns:
        1 where every represented feature has a dimension of its own, 1/2 where all stand in antipodal pairs.
    """
    return weights.shape[1] / (weights**2).sum((1, 2)).clamp_min(1e-12)


def states(weights: Float[Tensor, "instance hidden feature"]) -> np.ndarray:
    """Return what became of each feature, as an index into `STATES`.

    Args:
        weights: W of each instance.

    Returns:
        0 absent (norm below 0.5), 1 superposed (another weighs 0.5 or more along it), 2 a dimension of its own; `instance x feature`.
    """
    there, shared = norms(weights) >= REPRESENTED, interference(weights) >= REPRESENTED
    return torch.where(there, torch.where(shared, 1, 2), 0).numpy()


def shapes(weights: Float[Tensor, "hidden feature"]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the polytopes of one instance: groups of represented features that share dimensions, with their names.

    Two features are tied where the cosine between them is 0.1 or more; a group is what ties connect, and its dimensions are the rank of its
    columns (singular values above a tenth of the largest). It has the name of a regular polytope where, besides, each of its k features has
    a share of rank / k of a dimension, within 0.05.

    Args:
        weights: W.

    Returns:
        Per group its shape ("digon", "pentagon", …, or such as "5 in 3" where it is none that has a name here) and its features.
    """
    there = np.flatnonzero((weights.norm(dim=0) >= REPRESENTED).numpy())
    if not len(there):
        return []
    w = weights[:, there]
    tied = (_unit(w[None])[0].T @ _unit(w[None])[0]).abs().numpy() >= TIED
    count, group = connected_components(tied, directed=False)
    out = []
    for k in range(count):
        members = np.flatnonzero(group == k)
        s = torch.linalg.svdvals(w[:, members].double())
        key = (len(members), int((s > 0.1 * s[0]).sum()))
        share = dimensionality(w[None, :, members])[0]
        name = SHAPES.get(key) if bool(((share - key[1] / key[0]).abs() <= REGULAR).all()) else None
        out.append((name or f"{key[0]} in {key[1]}", tuple(int(i) for i in there[members])))
    return out


def best_of(trained: TrainedToys, restarts: int) -> np.ndarray:
    """Return the instance of lowest loss among every `restarts` neighbours: a replicate is the best of several starts.

    Args:
        trained: Instances whose seeds vary fastest.
        restarts: Starts of a replicate.

    Returns:
        Places of instances, one per replicate. All were measured on the same fresh examples, which no training saw.

    Raises:
        BadInput: The instances do not divide into replicates of equal settings.
    """
    if restarts < 1 or len(trained) % restarts:
        raise BadInput(f"{len(trained)} instances do not divide into replicates of {restarts} starts")
    for k in range(0, len(trained), restarts):
        if len({(t.sparsity, t.importance, t.activation) for t in trained.toys[k : k + restarts]}) > 1:
            raise BadInput("the starts of one replicate differ in more than their seed")
    return trained.loss.reshape(-1, restarts).argmin(1).numpy() + np.arange(0, len(trained), restarts)


def feature_table(trained: TrainedToys, restarts: int = 1) -> pd.DataFrame:
    """Return norm, interference and dimensionality of every feature by activation and sparsity.

    Args:
        trained: Instances that were crossed with one vector of importances.
        restarts: Starts of a replicate; the best counts.

    Returns:
        `activation, sparsity, feature, metric, value, low, high, n, note`: means over replicates with 95 % intervals. Interference and
        dimensionality are over the replicates in which the feature is represented.
    """
    keep = best_of(trained, restarts)
    w = trained.weights[keep]
    measured = {"norm": norms(w), "interference": interference(w), "dimensionality": dimensionality(w)}
    rows = [
        {"activation": t.activation, "sparsity": t.sparsity, "feature": f, "metric": name, "value": float(x[k, f])}
        for k, t in enumerate(trained.toys[i] for i in keep)
        for name, x in measured.items()
        for f in range(w.shape[2])
        if name == "norm" or measured["norm"][k, f] >= REPRESENTED
    ]
    return over_seeds(pd.DataFrame(rows), ["activation", "sparsity", "feature", "metric"])


def count_table(trained: TrainedToys, restarts: int = 1) -> pd.DataFrame:
    """Return how many features are represented, how many of them superposed, dimensions per feature and loss, by activation and sparsity.

    Args:
        trained, restarts: As for `feature_table`.

    Returns:
        `activation, sparsity, metric, value, low, high, n, note`; the metrics are `represented` and `superposed` (features),
        `per feature` and `loss`.
    """
    keep = best_of(trained, restarts)
    w, what = trained.weights[keep], states(trained.weights[keep])
    measured: Mapping[str, Any] = {
        "represented": (what > 0).sum(1),
        "superposed": (what == 1).sum(1),
        "per feature": per_feature(w).numpy(),
        "loss": trained.loss[keep].numpy(),
    }
    rows = [
        {"activation": t.activation, "sparsity": t.sparsity, "metric": name, "value": float(x[k])}
        for k, t in enumerate(trained.toys[i] for i in keep)
        for name, x in measured.items()
    ]
    return over_seeds(pd.DataFrame(rows), ["activation", "sparsity", "metric"])


def phase_table(trained: TrainedToys, restarts: int = 1, feature: int = -1) -> pd.DataFrame:
    """Return what becomes of one feature by density and by its importance relative to the first: the phase diagram.

    Args:
        trained: Instances that differ in sparsity and in the importance of that feature.
        restarts: Starts of a replicate; the best counts.
        feature: Which one.

    Returns:
        `activation, density, importance, state, value, low, high, n`: the share of replicates in each state, with Wilson intervals.
    """
    keep = best_of(trained, restarts)
    what = states(trained.weights[keep])[:, feature]
    rows = [
        {
            "activation": t.activation,
            "density": round(1 - t.sparsity, 6),
            "importance": round(t.importance[feature] / t.importance[0], 6),
            "state": state,
            "value": float(what[k] == j),
        }
        for k, t in enumerate(trained.toys[i] for i in keep)
        for j, state in enumerate(STATES)
    ]
    return shares(pd.DataFrame(rows), ["activation", "density", "importance", "state"])


def arrangement(weights: Float[Tensor, "hidden feature"]) -> str:
    """Return which kinds of shapes the represented features of one instance stand in, such as "digon, own dimension".

    Args:
        weights: W.

    Returns:
        The kinds in alphabetical order; "other" where a group is no regular polytope, or nothing is represented.
    """
    kinds = sorted({name for name, _ in shapes(weights)})
    return ", ".join(kinds) if kinds and set(kinds) <= set(SHAPES.values()) else "other"


def arrangement_table(trained: TrainedToys, restarts: int = 1) -> pd.DataFrame:
    """Return how equally important features are arranged, by sparsity.

    Args:
        trained: Instances of equally important features.
        restarts: Starts of a replicate; the best counts.

    Returns:
        `features, hidden, activation, sparsity, arrangement, value, low, high, n`: the share of replicates, with Wilson intervals.
    """
    keep = best_of(trained, restarts)
    m, n = trained.weights.shape[1:]
    found = [arrangement(trained.weights[i]) for i in keep]
    rows = [
        {"features": n, "hidden": m, "activation": t.activation, "sparsity": t.sparsity, "arrangement": name, "value": float(name == own)}
        for t, own in zip((trained.toys[i] for i in keep), found, strict=True)
        for name in sorted(set(found))
    ]
    return shares(pd.DataFrame(rows), ["features", "hidden", "activation", "sparsity", "arrangement"])


def gram_table(trained: TrainedToys, restarts: int = 1) -> pd.DataFrame:
    """Return W^T W of one replicate per activation and sparsity: an example to look at.

    Args:
        trained: Instances that were crossed with one vector of importances.
        restarts: Starts of a replicate; the best counts.

    Returns:
        `activation, sparsity, feature, other, weight`, of the first replicate of each kind.
    """
    rows, seen = [], set()
    for i in best_of(trained, restarts):
        toy, w = trained.toys[i], trained.weights[i]
        if (toy.activation, toy.sparsity) in seen:
            continue
        seen.add((toy.activation, toy.sparsity))
        gram = (w.T @ w).numpy()
        rows += [
            {"activation": toy.activation, "sparsity": toy.sparsity, "feature": f, "other": g, "weight": float(gram[f, g])}
            for f in range(len(gram))
            for g in range(len(gram))
        ]
    return pd.DataFrame(rows)


def pair_table(trained: TrainedToys, restarts: int = 1) -> pd.DataFrame:
    """Return the cosine between features that go together and between those that do not.

    Args:
        trained: Instances whose features stand in pairs (`sets`), or are independent, for comparison.
        restarts: Starts of a replicate; the best counts.

    Returns:
        `sets, pair, metric, value, low, high, n, note`: the mean cosine and its mean size, `within` the pairs 0 and 1, 2 and 3, …
        and `across` them.
    """
    unit = _unit(trained.weights[best_of(trained, restarts)])
    cosine = unit.mT @ unit
    n = cosine.shape[1]
    pair = torch.arange(n) // 2
    same = (pair[:, None] == pair[None]) & ~torch.eye(n, dtype=torch.bool)
    other = pair[:, None] != pair[None]
    rows = [
        {"sets": trained.sets, "pair": name, "metric": metric, "value": float(x[k][mask].mean())}
        for k in range(len(cosine))
        for name, mask in (("within", same), ("across", other))
        for metric, x in (("cosine", cosine), ("size", cosine.abs()))
    ]
    return over_seeds(pd.DataFrame(rows), ["sets", "pair", "metric"])
