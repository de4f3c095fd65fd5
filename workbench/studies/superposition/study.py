"""When do more features than dimensions fit into a model, and what do they look like there? Toy models, trained hundreds at once.

References:
    Elhage et al. 2022, arXiv 2209.10652.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd

from ...core.errors import BadInput
from ...features.superposition import (
    arrangement_table,
    count_table,
    feature_table,
    gram_table,
    pair_table,
    phase_table,
)
from ...features.toys import SETS, TrainedToys, crossed, train_toys
from ...runs import Main, ModelHandle, Steps, Study
from .bridge import Toys, planted_table, recovery_table
from .report import report

FALLING = [0.7**k for k in range(20)]  # importances; 20 features in 5 dimensions
DIMENSIONS = 5
SPARSITIES = (0.0, 0.7, 0.8, 0.9, 0.95, 0.99)
CURVE = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
MANY, FEW = 30, 6  # features and dimensions of the curve
EQUAL = ((3, 2), (5, 2), (8, 3))  # features and dimensions
KNOWN, SPARSE = (12, 6), 0.97  # features and dimensions of the toys that dictionaries are trained on
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
PAIRED = {"independent": 0.9, "correlated": 0.9, "anticorrelated": 0.8}  # each feature is then absent in 90 %


@dataclass(frozen=True, kw_only=True)
class SuperpositionSettings:
    """The grid of the study.

    Attributes:
        replicates: Of every toy model; intervals are over them.
        restarts: Starts of a replicate, of which the one of lowest loss on fresh examples counts.
        steps: Of training.
        batch: Fresh examples per step.
        kinds: Of dictionary that are trained on toys whose features are known; none where SAELens is not installed.
        fits: Steps of training of each of them.
        points: Densities, and importances, of the phase diagram.
        seed: Draws first weights and examples.
    """

    replicates: int = 8
    restarts: int = 4
    steps: int = 2000
    batch: int = 256
    kinds: tuple[str, ...] = ("standard", "jumprelu", "topk", "batchtopk")
    fits: int = 1500
    points: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 3 or self.restarts < 1:
            raise BadInput(f"replicates: 3 at least, restarts: 1 at least; got {self.replicates} and {self.restarts}")
        if self.steps < 1 or self.batch < 8 or self.points < 3:
            raise BadInput(f"steps: 1, batch: 8, points: 3 at least; got {self.steps}, {self.batch} and {self.points}")


class Superposition:
    """The steps of the study."""

    def __init__(self, settings: SuperpositionSettings, run: Steps) -> None:
        self.set, self.run = settings, run

    def _train(self, hidden: int, sparsities, importances, *, restarts: int = 1, steps: int | None = None, **how) -> TrainedToys:
        sets = how.pop("sets", "independent")
        toys = crossed(sparsities, importances, seeds=self.set.replicates * restarts, seed=self.set.seed, **how)
        few = {"steps": steps or self.set.steps, "batch": self.set.batch}
        return train_toys(toys, hidden, sets=sets, progress=self.run.progress, **few)

    def falling(self) -> dict[str, pd.DataFrame]:
        """Twenty features of falling importance in five dimensions, by sparsity."""
        trained = self._train(DIMENSIONS, SPARSITIES, [FALLING], activations=("relu", "linear"))
        return {"counts": count_table(trained), "features": feature_table(trained), "weights": gram_table(trained)}

    def curve(self) -> pd.DataFrame:
        """Dimensions per feature where all features matter equally."""
        trained = self._train(FEW, CURVE, [[1.0] * MANY], activations=("relu", "linear"), steps=self.set.steps // 2 or 1)
        table = count_table(trained)
        return table[table["metric"] == "per feature"]

    def phases(self) -> pd.DataFrame:
        """What becomes of the last feature, in one dimension for two and two dimensions for three."""
        densities = np.geomspace(0.01, 1, self.set.points)
        importances = np.geomspace(0.1, 10, self.set.points)
        out = []
        for n, m, activation in ((2, 1, "relu"), (3, 2, "relu"), (2, 1, "linear")):
            grid = [[1.0] * (n - 1) + [float(i)] for i in importances]
            trained = self._train(
                m, 1 - densities, grid, restarts=self.set.restarts, steps=self.set.steps // 2 or 1, activations=(activation,)
            )
            out.append(phase_table(trained, self.set.restarts).drop(columns="activation").assign(panel=_named(n, m, activation)))
        return pd.concat(out, ignore_index=True)

    def arrangements(self) -> pd.DataFrame:
        """How equally important features arrange themselves, by sparsity."""
        out = []
        for n, m, activation in (*((n, m, "relu") for n, m in EQUAL), (5, 2, "linear")):
            trained = self._train(m, LEVELS, [[1.0] * n], restarts=self.set.restarts, activations=(activation,))
            out.append(arrangement_table(trained, self.set.restarts).assign(panel=_named(n, m, activation)))
        return pd.concat(out, ignore_index=True).drop(columns=["features", "hidden", "activation"])

    def pairs(self) -> pd.DataFrame:
        """Four features in two dimensions that go together in pairs, or not."""
        few = {"restarts": self.set.restarts}
        return pd.concat(
            [pair_table(self._train(2, [PAIRED[sets]], [[1.0] * 4], sets=sets, **few), self.set.restarts) for sets in SETS],
            ignore_index=True,
        )

    def toys(self) -> Toys:
        """Toys whose features are known, for dictionaries."""
        trained = self._train(KNOWN[1], [SPARSE], [[1.0] * KNOWN[0]], steps=self.set.steps)
        return Toys(trained=trained, steps=self.set.fits, seed=self.set.seed, progress=self.run.progress)

    def bridge(self) -> dict[str, pd.DataFrame]:
        """Dictionaries on toys: what they recover, and what a planted direction is decomposed into."""
        toys = self.toys()
        made = toys.dictionaries(self.set.kinds)
        return {"recovery": recovery_table(toys, made), "planted": planted_table(toys, made)}


def _named(n: int, m: int, activation: str) -> str:
    return f"{n} features, {m} dimension{'s' * (m > 1)}, {'ReLU' if activation == 'relu' else 'linear'}"


def compute(models: Mapping[str, ModelHandle], settings: SuperpositionSettings, run: Steps) -> Superposition:
    """Run every step."""
    study = Superposition(settings, run)
    run.table(("counts", "features", "weights"), make=study.falling, doing="20 features in 5 dimensions, by sparsity")
    run.table("per_feature", make=study.curve, doing=f"dimensions per feature, {MANY} in {FEW}")
    run.table("phases", make=study.phases, doing="phase diagrams")
    run.table("arrangements", make=study.arrangements, doing="arrangements of equally important features")
    run.table("pairs", make=study.pairs, doing="features that go together")
    if settings.kinds and find_spec("sae_lens") is not None:
        run.table(("recovery", "planted"), make=study.bridge, doing="dictionaries on toys")
    return study


STUDY = Study(
    name="superposition",
    asks="when do more features than dimensions fit into a model, and how do they lie there",
    settings=SuperpositionSettings,
    fast={"replicates": 4, "restarts": 4, "steps": 1000, "batch": 128, "points": 5, "kinds": ("jumprelu", "topk"), "fits": 1000},
    checked={"replicates": 3, "restarts": 1, "steps": 10, "batch": 16, "points": 3, "kinds": ("topk",), "fits": 12},
    models=(),
    compute=compute,
    report=report,
    main=Main(
        table="counts", labels=("activation", "sparsity"), axis="features represented in 5 dimensions", where={"metric": "represented"}
    ),
    tables={
        "counts": "activation sparsity metric | value low high n note",
        "features": "activation sparsity feature metric | value low high n note",
        "weights": "activation sparsity feature other | weight",
        "per_feature": "activation sparsity metric | value low high n note",
        "phases": "panel density importance state | value low high n",
        "arrangements": "panel sparsity arrangement | value low high n",
        "pairs": "sets pair metric | value low high n note",
        "recovery": "kind control metric | value low high n note",
        "planted": "kind method control | value low high n",
    },
)
