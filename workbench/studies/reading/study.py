"""What can be read of the truth, and where: one dataset, prompt form, site and position, at chosen layers, by chosen methods.

Fitted without a claim, read without one and under each. This is the study to use in sweeps: its settings are single values where the other
studies have grids of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from ... import prompts as source
from ...activations import Activations
from ...core.errors import BadInput, UnknownClaim, UnknownLayer, UnknownSite, UnknownTemplate, unknown
from ...core.stats import proportion
from ...evaluation import answers_of
from ...models.hooks import SITES, check_layer
from ...models.tokens import encode_pairs
from ...probes import probe_layers
from ...probes.methods import name_of
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ..asking import TABLES as ASKED
from ..asking import AskSettings
from ..statements import FIT, Rows
from ..surfaces import TABLES as SURFACES
from ..surfaces import read_in_surfaces, surface_prompts
from .report import across, report


@dataclass(frozen=True, kw_only=True)
class ReadingSettings(AskSettings):
    """One cell of a sweep.

    Attributes:
        data: "udhr", "requests", or a table of your own (see `prompts.own_statements`).
        columns: Which column of such a table holds which field.
        template: Prompt form under a claim; "" for the dataset's first.
        site: Where the model is read.
        position: "last" (the answer) or "mean".
        layers: Blocks. Empty: all.
        methods: Of `probe_layers`.
        claims: Claims to read under. Empty: all that the dataset has.
        train, test: Items per condition.
        surfaces: Training statements that are also put in other surface forms, half as many held out; 0 leaves this out.
        resamples: 0 leaves out every metric of probes but accuracy; the intervals are in closed form.
        seed: Draws items, splits, restarts and controls.
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
    surfaces: int = 0
    resamples: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.site not in SITES:
            raise unknown(UnknownSite, "site", self.site, SITES)
        if self.position not in ("last", "mean"):
            raise BadInput(f"position {self.position!r}: 'last' or 'mean'; elsewhere the two endings of a pair have not been read yet")
        for method in self.methods:
            name_of(method)
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


class Reading(Rows):
    """The steps of the study."""

    set: ReadingSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: ReadingSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.layers = list(settings.layers or range(self.info.n_layers))
        for layer in self.layers:
            check_layer(self.handle, layer)
        self.template = settings.template or self.source.pushed[0]
        self.claims = settings.claims or tuple(source.claims(self.source.kind))
        self.sets = {FIT: self._both()} | {c: self._prompts(self.template, c, settings.test, "test") for c in self.claims}
        self.surfaces = surface_prompts(self, settings.surfaces)
        for prompts in self.sets.values():
            encode_pairs(self.handle, prompts)

    def _both(self) -> PromptSet:
        one, two = (self._prompts(self.source.plain, None, getattr(self.set, side), side) for side in ("train", "test"))
        return one + two

    def read(self) -> dict[str, Activations]:
        """Capture every condition, and the answers in the same forward pass."""
        return {
            name: self._read(
                f"read {self.source.name}, {name}" + (f", {self.template}" if name != FIT else ""),
                prompts,
                site=self.set.site,
                position=self.set.position,
                layers=self.layers,
                answers=True,
            )
            for name, prompts in self.sets.items()
        }

    def answers(self, acts: Mapping[str, Activations]) -> pd.DataFrame:
        """Return the share of right answers by condition, held-out items."""

        def make() -> pd.DataFrame:
            rows = []
            for name, read in acts.items():
                asked = answers_of(read if name != FIT else read.subset(self.split.side(read.rows) == "test"))
                clusters = asked["identity" if asked["identity"].nunique() > 1 else "right"].to_numpy()
                rows.append({"condition": name, "metric": "safe_score", **proportion(asked["safe"], clusters).row()})
            return pd.DataFrame(rows)

        return self.run.table("answers", make=make, doing="count safe answers")

    def probes(self, acts: Mapping[str, Activations]) -> pd.DataFrame:
        """Fit without a claim, read under each, with controls."""

        def make() -> pd.DataFrame:
            words = "statement" in acts[FIT].rows
            return probe_layers(
                acts[FIT],
                test={c: acts[c] for c in self.claims},
                methods=self.set.methods,
                split=self.split,
                condition=FIT,
                controls=("shuffled_labels", "random_directions", *(("bag_of_words", "ngrams") if words else ())),
                text_vectors=self._text_vectors(*acts.values()) if words else None,
                resamples=self.set.resamples,
                seed=self.set.seed,
            )

        return self.run.table("probes", make=make, doing=f"fit {', '.join(self.set.methods)} on {len(self.layers)} layers")

    def summary(self, said: pd.DataFrame, table: pd.DataFrame) -> None:
        """Put what is said beside what is read at the one layer fixed beforehand: the main result of a sweep."""

        def make() -> pd.DataFrame:
            label = (table["metric"] == "accuracy") & (table["against"] == "label") & (table["control"] == "")
            at = table[label & (table["layer"] == self.layer)]
            read = at.assign(what="reads by " + at["method"].astype(str))
            columns = ["condition", "what", "layer", "value", "low", "high", "n"]
            return pd.concat([said.assign(what="says", layer=-1)[columns], read[columns]], ignore_index=True)

        self.run.table("summary", make=make, doing="put both side by side")

    @property
    def layer(self) -> int:
        """The layer that single-layer statements use: of those read, the one nearest to two thirds of the way up."""
        return min(self.layers, key=lambda layer: abs(layer - self.info.n_layers * 2 // 3))


def compute(models: Mapping[str, ModelHandle], settings: ReadingSettings, run: Steps) -> Reading:
    """Run every step."""
    study = Reading(models, settings, run)
    acts = study.read()
    said = study.answers(acts)
    study.summary(said, study.probes(acts))
    where = {"site": settings.site, "position": settings.position, "layers": study.layers}
    read_in_surfaces(study, study.surfaces, settings.methods, **where)
    return study


STUDY = Study(
    name="reading",
    asks="what can be read of the truth where: dataset, prompt form, site, layers and methods of your choice; the study to use in sweeps",
    settings=ReadingSettings,
    fast={"elicit": 12, "train": 160, "test": 120, "resamples": 100},
    checked={
        "elicit": 0,
        "train": 60,
        "test": 48,
        "surfaces": 24,
        "resamples": 20,
        "layers": (3, 4),
        "methods": ("logistic", "mass_mean"),
        "claims": ("harm",),
    },
    compute=compute,
    report=report,
    across=across,
    main=Main(table="summary", labels=("condition", "what"), axis="share of held-out items", zero=0.5),
    tables={
        **ASKED,
        **SURFACES,
        "summary": "condition what | layer value low high n",
        "answers": "condition metric | value low high n",
        "probes": "layer site method control fit_condition condition split against metric | value low high n band_low band_high note",
    },
    inside=("layers", "methods", "claims"),
    inputs=("data",),
)
