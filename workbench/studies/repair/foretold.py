"""Does a probe's accuracy at a layer foretell how well an adapter there mends?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr


def correlation(probes: pd.DataFrame, layers: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """Return Spearman's correlation over layers between a probe's accuracy and the safe answers that an adapter there gives.

    Args:
        probes: Of `probe_layers`.
        layers: The study's table of layers.
        resamples: Permutations for p.

    Returns:
        Rows `method, metric, value, low, high, n, note`; the interval is Fisher's with the variance of Bonett and Wright (2000), which is
        wide with few layers.
    """
    gain = layers[layers["metric"] == "safe_score"].set_index("layer")["value"]
    rows = []
    for method, part in probes[(probes["control"] == "") & (probes["metric"] == "accuracy")].groupby("method"):
        read = part.drop_duplicates("layer").set_index("layer")["value"]
        both = sorted(set(read.index) & set(gain.index))
        a, b = read[both].to_numpy(), gain[both].to_numpy()
        n, about = len(both), {"method": method, "metric": "spearman"}
        if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
            why = "fewer than four layers" if n < 4 else "one of the two is the same at every layer"
            rows.append(about | {"value": np.nan, "low": np.nan, "high": np.nan, "n": n, "note": f"undefined: {why}"})
            continue
        r = float(np.asarray(spearmanr(a, b))[0])
        half = 1.96 * np.sqrt((1 + r * r / 2) / (n - 3))
        z = np.arctanh(np.clip(r, -0.999, 0.999))
        rows.append(about | {"value": r, "low": float(np.tanh(z - half)), "high": float(np.tanh(z + half)), "n": n, "note": f"{n} layers"})
    return pd.DataFrame(rows, columns=["method", "metric", "value", "low", "high", "n", "note"])
