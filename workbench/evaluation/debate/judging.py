"""Who judges a debate: a script of known weights, a local model, or any judge that rates answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ...core.seeds import numpy_rng
from ...core.types import Float
from ...prompts import PromptSet
from ..agreement import answers
from ..judges import Judge
from .cases import Transcript, with_speeches


@dataclass(frozen=True, kw_only=True)
class CountingJudge:
    """A judge of known weights: it counts verified quotations, and may lean towards a seat, a name or an answer.

    The log-odds of the positive answer are `facts` times its quotations less the other's, those that are doubts counting `doubts` of it,
    plus the leanings.

    Attributes:
        facts: Log-odds of one fact; 0 for a judge that hears nothing.
        doubts: What a doubt counts, as a share of a fact.
        first: Log-odds towards the side that speaks first.
        named: Log-odds towards the side that is called Debater A.
        positive: Log-odds towards the positive answer.
        noise: Standard deviation of what is added to the log-odds of each transcript.
        seed: Draws it.
    """

    facts: float = 1.0
    doubts: float = 0.5
    first: float = 0.0
    named: float = 0.0
    positive: float = 0.0
    noise: float = 0.5
    seed: int = 0

    def choose(self, transcripts: Sequence[Transcript]) -> Float[np.ndarray, " transcript"]:
        """Return the probability of the positive answer for each transcript.

        Args:
            transcripts: Debates.
        """
        out, drawn = [], numpy_rng(self.seed, "counting judge").normal(0.0, self.noise, len(transcripts))
        for t, extra in zip(transcripts, drawn, strict=True):
            odds = self.positive + float(extra)
            for speech in t.speeches:
                real, _ = speech.quotes(t.case.document)
                sign = 2 * speech.side - 1
                odds += sign * self.facts * sum(1.0 if q in t.case.facts else self.doubts for q in real)
            if t.protocol == "debate" and t.first is not None:
                odds += self.first * (2 * t.first - 1)
                odds += self.named * (2 * t.called.index("Debater A") - 1)
            out.append(float(expit(odds)))
        return np.array(out)


@dataclass(frozen=True)
class ModelJudge:
    """A local model: what it answers to the question behind what was said.

    Attributes:
        model: What `load_model` returns.
        form: Of `with_speeches`.
        progress: Show a progress bar.
    """

    model: Any
    form: str = "named"
    progress: bool | None = None

    def prompts(self, transcripts: Sequence[Transcript]) -> PromptSet:
        """Return what the model is asked.

        Args:
            transcripts: Debates.
        """
        return PromptSet((with_speeches(t, self.form) for t in transcripts), name="debates")

    def choose(self, transcripts: Sequence[Transcript]) -> Float[np.ndarray, " transcript"]:
        """Return the probability of the positive answer, of the two answers' together.

        Args:
            transcripts: Debates.
        """
        return expit(answers(self.model, self.prompts(transcripts), progress=self.progress)["margin"].to_numpy())


@dataclass(frozen=True)
class Rated:
    """Any judge that rates answers (a probe, an endpoint, people): it rates both, and the higher rating wins.

    Attributes:
        judge: Gives a score from 0 to 1 to an answer.
        form: Of `with_speeches`.
    """

    judge: Judge
    form: str = "named"

    def choose(self, transcripts: Sequence[Transcript]) -> Float[np.ndarray, " transcript"]:
        """Return 1 where the positive answer is rated higher, 0 where the negative one is, a half where they tie, nan without ratings.

        Args:
            transcripts: Debates.
        """
        pairs = [with_speeches(t, self.form) for t in transcripts]
        stems = [p.stem for p in pairs]
        got = self.judge.judge([*stems, *stems], [*(p.negative.strip() for p in pairs), *(p.positive.strip() for p in pairs)])
        negative, positive = np.split(got["score"].to_numpy(float), 2)
        return np.where(np.isnan(negative + positive), np.nan, 0.5 + 0.5 * np.sign(positive - negative))
