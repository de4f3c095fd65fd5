"""Where a training stands, written so that a killed one goes on to the same numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..activations.files import write_file
from ..core.errors import DamagedStore
from . import several

STATE, TENSORS = "state.json", "state.safetensors"


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        step: Updates done.
        best: The lowest validation loss so far, and after how many updates.
        history: A row for each look.
        stopped: Why it ended before its last step, or "".
    """

    step: int = 0
    best: tuple[float, int] = (math.inf, 0)
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def table(self) -> pd.DataFrame:
        """Return the history as a table."""
        return pd.DataFrame(self.history)


def keep(
    folder: Path, mark: str, now: Progress, parameters: Mapping[str, Tensor], best: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer, generators: Sequence[np.random.Generator],
) -> None:  # fmt: skip
    """Write a checkpoint: the tensors first, under a name of their own, and then the record that names them. The first process writes."""
    if several.place()[0]:
        return several.wait()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"now.{k}": v.detach().contiguous().clone() for k, v in parameters.items()}
    tensors |= {f"best.{k}": v.contiguous() for k, v in best.items()}
    for name, value in parameters.items():
        for what, held in optimiser.state.get(value, {}).items():
            tensors[f"{what}.{name}"] = torch.as_tensor(held).detach().clone().contiguous()
    file = f"step-{now.step}.{TENSORS}"
    write_file(folder / file, to_bytes(tensors))
    state = {"mark": mark, "step": now.step, "best": list(now.best), "stopped": now.stopped, "history": now.history, "tensors": file}
    state["generators"] = [g.bit_generator.state for g in generators]
    write_file(folder / STATE, json.dumps(state).encode())
    for old in folder.glob(f"step-*.{TENSORS}"):
        if old.name != file:
            old.unlink(missing_ok=True)
    several.wait()


def resume(
    folder: Path, mark: str, parameters: Mapping[str, Tensor], best: Mapping[str, Tensor], optimiser: torch.optim.Optimizer,
    generators: Sequence[np.random.Generator],
) -> Progress | None:  # fmt: skip
    """Go on from a checkpoint of the same training, if there is one."""
    if not (folder / STATE).is_file():
        return None
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["mark"] != mark:
            return None
        tensors = load_file(folder / state["tensors"])
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(tensors[f"now.{name}"])
                best[name].copy_(tensors[f"best.{name}"])
                if f"exp_avg.{name}" in tensors:
                    held = {what: tensors[f"{what}.{name}"] for what in ("step", "exp_avg", "exp_avg_sq")}
                    optimiser.state[value] = {k: v.to(value.device) if k != "step" else v for k, v in held.items()}
        for generator, held in zip(generators, state.get("generators", []), strict=True):
            generator.bit_generator.state = held
        return Progress(step=state["step"], best=tuple(state["best"]), history=state["history"], stopped=state["stopped"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedStore(f"the checkpoint in {folder} cannot be read ({error}): delete the folder to train anew") from error
