"""What is measured of every push: behaviour by item, and the distance from no push."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..core.stats import mean, proportion
from ..core.types import Float
from ..interventions import Asker, kl


def measure(asker: Asker, logp: Float[Tensor, "item vocabulary"], frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the metrics of `dose_response`, each by item.

    Args:
        asker: Has the prompts, and what the unpushed model says.
        logp: What the pushed model says.
        frame: Rows of the prompts, with `label`.

    Returns:
        By metric, one number per item: `safe_score` (0 or 1), `p_positive`, `log_odds`, `answered` and `kl` (nats).
    """
    odds, answered = asker.odds(logp), asker.answered(logp)
    return {
        "safe_score": ((odds > 0).astype(int) == frame["label"].to_numpy()).astype(float),
        "p_positive": 1 / (1 + np.exp(-odds)),
        "log_odds": odds,
        "answered": answered,
        "kl": kl(asker.base, logp),
    }


def estimate(metric: str, values: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    """Return the mean of a metric over items with its interval.

    Args:
        metric: Its name; "safe_score" is a share.
        values: One number per item.
        people: Cluster of each item, its identity.

    Returns:
        `value, low, high, n`.
    """
    return (proportion(values, people) if metric == "safe_score" else mean(values, people)).row()


def parts_by(frame: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Return which rows belong to "all", and to each value of a column where it has several."""
    parts = {"all": np.ones(len(frame), bool)}
    if column in frame and frame[column].nunique() > 1:
        parts |= {str(v): (frame[column] == v).to_numpy() for v in sorted(frame[column].unique(), key=str)}
    return parts
