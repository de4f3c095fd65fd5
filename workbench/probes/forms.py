"""Reading under a claim within a prompt form and across forms, against a neutral sentence in the same place.

A probe that is carried from one prompt form into another meets other activations for two reasons: the claim, and the form. Where the
form is held fixed, and the same probe reads the same statements behind a neutral sentence, what is left is the claim's doing. A threshold
does not carry over as well as an order does: so the AUROC and the accuracy at the median score stand beside the accuracy at the
threshold of the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..activations import Activations
from ..core.errors import BadInput
from ..core.estimate import agreeing
from ..core.paired import centred_accuracy
from ..core.rows import Array, cluster_codes, groups_of
from ..core.seeds import numpy_rng
from ..core.stats import auroc_weighted
from ..core.tables import sentences_of
from ..core.types import Float, Int
from ..prompts import Split
from .controls import random_scores
from .methods import Fit, Method, by_name, column, fit_layers
from .text import bag_of_words

METRICS = ("auroc", "accuracy", "accuracy_centred")
ORDER = ["layer", "method", "control", "fit", "form", "claim", "reading", "metric", "minus", "value", "low", "high", "n"]
KEPT = ["method", "fit", "form", "claim", "reading", "layers", "metric", "value", "low", "high", "n"]
Cell = tuple[str, str]  # prompt form and claim
Tables = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Reading:
    """What one probe reads of one cell at one layer: the estimates, and each resample's."""

    value: Mapping[str, float]
    draws: Mapping[str, Array]


def read_forms(
    fitted: Mapping[str, Activations],
    read: Mapping[Cell, Activations],
    *,
    split: Split,
    methods: Sequence[Method] = ("logistic", "ccs"),
    baseline: str = "neutral",
    exceed: Mapping[int, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    random_directions: int = 50,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Tables:
    """Fit probes in several conditions, read them under every claim of every prompt form, and compare with the baseline of that form.

    Args:
        fitted: Activations to fit on, by name: of a prompt form those behind the neutral sentence, or of prompts without a claim. Their
            training rows only are used.
        read: Activations to read, by prompt form and claim; their held-out rows only. The same statements in each.
        split: Which identities and rights are held out.
        methods: As for `probe_layers`.
        baseline: The claim to compare with.
        exceed: By layer, the AUROC of the controls that a layer must exceed to be called readable, beside .5 and the bag of words.
        options: By name of the method, passed to its fit.
        random_directions: Directions drawn per layer.
        resamples: Bootstrap draws.
        level: Of the intervals.
        seed: Draws the resamples and the directions.

    Returns:
        Two tables. The first has one row per layer x method x fit x form x claim x metric: "auroc" (statements that were shown the same
        sentence of the claim are compared with each other: a sentence moves the scores of all its statements, as a form does), "accuracy"
        (threshold of the training rows) and "accuracy_centred" (the median score of the sentence as threshold: no label is used, but that
        half of the statements are of each kind). `reading` is "same form", "across forms" or "no claim" (fitted there). Where `minus`
        names the baseline, the value is the difference from it over the same statements. `control` "random_directions" has middle and
        central part of random directions, "bag_of_words" the words of the statements (layer -1). The second table has the share that a
        claim leaves: the AUROC's excess over .5 summed over readable layers, over the same sum under the baseline; `layers` counts these.
        A layer is readable where the interval of the baseline's AUROC lies above .5, above the bag of words and above `exceed`. All
        intervals are percentiles over resampled identities, and over resampled sentences of the claim where the rows have several
        (`phrasing`).

    Raises:
        BadInput: There is nothing to fit or to read, or a form's claims were shown with different statements.
        OneClass, WrongModel, SplitLeak: As for `probe_layers`.

    References:
        Owen 2007, Ann. Appl. Stat. 1:386 (both factors are resampled).
    """
    if not fitted or not read:
        raise BadInput("nothing to fit or nothing to read")
    held = {cell: acts.subset(split.side(acts.rows) == "test") for cell, acts in read.items()}
    for cell, acts in held.items():
        _check_same(held, cell, acts, baseline)
    rows: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for name, acts in fitted.items():
        train = acts.subset(split.side(acts.rows) == "train")
        words = _words(train, held)
        rows += [_row(-1, "bag_of_words", "bag_of_words", name, cell, "auroc", value) for cell, value in words.items()]
        rows += _random(train, held, name, random_directions, level, seed)
        for method, how in by_name(methods).items():
            fit = fit_layers(train, how, condition=name, seed=seed, **dict((options or {}).get(method, {})))
            one = _OneFit(fit, name, held, baseline, resamples=resamples, level=level, seed=seed)
            rows += one.rows()
            kept += one.kept(exceed or {}, words)
    return pd.DataFrame(rows, columns=ORDER), pd.DataFrame(kept, columns=KEPT)


class _OneFit:
    """A fit, read in every cell and at every layer."""

    def __init__(
        self, fit: Fit, name: str, held: Mapping[Cell, Activations], baseline: str, *, resamples: int, level: float, seed: int
    ) -> None:
        self.fit, self.name, self.held, self.baseline = fit, name, held, baseline
        self.resamples, self.level, self.seed = resamples, level, seed
        self.read = {cell: list(self._readings(acts)) for cell, acts in held.items()}

    def _readings(self, acts: Activations) -> Iterator[Reading]:
        y, weights = column(acts, "label"), _weights(acts.rows, self.resamples, self.seed)
        every = np.vstack([np.ones(len(acts)), weights])
        for layer in acts.layers:
            scores = self.fit.scores(acts, layer)
            out = {metric: of(scores, y, every, sentences_of(acts.rows)) for metric, of in OF.items()}
            yield Reading({k: float(v[0]) for k, v in out.items()}, {k: v[1:] for k, v in out.items()})

    def rows(self) -> list[dict[str, Any]]:
        """The readings, and their differences from the baseline of the form."""
        out = []
        for cell, readings in self.read.items():
            base = self.read.get((cell[0], self.baseline)) if cell[1] != self.baseline else None
            for k, layer in enumerate(self.held[cell].layers):
                n = len(self.held[cell])
                for metric in METRICS:
                    one = readings[k]
                    out.append(self._row(layer, cell, metric, one.value[metric], one.draws[metric], n))
                    if base is not None:
                        less, draws = one.value[metric] - base[k].value[metric], one.draws[metric] - base[k].draws[metric]
                        out.append(self._row(layer, cell, metric, less, draws, n, minus=self.baseline))
        return out

    def _row(self, layer: int, cell: Cell, metric: str, value: float, draws: Array, n: int, minus: str = "") -> dict[str, Any]:
        low, high = _ends(draws, self.level, value, _people(self.held[cell]), 1.0 if minus else 0.0)
        return _row(layer, self.fit.method, "", self.name, cell, metric, value, low, high, n, minus=minus)

    def kept(self, exceed: Mapping[int, float], words: Mapping[Cell, float]) -> list[dict[str, Any]]:
        """The share of what is read at the readable layers that each claim leaves."""
        out = []
        for (form, claim), readings in self.read.items():
            base = self.read.get((form, self.baseline))
            if base is None or claim == self.baseline:
                continue
            layers, floor = self.held[form, claim].layers, max(0.5, words.get((form, self.baseline), 0.5))
            people = _people(self.held[form, claim])
            lows = [_ends(one.draws["auroc"], self.level, one.value["auroc"], people)[0] for one in base]
            good = [k for k, layer in enumerate(layers) if lows[k] > max(floor, exceed.get(layer, 0.5))]
            place = {"method": self.fit.method, "fit": self.name, "form": form, "claim": claim, "reading": _reading(self.name, form)}
            value = low = high = np.nan
            if good:
                with np.errstate(invalid="ignore", divide="ignore"):
                    draws = _excess(readings, good, "draws") / _excess(base, good, "draws")
                    value = float(_excess(readings, good, "value") / _excess(base, good, "value"))
                low, high = _ends(draws, self.level, value, people, 2.0)
            about = {"layers": len(good), "metric": "kept_share", "value": value, "low": low, "high": high}
            out.append(place | about | {"n": len(self.held[form, claim])})
        return out


def _excess(readings: Sequence[Reading], layers: Sequence[int], what: str) -> Any:
    return sum(getattr(readings[k], what)["auroc"] - 0.5 for k in layers)


def _ends(draws: Array, level: float, value: float, people: int, reach: float = 0.0) -> tuple[float, float]:
    """The central part of the resamples.

    Where no resample differs, each says the same of as many agreeing identities (Wilson): a share between 0 and 1 reaches as far as
    theirs, a difference (`reach` 1) as far to both sides, a ratio of excesses over one half (2) twice as far.
    """
    finite = draws[np.isfinite(draws)]
    if len(finite) < max(2, len(draws) / 2):
        return np.nan, np.nan
    low, high = (float(x) for x in np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]))
    if high - low > 1e-12:
        return low, high
    return agreeing(value, people, level, reach)


def _people(acts: Activations) -> int:
    return int(acts.rows["identity"].nunique())


def _accuracy(scores: Float[np.ndarray, " item"], y: Int[np.ndarray, " item"], weights: Array, within: Any) -> Array:
    return weights @ ((scores > 0) == y) / weights.sum(1)


OF: Mapping[str, Callable[..., Array]] = {"auroc": auroc_weighted, "accuracy": _accuracy, "accuracy_centred": centred_accuracy}


def _weights(rows: pd.DataFrame, resamples: int, seed: int) -> Array:
    """Resample identities, and sentences of the claim where there are several."""
    out = np.ones((resamples, len(rows)))
    for factor in ("identity", "phrasing"):
        if factor in rows and (factor == "identity" or rows[factor].nunique() > 1):
            codes, m = cluster_codes(pd.factorize(rows[factor])[0], len(rows))
            out *= numpy_rng(seed, "resample", factor).multinomial(m, np.full(m, 1 / m), size=resamples)[:, codes]
    empty = out.sum(1) == 0  # both factors can miss each other where a cell has one item
    out[empty] = 1.0
    return out


def _random(
    train: Activations, held: Mapping[Cell, Activations], name: str, draws: int, level: float, seed: int
) -> Iterator[dict[str, Any]]:
    """Middle and central part of the AUROC of random directions, oriented on training labels."""
    if not draws:
        return
    y = column(train, "label")
    for layer in train.layers:
        for cell, scores in random_scores(train, held, y, layer, draws, seed).items():
            truth = column(held[cell], "label")
            area = _areas(scores, truth, sentences_of(held[cell].rows))
            low, middle, high = np.quantile(area, [(1 - level) / 2, 0.5, (1 + level) / 2])
            yield _row(layer, "random", "random_directions", name, cell, "auroc", middle, low, high, len(truth))


def _areas(scores: Float[np.ndarray, "item draw"], y: Int[np.ndarray, " item"], within: Any) -> Float[np.ndarray, " draw"]:
    """The AUROC of many scores at once, within sentences."""
    right, total = np.zeros(scores.shape[1]), 0
    for rows in groups_of(within, len(y)):
        ones = y[rows] == 1
        right += rankdata(scores[rows], axis=0)[ones].sum(0) - ones.sum() * (ones.sum() + 1) / 2
        total += ones.sum() * (~ones).sum()
    return right / max(1, total)


def _words(train: Activations, held: Mapping[Cell, Activations]) -> dict[Cell, float]:
    if "statement" not in train.rows:
        return {}
    texts, y = train.rows["statement"].tolist(), column(train, "label")
    out = {}
    for cell, acts in held.items():
        scores = bag_of_words(texts, y, acts.rows["statement"].tolist())
        out[cell] = float(auroc_weighted(scores, column(acts, "label"), np.ones((1, len(acts))), sentences_of(acts.rows))[0])
    return out


def _reading(fit: str, form: str) -> str:
    return "same form" if fit == form else "no claim" if fit == "no claim" else "across forms"


def _row(
    layer: int,
    method: str,
    control: str,
    fit: str,
    cell: Cell,
    metric: str,
    value: float,
    low: float = np.nan,
    high: float = np.nan,
    n: int = 0,
    minus: str = "",
) -> dict[str, Any]:
    place = {"layer": layer, "method": method, "control": control, "fit": fit, "form": cell[0], "claim": cell[1]}
    reading = {"reading": _reading(fit, cell[0]), "metric": metric, "minus": minus}
    return place | reading | {"value": value, "low": low, "high": high, "n": n}


def _check_same(held: Mapping[Cell, Activations], cell: Cell, acts: Activations, baseline: str) -> None:
    """Differences are paired: the same statements in the same order under each claim of a form."""
    base = held.get((cell[0], baseline))
    if not len(acts):
        raise BadInput(f"{cell[0]}, {cell[1]}: the split leaves no held-out row")
    column_of = "statement" if "statement" in acts.rows else "identity"
    if base is not None and base.rows[column_of].tolist() != acts.rows[column_of].tolist():
        raise BadInput(f"{cell[0]}: the claims {baseline!r} and {cell[1]!r} were shown with other statements, or in another order")
