"""Reading under a claim within a prompt form and across forms, against a neutral sentence in the same place.

A probe that is carried from one prompt form into another meets other activations for two reasons: the claim, and the form. Where the
form is held fixed, and the same probe reads the same statements behind a neutral sentence, what is left is the claim's doing. A threshold
does not carry over as well as an order does: so the AUROC and the accuracy at the median score stand beside the accuracy at the
threshold of the training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..activations import Activations
from ..core.clustered import linearised
from ..core.errors import BadInput
from ..core.estimate import Estimate, agreeing, no_narrower, undefined
from ..core.nulls import central
from ..core.paired import centred_hits
from ..core.ranking import nearly_ordered
from ..core.rows import Array, groups_of
from ..core.stats import auroc, auroc_difference, auroc_influence, mean, paired_difference, proportion
from ..core.tables import sentences_of, units_of
from ..core.types import Float, Int
from ..prompts import Split
from .controls import random_scores
from .given import column
from .methods import Fit, Method, by_name, fit_layers
from .text import text_scorers

METRICS = ("auroc", "accuracy", "accuracy_centred")
ORDER = ["layer", "method", "control", "fit", "form", "claim", "reading", "metric", "minus", "value", "low", "high", "n"]
KEPT = ["method", "fit", "form", "claim", "reading", "layers", "metric", "value", "low", "high", "n"]
Cell = tuple[str, str]  # prompt form and claim
Tables = tuple[pd.DataFrame, pd.DataFrame]
Vectors = Mapping[str, Float[np.ndarray, " d_model"]]


def read_forms(
    fitted: Mapping[str, Activations],
    read: Mapping[Cell, Activations],
    *,
    split: Split,
    methods: Sequence[Method] = ("logistic", "ccs"),
    baseline: str = "neutral",
    exceed: Mapping[int, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    random_directions: int = 199,
    text_vectors: Vectors | None = None,
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
        random_directions: Directions drawn per layer; 0 for none. Under 39 their range is less than central 95 %.
        text_vectors: As for `Controls`.
        level: Of the intervals.
        seed: Draws the directions.

    Returns:
        Two tables. The first has one row per layer x method x fit x form x claim x metric: "auroc" (statements that were shown the same
        sentence of the claim are compared with each other: a sentence moves the scores of all its statements, as a form does), "accuracy"
        (threshold of the training rows) and "accuracy_centred" (the median score of the sentence as threshold: no label is used, but that
        half of the statements are of each kind). `reading` is "same form", "across forms" or "no claim" (fitted there). Where `minus`
        names the baseline, the value is the difference from it over the same statements. `control` "random_directions" has middle and
        central part of random directions; "bag_of_words", "ngrams" and "token_embeddings" have the words of the statements alone (layer
        -1; `text_scorers`). The second table has the share that a
        claim leaves: the AUROC's excess over .5 summed over readable layers, over the same sum under the baseline; `layers` counts these.
        A layer is readable where the interval of the baseline's AUROC lies above .5, above the bag of words and above `exceed`. All
        intervals are of Student, clustered by identity, by right and by sentence of the claim where the rows have several.

    Raises:
        BadInput: There is nothing to fit or to read, or a form's claims were shown with different statements.
        OneClass, WrongModel, SplitLeak: As for `probe_layers`.

    References:
        DeLong, DeLong and Clarke-Pearson 1988 (AUROC); Cameron, Gelbach and Miller 2011 (several factors; `core.clustered`).
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
        words = _words(train, held, text_vectors)
        rows += [_row(-1, control, control, name, cell, "auroc", v) for (control, cell), v in words.items()]
        rows += _random(train, held, name, random_directions, level, seed)
        for method, how in by_name(methods).items():
            fit = fit_layers(train, how, condition=name, seed=seed, **dict((options or {}).get(method, {})))
            one = _OneFit(fit, name, held, baseline, level)
            rows += one.rows()
            kept += one.kept(exceed or {}, {cell: v for (control, cell), v in words.items() if control == "bag_of_words"})
    return pd.DataFrame(rows, columns=ORDER), pd.DataFrame(kept, columns=KEPT)


class _OneFit:
    """A fit, read in every cell and at every layer."""

    def __init__(self, fit: Fit, name: str, held: Mapping[Cell, Activations], baseline: str, level: float) -> None:
        self.fit, self.name, self.held, self.baseline, self.level = fit, name, held, baseline, level
        self.scores = {(cell, layer): fit.scores(acts, layer) for cell, acts in held.items() for layer in acts.layers}
        self.truth = {cell: column(acts, "label") for cell, acts in held.items()}
        self.shown = {cell: sentences_of(acts.rows) for cell, acts in held.items()}
        self.units = {cell: units_of(acts.rows) for cell, acts in held.items()}

    def rows(self) -> list[dict[str, Any]]:
        """The readings, and their differences from the baseline of the form."""
        out = []
        for cell, acts in self.held.items():
            base = (cell[0], self.baseline)
            for layer in acts.layers:
                out += [self._row(layer, cell, metric, e) for metric, e in self._read(cell, layer).items()]
                if cell != base and base in self.held:
                    out += [self._row(layer, cell, m, e, minus=self.baseline) for m, e in self._less(cell, base, layer).items()]
        return out

    def _read(self, cell: Cell, layer: int) -> dict[str, Estimate]:
        scores, y, shown, units = self.scores[cell, layer], self.truth[cell], self.shown[cell], self.units[cell]
        return {
            "auroc": auroc(scores, y, units, within=shown, level=self.level),
            "accuracy": proportion((scores > 0) == y, units, self.level),
            "accuracy_centred": mean(centred_hits(scores, y, shown), units, level=self.level, bounded=True),
        }

    def _less(self, cell: Cell, base: Cell, layer: int) -> dict[str, Estimate]:
        """The readings under a claim minus those behind the neutral sentence, statement by statement."""
        (now, then), y = (self.scores[c, layer] for c in (cell, base)), self.truth[cell]
        shown, units = (self.shown[cell], self.shown[base]), self._both(cell, base)
        right, centred = ([(s > 0) == y for s in (now, then)], [centred_hits(s, y, w) for s, w in zip((now, then), shown, strict=True)])
        out = {
            "auroc": auroc_difference(now, then, y, units, within=shown, level=self.level),
            "accuracy": paired_difference(right[0], right[1], units, level=self.level, reach=1),
            "accuracy_centred": paired_difference(centred[0], centred[1], units, level=self.level, reach=1),
        }
        return out

    def _both(self, cell: Cell, base: Cell) -> Any:
        """What varies in a comparison: also the neutral sentence, where it is drawn by itself."""
        units, rows = self.units[cell], self.held[base].rows
        if "phrasing" not in rows or rows["phrasing"].nunique() < 3:
            return units
        return np.column_stack([units, rows["phrasing"].astype(str)])

    def _row(self, layer: int, cell: Cell, metric: str, e: Estimate, minus: str = "") -> dict[str, Any]:
        n = len(self.truth[cell])
        return _row(layer, self.fit.method, "", self.name, cell, metric, e.value, e.low, e.high, n, minus=minus)

    def kept(self, exceed: Mapping[int, float], words: Mapping[Cell, float]) -> list[dict[str, Any]]:
        """The share of what is read at the readable layers that each claim leaves."""
        out = []
        for cell in self.held:
            base = (cell[0], self.baseline)
            if base not in self.held or cell == base:
                continue
            floor = max(0.5, words.get(base, 0.5))
            layers = self.held[cell].layers
            good = [k for k in layers if self._read(base, k)["auroc"].low > max(floor, exceed.get(k, 0.5))]
            share = self._share(cell, base, good) if good else undefined("no readable layer")
            place = {
                "method": self.fit.method,
                "fit": self.name,
                "form": cell[0],
                "claim": cell[1],
                "reading": _reading(self.name, cell[0]),
            }
            about = {"layers": len(good), "metric": "kept_share", "value": share.value, "low": share.low, "high": share.high}
            out.append(place | about | {"n": len(self.truth[cell])})
        return out

    def _share(self, cell: Cell, base: Cell, layers: Sequence[int]) -> Estimate:
        """A ratio of two sums of excesses over one half; linearised."""
        (now, u), (then, v) = (self._excess(c, layers) for c in (cell, base))
        share = now / then
        e = linearised(share, (u - share * v) / then, self._both(cell, base), self.level, False, self.truth[cell])
        near = np.mean([all(self._nearly(c, k) for c in (cell, base)) for k in layers])  # such layers are known no better than perfect ones
        reach = 2.0 if np.isnan(e.low) else 2.0 * near
        return no_narrower(e, agreeing(e.value, e.clusters, self.level, float(reach))) if reach else e

    def _nearly(self, cell: Cell, layer: int) -> bool:
        return nearly_ordered(self.scores[cell, layer], self.truth[cell], self.units[cell], self.shown[cell])

    def _excess(self, cell: Cell, layers: Sequence[int]) -> tuple[float, Array]:
        areas = [auroc_influence(self.scores[cell, k], self.truth[cell], self.shown[cell]) for k in layers]
        return sum(a - 0.5 for a, _ in areas), np.sum([u for _, u in areas], axis=0)


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
            c = central(area, level)
            yield _row(layer, "random", "random_directions", name, cell, "auroc", c.middle, c.low, c.high, len(truth))


def _areas(scores: Float[np.ndarray, "item draw"], y: Int[np.ndarray, " item"], within: Any) -> Float[np.ndarray, " draw"]:
    """The AUROC of many scores at once, within sentences."""
    right, total = np.zeros(scores.shape[1]), 0
    for rows in groups_of(within, len(y)):
        ones = y[rows] == 1
        right += rankdata(scores[rows], axis=0)[ones].sum(0) - ones.sum() * (ones.sum() + 1) / 2
        total += ones.sum() * (~ones).sum()
    return right / max(1, total)


def _words(train: Activations, held: Mapping[Cell, Activations], vectors: Vectors | None) -> dict[tuple[str, Cell], float]:
    """The AUROC of what the words alone say, by control and cell."""
    if "statement" not in train.rows:
        return {}
    texts, y, out = train.rows["statement"].tolist(), column(train, "label"), {}
    for name, score in text_scorers(texts, y, train.rows["identity"], vectors=vectors):
        for cell, acts in held.items():
            scores = score(acts.rows["statement"].tolist())
            out[name, cell] = float(auroc_influence(scores, column(acts, "label"), sentences_of(acts.rows))[0])
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
