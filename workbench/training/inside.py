"""Readings before and after a change: the old probe, a fresh one, and where the direction went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..activations import Activations
from ..core.clustered import linearised
from ..core.errors import BadInput, WorkbenchError
from ..core.estimate import Estimate, agreeing, no_narrower, undefined
from ..core.seeds import numpy_rng
from ..core.stats import auroc, auroc_influence
from ..core.tables import units_of
from ..directions import compare_directions
from ..probes.methods import Fit, fit_layers
from ..probes.text import text_scorers
from ..prompts import Split

PERFECT = 0.995  # an AUROC from which on it is known no better than a perfect one


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What is read before and after.

    Attributes:
        rows: A row per layer and reading: `aspect, detail, layer, metric, value, low, high, n, note`.
        readable: Layers that were readable before.
        old, fresh: Kept shares over these layers.
    """

    rows: list[dict[str, Any]]
    readable: list[int]
    old: Estimate | None
    fresh: Estimate | None


def read_inside(
    before: Activations, after: Activations, split: Split, *, floor: Mapping[int, float] | None = None, seed: int = 0
) -> Inside:
    """Fit probes on training rows of each, and read held-out rows.

    Args:
        before, after: The same items, at the same layers; all rows.
        split: Which identities and rights are held out.
        floor: By layer, the AUROC of a control that a layer must exceed to be called readable, beside .5 and the bag of words.
        seed: For folds.

    Returns:
        The readings. Controls: the words of the statements alone ("bag_of_words"), and the fresh probe on shuffled labels of whole
        identities.
    """
    sides = {name: (acts.subset(split.side(acts.rows) == "train"), acts.subset(split.side(acts.rows) == "test")) for name, acts in
             (("before", before), ("after", after))}  # fmt: skip
    (train, held), (train_after, held_after) = sides["before"], sides["after"]
    y, units = held.rows["label"].to_numpy().astype(int), units_of(held.rows)
    old, fresh, shuffled = (
        _Layers(train, "before", seed),
        _Layers(train_after, "after", seed),
        _Layers(_shuffled(train_after, seed), "shuffled", seed),
    )
    rows: list[dict[str, Any]] = []
    areas: dict[str, dict[int, tuple[float, np.ndarray]]] = {"old before": {}, "old after": {}, "fresh after": {}}
    words = _words(train, held, y)
    if words == words:
        rows.append(row("inside", "control: bag of words", -1, "auroc", bare(words, len(y))))
    readable = []
    for layer in before.layers:
        for name, fit, acts in (("old before", old, held), ("old after", old, held_after), ("fresh after", fresh, held_after)):
            scores = fit.scores(acts, layer)
            e = auroc(scores, y, units)
            rows.append(row("inside", f"{name.split()[0]} probe, {name.split()[1]}", layer, "auroc", e))
            areas[name][layer] = auroc_influence(scores, y)
            if name == "old before" and e.low > max(0.5, words if words == words else 0.5, (floor or {}).get(layer, 0.5)):
                readable.append(layer)
        rows.append(row("inside", "control: shuffled labels, after", layer, "auroc", auroc(shuffled.scores(held_after, layer), y, units)))
    shares = {k: _share(areas[k], areas["old before"], readable, units, y) for k in ("old after", "fresh after")} if readable else {}
    for name, e in shares.items():
        rows.append(row("inside", f"{name.split()[0]} probe", -1, "kept_share", e, f"{len(readable)} blocks"))
    return Inside(rows=rows, readable=readable, old=shares.get("old after"), fresh=shares.get("fresh after"))


def _share(now: Mapping[int, Any], then: Mapping[int, Any], layers: Sequence[int], units: Any, y: np.ndarray) -> Estimate:
    """A ratio of two sums of excesses over one half, linearised; clusters are identities."""
    top, base = (sum(a[k][0] - 0.5 for k in layers) for a in (now, then))
    u, v = (np.sum([a[k][1] for k in layers], axis=0) for a in (now, then))
    share = top / base
    e = linearised(share, (u - share * v) / base, units, 0.95, False, y)
    near = float(np.mean([now[k][0] >= PERFECT and then[k][0] >= PERFECT for k in layers]))
    reach = 2.0 if np.isnan(e.low) else 2.0 * near
    return no_narrower(e, agreeing(e.value, e.clusters, 0.95, reach)) if reach else e


class _Layers:
    """A logistic probe of each layer; where the two variants do not differ at all, every score is 0."""

    def __init__(self, train: Activations, name: str, seed: int) -> None:
        self.fits: dict[int, Fit | None] = {}
        for layer in train.layers:
            try:
                self.fits[layer] = fit_layers(train.where(layers=[layer]), "logistic", condition=name, seed=seed)
            except BadInput:  # nothing to tell the variants apart by: nothing is read
                if bool((train.layer(layer)[:, 0] - train.layer(layer)[:, 1]).std(0).max() > 0) or not bool(
                    train.layer(layer).isfinite().all()
                ):
                    raise
                self.fits[layer] = None

    def scores(self, acts: Activations, layer: int) -> np.ndarray:
        fit = self.fits[layer]
        return np.zeros(len(acts.rows)) if fit is None else fit.scores(acts, layer)


def _shuffled(train: Activations, seed: int) -> Activations:
    """The same rows with their labels shuffled."""
    order = numpy_rng(seed, "shuffled labels").permutation(len(train.rows))
    return train.with_column("label", train.rows["label"].to_numpy()[order])


def _words(train: Activations, held: Activations, y: np.ndarray) -> float:
    if "statement" not in train.rows:
        return float("nan")
    texts = train.rows["statement"].tolist()
    for name, score in text_scorers(texts, train.rows["label"].to_numpy().astype(int), train.rows["identity"]):
        if name == "bag_of_words":
            return float(auroc_influence(score(held.rows["statement"].tolist()), y)[0])
    return float("nan")


def moved(before: Activations, after: Activations, layers: Sequence[int], seed: int = 0) -> list[dict[str, Any]]:
    """Return the angle between the direction of truth before and after, and the ratio of its lengths, by layer.

    Args:
        before, after: The same items.
        layers: Where.
        seed: For the null.

    Returns:
        Rows: "cosine" (cross-fitted over identities, with its interval), "length_ratio" (after over before, noise taken out).
    """
    label = torch.as_tensor(before.rows["label"].to_numpy().astype(int))
    people, out = before.rows["identity"].astype(str).tolist(), []
    at = torch.arange(len(label))
    for layer in layers:
        cells = {}
        for name, acts in (("before", before), ("after", after)):
            x = acts.layer(layer).float()
            cells[name] = x[at, label], x[at, 1 - label]
        try:
            report = compare_directions(clusters=people, items=at.tolist(), paired=True, draws=0, seed=seed, **cells)
        except WorkbenchError as error:
            out.append(row("direction", "truth, before and after", layer, "cosine", undefined(str(error)[:160], len(label))))
            continue
        why = f"{report.verdict}: {report.reason}"[:160]
        low, high = report.interval
        told = Estimate(value=report.cosine, low=low, high=high, n=len(label), clusters=report.clusters, note=why)
        out.append(row("direction", "truth, before and after", layer, "cosine", told))
        size = report.lengths
        ratio = size.get("after", np.nan) / size["before"] if size.get("before") else np.nan
        out.append(row("direction", "truth, after over before", layer, "length_ratio", bare(ratio, len(label))))
    return out


def row(aspect: str, detail: str, layer: int, metric: str, e: Estimate, note: str = "") -> dict[str, Any]:
    """Return a row of the table of `survival`."""
    about = {"aspect": aspect, "detail": detail, "layer": layer, "metric": metric}
    return about | {"value": e.value, "low": e.low, "high": e.high, "n": e.n, "note": note or e.note}


def bare(value: float, n: int, note: str = "") -> Estimate:
    """Return a number without an interval."""
    if np.isnan(value):
        return undefined(note or "undefined", n)
    return Estimate(value=float(value), low=np.nan, high=np.nan, n=n, clusters=0, note=note)
