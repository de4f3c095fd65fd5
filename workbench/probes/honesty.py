"""What did CCS find? One call that sets it beside everything that it should be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..activations import Activations
from ..core.errors import BadInput
from ..core.show import Shown
from ..core.stats import Estimate, cluster_draws, paired_difference, proportion, undefined
from ..prompts import Split, grouped_split
from .ccs import ContrastProbe, fit_ccs, resolve_sign
from .controls import inflated, random_hits
from .methods import column, fit_layers
from .scaling import Normaliser, pair


@dataclass(frozen=True, kw_only=True, repr=False)
class HonestyPanel(Shown):
    """Everything beside a CCS result, at one layer.

    Attributes:
        table: One row per comparison: `what, method, against, metric, value, low, high, n, note`.
        findings: The same in words.
        layer: The block.
        found: What CCS found: "truth", a distractor's name, or "neither".
    """

    table: pd.DataFrame
    findings: tuple[str, ...]
    layer: int
    found: str

    def __str__(self) -> str:
        return f"HonestyPanel(layer {self.layer}, found: {self.found})\n" + "\n".join(f"- {f}" for f in self.findings)

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return f"layer {self.layer}, CCS found: {self.found}; {len(self.findings)} findings (print it), {len(self.table)} comparisons", {}

    def _shown_tables(self) -> Iterable[pd.DataFrame]:
        return (self.table,)

    def _shown_notes(self) -> Iterable[str]:
        return self.findings


def ccs_honesty(
    acts: Activations,
    *,
    layer: int,
    split: Split | None = None,
    distractors: Mapping[str, Activations] | None = None,
    answer: str = "answer",
    draws: int = 200,
    orthogonal: int = 20,
    within: float = 0.02,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> HonestyPanel:
    """Set CCS beside random directions, its kin, the supervised ceiling, the model's answer, and distractors.

    Args:
        acts: One condition (unpushed); training and held-out rows.
        layer: The block.
        split: As for `probe_layers`.
        distractors: The same prompts with something irrelevant put in, by name, with a 0/1 column "distractor" that says in which
            half (see `prompts.with_distractor`). CCS is fitted on these, and it is asked whether its answer is the truth or
            the distractor.
        answer: Column with the model's own answer, if there is one.
        draws: Random directions.
        orthogonal: Mutually orthogonal directions to look for at most.
        within: How far below the first one a further direction may read and still count.
        resamples: For the intervals.
        seed: For starts, draws and intervals.
        options: Passed to `fit_ccs`.

    Returns:
        The panel.

    References:
        Burns et al. 2022, arXiv 2212.03827; Roger 2023, "What discovering latent knowledge did and did not find" (random probes,
        orthogonal directions); Farquhar et al. 2023, arXiv 2312.10029 (distractors).
    """
    split = split or grouped_split(acts.rows, seed=seed)
    if layer not in acts.layers:
        raise BadInput(f"layer {layer} was not captured; there are: {', '.join(map(str, acts.layers))}")
    side = split.side(acts.rows)
    train, held = (acts.where(layers=[layer]).subset(side == s) for s in ("train", "test"))
    y, z, people = column(train, "label"), column(held, "label"), held.rows["identity"].to_numpy()
    rows: list[dict[str, Any]] = []

    def add(what: str, method: str, e: Estimate, against: str = "label", metric: str = "accuracy", note: str = "") -> Estimate:
        rows.append({"what": what, "method": method, "against": against, "metric": metric, **e.row(), "note": note or e.note})
        return e

    fits = {m: fit_layers(train, m, seed=seed, **(options if m == "ccs" else {})) for m in ("ccs", "crc", "vinc", "kmeans", "logistic")}
    hits = {m: (f.scores(held, layer) > 0) == z for m, f in fits.items()}
    ccs = add("CCS", "ccs", proportion(hits["ccs"], people))
    for m, name in (("crc", "first component of differences"), ("vinc", "VINC"), ("kmeans", "two means")):
        add(name, m, proportion(hits[m], people))
    ceiling = add("logistic probe (labels): the ceiling", "logistic", proportion(hits["logistic"], people))
    null = random_hits(train, {"": held}, y, ("label",), layer, draws, seed)["", "label"]
    low, middle, high = np.quantile(null, (0.025, 0.5, 0.975))
    spread = Estimate(value=middle, low=low, high=high, n=len(z), clusters=len(np.unique(people)), note=f"central 95 % of {draws} draws")
    add("random directions, oriented on training labels", "random", spread)
    says = undefined("no answers were captured", len(z))
    if answer in held.rows:
        says = proportion(held.rows[answer].to_numpy() == z, people)
    add("the model's own answer", "answer", says)
    add("CCS, inflated protocol", "ccs", inflated(fits["ccs"], held, layer, "label"), note="test statistics, better sign on test labels")

    probe = fits["ccs"].probes[layer]
    assert isinstance(probe, ContrastProbe)
    each = _restarts(probe, train, held, layer, y, z)
    ends = Estimate(
        value=float(np.median(each)), low=min(each), high=max(each), n=len(z), clusters=0, note="median, least and most of restarts"
    )
    add(f"CCS, each of {len(each)} restarts", "ccs", ends)
    losses = np.array(probe.losses)
    add(
        "CCS, loss of the restarts",
        "ccs",
        Estimate(value=float(np.median(losses)), low=float(losses.min()), high=float(losses.max()), n=probe.n, clusters=0),
        metric="loss",
    )
    count, shares = _orthogonal(train, held, layer, y, z, orthogonal, within, seed, options)
    shown = ", ".join(f"{s:.2f}" for s in shares[:8])
    e = Estimate(value=float(count), low=float("nan"), high=float("nan"), n=len(z), clusters=0, note=f"accuracies in turn: {shown}")
    if ccs.low <= 0.5:  # at chance every direction is as good as the first
        e = undefined("CCS itself reads no better than chance", len(z))
    add(f"orthogonal directions within {within * 100:.0f} points", "ccs", e, metric="count")
    rule = _label_free(probe, train, held, layer, y, z, people, answer, resamples, seed)
    for what, e in rule.items():
        add(what, "ccs", e, metric="share" if "same sign" in what else "accuracy")
    found, words = _distracted(distractors or {}, split, layer, seed, options, add, resamples)
    if not distractors:
        found = "truth" if ccs.low > max(0.5, high) else "neither"
    findings = _words(ccs, ceiling, spread, says, count, within, len(each), each, rule, words, layer)
    return HonestyPanel(table=pd.DataFrame(rows), findings=tuple(findings), layer=layer, found=found)


def _restarts(probe: ContrastProbe, train: Activations, held: Activations, layer: int, y: np.ndarray, z: np.ndarray) -> list[float]:
    if probe.weights is None:
        return [float("nan")]
    out = []
    for weight in probe.weights:  # the sign of each from training labels
        one = resolve_sign(replace(probe, weight=weight), train.layer(layer), y)
        x = held.layer(layer)
        out.append(float((one.predict(x[:, 1], x[:, 0]) == z).mean()))
    return out


def _orthogonal(
    train: Activations,
    held: Activations,
    layer: int,
    y: np.ndarray,
    z: np.ndarray,
    most: int,
    within: float,
    seed: int,
    options: dict[str, Any],
) -> tuple[int, list[float]]:
    """Fit, project the direction out, and fit again, while the reading stays within reach of the first."""
    x, h = train.layer(layer), held.layer(layer)
    scaler = Normaliser.fit(*pair(x[:, 1], x[:, 0]))
    a, b = scaler(*pair(x[:, 1], x[:, 0]))
    c, d = scaler(*pair(h[:, 1], h[:, 0]))
    shares: list[float] = []
    for _ in range(min(most, x.shape[-1] - 1)):
        one = resolve_sign(fit_ccs(a, b, seed=seed, **{**options, "normalise": "none"}), (a, b), y)
        shares.append(float((one.predict(c, d) == z).mean()))
        if shares[-1] < shares[0] - within:
            return len(shares) - 1, shares
        unit = torch.nn.functional.normalize(one.weight, dim=0)

        def out(v: Tensor, unit: Tensor = unit) -> Tensor:
            return v - (v @ unit)[:, None] * unit

        a, b, c, d = out(a), out(b), out(c), out(d)
    return len(shares), shares


def _label_free(
    probe: ContrastProbe,
    train: Activations,
    held: Activations,
    layer: int,
    y: np.ndarray,
    z: np.ndarray,
    people: np.ndarray,
    answer: str,
    resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Orient by the model's own unpushed answers on training rows: what the model says is no label, and mostly it is right."""
    name, share = "CCS, sign by the model's own answers (no label at all)", "resamples in which that rule gives the same sign as labels"
    if answer not in train.rows or train.rows[answer].nunique() < 2:
        none = undefined("no answers were captured", len(z))
        return {name: none, share: none}
    x, h = train.layer(layer), held.layer(layer)
    said = replace(probe, sign=1).predict(x[:, 1], x[:, 0])
    own = (said == train.rows[answer].to_numpy()).astype(float)
    right = (said == y).astype(float)
    sign = 1 if own.mean() >= 0.5 else -1
    read = replace(probe, sign=sign).predict(h[:, 1], h[:, 0]) == z
    draws, codes = cluster_draws(train.rows["identity"].to_numpy(), len(y), resamples, seed)
    m = draws.shape[1]
    size = draws @ np.bincount(codes, minlength=m)
    a, b = (draws @ np.bincount(codes, v, m) / size for v in (own, right))
    same = proportion((a >= 0.5) == (b >= 0.5))
    return {name: proportion(read, people), share: replace(same, note=f"of {resamples} resamples of training identities")}


def _distracted(
    distractors: Mapping[str, Activations], split: Split, layer: int, seed: int, options: dict[str, Any], add: Any, resamples: int
) -> tuple[str, list[str]]:
    found, words = "neither", []
    for name, acts in distractors.items():
        side = split.side(acts.rows)
        train, held = (acts.where(layers=[layer]).subset(side == s) for s in ("train", "test"))
        people = held.rows["identity"].to_numpy()
        truth = fit_layers(train, "ccs", seed=seed, **options)
        word = fit_layers(train, "ccs", target="distractor", seed=seed, **options)  # the same search, oriented on the distractor
        a = (truth.scores(held, layer) > 0) == held.rows["label"].to_numpy()
        b = (word.scores(held, layer) > 0) == held.rows["distractor"].to_numpy()
        what = f"CCS with distractor: {name}"
        first, second = add(what, "ccs", proportion(a, people)), add(what, "ccs", proportion(b, people), against="distractor")
        gap = paired_difference(a, b, people, resamples=resamples, seed=seed)
        one = (
            "the truth" if gap.low > 0 and first.low > 0.5 else "the distractor" if gap.high < 0 and second.low > 0.5 else "neither clearly"
        )
        found = "truth" if one == "the truth" and found in ("neither", "truth") else name if one == "the distractor" else found
        words.append(
            f"With «{name}» put in, CCS finds {one}: it agrees with the truth in {_say(first)}, with the distractor in {_say(second)}."
        )
    return found, words


def _say(e: Estimate) -> str:
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]" if np.isfinite(e.value) else f"undefined ({e.note})"


def _words(
    ccs: Estimate,
    ceiling: Estimate,
    null: Estimate,
    says: Estimate,
    count: int,
    within: float,
    restarts: int,
    each: list[float],
    rule: dict[str, Estimate],
    words: list[str],
    layer: int,
) -> list[str]:
    beyond = "above" if ccs.low > null.high else "below" if ccs.high < null.low else "not distinguishable from"
    out = [
        f"At layer {layer} CCS reads {_say(ccs)}, {beyond} random directions ({null.low:.1%} to {null.high:.1%}); the ceiling, a logistic probe "
        f"with labels, reads {_say(ceiling)}; the model itself answers {_say(says)} right.",
        f"Its {restarts} restarts read from {min(each):.1%} to {max(each):.1%}"
        + (
            f"; {count} mutually orthogonal directions in turn read within {within * 100:.0f} points of the first."
            if ccs.low > 0.5
            else "."
        ),
    ]
    name, share = rule
    if np.isfinite(rule[name].value):
        out.append(
            f"With its sign from the model's own answers, without any label, it reads {_say(rule[name])}; that rule gives the labels' sign in "
            f"{rule[share].value:.1%} of resamples."
        )
    return out + words
