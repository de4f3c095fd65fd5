"""Contrastive Activation Addition, the whole protocol: make vectors, normalise, compare, choose a layer, steer, evaluate, generate.

On data in the published layout (`generate/BEHAVIOUR/…`, `test/BEHAVIOUR/…`), on any model. What the protocol leaves out is here too: both
letter orders, a layer chosen on items that made no vector, random directions of equal norm, and for which items a vector backfires.

References:
    Rimsky et al. 2023, arXiv 2312.06681; Tan et al. 2024, arXiv 2407.12404.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ...core.errors import BadInput
from ...core.nulls import central
from ...core.seeds import numpy_rng
from ...core.stats import mean
from ...core.tables import pick, units_of
from ...evaluation import capability, fluency, multiple_choice, steerability
from ...evaluation.judges import RefusalPhrases
from ...interventions import VectorSet, add, contrast_components, generate, random_directions, vectors_from
from ...interventions.cost import strengths
from ...models import info
from ...models.hooks import check_layer
from ...prompts import PromptSet, choices_to_prompts, letter_form, load_ab
from ...runs import Main, ModelHandle, Steps, Study
from .data import CaaData
from .more import decode, judged
from .report import report
from .settings import CaaSettings
from .source import behaviours_of, texts_of
from .tuning import finetune

TASKS = {"mmlu": "mmlu.json", "truthfulqa": "truthful_qa.json"}


class Caa:
    """The steps of the study."""

    def __init__(self, models: Mapping[str, ModelHandle], settings: CaaSettings, run: Steps) -> None:
        self.handle, self.set, self.run = models["model"], settings, run
        self.info = info(self.handle)
        known = behaviours_of(settings.data)
        self.behaviours = list(settings.behaviours) or [b for b in known if b not in TASKS]
        self.layers = list(settings.layers) or list(range(self.info.n_layers))
        for layer in self.layers:
            check_layer(self.handle, layer)
        letter_form(self.handle)
        self.data = CaaData(self.handle, settings)
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
        self.counts = pd.DataFrame(self.data.counts)

    @property
    def model(self) -> Any:
        """The model, loaded: inside a step only."""
        return self.handle.load()

    @property
    def progress(self) -> bool | None:
        """Whether long steps show their progress."""
        return self.run.progress

    def _how(self, **other: Any) -> dict[str, Any]:
        return {"scope": self.set.scope, "progress": self.progress, **other}

    # ------------------------------------------------------------------ vectors

    def vectors(self) -> None:
        """Make, normalise, keep and compare the vectors."""
        self.run.table("data", make=lambda: self.counts, doing="count questions")
        acts = {b: self.run.read(f"read {b}", self.handle, prompts, layers=self.layers) for b, prompts in self.fit.items()}

        def save(place: Path) -> None:
            made = vectors_from(acts, halves=5, seed=self.set.seed)
            (made.normalised() if self.set.normalise else made).save(place)

        def describe() -> dict[str, pd.DataFrame]:
            made = vectors_from(acts, halves=5, seed=self.set.seed)
            shown = sorted({self.layers[i] for i in np.linspace(0, len(self.layers) - 1, min(3, len(self.layers))).round().astype(int)})
            parts = [contrast_components(acts[b], n).assign(behaviour=b) for b in self.behaviours for n in shown]
            return {"vectors": made.to_frame(), "similarity": made.similarity(), "components": pd.concat(parts, ignore_index=True)}

        self.folder = self.run.folder("vectors", make=save, doing="make vectors")
        self.run.table(("vectors", "similarity", "components"), make=describe, doing="compare vectors")

    @cached_property
    def vectors_of(self) -> VectorSet:
        """The vectors, of one length per layer where that was asked for; inside a step."""
        return VectorSet.load(self.folder)

    def choose(self) -> None:
        """Choose each behaviour's layer: where log-odds rise most with the coefficient, on questions that made no vector."""
        doses = strengths(self.set.coefficients)
        most = max(map(abs, doses))
        doses = doses if len(doses) > 2 else (-most, 0.0, most)

        def make() -> pd.DataFrame:
            rows = []
            for b in self.behaviours:
                for n in self.layers:
                    items, summary = steerability(self.model, self.held[b], self.vectors_of[b, n], doses, **self._how(progress=False))
                    rows.append(summary.assign(behaviour=b, layer=n))
                    # the slope of the best of many layers: an interval that holds for all of them at once
                    band = mean(items["slope"].to_numpy(), units_of(items), level=1 - 0.05 / len(self.layers))
                    rows.append(pd.DataFrame([{"metric": "slope, all layers at once", **band.row(), "behaviour": b, "layer": n}]))
            return pd.concat(rows, ignore_index=True)

        self.run.table("validation", make=make, doing="choose a layer")

    @cached_property
    def best(self) -> dict[str, int]:
        """The layer of each behaviour that validation chose; once it was."""
        slopes = pick(self.run.tables["validation"], metric="slope").pivot_table(index="behaviour", columns="layer", values="value")
        return {b: int(slopes.columns[int(slopes.loc[b].to_numpy().argmax())]) for b in self.behaviours}

    def moves(self, behaviour: str) -> bool:
        """Whether some layer's push raises the odds of the matching answer beyond noise, on validation questions."""
        return bool((pick(self.run.tables["validation"], behaviour=behaviour, metric="slope, all layers at once")["low"] > 0).any())

    # ------------------------------------------------------------------ evaluation

    def sweep(self) -> None:
        """Test every layer and coefficient, and system prompts at the chosen layer."""

        def make() -> pd.DataFrame:
            rows = []
            for b in self.behaviours:
                by_layer = {n: self.vectors_of[b, n] for n in self.layers}
                rows.append(multiple_choice(self.model, self.tests[b], by_layer, self.set.coefficients, **self._how()).assign(behaviour=b))
                told = {k: self.data.prompts(b, "test", self.set.test, text, note=False) for k, text in self.systems(b).items()}
                if told:
                    chosen = {self.best[b]: self.vectors_of[b, self.best[b]]}
                    rows.append(multiple_choice(self.model, told, chosen, self.set.coefficients, **self._how()).assign(behaviour=b))
            return pd.concat(rows, ignore_index=True)

        self.run.table("test", make=make, doing="test layers and coefficients")

    def systems(self, behaviour: str) -> dict[str, str]:
        """The system messages that the user gives for a behaviour, by what they ask for."""
        own = texts_of(self.set.systems, self.behaviours, ("positive", "negative")).get(behaviour, {})
        trait = behaviour.replace("-", " ").replace("_", " ")
        general = {"positive": self.set.system_positive, "negative": self.set.system_negative}
        return {k: text.replace("{behaviour}", trait) for k, text in (general | dict(own)).items() if text}

    def controls(self) -> None:
        """Random directions of equal norm at the chosen layer, and item by item at the chosen layer."""

        def items() -> pd.DataFrame:
            parts = []
            for b in self.behaviours:
                chosen = self.vectors_of[b, self.best[b]]
                _, summary = steerability(self.model, self.tests[b], chosen, self.set.coefficients, **self._how())
                parts.append(summary.assign(behaviour=b, layer=self.best[b]))
            return pd.concat(parts, ignore_index=True)

        if self.set.random:
            self.run.table("random", make=self._random, doing="random directions")
        if len(strengths(self.set.coefficients)) > 2:
            self.run.table("steerability", make=items, doing="item by item")

    def _random(self) -> pd.DataFrame:
        rows, how = [], self._how(progress=False)
        hidden = None if self.progress is None else not self.progress
        for b in self.behaviours:
            layer = self.best[b]
            drawn = [
                pick(multiple_choice(self.model, self.tests[b], {layer: r}, self.set.coefficients, **how), metric="p_matching")
                for r in tqdm(
                    random_directions(self.vectors_of[b, layer], self.set.random, self.set.seed),
                    desc=f"random directions, {b}",
                    disable=hidden,
                )
            ]
            for c, part in pd.concat(drawn).groupby("coefficient"):
                middle = central(part["value"])
                norm = part["norm_share"].iloc[0]  # the directions are all of one length
                about = {"behaviour": b, "layer": layer, "coefficient": c, "norm_share": norm, "metric": "p_matching"}
                rows.append({**about, "value": part["value"].mean(), "low": middle.low, "high": middle.high, "n": len(part)})
        return pd.DataFrame(rows)

    def answers(self) -> None:
        """Answer open questions at the chosen layer under every coefficient, side by side; judged by phrases of refusal."""
        opened = {b: self.data.opened(b) for b in self.behaviours} if self.set.open_ended else {}
        if not any(prompts is not None for prompts in opened.values()):
            return

        def make() -> dict[str, pd.DataFrame]:
            table = pd.concat([self._answered(b, p) for b, p in opened.items() if p is not None], ignore_index=True)
            fluent = [
                fluency(part["answer"].tolist()).assign(behaviour=str(b), coefficient=str(c))
                for (b, c), part in table.groupby(["behaviour", "coefficient"], sort=False)
            ]
            return {"open_ended": table, "fluency": pd.concat(fluent, ignore_index=True)}

        self.run.table(("open_ended", "fluency"), make=make, doing="answer open questions")
        if self.set.judge:
            self.run.table("judged", make=lambda: judged(self), doing="judge open answers")

    def _answered(self, behaviour: str, prompts: PromptSet) -> pd.DataFrame:
        d = self.vectors_of[behaviour, self.best[behaviour]]
        edits = {f"{c:+g}": add(d, c, scope=self.set.scope) for c in strengths(self.set.coefficients) if c}
        got = generate(self.model, prompts, edits, max_new_tokens=self.set.new_tokens, seed=self.set.seed, progress=self.progress)
        parts, questions = [], [p.identity for p in prompts]
        for name in ("unsteered", *edits):
            judged = RefusalPhrases().judge(questions, got[name].tolist())["verdict"].astype("boolean")
            answered = {"behaviour": behaviour, "question": questions, "coefficient": name, "answer": got[name], "refusal_phrase": judged}
            answered["thought"] = got[f"thought: {name}"]
            parts.append(pd.DataFrame(answered))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def tasks(self) -> dict[str, PromptSet]:
        """Questions of MMLU and TruthfulQA in A/B form, where the folder has them."""
        tasks = {}
        for name, file in TASKS.items():
            path = Path(self.set.data) / "test" / name / file
            if self.set.tasks and path.is_file():
                items = load_ab(path)
                picked = numpy_rng(self.set.seed, "caa tasks", name).permutation(len(items))[: self.set.tasks]
                chosen = choices_to_prompts([items[i] for i in sorted(picked)], model=self.handle, orders="given", many=True)
                tasks[name], _ = self.data.fitting(chosen)
        return tasks

    def tax(self) -> None:
        """What each behaviour's vector costs on MMLU and TruthfulQA in A/B form, where the folder has them."""
        if not self.tasks:
            return
        doses = [c for c in strengths(self.set.task_coefficients or self.set.coefficients) if c]

        def make() -> pd.DataFrame:
            edits = {f"{b} {c:+g}": add(self.vectors_of[b, self.best[b]], c, scope=self.set.scope) for b in self.behaviours for c in doses}
            return capability(self.model, edits, choices=self.tasks, progress=self.progress)

        self.run.table("capability", make=make, doing="capability tax")


def compute(models: Mapping[str, ModelHandle], settings: CaaSettings, run: Steps) -> Caa:
    """Run every step."""
    study = Caa(models, settings, run)
    study.vectors()
    study.choose()
    study.sweep()
    decode(study)
    study.controls()
    study.answers()
    study.tax()
    finetune(study)
    return study


STUDY = Study(
    name="caa",
    asks="contrastive activation addition on data in its published layout: vectors, layers, coefficients, price (--data FOLDER)",
    settings=CaaSettings,
    fast={
        "items": 60,
        "test": 20,
        "coefficients": (-1.0, 0.0, 1.0),
        "open_ended": 3,
        "new_tokens": 16,
        "tasks": 20,
        "decoded": 10,
        "tuned": 20,
    },
    checked={
        "items": 20,
        "test": 10,
        "layers": (2, 4),
        "open_ended": 2,
        "new_tokens": 4,
        "tasks": 8,
        "random": 3,
        "decoded": 4,
        "tuned": 3,
    },
    compute=compute,
    report=report,
    main=Main(
        table="test",
        labels=("behaviour", "layer", "coefficient"),
        axis="P(answer matching behaviour)",
        where={"metric": "p_matching", "system": "none"},
        zero=0.5,
    ),
    tables={
        "test": "behaviour system layer coefficient metric | norm_share value low high n",
        "validation": "behaviour layer metric | value low high n",
        "decoded": "behaviour coefficient layer metric | value low high n",
        "judged": "behaviour coefficient metric | value low high n unrated rubric",
        "random": "behaviour layer coefficient metric | norm_share value low high n",
        "steerability": "behaviour layer metric | value low high n",
        "capability": "edit task metric | value low high n change change_low change_high",
        "tuned": "behaviour taught layer coefficient metric | value low high n",
        "vectors": "behaviour layer site method | length reliability n clusters",
        "similarity": "first first_layer second second_layer | cosine chance reliability_first reliability_second",
        "components": "behaviour layer item variant letter | component_1 explained_1 component_2 explained_2",
        "open_ended": "behaviour question coefficient | answer refusal_phrase thought",
        "fluency": "behaviour coefficient metric | value low high n",
        "data": "behaviour split | in_file used prompts too_long",
    },
    inside=("behaviours", "layers", "coefficients"),
    inputs=("data", "systems", "rubrics"),
)
