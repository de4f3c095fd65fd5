"""The grid of the geometry study."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownName, UnknownPosition, unknown
from ...evaluation.cross_steering import POSITIONS as SCOPES
from ..asking import AskSettings, check_words
from ..statements import check_claims

METRICS, POSITIONS = ("raw", "whitened", "causal"), ("instruction_last", "stem_last")


@dataclass(frozen=True, kw_only=True)
class GeometrySettings(AskSettings):
    """The grid of the study.

    Attributes:
        items: Statements under each claim.
        requests: Matched pairs of requests. 0: all.
        replies: First word of compliance and of a refusal, "Sure/Sorry"; empty, the first of the usual pairs that the tokenizer has.
        positions: Where the stream is read, for stance and request; replies are read at their own token.
        metrics: Inner products.
        claims: The harm claim, the good one and the shared baseline.
        phrasings: Sentences of each claim, or as many as it has; each statement or pair of requests is shown one of them.
        draws: Permutations of each null.
        resamples: Bootstrap draws.
        pushed: Layers at most that harm and safety are pushed at, evenly spread; the report's layer, where everything is pushed,
            is one of them.
        scopes: Where requests are pushed at the report's layer: "stem_last" (the last token before the answer, which the verdict needs),
            "instruction_last", "stem" (all of the prompt).
        kl: Distance of every push, in nats.
        random: Random directions of the control; fewer than 39 cannot tell an effect at 5 %.
        seed: Draws everything.
    """

    items: int = 400
    requests: int = 0
    replies: str = ""
    positions: tuple[str, ...] = ("instruction_last", "stem_last")
    metrics: tuple[str, ...] = ("raw", "whitened", "causal")
    claims: tuple[str, ...] = ("harm", "good", "neutral")
    phrasings: int = 5
    draws: int = 1000
    resamples: int = 1000
    pushed: int = 8
    scopes: tuple[str, ...] = ("stem_last", "stem")
    kl: float = 0.1
    random: int = 39
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words("replies", self.replies, "Sure/Sorry")
        if self.items < 64:
            raise BadInput(f"items: 64 at least, got {self.items}")
        for metric in self.metrics:
            if metric not in METRICS:
                raise unknown(UnknownName, "metric", metric, METRICS)
        for position in self.positions:
            if position not in POSITIONS:
                raise unknown(UnknownPosition, "position", position, POSITIONS)
        if "stem_last" not in self.scopes or set(self.scopes) - set(SCOPES):
            raise BadInput(f"scopes: of {', '.join(SCOPES)}, stem_last among them; got {', '.join(self.scopes)}")
        check_claims(self.claims)
        if len(self.claims) != 3:
            raise BadInput("claims=: three of them, the harm claim, the good one and the shared baseline")
        if not 1 <= self.phrasings <= 5:
            raise BadInput(f"phrasings: 1 to 5 sentences of a claim, got {self.phrasings}")
        if self.requests and self.requests < 40:
            raise BadInput(f"requests: 40 pairs at least, or 0 for all; got {self.requests}")
        if not 0 < self.kl < 10:
            raise BadInput(f"kl: nats, above 0 and below 10; got {self.kl}")
