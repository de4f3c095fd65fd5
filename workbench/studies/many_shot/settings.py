"""The grid of the many-shot study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ..asking import AskSettings

KINDS = ("harmful", "benign", "shuffled", "prose")
GRID = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True, kw_only=True)
class ManyShotSettings(AskSettings):
    """The grid of the study.

    Attributes:
        most: Demonstrations at most; fewer where the context holds no more.
        questions: Held-out statements, half granting and half denying.
        chains: Orders of demonstrations, each drawn anew; every question is asked behind each of them.
        kinds: Of `KINDS`: demonstrations that agree with denials of rights, that give the safe answer, that answer at random, and prose of
            equal length without any.
        interventions: Names of `interventions.INTERVENTIONS`; the first kind is asked under each.
        train: Statements that probes and the stance are made from.
        pushed: Questions, and demonstrations at most, that are asked under edits: these passes share no prefixes.
        coefficient: Multiples of the stance that are added.
        resamples: Bootstrap draws for the laws.
        seed: Draws everything.
    """

    most: int = 512
    questions: int = 64
    chains: int = 3
    kinds: tuple[str, ...] = KINDS
    interventions: tuple[str, ...] = ("none", "system", "steer", "steer, random")
    train: int = 200
    pushed: tuple[int, int] = (16, 32)
    coefficient: float = 1.0
    resamples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from .interventions import INTERVENTIONS

        for name, known in (("kinds", KINDS), ("interventions", INTERVENTIONS)):
            for one in getattr(self, name):
                if one not in known:
                    raise unknown(UnknownName, name[:-1], one, known)
        if not self.kinds or self.kinds[0] == "prose":
            raise BadInput("kinds: one kind of demonstrations at least, the first of which is asked under interventions")
        if "none" not in self.interventions:
            raise BadInput("interventions: 'none' is what the others are compared with")
        if self.most < 1 or self.chains < 1:
            raise BadInput(f"most and chains are 1 or more, got {self.most} and {self.chains}")
        if self.questions < 10 or self.questions % 2:
            raise BadInput(f"questions: an even number of 10 or more, got {self.questions}")
        if self.train < 60:
            raise BadInput(f"train: 60 statements at least, got {self.train}")
        if len(self.pushed) != 2 or min(self.pushed) < 1:
            raise BadInput(f"pushed: a number of questions and a number of demonstrations, got {self.pushed}")
