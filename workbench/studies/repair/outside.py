"""What fixes do to requests and questions that nothing of the training was about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ...core.errors import PromptTooLong
from ...core.paired import paired_proportions
from ...core.stats import proportion
from ...core.tables import units_of
from ...models.tokens import encode_pairs
from ...prefixes import refusals, written
from ...prompts import PromptSet
from ..requests import loaded, own_requests
from .words import BEFORE, RANDOM_LABELS, RANDOM_PUSH, STRONG

if TYPE_CHECKING:
    from .study import Repair

TABLES = {
    "refusals": "requests condition judge metric | value low high n note",
    "questions": "questions fix metric | value low high n note",
}
WRITTEN = "written: care"  # words that fit any prompt, where the claims speak of rights


class Outside:
    """Requests and questions, and the steps that ask them under fixes.

    Args:
        study: The study.
    """

    def __init__(self, study: Repair) -> None:
        self.study = study
        self.requests: dict[str, PromptSet] = own_requests(study, study.set.requests) if study.set.requests else {}
        self.questions: dict[str, PromptSet] = {}
        for path in filter(None, (study.set.xstest, study.set.mmlu, study.set.hh_rlhf)):
            asked, questions = loaded(study, path, study.set.asked)
            self.requests |= asked
            if questions is not None:
                self.questions[questions.name] = questions
        self.long: dict[str, int] = {}
        for sets in (self.requests, self.questions):
            for name, prompts in sets.items():
                sets[name] = self._short(name, prompts)

    def _short(self, name: str, prompts: PromptSet) -> PromptSet:
        """The prompts that the model can read; how many it cannot is kept for the report."""
        fine = []
        for k in range(len(prompts)):
            try:
                encode_pairs(self.study.handle, prompts.subset([k]))
                fine.append(k)
            except PromptTooLong:
                self.long[name] = self.long.get(name, 0) + 1
        if not fine:
            raise PromptTooLong(f"{self.study.info.name} can read none of the {len(prompts)} prompts of {name}: all are too long for it")
        return prompts if len(fine) == len(prompts) else prompts.subset(fine)

    def fixes(self) -> dict[str, Any]:
        """The first adapter, the joint one, random labels, the stronger pushes, and words that fit any prompt; inside a step."""
        every, study = self.study.load(), self.study
        names = [next(iter(study.folders)), study.joint, f"{RANDOM_LABELS} 1", STRONG, f"{RANDOM_PUSH} 1"]
        return {name: every[name] for name in names if name} | {WRITTEN: written()["care"]}

    def measure(self) -> None:
        """Count refusals, and right answers to questions, under each of these fixes."""
        study = self.study

        def count() -> pd.DataFrame:
            return refusals(study.model, self.requests, self.fixes(), progress=study.progress)

        if self.requests:
            items = 7 * sum(map(len, self.requests.values()))
            study.run.table("refusals", make=count, doing="count refusals under fixes", items=items)
        if self.questions:
            items = 7 * sum(map(len, self.questions.values()))
            study.run.table("questions", make=self._asked, doing="ask questions of others under fixes", items=items)

    def _asked(self) -> pd.DataFrame:
        study, rows = self.study, []
        fixes: dict[str, Any] = {BEFORE: None} | self.fixes()
        fixes[WRITTEN] = fixes[WRITTEN].on(study.model)
        for name, prompts in self.questions.items():
            units, start = units_of(prompts.to_frame()), study.safe(None, prompts)
            for fix, change in fixes.items():
                now = study.safe(change, prompts)
                about = {"questions": name, "fix": fix}
                rows.append(about | {"metric": "right", **proportion(now, units).row(), "note": ""})
                if change is not None:
                    rows.append(about | {"metric": "gain", **paired_proportions(now, start, units).row(), "note": "over nothing done"})
        return pd.DataFrame(rows)
