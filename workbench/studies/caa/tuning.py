"""Fine-tuning beside steering: adapters that were taught matching answers, opposite ones, or answers by coin; alone and under pushes.

References:
    Rimsky et al. 2023, arXiv 2312.06681 (supervised fine-tuning on the same questions, with the vectors on top).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ...core.seeds import numpy_rng
from ...evaluation import capability, multiple_choice
from ...prompts import PromptSet
from ...training import Adapter, adapted, train_adapter

if TYPE_CHECKING:
    from .study import Caa

TAUGHT = ("matching", "opposite", "coin")
RANK, RATE = 4, 3e-3
COLUMNS = ["behaviour", "taught", "layer", "coefficient", "metric", "value", "low", "high", "n"]


def taught(prompts: PromptSet, answers: str, seed: int) -> PromptSet:
    """The questions with the answers that are taught: the matching ones, the others, or one drawn by coin for each question."""
    if answers == "coin":
        questions = sorted({p.identity for p in prompts})
        drawn = dict(zip(questions, numpy_rng(seed, "coin").integers(0, 2, len(questions)).tolist(), strict=True))
        labels = [drawn[p.identity] for p in prompts]
    else:
        labels = [int(answers == "matching")] * len(prompts)
    return PromptSet((replace(p, label=label) for p, label in zip(prompts, labels, strict=True)), name=f"{prompts.name}, {answers}")


def finetune(study: Caa) -> None:
    """Train the three adapters of each behaviour, and test each alone and under the behaviour's vector."""
    if not study.set.tuned:
        return
    folders = {(b, answers): _trained(study, b, answers) for b in study.behaviours for answers in TAUGHT}

    def make() -> pd.DataFrame:
        rows = []
        for (b, answers), folder in [((b, "none"), None) for b in study.behaviours] + list(folders.items()):
            with adapted(study.model, Adapter.load(folder)) if folder else nullcontext():
                pushes = {study.best[b]: study.vectors_of[b, study.best[b]]}
                got = multiple_choice(study.model, study.tests[b], pushes, study.set.coefficients, **study._how())
                rows.append(got.assign(behaviour=b, taught=answers))
                if study.tasks:
                    told = capability(study.model, {}, choices=study.tasks, progress=study.progress)
                    told = told.assign(metric=told["task"] + " " + told["metric"], coefficient=0.0, layer=study.best[b])
                    rows.append(told.assign(behaviour=b, taught=answers))
        return pd.concat(rows, ignore_index=True)[COLUMNS]

    study.run.table("tuned", make=make, doing="test fine-tuned models, alone and under pushes")


def _trained(study: Caa, behaviour: str, answers: str) -> Path:
    """An adapter on the attention of every block, trained on the questions that made the vector."""
    layers = list(range(study.info.n_layers))
    prompts = taught(study.fit[behaviour], answers, study.set.seed)

    def make(place: Path, state: Path) -> None:
        train_adapter(
            study.model,
            prompts,
            loss="cross_entropy",
            kind="lora",
            parts="attention",
            rank=RANK,
            layers=layers,
            steps=study.set.tuned,
            lr=RATE,
            validation=0.0,
            last=True,
            seed=study.set.seed,
            place=state,
            progress=study.progress,
        ).save(place)

    key = [study.handle.key, prompts.hash, answers, layers, study.set.tuned, study.set.seed]
    return study.run.folder(f"tuned-{behaviour}-{answers}", key=key, make=make, doing=f"fine-tune {behaviour}, {answers}", resumes=True)
