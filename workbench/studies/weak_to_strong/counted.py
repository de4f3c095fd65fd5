"""What is counted of teacher, students and ceilings on one set of statements."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.paired import paired_proportions
from ...core.stats import proportion
from ...evaluation import gap_recovered, imitation
from ...probes import STUDENT_LOSSES

TRUTH, RANDOM, EMPTY, NOTHING = "truth", "random errors", "empty labels", "nothing"
TEACHER, UNTRAINED, UNTAUGHT = "teacher", "probe, untrained copy", "its own answers"
HELD = "held out"
Right = dict[tuple[str, str], np.ndarray]  # by student and what taught it, whether each row of a set is right


def accuracies(name: str, right: Right, units: Any) -> list[dict[str, Any]]:
    """Return rows of one set: accuracy of everybody, the gap of each kind of student, and what each student recovers of it.

    Args:
        name: The set.
        right: By student and what taught it, whether each row is right; the teacher's is `("teacher", "")`.
        units: Clusters of the rows.

    Returns:
        Rows with the metrics "accuracy", "ceiling minus teacher", "gap recovered" and "accuracy minus plain".
    """
    rows, weak = [], right[TEACHER, ""]
    for (student, trained), hits in right.items():
        about = {"set": name, "student": student, "trained": trained}
        rows.append({**about, "metric": "accuracy", **proportion(hits, units).row(), "note": ""})
        ceiling = right.get((student, TRUTH))
        if ceiling is None or trained == EMPTY:  # of labels that say nothing no share of a gap can come
            continue
        if trained == TRUTH:
            rows.append({**about, "metric": "ceiling minus teacher", **paired_proportions(hits, weak, units).row(), "note": ""})
            continue
        e = gap_recovered(hits, weak, ceiling, units)
        rows.append({**about, "metric": "gap recovered", **e.row(), "note": e.note})
        plain = right.get((student, "plain"))
        if plain is not None and trained in STUDENT_LOSSES and trained != "plain":
            rows.append({**about, "metric": "accuracy minus plain", **paired_proportions(hits, plain, units).row(), "note": ""})
    return rows


def repeated(name: str, right: Right, units: Any) -> list[dict[str, Any]]:
    """Return rows of one set: how often each student gives the teacher's wrong answer, against independent errors of equal rate.

    Args:
        name, right, units: As for `accuracies`.

    Returns:
        Rows with the metrics "agrees", "expected" and "excess" of every student.
    """
    rows, weak = [], right[TEACHER, ""]
    for (student, trained), hits in right.items():
        if student == TEACHER or trained == EMPTY:
            continue
        found = imitation(hits, weak, units)
        for metric, e in (("agrees", found.agrees), ("expected", found.expected), ("excess", found.excess)):
            rows.append({"set": name, "student": student, "trained": trained, "metric": metric, **e.row(), "note": e.note})
    return rows
