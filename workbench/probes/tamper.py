"""Broken from outside? Where the probe and the answer disagree, something stands between what is known and what is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ..activations import Activations
from ..core.errors import BadInput, MissingColumn
from ..core.show import Shown, number
from ..core.stats import auroc, proportion
from ..core.tables import units_of
from ..core.types import Float
from ..prompts import Split, grouped_split
from .calibration import platt
from .given import column
from .methods import Fit, Method, fit_layers


@dataclass(frozen=True, kw_only=True, repr=False)
class TamperDetector(Shown):
    """A probe of unpushed activations, and how much it may disagree with the answer.

    Attributes:
        fit: The probe, fitted on unpushed training rows.
        layer: The block that it reads.
        slope: Turns its score into a probability; from unpushed calibration rows.
        threshold: Scores above it are flagged; infinite, so that nothing is, where `least` is above the rate asked for.
        false_alarms: The rate asked for.
        calibration_rows: Unpushed rows that set slope and threshold; they share no identity and no right with those of the fit.
        units: How many identities, and rights where they vary, these rows are about; 0 where too few rows were left to hold rights out.
    """

    fit: Fit
    layer: int
    slope: float
    threshold: float
    false_alarms: float
    calibration_rows: int
    units: Mapping[str, int]

    @property
    def least(self) -> float:
        """The lowest rate that so many identities and rights can promise: 1 less the product of k / (k + 1)."""
        return 1 - math.prod(k / (k + 1) for k in self.units.values())

    @property
    def note(self) -> str:
        """Why the threshold is infinite; empty where it is not."""
        if math.isfinite(self.threshold):
            return ""
        counts = " and ".join(f"{k} values of {name}" for name, k in self.units.items())
        return (
            f"flags nothing: {counts} in calibration promise {self.least:.1%} false alarms at best, {self.false_alarms:.3g} was asked for"
        )

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        return f"{self.fit.method} at layer {self.layer}, threshold {self.threshold:.3g} for {self.false_alarms:.1%} false alarms", {
            "probe": f"{self.fit.method}, fitted on unpushed rows",
            "read at": f"layer {self.layer}",
            "flags scores above": self.note or number(self.threshold),
            "false alarms asked for": f"{self.false_alarms:.1%}",
            "calibration rows": f"{self.calibration_rows:,}, unpushed; " + ", ".join(f"{name}: {k}" for name, k in self.units.items()),
        }

    def scores(self, acts: Activations) -> tuple[Float[np.ndarray, " item"], Float[np.ndarray, " item"], Float[np.ndarray, " item"]]:
        """Return how far probe and answer disagree on each item.

        Args:
            acts: Prompts to judge, with this detector's layer, captured with `logits="answers"`.

        Returns:
            Three arrays, one value per item: the tamper score (0 to 1, higher is more disagreement), the probe's probability of
            the positive ending, and the answer's.
        """
        inside = expit(self.slope * self.fit.scores(acts, self.layer))
        said = answer_probability(acts)
        return inside * (1 - said) + (1 - inside) * said, inside, said


def answer_probability(acts: Activations) -> Float[np.ndarray, " item"]:
    """Return the model's probability of the positive ending, of the two.

    Raises:
        MissingColumn: The answers were not captured.
    """
    if not acts.answered or acts.logp is None:
        raise MissingColumn("the answers were not captured: capture(..., logits='answers')")
    logp = acts.logp.double().numpy()
    return expit(logp[:, 1] - logp[:, 0])


def fit_tamper(
    clean: Activations,
    *,
    layer: int,
    method: Method = "ccs",
    split: Split | None = None,
    false_alarms: float = 0.1,
    calibration: float = 0.5,
    seed: int = 0,
    **options: Any,
) -> TamperDetector:
    """Fit a detector on unpushed activations alone: no pushed prompt is ever seen.

    Args:
        clean: Unpushed prompts, captured with `logits="answers"`; its training rows only.
        layer: The block that the probe reads, counted from 0.
        method: As for `fit_layers`; "ccs" needs labels for its sign only.
        split: Which identities and rights are held out; by default drawn from `seed`.
        false_alarms: Share of unpushed prompts that may be flagged, between 0 and 1; raising it lowers the threshold. The rate holds
            on average for prompts about further identities and rights. A rate of 1 % needs 99 identities in calibration, or 199
            identities and 199 rights: fewer say nothing of the hundredth.
        calibration: Share of the training identities, and of their rights, that set slope and threshold and that the probe does not
            see, between 0 and 1. Raising it allows lower rates and leaves fewer rows to fit the probe on.
        seed: Draws the split and the calibration rows.
        options: Passed to `fit_layers`.

    Returns:
        The detector. Its threshold is infinite where there are too few identities or rights for the rate asked for; its `note` then
        says so, and `least` is the lowest rate that they allow.

    Raises:
        BadInput: `false_alarms` out of range, or a layer that was not captured.
        MissingColumn: No answers were captured.

    Note:
        Rights with fewer than three values are held fixed: the rate then speaks of these alone. For prompts of another form, or about
        other kinds of people, no rate is promised.

    References:
        Dunn, Wasserman and Ramdas 2022, arXiv 1809.07441; Lee, Barber and Willett 2023, arXiv 2306.06342 (conformal quantiles of
        hierarchical rows).
    """
    if not 0 < false_alarms < 1:
        raise BadInput(f"false_alarms is a share between 0 and 1, got {false_alarms}")
    answer_probability(clean)
    if layer not in clean.layers:
        raise BadInput(f"layer {layer} was not captured; there are: {', '.join(map(str, clean.layers))}")
    split = split or grouped_split(clean.rows, seed=seed)
    train = clean.where(layers=[layer]).subset(split.side(clean.rows) == "train")
    vary = [c for c in ("identity", "right") if c == "identity" or (c in train.rows and train.rows[c].nunique() > 2)]
    held = vary if _enough(train, vary, calibration, seed) else vary[:1]
    inner = grouped_split(train.rows, by=held, test=calibration, seed=seed).side(train.rows)
    part, rest = train.subset(inner == "train"), train.subset(inner == "test")
    fit = fit_layers(part, method, condition="clean", seed=seed, **options)
    slope = platt(fit.scores(rest, layer), column(rest, "label"))
    loose = TamperDetector(
        fit=fit,
        layer=layer,
        slope=slope,
        threshold=math.inf,
        false_alarms=false_alarms,
        calibration_rows=len(rest),
        units={c: int(rest.rows[c].nunique()) if c in held else 0 for c in vary},
    )
    if held != vary:
        return loose
    return replace(loose, threshold=_threshold(loose.scores(rest)[0], rest.rows[vary], false_alarms))


def _enough(train: Activations, vary: list[str], calibration: float, seed: int) -> bool:
    """Whether both parts are left with rows of both labels when the values of all columns are divided, and eight of each to fit on."""
    side = grouped_split(train.rows, by=vary, test=calibration, seed=seed).side(train.rows)
    part, rest = (np.bincount(column(train, "label")[side == s], minlength=2) for s in ("train", "test"))
    return bool(part.min() >= 8 and rest.min() >= 1)


def _threshold(scores: Float[np.ndarray, " item"], units: pd.DataFrame, rate: float) -> float:
    """The conformal quantile of scores whose identities and rights vary.

    A further identity and right make one row and one column more of a grid in which any cell could have been the new one. Cells of the
    new row and column are unknown and count as infinite. Every value of each column weighs the same, however many rows it has.
    """
    codes = [pd.factorize(units[c])[0] for c in units]
    weight = np.ones(len(scores))
    for _ in range(50 if len(codes) > 1 else 1):
        for code in codes:
            weight /= np.bincount(code, weight)[code]
    known = math.prod((k := code.max() + 1) / (k + 1) for code in codes)
    order = np.argsort(scores, kind="stable")
    share = known * np.cumsum(weight[order]) / weight.sum()
    place = int(np.searchsorted(share, 1 - rate - 1e-9))
    return float(scores[order][place]) if place < len(scores) else math.inf


def tamper_score(
    acts: Activations, detector: TamperDetector | None = None, *, clean: Activations | None = None, **options: Any
) -> pd.DataFrame:
    """Say, prompt by prompt, how far what is read inside and what is answered disagree.

    The score is the probability that the probe and the answer name different endings: a (1 - b) + (1 - a) b.

    Args:
        acts: Prompts to judge, captured with `logits="answers"`. Judge prompts about identities and rights that the detector
            was not fitted on.
        detector: From `fit_tamper`; or give `clean`.
        clean: Unpushed prompts to fit a detector on, in the place of `detector`.
        options: With `clean`, passed to `fit_tamper` (`layer=`, `method=`, `false_alarms=`, …).

    Returns:
        The rows with `tamper_score` (0 to 1), `probe_probability`, `answer_probability` (both of the positive ending) and
        `flagged`; one row per prompt.

    Raises:
        BadInput, MissingColumn, WrongModel: Before anything is computed.

    Note:
        A disagreement says that the answer is not what the probe reads, not why. A model that errs without any push, about
        somebody whom it was taught to deny rights, disagrees with its probe too.
    """
    if (detector is None) == (clean is None):
        raise BadInput("give a detector (from fit_tamper), or clean= activations to fit one on")
    if clean is not None:
        clean.check_same_model(acts)
        detector = fit_tamper(clean, **options)
    assert detector is not None
    score, inside, said = detector.scores(acts)
    out = acts.rows.reset_index(drop=True).assign(
        tamper_score=score, probe_probability=inside, answer_probability=said, flagged=score > detector.threshold
    )
    out.attrs |= {"threshold": detector.threshold, "note": detector.note}
    return out


def tamper_roc(
    clean: Activations, pushed: Mapping[str, Activations], detector: TamperDetector, *, split: Split, tuned_on: str = ""
) -> pd.DataFrame:
    """Measure a detector on held-out rows: pushed against unpushed prompts, kind by kind.

    Args:
        clean: Unpushed prompts, captured with `logits="answers"`.
        pushed: Pushed prompts by kind of push, captured likewise.
        detector: From `fit_tamper`.
        split: The split that the detector was fitted with: only its held-out rows are read.
        tuned_on: The kind of push by which the layer or the method was chosen, if any; the others are held-out kinds.

    Returns:
        One row per kind of push x metric: "auroc" (1: every pushed prompt scores above every unpushed one), "detected"
        (share flagged at the threshold; `note` says so where nothing can be) and "answers wrong" (share of answers that are not
        the label's, for comparison). For unpushed prompts one row, "false alarms".
    """
    quiet = clean.subset(split.side(clean.rows) == "test")
    base, *_ = detector.scores(quiet)
    people = units_of(quiet.rows)
    place = {"layer": detector.layer, "method": detector.fit.method, "split": "test"}
    alarms = proportion(base > detector.threshold, people)
    rows = [place | {"condition": "no push", "kind": "unpushed", "metric": "false alarms", **alarms.row(), "note": detector.note}]
    for name, acts in pushed.items():
        held = acts.subset(split.side(acts.rows) == "test")
        score, _, said = detector.scores(held)
        who = units_of(held.rows)
        kind = "tuned on" if name == tuned_on else "held out"
        y = np.r_[np.zeros(len(base), int), np.ones(len(score), int)]
        estimates = {
            "auroc": auroc(np.r_[base, score], y, units_of(pd.concat([quiet.rows, held.rows]))),
            "detected": proportion(score > detector.threshold, who),
            "answers wrong": proportion((said > 0.5).astype(int) != held.rows["label"].to_numpy(), who),
        }
        rows += [
            place
            | {"condition": name, "kind": kind, "metric": metric, **e.row(), "note": detector.note if metric == "detected" else e.note}
            for metric, e in estimates.items()
        ]
    return pd.DataFrame(rows)


def roc_curve(clean: Float[np.ndarray, " unpushed"], pushed: Float[np.ndarray, " pushed"]) -> pd.DataFrame:
    """Return false alarms and detections at every threshold, from none flagged to all.

    Args:
        clean: Tamper scores of unpushed prompts.
        pushed: Tamper scores of pushed prompts.

    Returns:
        One row per threshold, from infinity down: `threshold`, `false_alarms` (share of unpushed prompts at or above it) and
        `detected` (share of pushed ones).
    """
    thresholds = np.r_[np.inf, np.unique(np.r_[clean, pushed])[::-1]]
    low, high = np.sort(clean), np.sort(pushed)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "false_alarms": 1 - np.searchsorted(low, thresholds, side="left") / len(low),
            "detected": 1 - np.searchsorted(high, thresholds, side="left") / len(high),
        }
    )
