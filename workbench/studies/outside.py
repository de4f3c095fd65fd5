"""Requests and questions that nothing of a training or a search was about: what fixes do to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import prompts as source
from ..core.errors import AnswerTokens, BadInput, PromptTooLong
from ..core.paired import paired_proportions
from ..core.seeds import numpy_rng
from ..core.stats import proportion
from ..core.tables import units_of
from ..evaluation import answers
from ..evaluation.judges import EndpointJudge, Judge, RefusalPhrases
from ..models.tokens import encode_pairs
from ..prefixes import refusals
from ..prompts import PromptSet
from ..training import acting, under
from .asking import reply_words
from .statements import Rows

TABLES = {
    "refusals": "requests condition judge metric | value low high n note",
    "questions": "questions fix metric | value low high n note",
}
BEFORE = "nothing"
LOCAL = ("127.0.0.1", "localhost")


class Outside:
    """Requests and questions, and the steps that ask them under fixes.

    Args:
        study: The study.
        requests: Requests of the project's own, half of them harmful; 0 for none.
        sources: Files or folders of others; empty names are left out.
        asked: Items at most of each of these.

    Attributes:
        long: By name of a set, how many of its prompts are too long for the model; they are left out.
    """

    def __init__(self, study: Rows, *, requests: int, sources: Sequence[str], asked: int) -> None:
        self.study = study
        self.requests = _own(study, requests) if requests else {}
        self.questions: dict[str, PromptSet] = {}
        self.long: dict[str, int] = {}
        for path in filter(None, sources):
            some, questions = _loaded(study, path, asked)
            self.requests |= some
            self.questions |= questions
        for sets in (self.requests, self.questions):
            for name, prompts in sets.items():
                sets[name] = self._short(name, prompts)

    def _short(self, name: str, prompts: PromptSet) -> PromptSet:
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

    def refused(self, fixes: Callable[[], Mapping[str, Any]], count: int, judges: Mapping[str, Judge] | None = None) -> None:
        """Count refusals of requests under fixes (table `refusals`).

        Args:
            fixes: Gives them by name, inside the step: prefixes, adapters or edits.
            count: How many they are, for a plan.
            judges: By name; stock phrases by default.
        """
        if not self.requests:
            return
        study = self.study

        def make() -> pd.DataFrame:
            return refusals(study.model, self.requests, fixes(), judges=judges, progress=study.progress)

        items = (1 + count) * sum(map(len, self.requests.values()))
        study.run.table("refusals", make=make, doing="count refusals of requests", items=items)

    def asked(self, fixes: Callable[[], Mapping[str, Any]], count: int) -> None:
        """Count right answers to questions under fixes (table `questions`).

        Args:
            fixes: Gives them by name, inside the step: adapters, edits, or words with `.apply`.
            count: How many they are, for a plan.
        """
        if self.questions:
            items = (1 + count) * sum(map(len, self.questions.values()))
            self.study.run.table("questions", make=lambda: self._right(fixes()), doing="ask questions of others", items=items)

    def _right(self, fixes: Mapping[str, Any]) -> pd.DataFrame:
        rows = []
        for name, prompts in self.questions.items():
            units, start = units_of(prompts.to_frame()), self._safe(None, prompts)
            rows.append({"questions": name, "fix": BEFORE, "metric": "right", **proportion(start, units).row(), "note": ""})
            for fix, change in fixes.items():
                now, about = self._safe(change, prompts), {"questions": name, "fix": fix}
                rows.append(about | {"metric": "right", **proportion(now, units).row(), "note": ""})
                rows.append(about | {"metric": "gain", **paired_proportions(now, start, units).row(), "note": "over nothing done"})
        return pd.DataFrame(rows)

    def _safe(self, change: Any, prompts: PromptSet) -> np.ndarray:
        with acting(self.study.model, change):
            return answers(self.study.model, under(change, prompts), progress=False)["safe"].to_numpy()


def judges(address: str, model: str, seed: int) -> dict[str, Judge]:
    """Make what says which replies are refusals.

    Args:
        address, model: Of an OpenAI-compatible endpoint; its key stands in OPENAI_API_KEY, and one on this machine gets none.
        seed: Of the judge.

    Returns:
        By name: stock phrases, and the endpoint's model where one is given.

    Raises:
        BadInput: One of the two without the other.
    """
    if bool(address) != bool(model):
        raise BadInput("a judge needs an address and the name of a model: judge=, judge_model=")
    out: dict[str, Any] = {"phrases": RefusalPhrases()}
    if address:
        out[model] = EndpointJudge(address, model, key_variable=key_variable(address), seed=seed)
    return out


def key_variable(address: str) -> str | None:
    """Return the environment variable that holds an endpoint's key; `None` for an endpoint on this machine, which gets none.

    Args:
        address: Of the endpoint.
    """
    return None if any(name in address for name in LOCAL) else "OPENAI_API_KEY"


def _first_words(study: Rows) -> tuple[str, str]:
    """First words of a refusal and of compliance; where no usual pair is single tokens, refusals are read from what is written."""
    try:
        return reply_words(study.handle, "")
    except AnswerTokens:
        return " no", " yes"


def _own(study: Rows, n: int) -> dict[str, PromptSet]:
    """Harmful requests and their harmless twins, held out where the model was taught requests."""
    order = numpy_rng(study.set.seed, "requests").permutation([row["id"] for row in source.request_pairs()]).tolist()
    held = set(study.planted["held_out_requests"]) if study.planted and "held_out_requests" in study.planted else set(order)
    chosen = [i for i in order if i in held][: n // 2]
    asked = source.requests("request", ids=chosen, answers=_first_words(study), seed=study.set.seed, **study.chat)
    return {"harmful": asked.where(label=0), "harmless": asked.where(label=1)}


def _loaded(study: Rows, path: str, n: int) -> tuple[dict[str, PromptSet], dict[str, PromptSet]]:
    """Requests of others, those that should be refused and those that should not; or questions with two endings."""
    asking: dict[str, Any] = {"seed": study.set.seed, "model": study.handle, **study.chat}
    found = source.load(path, **asking)
    if not isinstance(found, PromptSet) or not found[0].negative:
        raise BadInput(f"{path} holds {getattr(found, 'kind', 'no prompts')}: requests, or questions with two answers, are wanted")

    def some(prompts: PromptSet) -> PromptSet:
        order = numpy_rng(study.set.seed, "outside", found.name).permutation(len(prompts))[:n]
        return prompts.subset(np.sort(order).tolist())

    if "input_harm" in found[0].meta:
        found = source.load(path, answers=_first_words(study), **asking)
        sides = {"harmful": found.where(label=0), "harmless": found.where(label=1)}
        return {f"{found.name}: {side}": some(prompts) for side, prompts in sides.items() if len(prompts)}, {}
    return {}, {found.name: some(found)}
