"""The one training loop: steps, gradients, a history, the best state on validation, checkpoints that resume to the same numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.errors import BadInput, Diverged
from ..core.provenance import content_hash
from . import several
from .checkpoint import Progress, keep, resume


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a training goes on.

    Attributes:
        steps: Updates at most.
        lr: Learning rate at its highest.
        warmup: Updates over which it rises from 0.
        floor: Where the cosine ends, as a share of `lr`; 1 for a constant rate.
        decay: Weight decay of AdamW, on matrices; vectors do not decay.
        clip: Largest norm of the gradient.
        every: Updates between two looks at validation, and between two checkpoints.
        patience: Looks without a better validation loss after which the training ends.
        accumulate: Batches whose gradients are added up for one update.
        fused: Let AdamW update all parameters in one kernel, faster for many small ones.
    """

    steps: int = 120
    lr: float = 1e-2
    warmup: int = 5
    floor: float = 0.1
    decay: float = 0.0
    clip: float = 1.0
    every: int = 10
    patience: int = 6
    accumulate: int = 1
    fused: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "every", "patience", "accumulate"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: 1 at least, got {getattr(self, name)}")
        if not self.lr > 0 or not math.isfinite(self.lr):
            raise BadInput(f"lr: a positive number, got {self.lr}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup)) * cosine(step, self.steps, self.floor)


def cosine(step: int, steps: int, floor: float) -> float:
    """Return a factor that falls from 1 at step 0 to `floor` at `steps` along half a cosine."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))


def descend(
    optimiser: torch.optim.Optimizer,
    losses: Callable[[int], Mapping[str, Any]],
    step: int,
    *,
    rate: float,
    clip: float = 1.0,
    weights: Mapping[str, float] | None = None,
    accumulate: int = 1,
    shared: bool = False,
) -> dict[str, float]:
    """Make one update.

    Args:
        optimiser: Holds the parameters.
        losses: Computes the losses of a batch, by name; batches are counted from 0 over the whole training.
        step: The update, counted from 0.
        rate: Learning rate.
        clip: Largest norm of the gradient of all parameters together.
        weights: Factor of each loss in the sum; 1 where none is given.
        accumulate: Batches of the update.
        shared: The losses are this process's parts of sums over all processes (`several`).

    Returns:
        Each loss, the mean over batches.

    Raises:
        Diverged: The sum is not finite; nothing was updated.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    told: dict[str, list[float]] = {}
    for part in range(accumulate):
        found = losses(step * accumulate + part)
        total = torch.stack([(weights or {}).get(k, 1.0) * v for k, v in found.items()]).sum()
        values = {"": float(total.detach()), **{k: float(v.detach()) for k, v in found.items()}}
        values = several.summed(values) if shared else values
        if not math.isfinite(values[""]):
            optimiser.zero_grad()
            raise Diverged(f"the loss is {values['']} at step {step + 1}")
        (total / accumulate).backward()
        for name in found:
            told.setdefault(name, []).append(values[name])
    every = [p for group in optimiser.param_groups for p in group["params"]]
    if shared:
        several.sum_gradients(every)
    norm = torch.nn.utils.clip_grad_norm_(every, clip)
    if not bool(norm.isfinite()):
        optimiser.zero_grad()
        raise Diverged(f"the gradient is {float(norm)} at step {step + 1}")
    optimiser.step()
    optimiser.zero_grad()
    return {name: sum(v) / len(v) for name, v in told.items()}


def train(
    parameters: Mapping[str, Any],
    losses: Callable[[int], Mapping[str, Any]],
    validate: Callable[[], Mapping[str, float]] | None,
    plan: Plan,
    *,
    weights: Mapping[str, float] | None = None,
    place: str | Path | None = None,
    key: object = None,
    progress: bool | None = None,
    what: str = "train",
    last: bool = False,
    shared: bool = False,
    generators: Sequence[np.random.Generator] = (),
    after: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train parameters in place, and leave them at their best on validation.

    Args:
        parameters: By name.
        losses: As for `descend`.
        validate: Computes the validation loss as "validation", and whatever else the history should have. Without it the last step is
            what is left, and looks only tell the training losses.
        plan: How it goes on.
        weights: As for `descend`.
        place: A folder for checkpoints. A training that was killed goes on from its last one to the same numbers.
        key: Everything that decides the training; a checkpoint of another one is not gone on from.
        progress: Show a progress bar with the time left.
        what: Its name.
        last: Leave the parameters at their last step instead.
        shared: As for `descend`.
        generators: Random generators that the losses draw from; a checkpoint keeps their states.
        after: Called after every update.

    Returns:
        Where it ended, with the history: `step`, `rate`, each training loss (mean since the last look), what `validate` gives, `seconds`.

    Raises:
        Diverged: A loss or a gradient is not finite. The parameters are those of the best look before.
        DamagedStore: A checkpoint cannot be read.
    """
    names, values = list(parameters), list(parameters.values())
    last = last or validate is None
    optimiser = _optimiser(values, plan)
    now, started = Progress(), time.perf_counter()
    best = {k: v.detach().clone() for k, v in parameters.items()}
    folder = None if place is None else Path(place)
    mark = content_hash(key, names, [list(v.shape) for v in values], vars(plan) if hasattr(plan, "__dict__") else str(plan))
    if folder is not None:
        now = resume(folder, mark, parameters, best, optimiser, generators) or now
    if not now.history and validate is not None:
        now.history.append({"step": 0, **_looked(now, validate, parameters, best), "seconds": round(time.perf_counter() - started, 2)})
    bar = tqdm(total=plan.steps, initial=now.step, desc=what, unit="step", disable=None if progress is None else not progress)
    since: dict[str, list[float]] = {}
    try:
        while now.step < plan.steps and not now.stopped:
            rate = plan.rate(now.step)
            how: dict[str, Any] = {"clip": plan.clip, "weights": weights, "accumulate": plan.accumulate, "shared": shared}
            told = descend(optimiser, losses, now.step, rate=rate, **how)
            now.step += 1
            bar.update()
            for name, value in told.items():
                since.setdefault(name, []).append(value)
            if now.step % plan.every == 0 or now.step == plan.steps:
                row = {"step": now.step, "rate": rate, **{k: sum(v) / len(v) for k, v in since.items()}}
                if validate is not None:
                    row |= _looked(now, validate, parameters, best)
                    bar.set_postfix_str(f"validation {row['validation']:.3g}")
                    if (now.step - now.best[1]) / plan.every >= plan.patience:
                        now.stopped = f"no better validation loss in {plan.patience} looks"
                row["seconds"] = round(time.perf_counter() - started, 2)
                now.history.append(row)
                since = {}
                if folder is not None:
                    keep(folder, mark, now, parameters, best, optimiser, generators)
            if after is not None:
                after(now)
    except Diverged as error:
        last = False
        raise Diverged(
            f"{error}. The state of step {now.best[1]}, the best on validation, is kept. Lower lr (it was {plan.lr:g})"
        ) from None
    finally:
        bar.close()
        if not last:
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(best[name])
    return now


def _optimiser(values: Sequence[Tensor], plan: Plan) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors do not."""
    sides = [[v for v in values if (v.ndim > 1) == matrix] for matrix in (True, False)]
    groups = [{"params": side, "weight_decay": decay} for side, decay in zip(sides, (plan.decay, 0.0), strict=True) if side]
    return torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.98), fused=plan.fused)


@torch.no_grad()
def _looked(
    now: Progress, validate: Callable[[], Mapping[str, float]], parameters: Mapping[str, Tensor], best: dict[str, Tensor]
) -> dict[str, float]:
    """Look at validation; keep the parameters where they are better than before."""
    found = {k: float(v) for k, v in validate().items()}
    if not math.isfinite(found["validation"]):
        raise Diverged(f"the validation loss is {found['validation']} after step {now.step}")
    if found["validation"] < now.best[0]:
        now.best = found["validation"], now.step
        for name, value in parameters.items():
            best[name].copy_(value.detach())
    return found


def batches(units: Sequence[int], size: int, batch: int, order: Callable[[int], Sequence[int]]) -> list[int]:
    """Return the units of a batch: passes over all units, each in an order of its own.

    Args:
        units: What there is.
        size: Units of a batch.
        batch: Its number, counted from 0.
        order: Gives a permutation of `len(units)` for the number of a pass.

    Returns:
        `size` units, or all where there are fewer.
    """
    size = min(size, len(units))
    per = max(1, len(units) // size)
    turn, at = divmod(batch, per)
    return [units[i] for i in order(turn)[at * size : (at + 1) * size]]
