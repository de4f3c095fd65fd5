"""What can be read of the truth, and where: one dataset, prompt form, site and position, at chosen layers, by chosen methods.

Fitted without a claim, read without one and under each. This is the study that sweeps cross: its settings are single values where the other
studies have grids of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from .. import prompts as source
from ..activations import Activations
from ..core.errors import BadInput, UnknownClaim, UnknownLayer, UnknownName, UnknownSite, UnknownTemplate, unknown
from ..core.stats import proportion
from ..evaluation import answers_of, choose_answers
from ..evaluation.agreement import ANSWERS
from ..models.hooks import SITES, hook_point
from ..models.tokens import encode_pairs
from ..probes import probe_layers
from ..probes.methods import METHODS
from ..prompts import PromptSet
from .common import FIT, Rows
from .planning import Later
from .run import Run

REPLIES = (("Sorry", "Sure"), ("sorry", "sure"), *ANSWERS)


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """One cell of a sweep.

    Attributes:
        data: "udhr", "requests", or a table of your own (see `prompts.own_statements`).
        columns: Which column of such a table holds which field.
        template: Prompt form under a claim; "" for the dataset's first.
        site: Where the model is read.
        position: "last" (the answer) or "mean".
        layers: Blocks; none for all.
        methods: Of `probe_layers`.
        claims: Claims to read under; none for all that the dataset has.
        train, test: Items per condition.
        resamples: Bootstrap draws.
        seed: Draws items, splits, restarts, controls and resamples.
    """

    data: str = "udhr"
    columns: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    site: str = "resid_post"
    position: str = "last"
    layers: tuple[int, ...] = ()
    methods: tuple[str, ...] = ("logistic", "mass_mean", "ccs")
    claims: tuple[str, ...] = ()
    train: int = 600
    test: int = 400
    resamples: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise unknown(UnknownSite, "site", self.site, SITES)
        if self.position not in ("last", "mean"):
            raise BadInput(f"position {self.position!r}: 'last' or 'mean'; elsewhere the two endings of a pair have not been read yet")
        for method in self.methods:
            if method not in METHODS:
                raise unknown(UnknownName, "method", method, METHODS)
        if not self.methods:
            raise BadInput("methods: one at least")
        for name in ("train", "test"):
            if getattr(self, name) < 16:
                raise BadInput(f"{name}: 16 items at least, got {getattr(self, name)}")
        if any(layer < 0 for layer in self.layers):
            raise UnknownLayer("layers count from 0")
        given = source.statements(self.data, self.columns)
        own = {name for name, text in source.templates(given.kind).items() if "claim" in text.fields}
        if self.template and self.template not in own:
            raise unknown(UnknownTemplate, "template with a claim", self.template, own)
        claims = source.claims(given.kind)
        for claim in self.claims:
            if claim not in claims:
                raise unknown(UnknownClaim, f"claim of {given.name}", claim, claims)


Settings = ReadingSettings


def fast(seed: int = 0, **options: Any) -> ReadingSettings:
    """Return a small grid, for a first look; options take precedence."""
    small: dict[str, Any] = {"train": 160, "test": 120, "resamples": 100, "seed": seed}
    return ReadingSettings(**(small | options))


class Reading(Rows):
    """The steps of the study."""

    set: ReadingSettings

    def __init__(self, model: Any, settings: ReadingSettings, run: Run, progress: bool | None) -> None:
        super().__init__(model, settings, run, progress)
        if self.source.kind == "requests":
            self.words = choose_answers(model, REPLIES)
        layers = settings.layers or tuple(range(self.info.n_layers))
        for layer in layers:
            hook_point(model, settings.site, layer)
        self.layers = list(layers)
        self.template = settings.template or self.source.pushed[0]
        self.claims = settings.claims or tuple(source.claims(self.source.kind))
        self.sets = {FIT: self._both()} | {c: self._prompts(self.template, c, settings.test, "test") for c in self.claims}
        for prompts in self.sets.values():
            encode_pairs(model, prompts)

    def _both(self) -> PromptSet:
        one, two = (self._prompts(self.source.plain, None, getattr(self.set, side), side) for side in ("train", "test"))
        return one + two

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use: of those read, the one nearest to two thirds of the way up."""
        return min(self.layers, key=lambda layer: abs(layer - self.info.n_layers * 2 // 3))

    def read(self) -> dict[str, Any]:
        """Capture every condition, and the answers in the same pass."""
        return {
            name: self._read(
                f"read {self.source.name}, {name}" + (f", {self.template}" if name != FIT else ""), prompts,
                site=self.set.site, position=self.set.position, layers=self.layers, answers=True,
            )
            for name, prompts in self.sets.items()
        }  # fmt: skip

    def answers(self, acts: Mapping[str, Activations]) -> None:
        """The share of right answers by condition, held-out items."""
        rows = []
        for name, some in acts.items():
            asked = answers_of(some if name != FIT else some.subset(self.split.side(some.rows) == "test"))
            clusters = asked["identity" if asked["identity"].nunique() > 1 else "right"].to_numpy()
            rows.append({"condition": name, "metric": "safe_score", **proportion(asked["safe"], clusters).row()})
        self.run.keep("answers", pd.DataFrame(rows))

    def probes(self, acts: Mapping[str, Any]) -> None:
        """Fit without a claim, read under each, with controls."""
        settings = {k: v for k, v in asdict(self.set).items() if k not in ("data", "columns")}
        key = [self.info.key(), settings, self.source.digest(), [p.hash for p in self.sets.values()]]

        def make() -> pd.DataFrame:
            return probe_layers(
                acts[FIT], test={c: acts[c] for c in self.claims}, methods=self.set.methods, split=self.split, condition=FIT,
                controls=("shuffled_labels", "random_directions", *(("bag_of_words",) if "statement" in acts[FIT].rows else ())),
                resamples=self.set.resamples, seed=self.set.seed,
            )  # fmt: skip

        name = f"fit {', '.join(self.set.methods)} on {len(self.layers)} layers"
        self.run.keep("probes", self.run.table(name, key, make))

    def summary(self) -> None:
        """What is said and what is read at the one layer fixed beforehand, side by side: the main result of a sweep."""
        said = self.run.tables["answers"].assign(what="says", layer=-1)
        table = self.run.tables["probes"]
        at = table[
            (table["metric"] == "accuracy") & (table["against"] == "label") & (table["layer"] == self.layer) & (table["control"] == "")
        ]
        read = at.assign(what="reads by " + at["method"].astype(str))
        columns = ["condition", "what", "layer", "value", "low", "high", "n"]
        self.run.keep("summary", pd.concat([said[columns], read[columns]], ignore_index=True))


def compute(model: Any, settings: ReadingSettings, run: Run, progress: bool | None = None) -> Reading:
    """Run every step and keep the tables in the run."""
    study = Reading(model, settings, run, progress)
    acts = study.read()
    if not any(isinstance(a, Later) for a in acts.values()):
        study.answers(acts)
    study.probes(acts)
    study.summary()
    return study
