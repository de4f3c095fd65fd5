"""How far judges agree, beyond what their base rates alone would give."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from ...core.errors import BadInput, MissingColumn, TooFew
from ...core.stats import Array, Estimate, bootstrap, proportion, undefined

_COLUMNS = ("judge", "item", "verdict")


def agreement_between(verdicts: pd.DataFrame, *, resamples: int = 2000, clusters: str | None = None, seed: int = 0) -> pd.DataFrame:
    """Compare every pair of judges, and all together.

    kappa = (o - e) / (1 - e), where o is the share of answers on which two judges agree and e the share expected from their
    base rates: e = p q + (1 - p)(1 - q). Krippendorff's alpha (nominal) = 1 - D_observed / D_expected does the same for all
    judges, where each answer counts that has at least two verdicts.

    Args:
        verdicts: What `judge_all` returns: `judge, item, verdict`.
        resamples: Bootstrap draws; raising it steadies the ends of the intervals.
        clusters: A column that names what is drawn with replacement, for example "questions" where each question has
            several answers; by default every answer by itself.
        seed: Draws the resamples.

    Returns:
        Rows `first, second, metric, value, low, high, n, note`. Per pair, over the answers on which both gave a verdict:
        "kappa" (percentile interval over items, or clusters) and "agreement" (raw share, Wilson). Last, with `first` and
        `second` "all", "alpha". Undefined values are `nan`, and the note says why.

    Raises:
        MissingColumn, BadInput: Not such a table, or two verdicts of one judge on one answer.
        TooFew: Fewer than two judges.

    Note:
        Agreement is not correctness: two judges can share a mistake. Kappa falls when one verdict is rare although the raw
        agreement is high, so read both, and do not compare kappas across sets with other base rates.

    Example:
        >>> import pandas as pd
        >>> one = pd.DataFrame({"judge": "a", "item": range(4), "verdict": [True, True, False, False]})
        >>> table = agreement_between(pd.concat([one, one.assign(judge="b", verdict=[True, False, False, False])]), resamples=200)
        >>> table.set_index("metric")["value"].round(2).to_dict()
        {'kappa': 0.5, 'agreement': 0.75, 'alpha': 0.53}

    References:
        Cohen 1960, Educ. Psychol. Meas. 20:37; Krippendorff 2011, Computing Krippendorff's alpha-reliability; Feinstein and
        Cicchetti 1990, J. Clin. Epidemiol. 43:543 (high agreement, low kappa).
    """
    wide, groups = _wide(verdicts, clusters)
    rows = []
    for first, second in combinations(wide.columns, 2):
        both = wide[[first, second]].notna().all(axis=1)
        a, b = (wide.loc[both, name].to_numpy(dtype=float) for name in (first, second))
        inside = None if groups is None else groups[both.to_numpy()]
        raw = proportion(a == b, inside) if len(a) else undefined("no answer has a verdict of both")
        kappa = _kappa(a, b, inside, resamples, seed)
        for metric, estimate in (("kappa", kappa), ("agreement", raw)):
            rows.append({"first": first, "second": second, "metric": metric, **estimate.row(), "note": estimate.note})
    alpha = _alpha(wide.to_numpy(dtype=float, na_value=np.nan), groups, resamples, seed)
    rows.append({"first": "all", "second": "all", "metric": "alpha", **alpha.row(), "note": alpha.note})
    table = pd.DataFrame(rows)
    table.attrs["provenance"] = verdicts.attrs.get("provenance", {})
    return table


def _wide(verdicts: pd.DataFrame, clusters: str | None) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Verdicts as a table `item x judge` (1, 0 or NA), and each item's cluster."""
    for column in (*_COLUMNS, *([clusters] if clusters else [])):
        if column not in verdicts:
            raise MissingColumn(f"the table has no column {column!r}; give it what judge_all() returns")
    twice = verdicts.duplicated(["judge", "item"])
    if twice.any():
        row = verdicts[twice].iloc[0]
        raise BadInput(f"the judge {row['judge']!r} has several verdicts on item {row['item']}")
    names = list(dict.fromkeys(verdicts["judge"]))
    if len(names) < 2:
        raise TooFew(f"agreement needs two judges, the table has {len(names)}")
    tidy = verdicts[["judge", "item"]].assign(verdict=verdicts["verdict"].astype("boolean").astype("Float64"))
    wide = tidy.pivot(index="item", columns="judge", values="verdict")[names]
    if clusters is None:
        return wide, None
    of = verdicts.groupby("item")[clusters]
    if of.nunique(dropna=False).max() > 1:
        raise BadInput(f"an item has several values of {clusters!r}; a cluster holds whole items")
    return wide, of.first().reindex(wide.index).to_numpy(dtype=str)


def _kappa(a: Array, b: Array, clusters: np.ndarray | None, resamples: int, seed: int) -> Estimate:
    n = len(a)
    if n == 0:
        return undefined("no answer has a verdict of both")
    if a.min() == a.max() and b.min() == b.max() and a[0] == b[0]:
        return undefined(f"both judges say {'yes' if a[0] else 'no'} to every answer: chance alone would agree as well", n)
    facts = np.stack([a == b, a, b], axis=1).astype(float)

    def kappa(weights: Array) -> Array:
        observed, p, q = (weights @ facts / weights.sum(1, keepdims=True)).T
        expected = p * q + (1 - p) * (1 - q)
        with np.errstate(invalid="ignore", divide="ignore"):
            # of a resample in which both say one thing throughout, rounding leaves a little of 1 - e
            return np.where(1 - expected > 1e-12, (observed - expected) / (1 - expected), np.nan)

    return _within(bootstrap(kappa, n, clusters, resamples=resamples, seed=seed))


def _alpha(verdicts: Array, clusters: np.ndarray | None, resamples: int, seed: int) -> Estimate:
    """Krippendorff's alpha for two values, with missing ones: `item x judge` of 0, 1 and nan."""
    given = np.isfinite(verdicts).sum(1)
    keep = given >= 2
    yes, m = np.nansum(verdicts[keep], axis=1), given[keep].astype(float)
    n = int(keep.sum())
    if n == 0:
        return undefined("no answer has two verdicts")
    if yes.sum() in (0, m.sum()):
        return undefined("all verdicts are the same: chance alone would agree as well", n)
    facts = np.stack([2 * yes * (m - yes) / (m - 1), yes, m - yes], axis=1)

    def alpha(weights: Array) -> Array:
        apart, ones, zeros = (weights @ facts).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(ones * zeros > 0, 1 - (ones + zeros - 1) * apart / (2 * ones * zeros), np.nan)

    return _within(bootstrap(alpha, n, None if clusters is None else clusters[keep], resamples=resamples, seed=seed))


def _within(e: Estimate) -> Estimate:
    """An agreement is at most 1, and so is the end of its interval."""
    return replace(e, high=min(1.0, e.high)) if e.high == e.high else e
