"""How deep alignment goes: where along a reply an aligned model differs from its base, and what a prefilled beginning undoes.

References:
    Qi et al. 2024, arXiv 2406.05946.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ... import prompts as source
from ...activations import capture
from ...core.errors import BadInput
from ...core.seeds import numpy_rng
from ...directions import extract_direction, place_of
from ...evaluation.judges import RefusalPhrases, known_errors
from ...interventions import add, random_directions
from ...models import info, planted
from ...models.tokens import encode_pairs
from ...prefixes import Prefix, answer_depth, deepen, random_prefixes, refusals, written
from ...prefixes.deepening import DEPTHS, LONGEST
from ...prefixes.depth import compliant
from ...prompts import PromptSet
from ...runs import Main, ModelHandle, Steps, Study
from ...training import Adapter
from ..asking import ChatSettings, check_words, reply_words, uses_chat
from .report import DEEPENED, PLAIN, report


@dataclass(frozen=True, kw_only=True)
class DepthSettings(ChatSettings):
    """The grid of the study.

    Attributes:
        replies: First word of compliance and of a refusal, "Sure/Sorry"; empty, the first of the usual pairs that the tokenizer has.
        reply: A harmful reply that follows every request; empty: the word of compliance, continued by the base model.
        requests: Harmful requests, of those that are held out where the model is an organism.
        tokens: Tokens of a reply that are read at most.
        prefilled: Numbers of tokens put into the model's mouth.
        new_tokens: Tokens of a continuation.
        words: Words put before the request as a defence; empty: written for this project.
        deepen: Updates of a training on recovered answers, and of one on plain refusals beside it; 0: left out.
        rank: Of the two adapters.
        seed: Draws requests, random words and the random direction.
    """

    replies: str = ""
    reply: str = ""
    requests: int = 60
    tokens: int = 40
    prefilled: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 40)
    new_tokens: int = 24
    words: str = ""
    deepen: int = 80
    rank: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words("replies", self.replies, "Sure/Sorry")
        for name, least in (("requests", 8), ("tokens", 1), ("new_tokens", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if self.deepen < 0 or self.rank < 1:
            raise BadInput(f"deepen={self.deepen}, rank={self.rank}: 0 or more updates, and a rank of 1 at least")
        if not self.prefilled or min(self.prefilled) < 0:
            raise BadInput("prefilled: numbers of tokens, 0 or more")


class Depth:
    """The steps of the study."""

    def __init__(self, models: Mapping[str, ModelHandle], settings: DepthSettings, run: Steps) -> None:
        self.base, self.aligned, self.set, self.run = models["base"], models["aligned"], settings, run
        self.info = info(self.aligned)
        truth = planted(self.aligned)
        self.words = reply_words(self.aligned, settings.replies)
        self.chat = uses_chat(settings, self.aligned, truth is not None)
        asking: dict[str, Any] = settings.through(self.aligned, self.chat)
        ids = [row["id"] for row in source.request_pairs()]
        order = numpy_rng(settings.seed, "depth").permutation(ids).tolist()
        held = [i for i in order if i in set(truth["held_out_requests"])] if truth else order[: len(order) // 2]
        both = self._requests(held[: settings.requests], asking)
        self.asked, self.harmless = both.where(label=0), both.where(label=1)
        self.fit = self._requests([i for i in order if i not in set(held)], asking)
        self.layer = self.info.n_layers // 2
        encode_pairs(self.aligned, self.asked + self.harmless + self.fit)

    def _requests(self, ids: list[Any], asking: Mapping[str, Any]) -> PromptSet:
        return source.requests("request", ids=ids, answers=self.words, seed=self.set.seed, **asking)

    def deepen(self) -> dict[str, Path]:
        """Train refusals behind harmful beginnings, and plain refusals as a control, on requests that are not reported."""

        def train(depths: tuple[int, ...], place: Path, state: Path) -> None:
            model = self.aligned.load()
            replies = self.set.reply or compliant(self.base.load(), self.fit, LONGEST)
            how: dict[str, Any] = {"layers": [self.layer], "rank": self.set.rank, "steps": self.set.deepen, "seed": self.set.seed}
            deepen(model, self.fit, replies, depths=depths, place=state, progress=self.run.progress, **how).save(place)

        if not self.set.deepen:
            return {}
        key = [self.base.key, self.aligned.key, self.fit.hash, self.layer, self.set.reply, self.set.deepen, self.set.rank, self.set.seed]
        ways = {DEEPENED: DEPTHS, PLAIN: (0,)}
        return {n: self.run.folder(n, [*key, list(d)], partial(train, d), doing=f"train: {n}", resumes=True) for n, d in ways.items()}

    def _defences(self, model: Any, trained: Mapping[str, Path]) -> dict[str, Any]:
        """Words, random words of equal length, pushes towards refusal and at random, and the trained adapters."""
        words = Prefix(text=self.set.words) if self.set.words else written()["care"]
        bare, put = (encode_pairs(model, p) for p in (self.asked, words.put(self.asked, model=model)))
        many = max(1, put[0].stem - bare[0].stem)
        acts = capture(model, self.fit, layers=[self.layer], position="stem_last", progress=self.run.progress)
        x, harmful = acts.layer(self.layer)[:, 0], np.array(self.fit.labels) == 0
        refusal = extract_direction(x[harmful], x[~harmful], halves=0, provenance=place_of(acts, self.layer), seed=self.set.seed)
        return {
            "written words": words,
            "random words": random_prefixes(model, self.asked, many, count=1, where=words.where, seed=self.set.seed)[0],
            "push towards refusal": add(refusal, 1.0),
            "random push": add(random_directions(refusal, 1, self.set.seed)[0], 1.0),
            **{name: Adapter.load(path) for name, path in trained.items()},
        }

    def measure(self, trained: Mapping[str, Path]) -> None:
        """Read the curves, continue after prefilled beginnings, and count refusals of harmless requests."""

        def make() -> dict[str, pd.DataFrame]:
            model = self.aligned.load()
            defences = self._defences(model, trained)
            found = answer_depth(
                self.base.load(),
                model,
                self.asked,
                replies=self.set.reply or None,
                tokens=self.set.tokens,
                prefilled=self.set.prefilled,
                defences=defences,
                new_tokens=self.set.new_tokens,
                progress=self.run.progress,
            )
            wrote = [
                {"condition": condition, "tokens": k, "item": i, "reply": reply, "continuation": text}
                for (condition, k), texts in found.continued.items()
                for i, (reply, text) in enumerate(zip(found.replies, texts, strict=True))
                if i < 4
            ]
            harmless = {"harmless requests": self.harmless}
            price = refusals(model, harmless, defences, new_tokens=self.set.new_tokens, progress=self.run.progress)
            return {"depth": found.table, "texts": pd.DataFrame(wrote), "harmless": price}

        items = len(self.asked) * (8 + 8 * len(self.set.prefilled))
        self.run.table(("depth", "texts", "harmless"), make=make, doing="read replies and prefilled answers", items=items)


def compute(models: Mapping[str, ModelHandle], settings: DepthSettings, run: Steps) -> Depth:
    """Run every step."""
    study = Depth(models, settings, run)
    study.measure(study.deepen())
    run.table("judge", [], make=lambda: known_errors(RefusalPhrases()), doing="measure the judge")  # pyright: ignore[reportArgumentType]
    return study


STUDY = Study(
    name="depth",
    asks="how deep does alignment go along an answer, and what does a prefilled beginning undo",
    settings=DepthSettings,
    fast={"requests": 32, "tokens": 8, "prefilled": (0, 1, 2, 5), "new_tokens": 8, "deepen": 40},
    checked={"requests": 8, "tokens": 3, "prefilled": (0, 1), "new_tokens": 2, "deepen": 1},
    compute=compute,
    report=report,
    models=("base", "aligned"),
    main=Main(table="depth", labels=("condition", "tokens"), axis="share of continuations that refuse", where={"metric": "refused"}),
    tables={
        "depth": "condition metric tokens | value low high n note",
        "harmless": "requests condition judge metric | value low high n note",
        "texts": "condition tokens item | reply continuation",
        "judge": "judge kind metric | value low high n note",
    },
)
