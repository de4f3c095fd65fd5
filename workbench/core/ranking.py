"""The area under the ROC curve with its interval, what each row adds to it, and the difference of two."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .clustered import FEW, factors, linearised
from .errors import OneClass
from .estimate import Estimate, agreeing, no_narrower, undefined
from .rows import Array, finite_rows, groups_of


def auroc_influence(scores: ArrayLike, labels: ArrayLike, within: ArrayLike | None = None) -> tuple[float, Array]:
    """Return the AUROC and what each row adds to it: the share of opposite rows that it stands right of, less the mean.

    Args:
        scores: One score per row.
        labels: 0 or 1 per row.
        within: One name per row: only rows of one name are compared with each other, as the statements that were shown behind one
            sentence. A shift that all of them share then changes nothing. By default all rows are compared.

    Returns:
        The AUROC (`nan` with one class), and one influence value per row, summing to 0.

    Raises:
        NotFinite: A score is NaN or infinite.

    References:
        DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837.
    """
    y = np.asarray(labels).astype(bool)
    wins, against = _wins(finite_rows(scores), y, within)
    pairs = against[y].sum()
    if not pairs:
        return math.nan, np.zeros(len(y))
    value = float(wins[y].sum() / pairs)
    return value, (wins - value * against) / pairs


def _wins(s: Array, y: NDArray[np.bool_], within: ArrayLike | None) -> tuple[Array, Array]:
    """Of each row, how many opposite rows it stands right of, and how many it is compared with."""
    wins, against = np.zeros(len(s)), np.zeros(len(s))
    for rows in groups_of(within, len(s)):
        here, up = s[rows], y[rows]
        for side, sign in ((up, 1), (~up, -1)):
            other = np.sort(sign * here[~side])
            own = sign * here[side]
            wins[rows[side]] = (np.searchsorted(other, own, "left") + np.searchsorted(other, own, "right")) / 2
            against[rows[side]] = len(other)
    return wins, against


def nearly_ordered(scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, within: ArrayLike | None = None) -> bool:
    """Return whether the scores order the classes perfectly, either way round, once some four clusters are left out.

    The spread of so few says little: an AUROC just under 1 is known no better than one of 1.

    Args:
        scores, labels, within: As for `auroc_influence`.
        clusters: As for `mean`; of several factors the first counts.
    """
    s, y = finite_rows(scores), np.asarray(labels).astype(bool)
    codes, m = factors(clusters, len(s))[0]
    wins, against = _wins(s, y, within)
    lost = against - wins if 2 * wins.sum() >= against.sum() else wins
    by = np.bincount(codes, lost, m)
    worst = np.argsort(by)[-(FEW - 1) :]
    if by[worst].sum() < by.sum() / 2:  # each lost pair counts in both of its rows, so some lie wholly in the rest
        return False
    rest = ~np.isin(codes, worst)
    wins, against = _wins(s[rest], y[rest], None if within is None else np.asarray(within)[rest])
    return bool(wins.sum() in (0.0, against.sum()))


def auroc(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike | None = None, *, within: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """Estimate the area under the ROC curve, ties counted one half, with a clustered Student's interval of its log-odds.

    Args:
        scores: One score per row.
        labels: 0 or 1 per row.
        within: As for `auroc_influence`.
        clusters, level: As for `mean`.

    Returns:
        The share of pairs of one row of each class in which the row labelled 1 has the larger score: 0.5 at chance, 1 where
        the scores separate the classes, 0 where they separate them the wrong way round. Where four clusters hold all that is out
        of order, the interval is no narrower than that of as many clusters in perfect order.

    Raises:
        OneClass: The labels are all of one class.
        NotFinite: A score is NaN or infinite.

    References:
        DeLong, DeLong and Clarke-Pearson 1988; Obuchowski 1997, Biometrics 53:567 (clusters).
    """
    y = np.asarray(labels)
    if len(np.unique(y)) < 2:
        raise OneClass(f"AUROC needs both classes; all {len(y)} labels are {y[0] if len(y) else 'missing'}")
    value, influence = auroc_influence(scores, y, within)
    if math.isnan(value):
        return undefined("no name holds both classes", len(y))
    e = linearised(value, influence, clusters, level, True, y.astype(bool))
    if not math.isnan(e.low) and nearly_ordered(scores, y, clusters, within):
        low, high = agreeing(float(value > 0.5), e.clusters, level)
        return no_narrower(e, (min(low, value), max(high, value)))
    return e


def auroc_difference(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    within: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    level: float = 0.95,
) -> Estimate:
    """Estimate the difference of two AUROCs over the same rows, first minus second.

    Args:
        first, second: One score per row, both of the same rows in the same order.
        labels: 0 or 1 per row.
        within: For each of the two, as for `auroc_influence`.
        clusters, level: As for `mean`.

    Returns:
        The difference, -1 to 1; undefined with one class. Where it is 0 in every cluster, or four clusters hold all that is out of
        order in both, the interval is no narrower than that of as many clusters in which nothing differs.

    Raises:
        NotFinite: A score is NaN or infinite.
    """
    y = np.asarray(labels)
    (a, u), (b, v) = (auroc_influence(s, y, w) for s, w in zip((first, second), within, strict=True))
    if math.isnan(a - b):
        return undefined("one class only", len(y))
    e = linearised(a - b, u - v, clusters, level, False, y.astype(bool))
    same = e.clusters > 1 and math.isnan(e.low)
    if same or (e.clusters > 1 and all(nearly_ordered(s, y, clusters, w) for s, w in zip((first, second), within, strict=True))):
        e = no_narrower(e, agreeing(e.value, e.clusters, level, reach=1))
    return replace(e, low=max(-1.0, e.low), high=min(1.0, e.high)) if e.low <= e.high else e
