"""Two steps of the CAA study: the answer read off every layer under the pushes, and open answers judged by a model."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pandas as pd

from ...activations import capture
from ...core.stats import mean, undefined
from ...evaluation.judges import EndpointJudge
from ...interventions import add, answer_lens
from ...interventions.cost import strengths
from ...models import edited
from ..outside import key_variable
from .source import texts_of

if TYPE_CHECKING:
    from .study import Caa


def decode(study: Caa) -> None:
    """Read the answer off every layer under the pushes, at the chosen layer (logit lens)."""
    if not study.set.decoded:
        return

    def make() -> pd.DataFrame:
        rows = []
        for b in study.behaviours:
            asked, d = study.tests[b].subset(range(min(study.set.decoded, len(study.tests[b])))), study.vectors_of[b, study.best[b]]
            for c in strengths(study.set.coefficients):
                with edited(study.model, add(d, c, scope=study.set.scope)) if c else nullcontext():
                    acts = capture(study.model, asked, position="stem_last", progress=study.progress, note=f"{b} at {c:+g}")
                table = answer_lens(study.model, acts)
                rows.append(table[table["metric"] != "auroc"].replace({"metric": {"yes": "matching"}}).assign(behaviour=b, coefficient=c))
        return pd.concat(rows, ignore_index=True)

    study.run.table("decoded", make=make, doing="read the answer off every layer")


def judged(study: Caa) -> pd.DataFrame:
    """Return how far each open answer shows the behaviour, by its rubric, as the endpoint's model rates it."""
    table, rubrics, parts = study.run.tables["open_ended"], texts_of(study.set.rubrics, study.behaviours, ()), []
    key = key_variable(study.set.judge)
    for b, part in table.groupby("behaviour", sort=False):
        own = {"rubric": rubrics[str(b)]} if b in rubrics else {}
        judge = EndpointJudge(study.set.judge, study.set.judge_model, key_variable=key, progress=study.progress, seed=study.set.seed, **own)
        got = judge.judge(part["question"].tolist(), part["answer"].tolist())
        rated = part.assign(score=got["score"].to_numpy())
        for c, some in rated.groupby("coefficient", sort=False):
            held = some.dropna(subset=["score"])
            told = mean(held["score"].to_numpy(float), held["question"].to_numpy()) if len(held) else undefined("no rating", 0)
            rows = {"behaviour": b, "coefficient": c, "metric": "score", **told.row(), "unrated": len(some) - len(held)}
            parts.append(rows | {"rubric": "own" if own else "refusal"})
    return pd.DataFrame(parts)
