"""How few samples are enough? Accuracy and stability of the direction against the number of training items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..activations import Activations
from ..activations.variants import is_paired, single_rows, variants
from ..core.errors import BadInput
from ..core.seeds import numpy_rng, torch_rng
from ..core.stats import cluster_draws, wilson
from ..core.types import Bool, Float, Int, Tensor
from ..prompts import Split, grouped_split
from .ccs import resolve_sign
from .given import column
from .methods import Method, by_name, fit_layers, fitting, is_supervised, search_of

DEFAULTS: dict[str, dict[str, Any]] = {"logistic": {"c": 1.0}, "svm": {"c": 1.0}, "ridge": {"c": 1.0}}

TRIED = ("logistic", "lda", "mass_mean", "ccs")


def sample_efficiency(
    acts: Activations,
    *,
    layer: int,
    methods: Sequence[Method] | None = None,
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
        layer: The block, counted from 0.
        methods: Names of linear methods or of searches without labels, losses, or supervised methods of your own, functions
            (x_positive, x_negative, seed), as for `fit_layers`; by default "logistic", "lda",
            "mass_mean" and, of pairs, "ccs". Nothing is tuned here: with four items there is nothing to
            tune on.
        sizes: Numbers of training items, 4 at least; by default doubling from 4 to all.
        repeats: Draws of training items for each size, 1 or more.
        split: As for `probe_layers`.
        target: 0/1 column to fit on and compare with. Searches without labels get pairs drawn at random, and one bit more: their
            sign, from all training rows.
        perfect_world: Put beside it the same on planted data: Gaussian, with the mean difference and the covariances that
            the training rows have at this layer, so that the answer is known and nothing else is in the way.
        resamples: Bootstrap draws for the intervals; 200 at least are made.
        options: By name of the method, passed to its fit.
        seed: Draws items, planted data and resamples.

    Returns:
        One row per world ("measured", "perfect") x method x number of `items` x metric: "accuracy" (mean over repeats; the
        interval resamples both repeats and clusters), "worst" (of the repeats) and "stability" (mean |cosine| between the
        directions of the repeats, 0 to 1; left out for a method that gives no direction).

    Raises:
        BadInput: Sizes under 4 or above the number of training items, or two methods of one name.
        UnknownName: No such method.
    """
    named = by_name(fitting(acts, TRIED) if methods is None else methods)
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
    for world, (fitted, read) in worlds.items():
        for name, method in named.items():
            extra = {**DEFAULTS.get(name, {}), **dict((options or {}).get(name, {}))}
            for size in sorted(set(sizes)):
                place = {"layer": layer, "method": name, "world": world, "items": size, "repeats": repeats if size < total else 1}
                place |= {"split": "test", "against": target}
                hits, vectors = _repeated(fitted, read, method, place, seed, extra)
                rows += [place | row for row in _rows(hits, vectors, read.rows["identity"].to_numpy(), resamples, seed)]
    return pd.DataFrame(rows)


def smallest(table: pd.DataFrame, threshold: float = 0.9) -> pd.DataFrame:
    """Return, per method and world, the smallest number of items from which on the lower bound of the accuracy stays above.

    Args:
        table: From `sample_efficiency`.
        threshold: Accuracy that the lower end of the interval must exceed, 0 to 1.

    Returns:
        Columns `method, world, threshold, items`; `items` is missing where no size is enough.
    """
    rows = []
    for (method, world), part in table[table["metric"] == "accuracy"].groupby(["method", "world"], sort=False):
        part = part.sort_values("items", ascending=False)
        above = (part["low"] > threshold).cumprod().astype(bool)
        rows.append({"method": method, "world": world, "threshold": threshold, "items": part.loc[above, "items"].min()})
    return pd.DataFrame(rows).astype({"items": "Int64"})


def _draw(y: Int[np.ndarray, " item"], size: int, labels: bool, seed: int, k: int) -> Int[np.ndarray, " size"]:
    """Indices of training items; with labels, of both classes in equal shares."""
    rng = numpy_rng(seed, "sizes", size, k)
    if size == len(y):
        return np.arange(len(y))
    if not labels:  # balanced draws would be a use of labels
        return rng.permutation(len(y))[:size]
    one, zero = (rng.permutation(np.flatnonzero(y == v)) for v in (1, 0))
    half = min(size // 2, len(one))
    return np.r_[one[:half], zero[: size - half]]


def _repeated(
    train: Activations, held: Activations, method: Method, place: Mapping[str, Any], seed: int, extra: Mapping[str, Any]
) -> tuple[Bool[np.ndarray, "repeat item"], list[Float[Tensor, " d_model"]]]:
    """Fit on as many draws of training items as asked for: which held-out items each is right about, and its direction."""
    layer, target, size = place["layer"], place["against"], place["items"]
    y, truth = column(train, target), column(held, target)
    supervised = is_supervised(method)
    hits, vectors = [], []
    for k in range(place["repeats"]):
        chosen = _draw(y, size, supervised, seed, k)
        if supervised:
            fit = fit_layers(train.subset(chosen), method, target=target, seed=seed, **extra)
            probe, said = fit.probes[layer], fit.scores(held, layer) > 0
        else:
            if not is_paired(train):
                raise BadInput(f"{place['method']!r} searches among contrast pairs, and these are {single_rows(train)}")
            x = train.layer(layer)
            drawn = x[torch.as_tensor(chosen)]
            probe = resolve_sign(search_of(method)(drawn[:, 1], drawn[:, 0], seed=seed, **extra), x, y)
            said = probe.score(*variants(held, layer)) > 0
        hits.append(said == truth)
        with suppress(AttributeError, BadInput):  # a probe that is no line has no direction
            vectors.append(probe.vector)  # pyright: ignore[reportAttributeAccessIssue]
    return np.stack(hits), vectors


def _rows(
    hits: Bool[np.ndarray, "repeat item"],
    vectors: Sequence[Float[Tensor, " d_model"]],
    clusters: np.ndarray,
    resamples: int,
    seed: int,
) -> Iterable[dict[str, Any]]:
    """Accuracy, its worst repeat, and how alike the directions of the repeats are."""
    matrix = hits.astype(float)
    each, n = matrix.mean(1), matrix.shape[1]
    low, high = _interval(matrix, clusters, resamples, seed)
    yield {"metric": "accuracy", "value": float(each.mean()), "low": low, "high": high, "n": n}
    yield {"metric": "worst", "value": float(each.min()), "low": float("nan"), "high": float("nan"), "n": n}
    if len(vectors) > 1:
        unit = torch.nn.functional.normalize(torch.stack(list(vectors)).double(), dim=1)
        pairs = (unit @ unit.T).abs()[tuple(torch.triu_indices(len(unit), len(unit), 1))].numpy()
        low, high = np.quantile(pairs, (0.025, 0.975))
        yield {"metric": "stability", "value": float(pairs.mean()), "low": float(low), "high": float(high), "n": len(pairs)}


def _interval(hits: Float[np.ndarray, "repeat item"], clusters: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean of `repeat x item`, resampling clusters and repeats."""
    draws, codes = cluster_draws(clusters, hits.shape[1], max(resamples, 200), seed)
    m = draws.shape[1]
    sums = np.stack([np.bincount(codes, h, m) for h in hits])
    means = (draws @ sums.T) / (draws @ np.bincount(codes, minlength=m))[:, None]  # resample, repeat
    pick = numpy_rng(seed, "repeats").integers(0, len(hits), means.shape)
    low, high = np.quantile(np.take_along_axis(means, pick, 1).mean(1), (0.025, 0.975))
    value = hits.mean()
    if low == high and value in (0.0, 1.0):  # no resample changes it: as many agreeing clusters
        return wilson(value * m, m)
    return float(low), float(high)


def _plant(
    train: Activations, held: Activations, y: Int[np.ndarray, " item"], layer: int, target: str, seed: int
) -> tuple[Activations, Activations]:
    """Gaussian pairs, or single rows, with the means and covariances of the training rows; labels are coins of the same share."""
    positive, negative = variants(train, layer)
    # a single row is its own difference, about a middle that does not vary
    x = torch.stack([-positive / 2, positive / 2] if negative is None else [negative, positive], 1)
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
        values = torch.stack([apart, apart] if negative is None else [base - apart / 2, base + apart / 2], 1)[:, :, None]
        return Activations(
            values=values,
            layers=[layer],
            site=acts.site,
            position=acts.position,
            rows=acts.rows.assign(**{target: label.numpy()}),
            provenance={"planted": True},
        )

    return make(train), make(held)
