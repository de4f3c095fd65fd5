"""Contrastive Activation Addition, the whole protocol: make vectors, normalise, compare, choose a layer, steer, evaluate, generate.

On data in the published layout (`generate/BEHAVIOUR/…`, `test/BEHAVIOUR/…`), on any model. What the protocol leaves out is here too: both
letter orders, a layer chosen on items that made no vector, random directions of equal norm, and for which items a vector backfires.

References:
    Rimsky et al. 2023, arXiv 2312.06681; Tan et al. 2024, arXiv 2407.12404.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput
from ..core.seeds import numpy_rng
from ..evaluation import capability, fluency, multiple_choice, steerability
from ..evaluation.judges import RefusalPhrases
from ..interventions import add, contrast_components, fit_vectors, generate, random_directions
from ..interventions.cost import strengths
from ..models import info
from ..prompts import caa_behaviours, choices_to_prompts, letter_form, load_ab
from .caa_data import CaaData
from .run import Run

SYSTEMS = {"positive": "In every answer, show this trait: {}.", "negative": "In every answer, avoid this trait: {}."}
TASKS = {"mmlu": "mmlu.json", "truthfulqa": "truthful_qa.json"}


@dataclass(frozen=True, kw_only=True)
class CaaSettings:
    """The grid of the study.

    Attributes:
        data: A folder in the CAA layout.
        behaviours: Which; none for all that the folder has.
        layers: Blocks; none for all.
        coefficients: Multiples of the (normalised) vectors.
        items, test: Questions at most per behaviour that vectors are made from, and that they are tested on; 0 for all.
        validation: Share of the former that only chooses the layer.
        orders: "both" letter orders, or "given" as published (a vector may then be that of a letter).
        normalise: Give all behaviours of a layer one length.
        scope: Which tokens are pushed; published: all from the end of the instruction on.
        random: Random directions of the control.
        open_ended: Questions to answer freely, per behaviour; 0 for none.
        new_tokens: Tokens of each such answer.
        tasks: Questions at most of each capability task; 0 for none.
        resamples: Bootstrap draws.
        seed: Draws everything.
    """

    data: str = ""
    behaviours: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    items: int = 0
    test: int = 0
    validation: float = 0.2
    orders: str = "both"
    normalise: bool = True
    scope: str = "after_instruction"
    random: int = 20
    open_ended: int = 10
    new_tokens: int = 48
    tasks: int = 150
    resamples: int = 1000
    seed: int = 0
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise BadInput(
                "the study 'caa' needs data: --data FOLDER in the layout generate/BEHAVIOUR/generate_dataset.json, test/BEHAVIOUR/test_dataset_ab.json"
            )
        if self.orders not in ("both", "given"):
            raise BadInput(f"orders={self.orders!r}: 'both' or 'given'")
        if not 0 < self.validation < 0.8:
            raise BadInput(f"validation: a share above 0 and below .8, got {self.validation}")
        strengths(self.coefficients)


Settings = CaaSettings


def fast(seed: int = 0, **options: Any) -> CaaSettings:
    """Return a small grid, for a first look."""
    return CaaSettings(
        **{
            "items": 60,
            "test": 20,
            "coefficients": (-1.0, 0.0, 1.0),
            "open_ended": 3,
            "new_tokens": 16,
            "tasks": 20,
            "resamples": 200,
            "seed": seed,
            **options,
        }
    )


class Caa:
    """The steps of the study."""

    def __init__(self, model: Any, settings: CaaSettings, run: Run, progress: bool | None) -> None:
        self.model, self.set, self.run, self.progress, self.info = model, settings, run, progress, info(model)
        known = caa_behaviours(settings.data)
        self.behaviours = list(settings.behaviours) or [b for b in known if b not in TASKS]
        self.layers = list(settings.layers) or list(range(self.info.n_layers))
        letter_form(model)
        self.data = CaaData(model, settings)
        self.made = {b: self.data.prompts(b, "generate", settings.items) for b in self.behaviours}
        self.tests = {b: self.data.prompts(b, "test", settings.test) for b in self.behaviours}
        self.fit, self.held = {}, {}
        for b, prompts in self.made.items():
            people = sorted({p.identity for p in prompts})
            size = max(1, round(settings.validation * len(people)))
            if len(people) < 8:
                raise BadInput(
                    f"{b}: {len(people)} questions fit this model's context of {self.info.context} tokens; 8 at least are needed"
                )
            chosen = set(numpy_rng(settings.seed, "caa", b).permutation(people)[:size].tolist())
            self.fit[b] = prompts.subset([i for i, p in enumerate(prompts) if p.identity not in chosen])
            self.held[b] = prompts.subset([i for i, p in enumerate(prompts) if p.identity in chosen])
        run.keep("data", pd.DataFrame(self.data.counts))

    def _table(self, name: str, step: str, make: Any) -> pd.DataFrame:
        return self.run.keep(name, self.run.table(step, [self.info.key(), asdict(self.set), self.data.digest()], make))

    # ------------------------------------------------------------------ vectors

    def vectors(self) -> None:
        """Make, normalise, save and compare the vectors."""
        folder = self.run.cache.activations([self.info.key(), "caa vectors"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        made, acts = fit_vectors(
            self.model, self.fit, layers=self.layers, store=folder, progress=self.progress, seed=self.set.seed, halves=5
        )
        self.raw = made
        self.vectors_of = made.normalised() if self.set.normalise else made
        kept = self.run.folder / "vectors"
        shutil.rmtree(kept, ignore_errors=True)  # those of an earlier run with other behaviours would be read as part of this set
        self.vectors_of.save(kept)
        self.run.keep("vectors", made.to_frame())
        self.run.keep("similarity", made.similarity())
        shown = sorted({self.layers[i] for i in np.linspace(0, len(self.layers) - 1, min(3, len(self.layers))).round().astype(int)})
        parts = [contrast_components(acts[b], n).assign(behaviour=b) for b in self.behaviours for n in shown]
        self.run.keep("components", pd.concat(parts, ignore_index=True))

    def choose(self) -> None:
        """Choose each behaviour's layer: the largest rise of P(matching) from -1 to +1 on questions that made no vector."""

        def make() -> pd.DataFrame:
            rows = []
            for b in self.behaviours:
                got = multiple_choice(
                    self.model, self.held[b], {n: self.vectors_of[b, n] for n in self.layers}, (-1.0, 1.0), scope=self.set.scope, resamples=200,
                    seed=self.set.seed, progress=self.progress,
                )  # fmt: skip
                rows.append(got[got["metric"] == "p_matching"].assign(behaviour=b))
            return pd.concat(rows, ignore_index=True)

        table = self._table("validation", "choose a layer", make)
        wide = table.pivot_table(index=["behaviour", "layer"], columns="coefficient", values="value")
        rise = (wide[1.0] - wide[-1.0]).unstack("layer")
        self.best = {b: int(rise.loc[b].to_numpy().argmax()) for b in self.behaviours}
        self.best = {b: int(rise.columns[k]) for b, k in self.best.items()}

    # ------------------------------------------------------------------ evaluation

    def sweep(self) -> None:
        """Test every layer and coefficient, and system prompts at the chosen layer."""

        def make() -> pd.DataFrame:
            rows = []
            for b in self.behaviours:
                how: dict[str, Any] = {
                    "scope": self.set.scope,
                    "resamples": self.set.resamples,
                    "seed": self.set.seed,
                    "progress": self.progress,
                }
                rows.append(
                    multiple_choice(
                        self.model, self.tests[b], {n: self.vectors_of[b, n] for n in self.layers}, self.set.coefficients, **how
                    ).assign(behaviour=b)
                )
                trait = b.replace("-", " ").replace("_", " ")
                told = {k: self.data.prompts(b, "test", self.set.test, text.format(trait), note=False) for k, text in SYSTEMS.items()}
                chosen = {self.best[b]: self.vectors_of[b, self.best[b]]}
                rows.append(multiple_choice(self.model, told, chosen, self.set.coefficients, **how).assign(behaviour=b))
            return pd.concat(rows, ignore_index=True)

        self._table("test", "test layers and coefficients", make)

    def controls(self) -> None:
        """Random directions of equal norm at the chosen layer, and item by item at the chosen layer."""

        def make() -> pd.DataFrame:
            rows = []
            for b in self.behaviours:
                layer = self.best[b]
                d = self.vectors_of[b, layer]
                drawn = []
                for r in random_directions(d, self.set.random, self.set.seed):
                    got = multiple_choice(
                        self.model,
                        self.tests[b],
                        {layer: r},
                        self.set.coefficients,
                        scope=self.set.scope,
                        resamples=20,
                        seed=self.set.seed,
                        progress=False,
                    )
                    drawn.append(got[got["metric"] == "p_matching"])
                whole = pd.concat(drawn)
                for c, part in whole.groupby("coefficient"):
                    low, high = np.quantile(part["value"], [0.025, 0.975])
                    rows.append(
                        {
                            "behaviour": b,
                            "layer": layer,
                            "coefficient": c,
                            "metric": "p_matching",
                            "value": part["value"].mean(),
                            "low": low,
                            "high": high,
                            "n": len(part),
                        }
                    )
            return pd.DataFrame(rows)

        if self.set.random:
            self._table("random", "random directions", make)

        def items() -> pd.DataFrame:
            parts = []
            for b in self.behaviours:
                _, summary = steerability(
                    self.model, self.tests[b], self.vectors_of[b, self.best[b]], self.set.coefficients, scope=self.set.scope, resamples=self.set.resamples,
                    seed=self.set.seed, progress=self.progress,
                )  # fmt: skip
                parts.append(summary.assign(behaviour=b, layer=self.best[b]))
            return pd.concat(parts, ignore_index=True)

        if len(strengths(self.set.coefficients)) > 2:
            self._table("steerability", "item by item", items)

    def answers(self) -> None:
        """Answer open questions at the chosen layer under every coefficient, side by side; judged by phrases of refusal."""

        def make() -> pd.DataFrame:
            parts = []
            for b in self.behaviours:
                prompts = self.data.opened(b)
                if prompts is None:
                    continue
                d = self.vectors_of[b, self.best[b]]
                edits = {f"{c:+g}": add(d, c, scope=self.set.scope) for c in strengths(self.set.coefficients) if c}
                got = generate(self.model, prompts, edits, max_new_tokens=self.set.new_tokens, seed=self.set.seed, progress=self.progress)
                for name in ("unsteered", *edits):
                    judged = RefusalPhrases().judge([p.identity for p in prompts], got[name].tolist())
                    parts.append(
                        pd.DataFrame(
                            {
                                "behaviour": b,
                                "question": [p.identity for p in prompts],
                                "coefficient": name,
                                "answer": got[name],
                                "refusal_phrase": judged["verdict"].astype("boolean"),
                            }
                        )
                    )
            return (
                pd.concat(parts, ignore_index=True)
                if parts
                else pd.DataFrame(columns=["behaviour", "question", "coefficient", "answer", "refusal_phrase"])
            )

        if self.set.open_ended:
            table = self._table("open_ended", "answer open questions", make)
            rows = [
                fluency(part["answer"].tolist(), resamples=200, seed=self.set.seed).assign(behaviour=str(b), coefficient=str(c))
                for (b, c), part in table.groupby(["behaviour", "coefficient"], sort=False)
            ]
            if rows:
                self.run.keep("fluency", pd.concat(rows, ignore_index=True))

    def tax(self) -> None:
        """What each behaviour's vector costs on MMLU and TruthfulQA in A/B form, where the folder has them."""
        tasks = {}
        for name, file in TASKS.items():
            path = Path(self.set.data) / "test" / name / file
            if self.set.tasks and path.is_file():
                items = load_ab(path)
                picked = numpy_rng(self.set.seed, "caa tasks", name).permutation(len(items))[: self.set.tasks]
                tasks[name], _ = self.data.fitting(
                    choices_to_prompts([items[i] for i in sorted(picked)], model=self.model, orders="given", many=True)
                )
        if not tasks:
            return
        most = max(abs(c) for c in self.set.coefficients)
        edits = {
            f"{b} {c:+g}": add(self.vectors_of[b, self.best[b]], c, scope=self.set.scope) for b in self.behaviours for c in (-most, most)
        }
        self._table(
            "capability", "capability tax",
            lambda: capability(self.model, edits, choices=tasks, resamples=self.set.resamples, seed=self.set.seed, progress=self.progress),
        )  # fmt: skip


def compute(model: Any, settings: CaaSettings, run: Run, progress: bool | None) -> Caa:
    """Run every step, cached one by one, and return the study."""
    study = Caa(model, settings, run, progress)
    study.vectors()
    study.choose()
    study.sweep()
    study.controls()
    study.answers()
    study.tax()
    return study
