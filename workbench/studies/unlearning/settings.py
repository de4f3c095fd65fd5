"""The grid of the unlearning study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ..asking import AskSettings
from ..statements import check_claims

TARGETS = ("random", "towards safety", "away from harm")
MODES = ("weights", "adapter")


@dataclass(frozen=True, kw_only=True)
class UnlearningSettings(AskSettings):
    """The grid of the study.

    Attributes:
        claims: The harm claim, whose prompts are to be forgotten, and the one opposite to it.
        forget: Training prompts under the harm claim.
        retain: Training prompts without a claim.
        test: Held-out statements of each condition.
        targets: Where streams of the forget set are sent: "random", "towards safety", "away from harm".
        modes: What is changed: "weights" (what three MLPs write with) or "adapter" (low-rank matrices on the same).
        coefficients: Multiples of the stream's norm that streams are sent to; the curve of forgetting against keeping.
        retain_weight: Weight of keeping.
        layer: Where streams are sent; -1 for one half of the way up.
        steps: Updates of each training.
        lr: Learning rate, in units of a matrix's root mean square.
        relearn: Rows to learn again from, in the first target's survival; 0 for none.
        seed: Draws everything.
    """

    claims: tuple[str, ...] = ("harm", "good")
    forget: int = 160
    retain: int = 160
    test: int = 200
    targets: tuple[str, ...] = TARGETS
    modes: tuple[str, ...] = MODES
    coefficients: tuple[float, ...] = (0.5, 1.0, 2.0)
    retain_weight: float = 4.0
    layer: int = -1
    steps: int = 150
    lr: float = 3e-2
    relearn: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("forget", 16), ("retain", 16), ("test", 32), ("steps", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        for names, known, what in ((self.targets, TARGETS, "target"), (self.modes, MODES, "mode")):
            if not names:
                raise BadInput(f"{what}s: one at least of {', '.join(known)}")
            for name in names:
                if name not in known:
                    raise unknown(UnknownName, what, name, known)
        if not self.coefficients or min(self.coefficients) <= 0:
            raise BadInput("coefficients: multiples above 0, one at least")
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        check_claims(self.claims)
        if self.relearn < 0 or not (self.lr > 0 and self.retain_weight >= 0):
            raise BadInput("relearn and retain_weight are 0 or more, and lr is above 0")
