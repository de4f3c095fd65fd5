"""The area under the ROC curve with its interval, what each row adds to it, and the difference of two."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .clustered import linearised
from .errors import OneClass
from .estimate import Estimate, undefined
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
    s, y = finite_rows(scores), np.asarray(labels).astype(bool)
    wins, against = np.zeros(len(s)), np.zeros(len(s))
    for rows in groups_of(within, len(s)):
        here, up = s[rows], y[rows]
        for side, sign in ((up, 1), (~up, -1)):
            other = np.sort(sign * here[~side])
            own = sign * here[side]
            wins[rows[side]] = (np.searchsorted(other, own, "left") + np.searchsorted(other, own, "right")) / 2
            against[rows[side]] = len(other)
    pairs = against[y].sum()
    if not pairs:
        return math.nan, np.zeros(len(s))
    value = float(wins[y].sum() / pairs)
    return value, (wins - value * against) / pairs


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
        the scores separate the classes, 0 where they separate them the wrong way round.

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
    return linearised(value, influence, clusters, level, True, y.astype(bool))


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
        The difference, -1 to 1; undefined with one class.

    Raises:
        NotFinite: A score is NaN or infinite.
    """
    y = np.asarray(labels)
    (a, u), (b, v) = (auroc_influence(s, y, w) for s, w in zip((first, second), within, strict=True))
    if math.isnan(a - b):
        return undefined("one class only", len(y))
    return linearised(a - b, u - v, clusters, level, False, y.astype(bool))
