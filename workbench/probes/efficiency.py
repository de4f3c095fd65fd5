"""How few samples are enough? Accuracy and stability of the direction against the number of training items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput
from ..core.seeds import numpy_rng, torch_rng
from ..core.stats import cluster_draws
from ..prompts import Split, grouped_split
from .methods import SUPERVISED, column, fit_layers

DEFAULTS: dict[str, dict[str, Any]] = {"logistic": {"c": 1.0}, "svm": {"c": 1.0}, "ridge": {"c": 1.0}}


def sample_efficiency(
    acts: Activations,
    *,
    layer: int,
    methods: Sequence[str] = ("logistic", "lda", "mass_mean", "ccs"),
    sizes: Sequence[int] | None = None,
    repeats: int = 10,
    split: Split | None = None,
    target: str = "label",
    perfect_world: bool = True,
    resamples: int = 1000,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit on ever more training items, many times each, and read the held-out rows.

    Args:
        acts: One condition; training and held-out rows.
        layer: The block.
        methods: Linear methods or searches without labels. Nothing is tuned here: with four items there is nothing to tune on.
        sizes: Numbers of training items, 4 at least; by default doubling from 4 to all.
        repeats: Draws of training items for each size.
        split: As for `probe_layers`.
        target: Column to fit on and compare with. Searches without labels get pairs drawn at random, and one bit more: their
            sign, from all training rows.
        perfect_world: Put beside it the same on planted data: Gaussian, with the mean difference and the covariances that
            the training rows have at this layer, so that the answer is known and nothing else is in the way.
        resamples: For the intervals.
        options: By method, passed to the fit.
        seed: Draws items, planted data and resamples.

    Returns:
        Per method, world ("measured", "perfect") and number of items: "accuracy" (mean over repeats; the interval resamples
        both repeats and clusters), "worst" (of the repeats) and "stability" (mean |cosine| between the directions of the
        repeats).
    """
    split = split or grouped_split(acts.rows, seed=seed)
    side = split.side(acts.rows)
    train, held = (acts.where(layers=[layer]).subset(side == s) for s in ("train", "test"))
    y, total = column(train, target), len(train)
    if sizes is None:
        sizes = [*(2**k for k in range(2, 30) if 2**k < total), total]
    if min(sizes) < 4 or max(sizes) > total:
        raise BadInput(f"sizes go from 4 to {total}, the number of training items; got {min(sizes)} to {max(sizes)}")
    worlds = {"measured": (train, held)}
    if perfect_world:
        worlds["perfect"] = _plant(train, held, y, layer, target, seed)
    rows = []
    for world, (some, other) in worlds.items():
        for method in methods:
            extra = {**DEFAULTS.get(method, {}), **dict((options or {}).get(method, {}))}
            for size in sorted(set(sizes)):
                rows += _at(some, other, method, size, layer, repeats if size < total else 1, target, resamples, seed, extra, world)
    return pd.DataFrame(rows)


def smallest(table: pd.DataFrame, threshold: float = 0.9) -> pd.DataFrame:
    """Return, per method and world, the smallest number of items from which on the lower bound of the accuracy stays above.

    Args:
        table: From `sample_efficiency`.
        threshold: For the lower end of the interval.

    Returns:
        Columns `method, world, threshold, items`; `items` is missing where no size is enough.
    """
    rows = []
    for (method, world), some in table[table["metric"] == "accuracy"].groupby(["method", "world"], sort=False):
        some = some.sort_values("items", ascending=False)
        above = (some["low"] > threshold).cumprod().astype(bool)
        rows.append({"method": method, "world": world, "threshold": threshold, "items": some.loc[above, "items"].min()})
    return pd.DataFrame(rows).astype({"items": "Int64"})


def _draw(y: np.ndarray, size: int, labels: bool, seed: int, k: int) -> np.ndarray:
    rng = numpy_rng(seed, "sizes", size, k)
    if size == len(y):
        return np.arange(len(y))
    if not labels:  # balanced draws would be a use of labels
        return rng.permutation(len(y))[:size]
    one, zero = (rng.permutation(np.flatnonzero(y == v)) for v in (1, 0))
    half = min(size // 2, len(one))
    return np.r_[one[:half], zero[: size - half]]


def _at(
    train: Activations,
    held: Activations,
    method: str,
    size: int,
    layer: int,
    repeats: int,
    target: str,
    resamples: int,
    seed: int,
    extra: dict[str, Any],
    world: str,
) -> list[dict[str, Any]]:
    y, z = column(train, target), column(held, target)
    supervised = method in SUPERVISED
    hits, vectors = [], []
    x, signs = train.layer(layer), y
    for k in range(repeats):
        chosen = _draw(y, size, supervised, seed, k)
        if supervised:
            fit = fit_layers(train.subset(chosen), method, target=target, seed=seed, **extra)
            said = fit.scores(held, layer) > 0
            probe = fit.probes[layer]
        else:
            from .ccs import resolve_sign
            from .unsupervised import UNSUPERVISED

            some = x[torch.as_tensor(chosen)]
            probe = resolve_sign(UNSUPERVISED[method](some[:, 1], some[:, 0], seed=seed, **extra), x, signs)
            other = held.layer(layer)
            said = probe.score(other[:, 1], other[:, 0]) > 0
        hits.append(said == z)
        vectors.append(probe.vector)  # pyright: ignore[reportAttributeAccessIssue]
    matrix = np.stack(hits).astype(float)
    low, high = _interval(matrix, held.rows["identity"].to_numpy(), resamples, seed)
    place = {"layer": layer, "method": method, "world": world, "items": size, "repeats": repeats, "split": "test", "against": target}
    each = matrix.mean(1)
    out = [
        place | {"metric": "accuracy", "value": float(each.mean()), "low": low, "high": high, "n": len(z)},
        place | {"metric": "worst", "value": float(each.min()), "low": float("nan"), "high": float("nan"), "n": len(z)},
    ]
    if repeats > 1:
        unit = torch.nn.functional.normalize(torch.stack(vectors).double(), dim=1)
        pairs = (unit @ unit.T).abs()[tuple(torch.triu_indices(repeats, repeats, 1))].numpy()
        ends = np.quantile(pairs, (0.025, 0.975))
        out.append(
            place | {"metric": "stability", "value": float(pairs.mean()), "low": float(ends[0]), "high": float(ends[1]), "n": len(pairs)}
        )
    return out


def _interval(hits: np.ndarray, clusters: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean of `repeat x item`, resampling clusters and repeats."""
    draws, codes = cluster_draws(clusters, hits.shape[1], max(resamples, 200), seed)
    m = draws.shape[1]
    sums = np.stack([np.bincount(codes, h, m) for h in hits])
    means = (draws @ sums.T) / (draws @ np.bincount(codes, minlength=m))[:, None]  # resample, repeat
    pick = numpy_rng(seed, "repeats").integers(0, len(hits), means.shape)
    low, high = np.quantile(np.take_along_axis(means, pick, 1).mean(1), (0.025, 0.975))
    value = hits.mean()
    if low == high and value in (0.0, 1.0):  # no resample changes it: as many agreeing clusters
        from ..core.stats import wilson

        return wilson(value * m, m)
    return float(low), float(high)


def _plant(train: Activations, held: Activations, y: np.ndarray, layer: int, target: str, seed: int) -> tuple[Activations, Activations]:
    """Gaussian pairs with the means and covariances of the training rows; labels are coins of the same share."""
    x = train.layer(layer)
    t = torch.as_tensor(2 * y - 1).float()[:, None]
    middle, difference = (x[:, 1] + x[:, 0]) / 2, x[:, 1] - x[:, 0]
    shared = middle.mean(0)
    # mean difference where the positive variant is true, and where it is not
    one, zero = difference[t[:, 0] > 0].mean(0), difference[t[:, 0] < 0].mean(0)
    residual = difference - torch.where(t > 0, one, zero)
    rng = torch_rng(seed, "perfect world", layer)

    def noise(rows: Tensor, n: int) -> Tensor:
        return torch.randn(n, len(rows), generator=rng) @ (rows / len(rows) ** 0.5)

    def make(acts: Activations) -> Activations:
        n = len(acts)
        label = (torch.rand(n, generator=rng) < float((t > 0).float().mean())).long()
        if n > 1 and int(label.sum()) in (0, n):
            label[0] = 1 - label[0]
        apart = torch.where(label[:, None] > 0, one, zero) + noise(residual, n)
        base = shared + noise(middle - shared, n)
        values = torch.stack([base - apart / 2, base + apart / 2], 1)[:, :, None]
        return Activations(
            values=values,
            layers=[layer],
            site=acts.site,
            position=acts.position,
            rows=acts.rows.assign(**{target: label.numpy()}),
            provenance={"planted": True},
        )

    return make(train), make(held)
