"""What a student makes of a weak teacher: the share of the gap that it closes, and whether it repeats the teacher's errors.

Everything is counted on held-out rows that neither was trained on, row by row: was the teacher right, the student, and the ceiling (the
same student taught by the truth).

References:
    Burns et al. 2023, arXiv 2312.09390 (performance gap recovered, section 3; agreement of student and teacher, section 5.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.clustered import few, linearised
from ..core.errors import BadInput, ShapeMismatch
from ..core.estimate import Estimate, agreeing, no_narrower, undefined
from ..core.fieller import fieller
from ..core.paired import paired_proportions
from ..core.rows import Array
from ..core.stats import proportion

FEWEST_ERRORS = 10  # rows on which the teacher is wrong, below which nothing is said of agreement with them


def gap_recovered(
    student: ArrayLike, weak: ArrayLike, ceiling: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> Estimate:
    """Estimate the performance gap recovered: (student - weak) / (ceiling - weak), as accuracies over the same rows.

    The interval is Fieller's over clusters (`core.fieller`): rows of one identity are sampled together, and so are the three accuracies.
    Where fewer than five clusters hold a row on which student and teacher (or student and ceiling) differ, it is no narrower than that
    of as many clusters that agree.

    Args:
        student, weak, ceiling: Whether each is right, 0 or 1, one per held-out row, in the same order.
        clusters: Cluster of each row, or `row x factor`; `None` for independent rows.
        level: Confidence level, between 0 and 1; raising it widens the interval, and refuses more.

    Returns:
        0 where the student is as right as the teacher, 1 where it is as right as the ceiling; below 0 and above 1 both happen. Undefined
        where the ceiling is not told to be above the teacher: the note has the gap.

    Raises:
        ShapeMismatch: The three have different numbers of rows.
        BadInput: A value is neither 0 nor 1.

    Note:
        The interval is over rows, for one teacher, student and ceiling as they were trained: another draw of training rows is not in it.

    Example:
        >>> import numpy as np, workbench as wb
        >>> right = np.arange(400) % 4
        >>> print(wb.gap_recovered(right > 0, right > 1, right >= 0).value)
        0.5

    References:
        Burns et al. 2023, arXiv 2312.09390, section 3.
    """
    s, w, c = _right(student=student, weak=weak, ceiling=ceiling)
    n = len(w)
    if not n:
        return undefined("no rows")
    gap = paired_proportions(c, w, clusters, level)
    if not gap.low > 0:
        return undefined(f"ceiling - teacher = {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]: not told to be above 0", n)
    e = fieller(s - w, c - w, clusters, level=level)
    if np.isnan(e.value):
        return undefined(f"ceiling - teacher = {gap.value:+.2f}: not told to be above 0 over clusters", n)
    for one, other, sign, start in ((s, w, 1, 0.0), (s, c, -1, 1.0)):
        if few(one - other, clusters):
            d = paired_proportions(one, other, clusters, level) if sign > 0 else paired_proportions(other, one, clusters, level)
            ends = sorted(start + sign * x / gap.value for x in (d.low, d.high))
            e = no_narrower(e, (ends[0], ends[1]))
    return replace(e, method="Fieller, clustered t")


class Imitation(NamedTuple):
    """Whether a student repeats its teacher's errors.

    Attributes:
        agrees: Share of the rows on which the teacher is wrong where the student gives the same wrong answer.
        expected: What a student of this accuracy would give if its errors had nothing to do with the teacher's: its share of errors.
        excess: agrees - expected: 0 for independent errors, above for imitation, below where the student errs elsewhere.
    """

    agrees: Estimate
    expected: Estimate
    excess: Estimate


def imitation(student: ArrayLike, weak: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95) -> Imitation:
    """Estimate how often a student repeats its teacher's wrong answers, against independent errors of equal rate.

        P(student wrong | teacher wrong) - P(student wrong)

    Answers are one of two, so that two wrong answers are the same.

    Args:
        student, weak: Whether each is right, 0 or 1, one per held-out row.
        clusters: Cluster of each row, or `row x factor`; `None` for independent rows.
        level: Confidence level, between 0 and 1; raising it widens the intervals.

    Returns:
        The agreement, what independent errors would give, and their difference, which is linearised over clusters. Undefined where the
        teacher is wrong on fewer than ten rows.

    Raises:
        ShapeMismatch: The two have different numbers of rows.
        BadInput: A value is neither 0 nor 1.

    Note:
        Statements that are hard for everyone are got wrong by teacher and student alike without any imitation: compare with the excess of
        the ceiling, which never saw the teacher.

    References:
        Burns et al. 2023, arXiv 2312.09390, section 5.1.
    """
    s, w = (1 - x for x in _right(student=student, weak=weak))
    n, wrong = len(w), w == 1
    if wrong.sum() < FEWEST_ERRORS:
        none = undefined(f"the teacher is wrong on {int(wrong.sum())} rows: {FEWEST_ERRORS} at least", n)
        return Imitation(none, none, none)
    units = None if clusters is None else np.asarray(clusters)
    agrees, expected = proportion(s[wrong], None if units is None else units[wrong], level), proportion(s, units, level)
    excess = agrees.value - expected.value
    influence = w * (s - agrees.value) / w.sum() - (s - s.mean()) / n
    e = linearised(excess, influence, units, level, False)
    if np.isnan(e.low) or few(w * s, units):  # a student that repeats hardly any error: as many clusters as agree in none
        e = no_narrower(e, agreeing(excess, max(2, agrees.clusters), level, 1.0))
    return Imitation(agrees, expected, replace(e, low=max(-1.0, e.low), high=min(1.0, e.high)))


def _right(**given: ArrayLike) -> list[Array]:
    """Zeros and ones, as many of each."""
    out = {name: np.asarray(x, float) for name, x in given.items()}
    if len({x.shape for x in out.values()}) > 1 or next(iter(out.values())).ndim != 1:
        raise ShapeMismatch(f"one 0 or 1 per row of each: {', '.join(f'{k} {x.shape}' for k, x in out.items())}")
    for name, x in out.items():
        if not np.isin(x, (0, 1)).all():
            raise BadInput(f"{name}: whether each row is right, 0 or 1")
    return list(out.values())
