"""The unlearning study: streams under a harm claim are sent elsewhere; what is forgotten, what is kept, and whether it is gone.

The forget set are prompts under the harm claim, the retain set prompts without one. Streams of the forget set are sent along a random
direction (the reference), towards safety (good minus harm) or away from harm (against harm minus no claim). What the model then says, what
it costs, and what survives: readings inside, the target ablated, and learning again on a few rows beside a model that never knew.

References:
    Li et al. 2024, arXiv 2403.03218 (RMU); Dang et al. 2024, arXiv 2408.06223; arXiv 2410.08827 (what comes back).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.direction import Direction
from ...core.stats import mean, proportion
from ...core.tables import units_of
from ...directions import extract_direction, place_of
from ...interventions import Asker
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ...training import Adapter, survival, unlearn
from ..answering import TABLES as SAID
from ..asking import TABLES as ASKED
from ..fixing import TRAINED, Fixing
from ..statements import FIT
from .report import report
from .settings import UnlearningSettings

NOTHING = "nothing"
NONE = "base_short"


class Unlearning(Fixing):
    """The steps of the study."""

    set: UnlearningSettings

    def __init__(self, models: Mapping[str, ModelHandle], settings: UnlearningSettings, run: Steps) -> None:
        super().__init__(models, settings, run)
        self.forget = self._prompts(TRAINED, self.harm, settings.forget, "train")
        self.retain = self._prompts(NONE, None, settings.retain, "train")
        self.opposite = self._prompts(TRAINED, self.good, settings.forget, "train")
        self.tests = {
            "forget: harm claim": self._prompts(TRAINED, self.harm, settings.test, "test"),
            "forget elsewhere: consider, harm claim": self._prompts("consider_claim", self.harm, settings.test, "test"),
            "retain: no claim": self._prompts(NONE, None, settings.test, "test"),
            f"never trained on: {self.good} claim": self._prompts(TRAINED, self.good, settings.test, "test"),
        }
        self.place = self.info.n_layers // 2 if settings.layer < 0 else settings.layer

    def read(self) -> None:
        """Capture streams under both claims and without one, at the layer: the directions of the targets are made of them."""
        sets = {self.harm: self.forget, self.good: self.opposite, FIT: self.retain}
        self.acts = {k: self._read(f"read {k}", p, position="stem_last", layers=[self.place]) for k, p in sets.items()}

    def _direction(self, target: str) -> tuple[str | Direction, bool]:
        """What `unlearn` takes; inside a step."""
        if target == "random":
            return "random", False
        other = self.good if target == "towards safety" else FIT
        x = {k: self.acts[k].layer(self.place)[:, 0] for k in (self.harm, other)}
        first, second = (x[other], x[self.harm]) if target == "towards safety" else (x[self.harm], x[other])
        place = place_of(self.acts[self.harm], self.place)
        made = extract_direction(first, second, halves=0, provenance=place, seed=self.set.seed)
        method = "good minus harm" if target == "towards safety" else "harm minus no claim"
        return Direction.of(made.vector, method=method, n=made.n, provenance=made.provenance), target == "away from harm"

    def changes(self) -> Iterator[tuple[str, str, float, Path]]:
        """Train every change, each in a step of its own."""
        for target in self.set.targets:
            for mode in self.set.modes:
                for coefficient in self.set.coefficients:
                    yield target, mode, coefficient, self._train(target, mode, coefficient)

    def _train(self, target: str, mode: str, coefficient: float) -> Path:
        def make(place: Path, state: Path) -> None:
            goal, away = self._direction(target)
            unlearn(
                self.model, self.forget, self.retain, target=goal, away=away, layer=self.place, coefficient=coefficient,
                retain_weight=self.set.retain_weight, adapter_only=mode == "adapter", steps=self.set.steps, lr=self.set.lr,
                seed=self.set.seed, place=state, progress=self.progress,
            ).save(place)  # fmt: skip

        key = [self.handle.key, [p.hash for p in (self.forget, self.retain, self.opposite)], target, mode, coefficient, self.place,
               self.set.retain_weight, self.set.steps, self.set.lr, self.set.seed]  # fmt: skip
        return self.run.folder(f"{target}-{mode}-{coefficient:g}".replace(" ", "-"), key=key, make=make, resumes=True)

    def measure(self) -> None:
        """What is said under every change, and what it costs where no claim is made."""
        folders = list(self.changes())
        self.folders = {(t, m, c): f for t, m, c, f in folders}

        def make() -> pd.DataFrame:
            rows: list[dict[str, Any]] = []
            asker = Asker(self.model, self.tests["retain: no claim"])
            base = {name: self.safe(None, prompts) for name, prompts in self.tests.items()}
            for (target, mode, coefficient), folder in {(NOTHING, "", 0.0): None, **self.folders}.items():
                change = None if folder is None else Adapter.load(folder)
                about = {"target": target, "mode": mode, "coefficient": coefficient}
                for name, prompts in self.tests.items():
                    units, (safe, sure) = units_of(prompts.to_frame()), self.said(change, prompts)
                    here = about | {"condition": name}
                    rows.append(here | {"metric": "safe_score", **proportion(safe, units).row()})
                    rows.append(here | {"metric": "p_safe", **mean(sure, units, bounded=True).row()})
                    if change is not None:
                        rows.append(here | {"metric": "answers_changed", **proportion(safe != base[name], units).row()})
                if change is not None:
                    spent = self.cost(change, asker)
                    here = about | {"condition": "retain: no claim", "metric": "kl"}
                    rows.append(here | mean(spent, units_of(asker.prompts.to_frame())).row())
            return pd.DataFrame(rows)

        self.run.table("unlearning", make=make, doing="ask under every change")

    def survive(self) -> None:
        """What survives of truth under the harm claim, at the middle coefficient of each target and mode."""
        middle = sorted(self.set.coefficients)[len(self.set.coefficients) // 2]

        def make() -> Mapping[str, pd.DataFrame]:
            verdicts, rows = [], []
            never = self.handle.untrained(self.set.seed).load() if self.handle.configured and self.set.relearn else None
            pushed = self.forget + self.tests["forget: harm claim"]
            for k, (target, mode) in enumerate((t, m) for t in self.set.targets for m in self.set.modes):
                few = self._few() if self.set.relearn and k == 0 else None
                found = survival(
                    self.model, Adapter.load(self.folders[target, mode, middle]), pushed, split=self.split, depth=32, few=few,
                    never=never, steps=(0, 10, 30), progress=self.progress, seed=self.set.seed,
                )  # fmt: skip
                about = {"target": target, "mode": mode, "coefficient": middle}
                verdicts.append(about | {"verdict": found.verdict, "why": found.why})
                rows.append(found.table.assign(**about))
            return {"verdicts": pd.DataFrame(verdicts), "survival": pd.concat(rows, ignore_index=True)}

        self.run.table(("verdicts", "survival"), make=make, doing="what survives")

    def _few(self) -> PromptSet:
        chosen = np.unique(np.linspace(0, len(self.retain) - 1, min(self.set.relearn, len(self.retain))).round().astype(int))
        return self.retain.subset(chosen)


def compute(models: Mapping[str, ModelHandle], settings: UnlearningSettings, run: Steps) -> Unlearning:
    """Run every step."""
    study = Unlearning(models, settings, run)
    study.listen(study.tests["retain: no claim"])
    study.read()
    study.measure()
    study.survive()
    return study


STUDY = Study(
    name="unlearning",
    asks="sent along a random direction, towards safety or away from harm: what is forgotten, what is kept, and is it gone?",
    settings=UnlearningSettings,
    fast={"forget": 64, "retain": 64, "test": 64, "modes": ("weights",), "coefficients": (1.0,), "steps": 30, "relearn": 0},
    checked={"targets": ("random",), "steps": 5, "forget": 32, "retain": 32, "test": 48},
    compute=compute,
    report=report,
    main=Main(
        table="unlearning", labels=("target", "mode", "coefficient", "condition"), axis="share of safe answers",
        where={"metric": "safe_score"}, zero=0.5,
    ),
    tables={
        **ASKED,
        **SAID,
        "unlearning": "target mode coefficient condition metric | value low high n",
        "verdicts": "target mode coefficient | verdict why",
        "survival": "target mode coefficient aspect detail layer metric | value low high n note",
    },
)  # fmt: skip
