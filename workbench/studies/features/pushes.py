"""What the latents of the stance direction do under the harm claim, when they are added or ablated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ...core.direction import Direction
from ...core.seeds import numpy_rng
from ...core.tables import units_of
from ...evaluation.measures import estimate, measure
from ...interventions import Asker, ablate, add, random_directions
from ...models import Edit, Edits

if TYPE_CHECKING:
    from .study import Features


def steering(study: Features) -> pd.DataFrame:
    """Push by the latents of the stance direction under the harm claim, against as many random latents and random directions.

    Args:
        study: The study, with its dictionaries.

    Returns:
        `edit, metric, value, low, high, n, note`.
    """
    stance, own = study._decomposed("omp")["stance"], study._loaded("seed")[0]
    d, chosen = stance.direction, list(stance.chosen)
    decoder = torch.nn.functional.normalize(own.decoder, dim=1)
    made = torch.tensor(stance.parts["coefficient"].to_numpy()).float() @ decoder[chosen]
    place = dict(d.provenance)
    inside = Direction.of(made, method="stance, its latents", provenance=place)
    alive = np.flatnonzero((~own.dead(own.encode(study._streams("train").rows))).numpy())
    rng = numpy_rng(study.set.seed, "random latents")
    others = np.setdiff1d(alive, chosen)
    drawn = [rng.choice(others, min(len(chosen), len(others)), replace=False) for _ in range(5)]
    rest = d.vector - made
    edits: dict[str, list[Edits | None]] = {
        "none": [None],
        "add the direction": [add(d)],
        "add its latents' part": [add(inside)],
        "ablate the direction": [ablate(d)],
        "ablate its latents": [ablate([own.latent(i) for i in chosen])],
        "random: add": [add(r) for r in random_directions(d, 5, study.set.seed)],
        "random latents: ablate": [ablate([own.latent(int(i)) for i in some]) for some in drawn],
    }
    if float(rest.norm()) > 1e-6 * d.scale:
        edits["add what its latents leave"] = [add(Direction.of(rest, method="stance, the rest", provenance=place))]
    asker, frame = Asker(study.model, study.pushed), study.pushed.to_frame()
    return pd.DataFrame([r for name, several in edits.items() for r in _pushed(asker, frame, name, several)])


def _pushed(asker: Asker, frame: pd.DataFrame, name: str, several: Iterable[Iterable[Edit] | None]) -> list[dict[str, Any]]:
    """Rows of one edit; of several random ones the mean, the smallest and the largest."""
    people, rows = units_of(frame), []
    found = [measure(asker, asker.base if e is None else asker.ask(e), frame) for e in several]
    for metric in ("safe_score", "kl"):
        if len(found) == 1:
            rows.append({"edit": name, "metric": metric, **estimate(metric, found[0][metric], people), "note": ""})
            continue
        values = [float(f[metric].mean()) for f in found]
        ends = {"value": float(np.mean(values)), "low": min(values), "high": max(values), "n": len(values)}
        rows.append({"edit": name, "metric": metric, **ends, "note": "mean, smallest and largest over draws"})
    return rows
