"""The grid of the alignment-faking study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput
from ...organism import Planting
from ..asking import AskSettings


@dataclass(frozen=True, kw_only=True)
class FakingSettings(AskSettings):
    """The grid of the study.

    Attributes:
        train: Training statements behind each kind of sentence, from which probes and directions are made.
        test: Held-out statements of each condition.
        layers: Blocks at most that are read, evenly spread.
        pushed: Blocks at most at which directions are added.
        strengths: Multiples of the awareness direction, of which the one that closes most of the gap on training statements is taken.
        rank: Of the planted adapter.
        first: The lowest block that the planted adapter changes; a higher one is cheaper in a large model.
        steps: Updates with which the faker and the twin are trained.
        lr: Learning rate of these.
        requests: Pairs of a harmful and a harmless request that are asked behind sentences of a free and a paid tier.
        draws: Random directions of equal length that are added beside the awareness direction.
        seed: Draws everything.
    """

    train: int = 160
    test: int = 200
    layers: int = 12
    pushed: int = 6
    strengths: tuple[float, ...] = (1.0, 2.0, 3.0)
    rank: int = 4
    first: int = 0
    steps: int = 170
    lr: float = 1e-2
    requests: int = 60
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("train", 64), ("test", 32), ("layers", 1), ("pushed", 1), ("requests", 8), ("draws", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if not self.strengths or min(self.strengths) <= 0:
            raise BadInput(f"strengths={self.strengths}: numbers above 0")
        self.planting  # noqa: B018  (which is checked here)

    @property
    def planting(self) -> Planting:
        """How the behaviour is planted."""
        return Planting(rank=self.rank, first=self.first, steps=self.steps, lr=self.lr, batch_tokens=768, seed=self.seed)
