"""Directions from rows: by which method, and how reliably; per head, from streamed statistics, or optimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ..activations.statistics import Statistics
from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch, TooFew
from ..core.provenance import provenance as record
from ..core.types import Float, Tensor
from ..probes.scaling import matrix, pair
from .halves import clusters_of, half_cosine
from .methods import METHODS as METHODS
from .methods import PAIRED, method_of
from .sample import Sample, unwrap

FEWEST = 4


def extract_direction(
    positive: Any,
    negative: Any,
    method: str | Callable[..., Any] = "mean_difference",
    *,
    paired: bool | None = None,
    clusters: ArrayLike | tuple | None = None,
    strata: Any = None,
    halves: int = 10,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Direction:
    """Return the direction from negative to positive rows.

    Args:
        positive: Rows with the concept, `row x d_model`, or a sample (`sample`).
        negative: Rows without it, of the same width, or a sample.
        method: "mean_difference"; "whitened_mean_difference" (Fisher's discriminant, covariance shrunk); "logistic" (C = 1);
            "pca" (top component of paired differences), "lat" (of differences of random rows, Zou et al. 2023); "kmeans" (two
            clusters of paired differences); "ccs". The last two see pairs of which a random half is turned round; "pca", "lat"
            and they get their sign, and their length, from the mean difference. Or a function of your own that maps both
            arrays, float32 tensors `row d_model`, to a vector of length d_model that points to the positive rows; if it has
            an argument `seed`, it gets that too. It is named by its `__name__`, and is also fitted on halves.
        paired: Row i of both is one item; by default so where the method needs it.
        clusters: Cluster of each row (one sequence where paired, else a pair of them): halves share no cluster.
        strata: What each positive row is (its answer word): halves have equal shares of each kind. Halves that differ in the share of
            "yes" would differ in the direction of "yes", and look opposite where the concept is small.
        halves: Random splits for the reliability, 0 or more; raising it steadies the mean, 0 leaves it out.
        provenance: Model, site, layer and so on (`place_of`).
        seed: For splits and searches.

    Returns:
        A direction that points to the positive rows; `scale` is the length of the vector in raw units (of the mean difference
        along it, for searches), `reliability` the mean cosine between fits on two halves.

    Raises:
        UnknownName: No such method.
        BadInput: The method reads pairs and `paired=False`, or a function has the name of a built-in method.
        ShapeMismatch, NotFinite, TooFew, ZeroDirection: Rows that cannot be used; or a function of your own returned no finite
            vector of length d_model above 0.

    Example:
        >>> import torch, workbench as wb
        >>> x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
        >>> d = wb.extract_direction(x[:100] + torch.eye(16)[3] * 4, x[100:])
        >>> int(d.unit.argmax()), d.reliability > 0.8
        (3, True)
        >>> def medians(positive, negative):
        ...     return positive.median(0).values - negative.median(0).values
        >>> own = wb.extract_direction(x[:100] + torch.eye(16)[3] * 4, x[100:], method=medians)
        >>> own.method, int(own.unit.argmax())
        ('medians', 3)

    References:
        Marks and Tegmark 2023, arXiv 2310.06824 (mean difference, whitened); Zou et al. 2023, arXiv 2310.01405 (LAT); Burns et al. 2022,
        arXiv 2212.03827 (CCS).
    """
    name, fit = method_of(method)
    if isinstance(positive, Sample) or isinstance(negative, Sample):
        rows, _, people = unwrap({"positive": positive, "negative": negative}, None, clusters)
        provenance = dict(positive.place) if provenance is None else provenance
        clusters, positive, negative = (people["positive"], people["negative"]), rows["positive"], rows["negative"]
    together = name in PAIRED if paired is None else paired
    x, y = pair(positive, negative) if together else (matrix(positive, "positive"), matrix(negative, "negative"))
    if name in PAIRED and not together:
        raise BadInput(f"method={name!r} reads differences of pairs: rows must go in pairs")
    if x.shape[1] != y.shape[1]:
        raise ShapeMismatch(f"positive {tuple(x.shape)} and negative {tuple(y.shape)} differ in width")
    if min(len(x), len(y)) < FEWEST:
        raise TooFew(f"{len(x)} positive and {len(y)} negative rows; {FEWEST} at least of each")
    p, q = clusters_of(clusters, len(x), len(y), together)
    return Direction.of(
        fit(x, y, seed),
        method=name,
        n=min(len(x), len(y)),
        clusters=len(np.unique(np.concatenate([p, q]))),
        reliability=half_cosine(fit, x, y, p, q, halves, seed, strata),
        provenance=dict(provenance or {}) | {"seed": seed, **({} if provenance else record())},
    )


def from_statistics(statistics: Statistics, layer: int, positive: str, negative: str, *, whitened: bool = False) -> Direction:
    """Return the mean difference of two groups of streamed statistics (float64 sums; nothing else was kept).

    Args:
        statistics: From `stream_statistics(…)`, by group.
        layer: The block, counted from 0.
        positive: Name of the group with the concept.
        negative: Name of the group without it.
        whitened: Multiply by the inverse of the pooled covariance (needs `second=True` there).

    Returns:
        A direction that points to the positive group, without reliability; `scale` is the length of the vector in raw units.
    """
    (first, k), (second, _) = (statistics.at(layer, g) for g in (positive, negative))
    vector = (statistics.mean[first, k] - statistics.mean[second, k]).double()
    if whitened:
        pooled = (statistics.covariance(layer, positive) + statistics.covariance(layer, negative)).double() / 2
        vector = torch.linalg.lstsq(pooled, vector[:, None], driver="gelsd").solution[:, 0]
    n = int(statistics.used[[first, second], k].min())
    name = "whitened_mean_difference, streamed" if whitened else "mean_difference, streamed"
    return Direction.of(
        vector,
        method=name,
        n=n,
        provenance={**statistics.provenance, "layer": layer, "site": statistics.site, "position": statistics.position},
    )


def head_directions(
    positive: Any,
    negative: Any,
    output: Float[Tensor, "head d_head d_model"],
    *,
    clusters: Any = None,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, list[Direction]]:
    """Return one direction per attention head: the mean difference of its `z`, through its output weights, in the residual stream.

    Args:
        positive: `z` of the rows with the concept, `row x head x d_head`.
        negative: `z` of the rows without it, of the same heads.
        output: The layer's output weights, `head x d_head x d_model`.
        clusters: Cluster of each row, as for `extract_direction`.
        provenance: Model, site, layer and so on; the head is added.
        seed: For the halves of the reliability.

    Returns:
        A table by head (`scale`, `reliability`, `share` of the summed squared lengths) and the directions, which point to the
        positive rows.

    Raises:
        ShapeMismatch: The heads of rows and weights differ.
        NotFinite, TooFew, ZeroDirection: Rows that cannot be used.
    """
    x, y = torch.as_tensor(positive), torch.as_tensor(negative)
    if x.ndim != 3 or y.shape[1:] != x.shape[1:] or tuple(output.shape[:2]) != tuple(x.shape[1:]):
        raise ShapeMismatch(
            f"z is row x head x d_head and the weights head x d_head x d_model; got {tuple(x.shape)}, {tuple(output.shape)}"
        )
    directions = []
    for head in range(x.shape[1]):
        w = output[head].detach().float().cpu()
        place = dict(provenance or {}) | {"head": head}
        directions.append(extract_direction(x[:, head].float() @ w, y[:, head].float() @ w, clusters=clusters, provenance=place, seed=seed))
    squares = np.array([d.scale**2 for d in directions])
    rows = [
        {"head": k, "scale": d.scale, "reliability": d.reliability, "share": s}
        for k, (d, s) in enumerate(zip(directions, squares / squares.sum(), strict=True))
    ]
    return pd.DataFrame(rows), directions


def optimise_direction(
    objective: Callable[[Float[Tensor, " d_model"]], Float[Tensor, ""]],
    start: Direction,
    *,
    steps: int = 100,
    lr: float = 0.05,
    away_from: Sequence[Direction] = (),
) -> tuple[Direction, list[float]]:
    """Return the direction that minimises an objective on the unit sphere, by projected Adam from a start.

    Args:
        objective: Maps a unit vector `d_model` (with gradient) to a loss, for example of a model under an edit (`wb.edited`
            passes gradients).
        start: Where to begin; its scale is kept.
        steps: Steps of Adam, 0 or more.
        lr: Learning rate of Adam, above 0; raising it moves faster and less surely.
        away_from: Stay orthogonal to these (Wollschläger et al. 2025, arXiv 2502.17420, find independent directions so).

    Returns:
        The direction of the lowest loss seen, and the loss before every step.
    """
    basis = torch.linalg.qr(torch.stack([d.unit for d in away_from], 1)).Q if away_from else torch.zeros(len(start.unit), 0)

    def inside(v: Tensor) -> Tensor:
        v = v - basis @ (basis.T @ v)
        return v / v.norm()

    v = inside(start.unit.clone()).requires_grad_(True)
    optimiser = torch.optim.Adam([v], lr=lr)
    losses: list[float] = []
    best = inside(v.detach())
    for _ in range(steps):
        optimiser.zero_grad()
        with torch.enable_grad():
            unit = inside(v)
            loss = objective(unit)
            loss.backward()
        value = float(loss.detach())
        if not losses or value < min(losses):
            best = unit.detach()
        losses.append(value)
        optimiser.step()
        with torch.no_grad():
            v.copy_(inside(v))
    provenance = {**start.provenance, "made_of": [{"method": start.method, "scale": start.scale}]}
    return Direction.of(best * start.scale, method=f"optimised from {start.method}", n=start.n, provenance=provenance), losses
