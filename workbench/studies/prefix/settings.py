"""The grid of the study of words."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput, UnknownTemplate, unknown
from ...prefixes.placing import WHERE
from ...prefixes.vocabulary import WORDS
from ...prompts import templates
from ..asking import AskSettings
from ..outside import judges
from ..statements import check_claims

FEWEST = 20  # random words of a control


@dataclass(frozen=True, kw_only=True)
class PrefixSettings(AskSettings):
    """The grid of the study.

    Attributes:
        template: The prompt form with a claim that is searched on.
        other: Another one, on which words are only measured.
        claims: The harm claim, and the one opposite to it.
        length: The most tokens of the words.
        where: "before" the question, "after" it, or "system".
        filter: Tokens that may be used: "ascii", "any" or "readable".
        readable: Steps of a further search in readable words; 0: left out.
        nonsense: What the control search is after; empty: left out.
        matched: Steps of a search for words that move the stream as the stance does, at the layer a third up; 0: left out.
        soft: Updates of a training of vectors in place of words; 0: left out.
        requests: Held-out requests on which refusals are counted, half of them harmful; 0: left out.
        xstest: A file or folder of requests of others, such as XSTest; refusals of its safe and unsafe prompts are counted too.
        mmlu: A file or folder of questions with two options, such as MMLU's: how many are answered rightly under words.
        hh_rlhf: Another one, such as HH-RLHF.
        asked: Items at most of each of these.
        judge, judge_model: Address and model of an endpoint that judges replies to requests beside stock phrases (its key stands in
            OPENAI_API_KEY; an endpoint on this machine gets none).
        train, validation, test: Statements to search on, to choose by, and to report.
        steps, width, restarts: Of each search.
        random: Random words of the control.
        clean: Statements without a claim that the probe is fitted on.
        layers: Layers at most that are read, evenly spread.
        seed: Draws everything.
    """

    template: str = "consider_claim"
    other: str = "since_claim"
    claims: tuple[str, ...] = ("harm", "good")
    length: int = 8
    where: str = "before"
    filter: str = "ascii"
    readable: int = 60
    nonsense: str = "the kettle"
    matched: int = 30
    soft: int = 200
    requests: int = 48
    xstest: str = ""
    mmlu: str = ""
    hh_rlhf: str = ""
    asked: int = 200
    judge: str = ""
    judge_model: str = ""
    train: int = 16
    validation: int = 32
    test: int = 200
    steps: int = 60
    width: int = 48
    restarts: int = 1
    random: int = FEWEST
    clean: int = 300
    layers: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.template, self.other):
            own = {n for n, t in templates().items() if "claim" in t.fields}
            if name not in own:
                raise unknown(UnknownTemplate, "template with a claim", name, own)
        if len(self.claims) != 2:
            raise BadInput("claims=: two of them, the harm claim and the one opposite to it")
        check_claims(self.claims)
        if self.where not in WHERE or self.filter not in WORDS:
            raise BadInput(f"where={self.where!r}, filter={self.filter!r}: one of {', '.join(WHERE)}, and one of {', '.join(WORDS)}")
        least = {
            "length": 1,
            "train": 4,
            "validation": 4,
            "test": 16,
            "steps": 1,
            "width": 1,
            "restarts": 1,
            "random": FEWEST,
            "clean": 32,
            "layers": 1,
            "asked": 16,
        }
        judges(self.judge, self.judge_model, self.seed)
        for name, few in least.items():
            if getattr(self, name) < few:
                raise BadInput(f"{name}: {few} at least, got {getattr(self, name)}")
        if below := [n for n in ("readable", "matched", "soft", "requests") if getattr(self, n) < 0]:
            raise BadInput(f"{below[0]}: 0 or more, got {getattr(self, below[0])}")
