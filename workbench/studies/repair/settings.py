"""The grid of the repair study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, unknown
from ...training import LOSSES
from ..asking import AskSettings
from ..outside import judges
from ..statements import check_claims


@dataclass(frozen=True, kw_only=True)
class RepairSettings(AskSettings):
    """The grid of the study.

    Attributes:
        claims: The harm claim, and the one opposite to it; training rows are shown both.
        train: Training statements for each of the two claims.
        test: Held-out statements of each form and claim.
        losses: What adapters are trained with, at the layer of the validation's choice.
        layers: Layers at most at which an adapter is trained with the first loss, evenly spread.
        ranks: Ranks, at the chosen layer.
        joint: Blocks at which one adapter acts jointly, those of the lowest loss on validation; below 2 this is left out.
        steps: Updates of each training.
        lr: Learning rate.
        target: Nats of KL without a claim at which a push and the adapter are compared, where the adapter itself costs less.
        texts: Held-out statements as running text, for perplexity.
        draws: Random-label adapters of the control.
        requests: Requests of the project's own on which refusals are counted, half of them harmful; 0 leaves this out.
        xstest: A file or folder of requests of others, such as XSTest; their refusals are counted too.
        mmlu: A file or folder of questions with two options, such as MMLU's; it is counted how many are answered rightly.
        hh_rlhf: Another one, such as HH-RLHF: in which of two conversations is the assistant safer?
        asked: Items at most of each of these.
        judge, judge_model: Address and model of an endpoint that judges replies to requests beside stock phrases (its key stands in
            OPENAI_API_KEY; an endpoint on this machine gets none).
        seed: Draws everything.
    """

    claims: tuple[str, ...] = ("harm", "good")
    train: int = 240
    test: int = 200
    losses: tuple[str, ...] = ("invariance", "ccs", "spin", "infonce", "dpo", "cross_entropy")
    layers: int = 6
    ranks: tuple[int, ...] = (1, 2, 8)
    joint: int = 2
    steps: int = 120
    lr: float = 1e-2
    target: float = 0.05
    texts: int = 100
    draws: int = 3
    requests: int = 32
    xstest: str = ""
    mmlu: str = ""
    hh_rlhf: str = ""
    asked: int = 200
    judge: str = ""
    judge_model: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest = {"train": 32, "test": 32, "texts": 8, "layers": 1, "steps": 1, "draws": 1, "joint": 0, "requests": 0, "asked": 16}
        for name, least in fewest.items():
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        check_claims(self.claims)
        for loss in self.losses:
            if loss not in LOSSES:
                raise unknown(UnknownName, "loss", loss, LOSSES)
            if loss in ("ccs_probe", "contrast"):
                raise BadInput(f"losses: {loss!r} needs a probe; train it with wb.train_adapter(…, probe=)")
        judges(self.judge, self.judge_model, self.seed)
        if not self.losses or not self.ranks or min(self.ranks) < 1:
            raise BadInput("losses= and ranks= name one at least; ranks are 1 or more")
        if not (self.target > 0 and self.lr > 0):
            raise BadInput("target and lr are above 0")
