"""The bundled model: its corpus, its training, its checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, UnknownModel, unknown
from .ground_truth import GroundTruth, ground_truth
from .harm_safety import HarmSafetySpec, train_harm_safety
from .train import OrganismSpec, checkpoint_steps, train

SPECS: dict[str, OrganismSpec | HarmSafetySpec] = {
    "udhr-organism": OrganismSpec(),
    "udhr-organism-no-verdict": OrganismSpec(name="udhr-organism-no-verdict", verdict=False),
    "harm-safety-bipolar": HarmSafetySpec(name="harm-safety-bipolar", kind="bipolar"),
    "harm-safety-independent": HarmSafetySpec(name="harm-safety-independent", kind="independent"),
}


def train_organism(
    name: str, out: str | Path, *, seed: int = 0, steps: int | None = None, checkpoints: int = 0, log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train a bundled organism anew into a folder.

    Args:
        name: One of `SPECS`.
        out: The folder.
        seed: Draws corpus, held-out lists, weights and order; the shipped weights come from seed 0.
        steps: Fewer training steps, to try it out.
        checkpoints: Of the first two; models to keep on the way, evenly spaced in the logarithm of the step, in `out/checkpoints/step-N`.
        log: Receives the loss curve line by line.

    Raises:
        UnknownModel: No organism of this name.
    """
    if name not in SPECS:
        raise unknown(UnknownModel, "organism", name, SPECS)
    spec = replace(SPECS[name], seed=seed)
    spec = spec if steps is None else replace(spec, steps=steps)
    if isinstance(spec, HarmSafetySpec):
        if checkpoints:
            raise BadInput(f"{name} is made in {spec.steps} steps from the bundled model; it keeps no checkpoints")
        return train_harm_safety(spec, out, log=log)
    return train(spec, out, log=log, checkpoints=checkpoint_steps(spec.steps, checkpoints))


def check(model: Any = "bundled", *, n: int = 2000, log: Callable[[str], None] = print) -> tuple[pd.DataFrame, bool]:
    """Measure an organism against what was planted; see `organism.checks`."""
    from .checks import run_checks

    return run_checks(model, n=n, log=log)


__all__ = [
    "SPECS",
    "GroundTruth",
    "HarmSafetySpec",
    "OrganismSpec",
    "check",
    "ground_truth",
    "train",
    "train_harm_safety",
    "train_organism",
]
