"""Whether a model answers what a study asks: a table of its answers, and in words why it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from ..core.tables import pick
from ..evaluation import discrimination
from ..evaluation.verdicts import silence
from ..runs import Steps

TABLES = {"says": "template claim metric | value low high n note"}  # what a study that looks at its answers declares


def heard(run: Steps, said: Callable[[], Sequence[pd.DataFrame]], *, by: str = "identity") -> None:
    """Make the table `says`: per template and claim how the model answers (see `evaluation.discrimination`).

    Args:
        run: The run.
        said: Returns answers, as of `answers_of`; called inside the step.
        by: Column that intervals are clustered by.
    """

    def make() -> pd.DataFrame:
        asked = pd.concat(said(), ignore_index=True)
        return discrimination(asked.assign(identity=asked[by]))

    run.table("says", make=make, doing="count answers")


def unanswered(says: pd.DataFrame, places: Iterable[tuple[str, str]], **how: Any) -> str:
    """Return why a model does not answer in some of the forms, or "": by the rules of `evaluation.verdicts.silence`.

    Args:
        says: What `discrimination` returns.
        places: Templates with claims ("none" without one) in which it should answer.
        how: What is asked about, and the two words, as for `silence`.
    """
    reasons = []
    for template, claim in places:
        here = pick(says, template=template, claim=claim)
        rows: dict[str, Any] = {str(row.metric): row for row in here.itertuples()}
        if rows and (why := silence(rows["auroc"], rows["answered"], rows["yes"], **how)):
            reasons.append(f"in {template} ({'no claim' if claim == 'none' else f'{claim} sentence'}) {why}")
    return f"The model does not answer the question, as it is asked here: {'; '.join(reasons)}." if reasons else ""
