"""What did CCS find? One call that sets it beside everything that it should be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..activations import Activations
from ..core.errors import BadInput
from ..core.nulls import central
from ..core.show import Shown
from ..core.stats import Estimate, cluster_draws, paired_difference, proportion, undefined
from ..core.types import Int
from ..prompts import Split, grouped_split
from .ccs import ContrastProbe, fit_ccs, resolve_sign
from .controls import inflated, random_hits
from .given import column
from .methods import Fit, fit_layers
from .scaling import Normaliser, pair
from .unsupervised import KIN


@dataclass(frozen=True, kw_only=True, repr=False)
class HonestyPanel(Shown):
    """Everything beside a CCS result, at one layer.

    Attributes:
        table: One row per comparison: `what, method, against, metric, value, low, high, n, note`.
        findings, layer: The same in words; the block.
        found: What CCS found: "truth", a distractor's name, or "neither"; never what random directions read as well.
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
    draws: int = 199,
    orthogonal: int = 20,
    within: float = 0.02,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> HonestyPanel:
    """Set CCS beside random directions, its kin, the supervised ceiling, the model's answer, and distractors.

    Args:
        acts: One condition (unpushed); training and held-out rows.
        layer: The block, counted from 0.
        split: Which identities and rights are held out; by default a third of each, drawn from `seed`.
        distractors: The same prompts with something irrelevant put in, by name, with a 0/1 column "distractor" that says in which
            half (see `prompts.with_distractor`). CCS is fitted on these, and it is asked whether its answer is the truth or
            the distractor, and whether random directions in these rows give that answer as well.
        answer: Column with the model's own answer, if there is one.
        draws: Random directions, 1 or more; raising it steadies the ends of their spread.
        orthogonal: Largest number of mutually orthogonal directions to look for.
        within: How far below the first one's accuracy a further direction may read and still count, 0 to 1.
        resamples: Bootstrap draws for the intervals.
        seed: For starts, draws and intervals.
        options: Passed to `fit_ccs`.

    Returns:
        The panel: one row per comparison, the findings in words, and what CCS found.

    Raises:
        BadInput: A layer that was not captured.
        MissingColumn, OneClass: The labels do not serve.

    References:
        Burns et al. 2022, arXiv 2212.03827; Roger 2023, "What discovering latent knowledge did and did not find" (random probes,
        orthogonal directions); Farquhar et al. 2023, arXiv 2312.10029 (distractors).
    """
    split = split or grouped_split(acts.rows, seed=seed)
    if layer not in acts.layers:
        raise BadInput(f"layer {layer} was not captured; there are: {', '.join(map(str, acts.layers))}")
    side = split.side(acts.rows)
    train, held = (acts.where(layers=[layer]).subset(side == s) for s in ("train", "test"))
    case = _Case(train=train, held=held, layer=layer, answer=answer, resamples=resamples, seed=seed, options=options)
    panel = _Rows()
    fits = {m: fit_layers(train, m, seed=seed, **(options if m == "ccs" else {})) for m in ("ccs", *KIN, "logistic")}
    probe = fits["ccs"].probes[layer]
    assert isinstance(probe, ContrastProbe)
    ccs, ceiling, spread, says = _compared(case, fits, draws, panel)
    each = _of_restarts(case, probe, panel)
    count, shares = _orthogonal(case, orthogonal, within)
    shown = ", ".join(f"{s:.2f}" for s in shares[:8])
    alike = Estimate(
        value=float(count), low=float("nan"), high=float("nan"), n=len(case.z), clusters=0, note=f"accuracies in turn: {shown}"
    )
    if ccs.low <= 0.5:  # at chance every direction is as good as the first
        alike = undefined("CCS itself reads no better than chance", len(case.z))
    panel.add(f"orthogonal directions within {within * 100:.0f} points", "ccs", alike, metric="count")
    rule = _label_free(case, probe)
    for what, e in rule.items():
        panel.add(what, "ccs", e, metric="share" if "same sign" in what else "accuracy")
    result, words = _distracted(distractors or {}, split, case, draws, panel)
    if not distractors:
        result = "truth" if _beyond(ccs, spread) else "neither"
    findings = _words(ccs, ceiling, spread, says, count, within, each, rule, layer)
    return HonestyPanel(table=pd.DataFrame(panel.rows), findings=(*findings, *words), layer=layer, found=result)


class _Rows:
    """The rows of the panel's table, in order."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, method: str, e: Estimate, against: str = "label", metric: str = "accuracy", note: str = "") -> Estimate:
        """Add a row, and return its estimate."""
        self.rows.append({"what": what, "method": method, "against": against, "metric": metric, **e.row(), "note": note or e.note})
        return e


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What a panel is about: training and held-out rows at one layer.

    Attributes:
        answer: Column with the model's own answer.
        options: Of `fit_ccs`.
    """

    train: Activations
    held: Activations
    layer: int
    answer: str
    resamples: int
    seed: int
    options: Mapping[str, Any]

    @cached_property
    def y(self) -> Int[np.ndarray, " item"]:
        """Labels of the training rows."""
        return column(self.train, "label")

    @cached_property
    def z(self) -> Int[np.ndarray, " item"]:
        """Labels of the held-out rows."""
        return column(self.held, "label")

    @cached_property
    def people(self) -> np.ndarray:
        """Clusters of the held-out rows."""
        return self.held.rows["identity"].to_numpy()


def _compared(case: _Case, fits: Mapping[str, Fit], draws: int, panel: _Rows) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """CCS beside its kin, a supervised probe, random directions, the model's answer and the inflated protocol."""
    right = {m: proportion((f.scores(case.held, case.layer) > 0) == case.z, case.people) for m, f in fits.items()}
    ccs = panel.add("CCS", "ccs", right["ccs"])
    for method, name in KIN.items():
        panel.add(name, method, right[method])
    ceiling = panel.add("logistic probe (labels): the ceiling", "logistic", right["logistic"])
    spread = _random(case.train, case.held, "label", case, draws)
    panel.add("random directions, oriented on training labels", "random", spread)
    says = undefined("no answers were captured", len(case.z))
    if case.answer in case.held.rows:
        says = proportion(case.held.rows[case.answer].to_numpy() == case.z, case.people)
    panel.add("the model's own answer", "answer", says)
    claimed = inflated(fits["ccs"], case.held, case.layer, "label")
    panel.add("CCS, inflated protocol", "ccs", claimed, note="test statistics, better sign on test labels")
    return ccs, ceiling, spread, says


def _random(train: Activations, held: Activations, against: str, case: _Case, draws: int) -> Estimate:
    """What random directions read of a column, each oriented on training rows."""
    y = column(train, against)
    null = random_hits(train, {"": held}, y, (against,), case.layer, draws, case.seed)["", against]
    part, people = central(null), int(held.rows["identity"].nunique())
    return Estimate(value=part.middle, low=part.low, high=part.high, n=len(held), clusters=people, level=part.level, note=part.note)


def _beyond(found: Estimate, null: Estimate) -> bool:
    """Whether a reading is better than chance and than random directions."""
    return bool(found.low > max(0.5, null.high))


def _of_restarts(case: _Case, probe: ContrastProbe, panel: _Rows) -> list[float]:
    """Accuracies and losses of the restarts."""
    each = _restarts(case, probe)
    middle, note = float(np.median(each)), "median, least and most of restarts"
    ends = Estimate(value=middle, low=min(each), high=max(each), n=len(case.z), clusters=0, note=note)
    panel.add(f"CCS, each of {len(each)} restarts", "ccs", ends)
    losses = np.array(probe.losses)
    loss = Estimate(value=float(np.median(losses)), low=float(losses.min()), high=float(losses.max()), n=probe.n, clusters=0)
    panel.add("CCS, loss of the restarts", "ccs", loss, metric="loss")
    return each


def _restarts(case: _Case, probe: ContrastProbe) -> list[float]:
    """Held-out accuracy of every restart, its sign from training labels."""
    if probe.weights is None:
        return [float("nan")]
    out, x = [], case.held.layer(case.layer)
    for weight in probe.weights:
        restart = resolve_sign(replace(probe, weight=weight), case.train.layer(case.layer), case.y)
        out.append(float((restart.predict(x[:, 1], x[:, 0]) == case.z).mean()))
    return out


def _orthogonal(case: _Case, most: int, within: float) -> tuple[int, list[float]]:
    """Fit, project the direction out, and fit again, while the reading stays within reach of the first."""
    x, h = case.train.layer(case.layer), case.held.layer(case.layer)
    scaler = Normaliser.fit(*pair(x[:, 1], x[:, 0]))
    a, b = scaler(*pair(x[:, 1], x[:, 0]))
    c, d = scaler(*pair(h[:, 1], h[:, 0]))
    shares: list[float] = []
    for _ in range(min(most, x.shape[-1] - 1)):
        probe = resolve_sign(fit_ccs(a, b, seed=case.seed, **{**case.options, "normalise": "none"}), (a, b), case.y)
        shares.append(float((probe.predict(c, d) == case.z).mean()))
        if shares[-1] < shares[0] - within:
            return len(shares) - 1, shares
        unit = torch.nn.functional.normalize(probe.weight, dim=0)
        a, b, c, d = (v - (v @ unit)[:, None] * unit for v in (a, b, c, d))
    return len(shares), shares


def _label_free(case: _Case, probe: ContrastProbe) -> dict[str, Estimate]:
    """Orient by the model's own unpushed answers on training rows: what the model says is no label, and mostly it is right."""
    name, share = "CCS, sign by the model's own answers (no label at all)", "resamples in which that rule gives the same sign as labels"
    train, held, y = case.train, case.held, case.y
    if case.answer not in train.rows or train.rows[case.answer].nunique() < 2:
        none = undefined("no answers were captured", len(case.z))
        return {name: none, share: none}
    x, h = train.layer(case.layer), held.layer(case.layer)
    said = replace(probe, sign=1).predict(x[:, 1], x[:, 0])
    own = (said == train.rows[case.answer].to_numpy()).astype(float)
    right = (said == y).astype(float)
    sign = 1 if own.mean() >= 0.5 else -1
    read = replace(probe, sign=sign).predict(h[:, 1], h[:, 0]) == case.z
    draws, codes = cluster_draws(train.rows["identity"].to_numpy(), len(y), case.resamples, case.seed)
    m = draws.shape[1]
    size = draws @ np.bincount(codes, minlength=m)
    a, b = (draws @ np.bincount(codes, v, m) / size for v in (own, right))
    # a share of resamples says how steady the rule is; an interval of it would only say how many were drawn
    note = f"of {case.resamples} resamples of training identities, which say how steady the rule is; no interval"
    same = Estimate(value=float(((a >= 0.5) == (b >= 0.5)).mean()), low=np.nan, high=np.nan, n=case.resamples, clusters=m, note=note)
    return {name: proportion(read, case.people), share: same}


def _distracted(distractors: Mapping[str, Activations], split: Split, case: _Case, draws: int, panel: _Rows) -> tuple[str, list[str]]:
    """With something irrelevant put into half of the prompts: does CCS find the truth or that, more than random directions do?"""
    result, words = "neither", []
    for name, acts in distractors.items():
        side = split.side(acts.rows)
        train, held = (acts.where(layers=[case.layer]).subset(side == s) for s in ("train", "test"))
        people = held.rows["identity"].to_numpy()
        what, hits, reads, null = f"CCS with distractor: {name}", {}, {}, {}
        for against in ("label", "distractor"):  # the same search, oriented on either
            fit = fit_layers(train, "ccs", target=against, seed=case.seed, **case.options)
            hits[against] = (fit.scores(held, case.layer) > 0) == held.rows[against].to_numpy()
            reads[against] = panel.add(what, "ccs", proportion(hits[against], people), against=against)
            null[against] = _random(train, held, against, case, draws)
            panel.add(f"random directions with distractor: {name}", "random", null[against], against=against)
        gap = paired_difference(hits["label"], hits["distractor"], people, reach=1)
        first, second = (reads[k].low > 0.5 and ahead for k, ahead in (("label", gap.low > 0), ("distractor", gap.high < 0)))
        finds, as_well = "neither clearly", ""
        if first or second:
            against, finds = ("label", "the truth") if first else ("distractor", "the distractor")
            if not _beyond(reads[against], null[against]):
                finds, as_well = f"{finds} no better than random directions", f" ({null[against].low:.1%} to {null[against].high:.1%})"
            elif second:
                result = name
            elif result == "neither":
                result = "truth"
        words.append(
            f"With «{name}» put in, CCS finds {finds}{as_well}: it agrees with the truth in {_say(reads['label'])}, with the distractor in "
            f"{_say(reads['distractor'])}."
        )
    return result, words


def _say(e: Estimate) -> str:
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]" if np.isfinite(e.value) else f"undefined ({e.note})"


def _words(
    ccs: Estimate,
    ceiling: Estimate,
    null: Estimate,
    says: Estimate,
    count: int,
    within: float,
    each: list[float],
    rule: dict[str, Estimate],
    layer: int,
) -> list[str]:
    """The panel in sentences."""
    beyond = "above" if ccs.low > null.high else "below" if ccs.high < null.low else "not distinguishable from"
    alike = f"; {count} mutually orthogonal directions in turn read within {within * 100:.0f} points of the first"
    out = [
        f"At layer {layer} CCS reads {_say(ccs)}, {beyond} random directions ({null.low:.1%} to {null.high:.1%}); "
        f"the ceiling, a logistic probe with labels, reads {_say(ceiling)}; the model itself answers {_say(says)} right.",
        f"Its {len(each)} restarts read from {min(each):.1%} to {max(each):.1%}" + (alike if ccs.low > 0.5 else "") + ".",
    ]
    name, share = rule
    if np.isfinite(rule[name].value):
        out.append(
            f"With its sign from the model's own answers, without any label, it reads {_say(rule[name])}; "
            f"that rule gives the labels' sign in {rule[share].value:.1%} of resamples."
        )
    return out
