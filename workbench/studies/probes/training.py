"""The same reading at every checkpoint of a model's training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...activations import Activations, capture
from ...core.stats import proportion
from ...evaluation import answers_of
from ...models import load_model
from ...probes import change_point, fit_layers
from ...prompts import PromptSet


def steps_in(folder: str | Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by step."""
    found = {p.name.removeprefix("step-"): p for p in Path(folder).glob("step-*") if p.is_dir()}
    return {int(k): found[k] for k in sorted((k for k in found if k.isdigit()), key=int)}


def across_training(
    checkpoints: dict[int, Any],
    prompts: PromptSet,
    *,
    split: Any,
    layer: int,
    methods: tuple[str, ...] = ("logistic", "ccs"),
    resamples: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
    **load: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the same prompts at every checkpoint of a model and say when each thing becomes readable.

    Args:
        checkpoints: What `load_model` takes, by training step: folders, or `("EleutherAI/pythia-70m", {"revision": "step1000"})` for a
            revision from the hub.
        prompts: Training and held-out items.
        split: Which are held out.
        layer: The block.
        methods: Of `fit_layers`.
        resamples: For the change points.
        seed: For fits and intervals.
        progress: Show progress bars.
        load: Passed to `load_model`.

    Returns:
        Accuracy by step for each method and for the model's own answer (method "answer"); and the change points, in steps.
    """
    rows, hits, people = [], {}, np.array([])
    for step, source in checkpoints.items():
        name, more = source if isinstance(source, tuple) else (source, {})
        model = load_model(name, **{**load, **more})
        acts: Activations = capture(model, prompts, layers=[layer], logits="answers", progress=progress, note=f"step {step}")
        side = split.side(acts.rows)
        train, held = acts.subset(side == "train"), acts.subset(side == "test")
        z, people = held.labels, held.rows["identity"].to_numpy()
        said = {m: fit_layers(train, m, seed=seed).scores(held, layer) > 0 for m in methods}
        said["answer"] = answers_of(held)["answer"].to_numpy().astype(bool)
        for method, guess in said.items():
            hit = guess == z
            hits.setdefault(method, []).append(hit)
            what = "the model's own answer is right" if method == "answer" else f"{method} reads the truth, layer {layer}"
            rows.append(
                {"step": step, "layer": layer, "method": method, "what": what, "metric": "accuracy", **proportion(hit, people).row()}
            )
    changes = [
        {
            "method": m,
            "metric": "change point, step",
            **(e := change_point(list(checkpoints), np.stack(h), people, resamples=resamples, seed=seed)).row(),
            "note": e.note,
        }
        for m, h in hits.items()
    ]
    return pd.DataFrame(rows), pd.DataFrame(changes)
