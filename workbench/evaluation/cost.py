"""Ways to push, compared at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..core.tables import units_of
from ..interventions import Asker, tune
from ..models import Edit
from ..prompts import PromptSet
from .measures import estimate
from .measures import measure as measure_items


def equal_cost(
    model: Any,
    prompts: PromptSet,
    families: Mapping[str, Callable[[float], Iterable[Edit]]],
    *,
    target: float | Sequence[float] = 0.1,
    measure: PromptSet | None = None,
    starts: Mapping[str, float] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare ways to push after tuning each to the same mean KL from the unpushed model.

    Args:
        model: What `load_model` returns.
        prompts: On which strengths are tuned.
        families: By name, a map of a strength to edits (`lambda c: wb.add(d, c)`, or one made with `interventions.custom_edit`); name
            controls "random …".
        target: Mean KL(unedited || edited) in nats, one or several, above 0.
        measure: On which behaviour is measured; by default the same prompts.
        starts: The first strength of each search, by name; 1 if not given. Controls after the first one begin where that one ended.
        progress: Show a progress bar.

    Returns:
        One row per method, target and metric: `method, target, strength` and `kl` (as found), `metric, value, low, high, n`, and `note`
            (empty, or
        why the target was missed). Metrics as in `dose_response`.

    Raises:
        BadInput: A target that is not above 0. Whatever the edits raise.
    """
    tuning = Asker(model, prompts)
    asked = tuning if measure is None else Asker(model, measure)
    frame = asked.prompts.to_frame()
    people = units_of(frame)
    targets = [float(target)] if isinstance(target, int | float) else [float(t) for t in target]
    rows = []
    jobs = [(name, t) for name in families for t in targets]
    drawn: dict[float, float] = {}
    for name, t in tqdm(jobs, desc="equal cost", disable=None if progress is None else not progress):
        control = name.startswith("random ")
        first = (starts or {}).get(name, 1.0)
        tuned = tune(model, tuning, families[name], t, start=drawn.get(t, first) if control else first)
        if control and not tuned.note:
            drawn[t] = tuned.strength
        measured = measure_items(asked, asked.ask(families[name](tuned.strength)), frame)
        for m, v in measured.items():
            rows.append(
                {
                    "method": name,
                    "target": t,
                    "strength": tuned.strength,
                    "kl": tuned.kl,
                    "metric": m,
                    **estimate(m, v, people),
                    "note": tuned.note,
                }
            )
    return pd.DataFrame(rows)
