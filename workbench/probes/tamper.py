"""Broken from outside? Where the probe and the answer disagree, something stands between what is known and what is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from .methods import Fit, Method, column, fit_layers


@dataclass(frozen=True, kw_only=True, repr=False)
class TamperDetector(Shown):
    """A probe of unpushed activations, and how much it may disagree with the answer.

    Attributes:
        fit: The probe, fitted on unpushed training rows.
        layer: The block that it reads.
        slope: Turns its score into a probability; from unpushed calibration rows.
        threshold: Scores above it are flagged; infinite where there were too few calibration rows for the rate asked for.
        false_alarms: The rate asked for.
        calibration_rows: Unpushed rows that set slope and threshold; no row that the probe was fitted on.
    """

    fit: Fit
    layer: int
    slope: float
    threshold: float
    false_alarms: float
    calibration_rows: int

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        sharp = math.isfinite(self.threshold)
        return f"{self.fit.method} at layer {self.layer}, threshold {self.threshold:.3g} for {self.false_alarms:.1%} false alarms", {
            "probe": f"{self.fit.method}, fitted on unpushed rows",
            "read at": f"layer {self.layer}",
            "flags scores above": number(self.threshold) if sharp else "never: too few calibration rows for the rate asked for",
            "false alarms asked for": f"{self.false_alarms:.1%}",
            "calibration rows": f"{self.calibration_rows:,}, unpushed",
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
    false_alarms: float = 0.01,
    calibration: float = 0.4,
    seed: int = 0,
    **options: Any,
) -> TamperDetector:
    """Fit a detector on unpushed activations alone: no pushed prompt is ever seen.

    Args:
        clean: Unpushed prompts, captured with `logits="answers"`; its training rows only.
        layer: The block that the probe reads, counted from 0.
        method: As for `fit_layers`; "ccs" needs labels for its sign only.
        split: Which identities and rights are held out; by default drawn from `seed`.
        false_alarms: Share of unpushed prompts that may be flagged, between 0 and 1; raising it lowers the
            threshold. The threshold is the conformal quantile of calibration rows, so the rate holds on average for prompts like these.
        calibration: Share of the training identities that set slope and threshold and that the probe does not see, between 0
            and 1. Raising it makes the threshold more precise and leaves fewer rows to fit the probe on.
        seed: Draws the split and the calibration identities.
        options: Passed to `fit_layers`.

    Returns:
        The detector. Its threshold is infinite where there are too few calibration rows for the rate asked for.

    Raises:
        BadInput: `false_alarms` out of range, or a layer that was not captured.
        MissingColumn: No answers were captured.

    References:
        Conformal quantile: Vovk et al. 2005, Algorithmic Learning in a Random World.
    """
    if not 0 < false_alarms < 1:
        raise BadInput(f"false_alarms is a share between 0 and 1, got {false_alarms}")
    answer_probability(clean)
    if layer not in clean.layers:
        raise BadInput(f"layer {layer} was not captured; there are: {', '.join(map(str, clean.layers))}")
    split = split or grouped_split(clean.rows, seed=seed)
    train = clean.where(layers=[layer]).subset(split.side(clean.rows) == "train")
    inner = grouped_split(train.rows, by=("identity",), test=calibration, seed=seed).side(train.rows)
    part, rest = train.subset(inner == "train"), train.subset(inner == "test")
    fit = fit_layers(part, method, condition="clean", seed=seed, **options)
    slope = platt(fit.scores(rest, layer), column(rest, "label"))
    loose = TamperDetector(fit=fit, layer=layer, slope=slope, threshold=math.inf, false_alarms=false_alarms, calibration_rows=len(rest))
    scores = np.sort(loose.scores(rest)[0])
    rank = math.ceil((len(scores) + 1) * (1 - false_alarms))
    threshold = float(scores[rank - 1]) if rank <= len(scores) else math.inf
    return TamperDetector(fit=fit, layer=layer, slope=slope, threshold=threshold, false_alarms=false_alarms, calibration_rows=len(rest))


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
    out.attrs["threshold"] = detector.threshold
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
        (share flagged at the threshold) and "answers wrong" (share of answers that are not the label's, for comparison). For
        unpushed prompts one row, "false alarms".
    """
    quiet = clean.subset(split.side(clean.rows) == "test")
    base, *_ = detector.scores(quiet)
    people = units_of(quiet.rows)
    place = {"layer": detector.layer, "method": detector.fit.method, "split": "test"}
    alarms = proportion(base > detector.threshold, people)
    rows = [place | {"condition": "no push", "kind": "unpushed", "metric": "false alarms", **alarms.row()}]
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
        rows += [place | {"condition": name, "kind": kind, "metric": metric, **e.row()} for metric, e in estimates.items()]
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
