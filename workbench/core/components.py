"""What varies: the variance of a number over rows that cross several factors, split into one part a factor and a rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import chi2

from .errors import BadInput, ShapeMismatch
from .rows import cluster_codes, finite_rows

REST = "rest"


def variance_components(values: ArrayLike, factors: Mapping[str, ArrayLike], *, level: float = 0.95) -> pd.DataFrame:
    """Split the variance of a number into that of crossed random factors and a rest (interactions, and what differs within cells).

    The model is value = mean + one effect per level of each factor + rest. The sums of squares of level means are set equal to their
    expectations, which hold also where the factors cross unevenly. A part can be estimated below zero; then it is nothing that was seen.

    Args:
        values: One number per row.
        factors: The level of each row, by factor.
        level: Confidence level, between 0 and 1; raising it widens the intervals.

    Returns:
        A row per factor and one for the rest: `factor, levels, value, low, high, share, n`. A value is a variance; of its interval:
        a factor's mean square varies as chi-squared with (levels - 1) degrees of freedom. `share` is of the sum of all parts that are
        above zero. With one level a factor's row is undefined (`nan`).

    Raises:
        BadInput: There is no factor, or one is called "rest".
        NotFinite, ShapeMismatch: The rows do not serve.

    References:
        Henderson 1953, Biometrics 9:226, method 1; Searle, Casella and McCulloch 1992, Variance Components, section 3.
    """
    y = finite_rows(values)
    if not factors or REST in factors:
        raise BadInput("name the factors that cross, none of them 'rest'")
    n = len(y)
    coded = {}
    for name, of in factors.items():
        if len(np.asarray(of)) != n:
            raise ShapeMismatch(f"{n} rows and {len(np.asarray(of))} levels of {name!r}")
        coded[name] = cluster_codes(of, n)
    known = [name for name, (_, m) in coded.items() if m > 1]
    y = y - y.mean()
    sizes = {name: np.bincount(coded[name][0], minlength=coded[name][1]).astype(float) for name in known}
    k = len(known)
    expected, seen = np.zeros((k + 1, k + 1)), np.zeros(k + 1)
    for i, a in enumerate(known):
        codes, m = coded[a]
        seen[i] = float((np.bincount(codes, y, m) ** 2 / sizes[a]).sum())
        for j, b in enumerate(known):
            other, q = coded[b]
            both = np.bincount(codes * q + other, minlength=m * q).reshape(m, q).astype(float)
            expected[i, j] = float((both**2 / sizes[a][:, None]).sum() - (sizes[b] ** 2).sum() / n)
        expected[i, k] = m - 1
    seen[k] = float((y**2).sum())
    expected[k] = [*(n - (sizes[b] ** 2).sum() / n for b in known), n - 1]
    parts = dict(zip([*known, REST], np.linalg.lstsq(expected, seen, rcond=None)[0].tolist(), strict=True))
    rows = []
    for i, name in enumerate(known):
        free, at = coded[name][1] - 1, parts[name]
        others = seen[i] - expected[i, i] * at  # what of the sum of squares is not this factor's
        ends = [(seen[i] * free / chi2.ppf(0.5 + side * level / 2, free) - others) / expected[i, i] for side in (1, -1)]
        rows.append({"factor": name, "levels": free + 1, "value": at, "low": max(0.0, ends[0]), "high": max(0.0, ends[1])})
    free = max(1, n - 1 - sum(coded[name][1] - 1 for name in known))
    ends = [parts[REST] * free / chi2.ppf(0.5 + side * level / 2, free) for side in (1, -1)]
    rows.append({"factor": REST, "levels": n, "value": parts[REST], "low": ends[0], "high": ends[1]})
    total = sum(max(0.0, v) for v in parts.values())
    for row in rows:
        row["share"] = max(0.0, row["value"]) / total if total else np.nan
    undefined = {"levels": 1, "value": np.nan, "low": np.nan, "high": np.nan, "share": np.nan}
    rows += [{"factor": name} | undefined for name in coded if name not in known]
    order = {name: i for i, name in enumerate([*coded, REST])}
    return pd.DataFrame(rows).sort_values("factor", key=lambda c: c.map(order), ignore_index=True).assign(n=n)
