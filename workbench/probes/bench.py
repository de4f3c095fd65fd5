"""What one call of `probe_layers` fits and reads, and the rows of its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..activations import Activations
from ..core.errors import BadInput, WrongModel
from ..core.stats import undefined
from ..core.text_controls import TEXT_CONTROLS
from ..core.types import Int
from . import controls as beside
from .measure import Hits, gaps, measure
from .methods import Fit, Method, fit_layers, is_supervised
from .nonlinear import NONLINEAR
from .options import Controls, Resampling
from .shuffled import shuffled
from .text import text_scorers

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One call of `probe_layers`, checked: what is fitted, what is read, and what stands beside.

    Attributes:
        methods: By name in the table.
        options: Of each method's fit, by name.
        train: Training rows of the fitted condition.
        read: Held-out rows, by condition; the fitted one first.
        y: The target of the training rows.
        how: Draws and level of the intervals.
        hits: Filled by `readings`: which held-out items each method is right about.
    """

    methods: Mapping[str, Method]
    options: Mapping[str, dict[str, Any]]
    train: Activations
    read: dict[str, Activations]
    y: Int[np.ndarray, " item"]
    condition: str
    target: str
    against: tuple[str, ...]
    metrics: tuple[str, ...]
    controls: Controls
    how: Resampling
    folds: int
    seed: int
    hits: Hits = field(default_factory=dict)

    @property
    def columns(self) -> Row:
        """What all rows of the table have in common."""
        return {"site": self.train.site, "fit_condition": self.condition, "split": "test"}

    @property
    def nonlinear(self) -> list[str]:
        """The nonlinear methods among those asked for."""
        return [name for name in self.methods if name in NONLINEAR]

    def fit(self, train: Activations, name: str) -> Fit:
        """Fit a method; on a part of the rows first where the other part is needed to compare methods or to scale scores."""
        calibrated = name != "logistic" and self.how.resamples and {"calibration_error", "brier"} & set(self.metrics)
        validate = is_supervised(self.methods[name]) and bool(self.nonlinear or calibrated)
        return fit_layers(
            train,
            self.methods[name],
            target=self.target,
            condition=self.condition,
            folds=self.folds,
            validate=validate,
            seed=self.seed,
            **self.options[name],
        )

    def rows(self, fit: Fit, held: Activations, place: Row) -> Iterable[Row]:
        """Yield the rows of a fit on the held-out rows of one condition."""
        for layer in held.layers:
            scores = fit.scores(held, layer)
            here = {"layer": layer, "method": fit.method, **place, **self.columns}
            stated = fit.probabilities(scores, layer)
            measured = measure(scores, held.rows, self.against, self.metrics, self.how, probability=stated, layers=len(held.layers))
            yield from (here | row for row in measured)
            if place["control"]:
                continue
            for name in self.against:
                self.hits[fit.method, layer, place["condition"], name] = (scores > 0) == held.rows[name].to_numpy()
                if self.controls.burns_exact and not fit.supervised:
                    claimed = beside.inflated(fit, held, layer, name, self.how.level)
                    note = "test statistics, and the better sign on test labels"
                    yield here | {"control": "burns_exact", "against": name, "metric": "accuracy", **claimed.row(), "note": note}

    def readings(self) -> Iterable[Row]:
        """Yield the readings of all methods, and with nonlinear ones how much more they read and how much they remember."""
        fits = {name: self.fit(self.train, name) for name in self.methods}
        for fit in fits.values():
            for where, held in self.read.items():
                yield from self.rows(fit, held, {"control": "", "condition": where})
            yield from self.shuffled(fit)
        if self.nonlinear:
            yield from (row | self.columns for row in gaps(fits, self.nonlinear, self.read, self.hits, self.how))
            for name, method in self.methods.items():
                if is_supervised(method):
                    yield from self.selectivity(name)

    def shuffled(self, fit: Fit) -> Iterable[Row]:
        """Yield what the method reads where labels say nothing."""
        if "shuffled_labels" not in self.controls.names:
            return
        how: dict[str, Any] = {"draws": self.controls.shuffles, "seed": self.seed, "level": self.how.level, "folds": self.folds}
        method, options = self.methods[fit.method], self.options[fit.method]
        drawn = shuffled(fit, method, self.train, self.read, self.y, self.hits, **how, options=options)
        yield from (row | self.columns for row in drawn)

    def selectivity(self, name: str) -> Iterable[Row]:
        """Yield, layer by layer, how much better a method is on its task than on one that only memory solves."""
        task = self.controls.control_task
        how: dict[str, Any] = {"level": self.how.level, "seed": self.seed}
        about = {
            "method": name,
            "control": "",
            "condition": self.condition,
            "against": self.target,
            "metric": "selectivity",
            **self.columns,
        }
        if task not in self.train.rows or self.train.rows[task].nunique() < 4:
            none = undefined(f"a control task needs a column of four values, and {task!r} is none: control_task= names it", len(self.train))
            yield from ({"layer": layer, **about, **none.row(), "split": "validation", "note": none.note} for layer in self.train.layers)
            return
        by_layer = beside.selectivity(self.train, self.methods[name], target=self.target, task=task, **how, **self.options[name])
        for layer, (value, control) in by_layer.items():
            note = f"on other identities of the training rows; control task by {task!r}: {control.value:.3f}"
            yield {"layer": layer, **about, **value.row(), "split": "validation", "note": note}

    def untaught(self, acts: Activations, side: np.ndarray) -> Iterable[Row]:
        """Yield the readings of an untrained copy and of the embedding."""
        for control, other in (("untrained_model", self.controls.untrained), ("embedding", self.controls.embedding)):
            if other is None:
                continue
            if len(other) != len(acts) or other.rows["stem"].tolist() != acts.rows["stem"].tolist():
                raise WrongModel(f"{control.split('_')[0]}=: it must have read the same prompts in the same order")
            other = other.with_rows(acts.rows)  # with the columns that were added to the rows since
            blank, held = other.subset(side == "train"), other.subset(side == "test")
            place: Row = {"control": control, "condition": self.condition} | ({"layer": -1} if control == "embedding" else {})
            for name in self.methods:
                try:
                    yield from self.rows(self.fit(blank, name), held, place)
                except BadInput as error:  # nothing to fit on: at the embedding both variants of a pair differ by a constant
                    none = undefined(str(error), len(held))
                    here = {"layer": -1, "method": name, **place, "metric": "accuracy", **self.columns, **none.row(), "note": none.note}
                    yield from (here | {"against": a} for a in self.against)

    def drawn(self) -> Iterable[Row]:
        """Yield the spread of random directions."""
        common = (self.train, self.read, self.y, self.against)
        if "random_directions" in self.controls.names:
            spread = beside.random_directions(*common, self.controls.random_directions, self.seed, self.how.level)
            yield from (row | self.columns for row in spread)

    def words(self) -> Iterable[Row]:
        """Yield the readings of the words alone, where the rows have a text."""
        text, given = self.controls.text, self.controls
        names = [n for n in TEXT_CONTROLS if n in given.names] + ["token_embeddings"] * (given.text_vectors is not None)
        if not names or text not in self.train.rows:
            return
        rows = self.train.rows
        for name, score in text_scorers(rows[text].tolist(), self.y, rows["identity"], names=names, vectors=given.text_vectors):
            for where, held in self.read.items():
                place = {"layer": -1, "method": name, "control": name, "condition": where, **self.columns}
                scores = score(held.rows[text].tolist())
                yield from (place | row for row in measure(scores, held.rows, self.against, ("accuracy", "auroc"), self.how))
