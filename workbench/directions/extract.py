"""Directions from rows: by which method, how reliably, and how many rows it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..activations.statistics import Statistics
from ..core.direction import Direction
from ..core.errors import BadInput, ShapeMismatch, TooFew, UnknownName, unknown
from ..core.provenance import provenance as record
from ..core.seeds import derive, numpy_rng, torch_rng
from ..probes import fit_ccs, fit_kmeans, fit_lda, fit_logistic
from ..probes.scaling import matrix, pair
from .cells import two_of
from .sample import Sample, unwrap

FEWEST = 4


def _mean_difference(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return x.double().mean(0) - y.double().mean(0)


def _whitened(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return fit_lda(x, y).vector


def _logistic(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return fit_logistic(x, y, c=1.0).vector


def _top(differences: Tensor) -> Tensor:
    d = differences.double()
    values, vectors = torch.linalg.eigh(d @ d.T if len(d) < d.shape[1] else d.T @ d)
    return d.T @ vectors[:, -1] if len(d) < d.shape[1] else vectors[:, -1] * values[-1].clamp(min=0).sqrt()


def _oriented(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """With the sign, and the length, of the mean difference along it."""
    unit = v.double() / v.double().norm().clamp(min=1e-300)
    return unit * ((x.double().mean(0) - y.double().mean(0)) @ unit)


def _pca(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return _oriented(_top(x - y), x, y)


def _lat(x: Tensor, y: Tensor, seed: int) -> Tensor:
    rows = torch.cat([x, y])
    order = torch.randperm(len(rows), generator=torch_rng(seed, "lat"))
    half = len(rows) // 2
    differences = rows[order[:half]] - rows[order[half : 2 * half]]
    length = differences.norm(dim=1, keepdim=True)
    return _oriented(_top(differences / length.clamp(min=1e-12)), x, y)


def _mixed(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Exchange the two rows of a random half of the pairs: a search that normalises each side by itself would else erase the difference."""
    coin = torch.randint(0, 2, (len(x), 1), generator=torch_rng(seed, "sides")).bool()
    return torch.where(coin, x, y), torch.where(coin, y, x)


def _kmeans(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return _oriented(fit_kmeans(*_mixed(x, y, seed), seed=seed).vector, x, y)


def _ccs(x: Tensor, y: Tensor, seed: int) -> Tensor:
    return _oriented(fit_ccs(*_mixed(x, y, seed), seed=seed).vector, x, y)


Fit = Callable[[Tensor, Tensor, int], Tensor]
METHODS: dict[str, Fit] = {
    "mean_difference": _mean_difference,
    "whitened_mean_difference": _whitened,
    "logistic": _logistic,
    "pca": _pca,
    "lat": _lat,
    "kmeans": _kmeans,
    "ccs": _ccs,
}
PAIRED = ("pca", "ccs", "kmeans")


def extract_direction(
    positive: Any,
    negative: Any,
    method: str = "mean_difference",
    *,
    paired: bool | None = None,
    clusters: ArrayLike | tuple | None = None,
    halves: int = 10,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Direction:
    """Return the direction from negative to positive rows.

    Args:
        positive, negative: `row x d_model` each, or samples.
        method: "mean_difference"; "whitened_mean_difference" (Fisher's discriminant, covariance shrunk); "logistic" (C = 1);
            "pca" (top component of paired differences), "lat" (of differences of random rows, Zou et al. 2023); "kmeans" (two clusters of
            paired differences); "ccs". The last two see pairs of which a random half is turned round; "pca", "lat" and they get their sign,
            and their length, from the mean difference.
        paired: Row i of both is one item; by default so where the method needs it.
        clusters: Of the rows (one sequence where paired, else a pair of them): halves share no cluster.
        halves: Random splits for the reliability; 0 leaves it out.
        provenance: Model, site, layer and so on (`place_of`).
        seed: For splits and searches.

    Returns:
        A direction; `scale` is the length of the vector in raw units (of the mean difference along it, for searches), `reliability` the mean
        cosine between fits on two halves.

    Raises:
        UnknownName: No such method.
        ShapeMismatch, NotFinite, TooFew, ZeroDirection: Rows that cannot be used.

    Example:
        >>> import torch, workbench as wb
        >>> x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
        >>> d = wb.extract_direction(x[:100] + torch.eye(16)[3] * 4, x[100:])
        >>> int(d.unit.argmax()), d.reliability > 0.8
        (3, True)

    References:
        Marks and Tegmark 2023, arXiv 2310.06824 (mean difference, whitened); Zou et al. 2023, arXiv 2310.01405 (LAT); Burns et al. 2022,
        arXiv 2212.03827 (CCS).
    """
    if method not in METHODS:
        raise unknown(UnknownName, "method", method, METHODS)
    if isinstance(positive, Sample) or isinstance(negative, Sample):
        rows, _, people = unwrap({"positive": positive, "negative": negative}, None, clusters)
        provenance = dict(positive.place) if provenance is None else provenance
        clusters, positive, negative = (people["positive"], people["negative"]), rows["positive"], rows["negative"]
    together = method in PAIRED if paired is None else paired
    x, y = pair(positive, negative) if together else (matrix(positive, "positive"), matrix(negative, "negative"))
    if method in PAIRED and not together:
        raise BadInput(f"method={method!r} reads differences of pairs: rows must go in pairs")
    if x.shape[1] != y.shape[1]:
        raise ShapeMismatch(f"positive {tuple(x.shape)} and negative {tuple(y.shape)} differ in width")
    if min(len(x), len(y)) < FEWEST:
        raise TooFew(f"{len(x)} positive and {len(y)} negative rows; {FEWEST} at least of each")
    p, q = _clusters(clusters, len(x), len(y), together)
    fit = METHODS[method]
    count = len(np.unique(np.concatenate([p, q])))
    return Direction.of(
        fit(x, y, seed),
        method=method,
        n=min(len(x), len(y)),
        clusters=count,
        reliability=_halves(fit, x, y, p, q, halves, seed),
        provenance=dict(provenance or {}) | {"seed": seed, **({} if provenance else record())},
    )


def _clusters(given: Any, n: int, m: int, together: bool) -> tuple[np.ndarray, np.ndarray]:
    if given is None:
        return np.arange(n).astype(str), (np.arange(m) + (0 if together else n)).astype(str)
    p, q = (np.asarray(c).astype(str) for c in two_of(given))
    if p.shape != (n,) or q.shape != (m,):
        raise ShapeMismatch(f"clusters of {len(p)} and {len(q)} for {n} and {m} rows")
    return p, q


def _half(rng: np.random.Generator, names: np.ndarray, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of both sides lie in a random half of the clusters."""
    first = rng.permutation(names)[: len(names) // 2]
    return np.isin(p, first), np.isin(q, first)


def _cosine(one: Tensor, two: Tensor) -> float:
    return float(one @ two / (one.norm() * two.norm()).clamp(min=1e-300))


def _halves(fit: Fit, x: Tensor, y: Tensor, p: np.ndarray, q: np.ndarray, halves: int, seed: int) -> float:
    """Mean cosine between fits on two halves of the clusters."""
    rng = numpy_rng(seed, "halves")
    names = np.unique(np.concatenate([p, q]))
    found = []
    for k in range(halves):
        a, b = _half(rng, names, p, q)
        if min(a.sum(), (~a).sum(), b.sum(), (~b).sum()) < 2:
            continue
        one, two = (fit(x[torch.as_tensor(s)], y[torch.as_tensor(t)], derive(seed, k)).double() for s, t in ((a, b), (~a, ~b)))
        found.append(_cosine(one, two))
    return float(np.mean(found)) if found else math.nan


def from_statistics(statistics: Statistics, layer: int, positive: str, negative: str, *, whitened: bool = False) -> Direction:
    """Return the mean difference of two groups of streamed statistics (float64 sums; nothing else was kept).

    Args:
        statistics: From `stream_statistics(…)`, by group.
        layer: The block.
        positive, negative: Names of the groups.
        whitened: Multiply by the inverse of the pooled covariance (needs `second=True` there).
    """
    (first, k), (second, _) = (statistics.at(layer, g) for g in (positive, negative))
    vector = (statistics.mean[first, k] - statistics.mean[second, k]).double()
    if whitened:
        pooled = (statistics.covariance(layer, positive) + statistics.covariance(layer, negative)).double() / 2
        vector = torch.linalg.lstsq(pooled, vector[:, None], driver="gelsd").solution[:, 0]
    n = int(min(statistics.count[first], statistics.count[second]))
    name = "whitened_mean_difference, streamed" if whitened else "mean_difference, streamed"
    return Direction.of(
        vector,
        method=name,
        n=n,
        provenance={**statistics.provenance, "layer": layer, "site": statistics.site, "position": statistics.position},
    )


def head_directions(
    positive: Any, negative: Any, output: Tensor, *, clusters: Any = None, provenance: Mapping[str, Any] | None = None, seed: int = 0
) -> tuple[pd.DataFrame, list[Direction]]:
    """Return one direction per attention head: the mean difference of its `z`, through its output weights, in the residual stream.

    Args:
        positive, negative: `row x head x d_head` each.
        output: The layer's output weights, `head x d_head x d_model`.
        clusters: As for `extract_direction`.
        provenance: As there.
        seed: For the halves.

    Returns:
        A table by head (`scale`, `reliability`, `share` of the summed squared lengths) and the directions.
    """
    x, y = torch.as_tensor(positive), torch.as_tensor(negative)
    if x.ndim != 3 or y.shape[1:] != x.shape[1:] or tuple(output.shape[:2]) != tuple(x.shape[1:]):
        raise ShapeMismatch(
            f"z is row x head x d_head and the weights head x d_head x d_model; got {tuple(x.shape)}, {tuple(output.shape)}"
        )
    found = []
    for head in range(x.shape[1]):
        w = output[head].detach().float().cpu()
        place = dict(provenance or {}) | {"head": head}
        found.append(extract_direction(x[:, head].float() @ w, y[:, head].float() @ w, clusters=clusters, provenance=place, seed=seed))
    squares = np.array([d.scale**2 for d in found])
    rows = [
        {"head": k, "scale": d.scale, "reliability": d.reliability, "share": s}
        for k, (d, s) in enumerate(zip(found, squares / squares.sum(), strict=True))
    ]
    return pd.DataFrame(rows), found


def optimise_direction(
    objective: Callable[[Tensor], Tensor], start: Direction, *, steps: int = 100, lr: float = 0.05, away_from: Sequence[Direction] = ()
) -> tuple[Direction, list[float]]:
    """Return the direction that minimises an objective on the unit sphere, by projected Adam from a start.

    Args:
        objective: Maps a unit vector (with gradient) to a loss, for example of a model under an edit (`wb.edited` passes gradients).
        start: Where to begin; its scale is kept.
        steps, lr: Of Adam.
        away_from: Stay orthogonal to these (Wollschläger et al. 2025, arXiv 2502.17420, find independent directions so).

    Returns:
        The direction of the lowest loss seen, and the losses.
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
    made = {**start.provenance, "made_of": [{"method": start.method, "scale": start.scale}]}
    return Direction.of(best * start.scale, method=f"optimised from {start.method}", n=start.n, provenance=made), losses


def direction_efficiency(
    positive: Any,
    negative: Any,
    *,
    methods: Sequence[str] = ("mean_difference", "logistic"),
    sizes: Sequence[int] | None = None,
    paired: bool | None = None,
    clusters: Any = None,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how near a direction from few rows comes to one from other rows: cosine with a fit on the other half of the clusters.

    Args:
        positive, negative, paired, clusters: As for `extract_direction`.
        methods: To compare.
        sizes: Rows of each side; by default doubling from 4 to half of them.
        repeats: Draws each.
        seed: Draws the rows.

    Returns:
        By method and `items`: the mean cosine `value` with the central 95 % of draws.
    """
    x, y = matrix(positive, "positive"), matrix(negative, "negative")
    rows = []
    most = min(len(x), len(y)) // 2
    sizes = sizes or [int(4 * 2**k) for k in range(12) if 4 * 2**k <= most]
    for method in methods:
        if method not in METHODS:
            raise unknown(UnknownName, "method", method, METHODS)
        together = method in PAIRED if paired is None else paired
        p, q = _clusters(clusters, len(x), len(y), together)
        names = np.unique(np.concatenate([p, q]))
        for size in sizes:
            found = []
            for k in range(repeats):
                rng = numpy_rng(seed, "efficiency", size, k)
                a, b = _half(rng, names, p, q)
                i = rng.permutation(np.flatnonzero(a))[:size]
                j = i if together else rng.permutation(np.flatnonzero(b))[:size]
                if min(len(i), len(j)) < size:
                    continue
                one = METHODS[method](x[i], y[j], derive(seed, k)).double()
                two = METHODS[method](x[np.flatnonzero(~a)], y[np.flatnonzero(~b)], derive(seed, k)).double()
                found.append(_cosine(one, two))
            if found:
                low, high = np.quantile(found, [0.025, 0.975])
                rows.append(
                    {
                        "method": method,
                        "items": size,
                        "metric": "cosine with the other half",
                        "value": float(np.mean(found)),
                        "low": low,
                        "high": high,
                        "n": len(found),
                    }
                )
    return pd.DataFrame(rows)
