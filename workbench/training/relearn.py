"""Learning again on few rows: what was only hidden comes back faster than what was never there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput
from ..core.estimate import Estimate, undefined
from ..core.stats import auroc, auroc_difference
from ..core.tables import units_of
from ..evaluation import answers
from ..prompts import PromptSet
from .acting import acting
from .adapter import Adapter
from .fit import train_adapter
from .inside import row

STEPS = (0, 5, 10, 20, 40)


def relearning(
    model: Any,
    change: Adapter | None,
    few: PromptSet,
    test: PromptSet,
    *,
    never: Any = None,
    steps: Sequence[int] = STEPS,
    rank: int = 4,
    layers: int | Sequence[int] | None = None,
    lr: float = 1e-2,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[list[dict[str, Any]], Estimate]:
    """Train a small adapter on the right answers of a few rows, and read how well held-out answers follow the truth, by steps.

    Args:
        model: What `load_model` returns.
        change: What it was changed by; `None` for the model itself.
        few: The rows to learn again from; their labels are seen.
        test: Held-out rows.
        never: A model that never knew (an untrained copy, a twin); `None` for none.
        steps: Updates after which the answers are read.
        rank, layers, lr: Of the adapter; by default every block's output, so that the place of the change is no advantage.
        seed: Draws the matrices and the batches.
        progress: Show progress bars.

    Returns:
        Rows of the table of `survival`, aspect "relearning": AUROC of the answers' margin by steps, for the changed model and for the one
        that never knew. And how much further the changed model came at the last step (their difference, over the same rows).
    """
    if not steps or sorted(set(steps)) != list(steps) or steps[0] < 0:
        raise BadInput(f"steps: ascending numbers from 0 on, got {list(steps)}")
    y, units = np.array(test.labels), units_of(test.to_frame())
    out: list[dict[str, Any]] = []
    last: dict[str, np.ndarray] = {}
    for name, which, under in (("changed model", model, change), ("a model that never knew", never, None)):
        if which is None:
            continue
        every = list(range(int(which.cfg.n_layers))) if layers is None else layers
        for count in steps:
            learned = None
            if count:
                learned = train_adapter(
                    which, few, loss="cross_entropy", rank=rank, layers=every, steps=count, lr=lr, every=count, validation=0.0,
                    on=under, seed=seed, progress=progress, last=True,
                )  # fmt: skip
            with acting(which, under), acting(which, learned):
                margin = answers(which, test, progress=False)["margin"].to_numpy()
            last[name] = margin
            out.append(row("relearning", name, -1, f"auroc after {count} steps", auroc(margin, y, units), f"{len(few)} rows"))
    if len(last) < 2:
        return out, undefined("no model that never knew was given", len(test))
    first, second = last.values()
    faster = auroc_difference(first, second, y, units)
    out.append(row("relearning", "changed model less one that never knew", -1, f"auroc after {steps[-1]} steps", faster))
    return out, faster


def curve(table: pd.DataFrame) -> pd.DataFrame:
    """Return the relearning rows of a table of `survival` with their steps as a number."""
    rows = table[(table["aspect"] == "relearning") & table["metric"].str.startswith("auroc after")].copy()
    rows["steps"] = rows["metric"].str.extract(r"(\d+)", expand=False).astype(int)
    return rows
