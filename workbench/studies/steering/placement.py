"""Does it matter where the claim stands: before the question, or inside the answer?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.stats import proportion
from ...core.tables import units_of
from ...evaluation.agreement import answers_of
from ...probes import fit_layers
from ...prompts import PromptSet
from ..statements import FIT

if TYPE_CHECKING:
    from .study import Steering

PLACES = {"consider_claim": "before the question", "since_claim": "inside the answer"}


def _asked(study: Steering) -> dict[tuple[str | None, str], tuple[str, PromptSet]]:
    """Prompts by claim and template, with the place of the claim in words."""
    harm, good = study.set.claims
    plain = study.plain("test")[0].template
    return {
        (claim, template): (place, study._some(template, claim, "test"))
        for claim in (None, good, "neutral", harm)
        for template, place in (PLACES if claim else {plain: FIT}).items()
    }


def read_placement(study: Steering) -> None:
    """Capture what a probe of truth is fitted on and what it reads.

    Args:
        study: The study.
    """
    study.base = study._at("no claim, for the probe", study._some("base_short", None, "fit"), "resid_post", "last")
    study.seen = {
        key: study._at(f"{key[0] or FIT}, {place}", prompts, "resid_post", "last", answers=True)
        for key, (place, prompts) in _asked(study).items()
    }


def placement(study: Steering) -> None:
    """A claim before the question against the same claim inside the answer: what is said, and what a probe of truth reads.

    Args:
        study: The study; `read_placement` has captured.
    """

    def make() -> pd.DataFrame:
        fit = fit_layers(study.base, "logistic", c=1.0, seed=study.set.seed)
        rows: list[dict[str, Any]] = []
        start = answers_of(study.seen[None, study.plain("test")[0].template])
        for (claim, template), (place, prompts) in _asked(study).items():
            said = answers_of(study.seen[claim, template])
            people = units_of(said)
            about = {"claim": claim or "none", "place": place}
            rows.append(about | {"layer": -1, "metric": "safe_score", **proportion(said["safe"], people).row()})
            moved = np.abs(said["margin"].to_numpy() - start["margin"].to_numpy())
            bare = {"value": float(moved.mean()), "low": float("nan"), "high": float("nan"), "n": len(moved)}
            rows.append(about | {"layer": -1, "metric": "shift of log-odds", **bare})
            for layer in fit.probes:
                hits = (fit.scores(study.seen[claim, template], layer) > 0) == (np.array(prompts.labels) == 1)
                rows.append(about | {"layer": layer, "metric": "truth read", **proportion(hits, people).row()})
        return pd.DataFrame(rows)

    study.run.table("placement", make=make, doing="before the question, inside the answer")
