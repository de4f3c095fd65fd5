"""The grid of the steering study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownSite, unknown
from ...evaluation.dose import FEWEST_RANDOM
from ...models.hooks import SITES
from ..asking import AskSettings
from ..statements import check_claims


@dataclass(frozen=True, kw_only=True)
class SteeringSettings(AskSettings):
    """The grid of the study.

    Attributes:
        fit, validation, test: Statements per claim for making directions, for choosing, and for what is reported.
        sites: Where to push.
        layers: Layers at most that are tried, evenly spread.
        coefficients: Multiples of a direction's own length that are tried.
        scope: Which tokens are pushed.
        doses: Multiples of the coefficient that was chosen, at which the response is measured beside it, with both signs.
        random: Random directions of the control of doses.
        drawn: Random directions whose price is measured, and that are tuned to equal cost.
        most_tax: Points of accuracy without a claim that a choice may cost on validation.
        targets: Nats from the unpushed model on prompts without a claim, for the comparison at equal cost; the last also under the claim.
        claims: The harm claim, and the one opposite to it.
        seed: Draws everything.
    """

    fit: int = 400
    validation: int = 120
    test: int = 300
    sites: tuple[str, ...] = ("resid_mid", "resid_post")
    layers: int = 8
    coefficients: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0)
    scope: str = "last"
    doses: tuple[float, ...] = (0.5, 1.0, 2.0)
    random: int = FEWEST_RANDOM
    drawn: int = 8
    most_tax: float = 0.02
    targets: tuple[float, ...] = (0.01, 0.1)
    claims: tuple[str, ...] = ("harm", "good")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fit", "validation", "test"):
            if getattr(self, name) < 32:
                raise BadInput(f"{name}: 32 items at least, got {getattr(self, name)}")
        for site in self.sites:
            if site not in SITES:
                raise unknown(UnknownSite, "site", site, SITES)
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        check_claims(self.claims)
        if self.random < FEWEST_RANDOM:
            raise BadInput(f"random: {FEWEST_RANDOM} directions at least, got {self.random}")
        if self.drawn < 2:
            raise BadInput(f"drawn: 2 directions at least, got {self.drawn}")
        if min(self.coefficients) <= 0 or not self.doses or min(self.doses) <= 0:
            raise BadInput("coefficients and doses are above 0: the reverse sign is a control of its own")
