"""The grid of the study of debates."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import BadInput
from ...evaluation.debate.cases import FORMS
from ..asking import AskSettings


@dataclass(frozen=True, kw_only=True)
class DebateSettings(AskSettings):
    """The grid of the study.

    Attributes:
        cases: Held-out statements that are debated.
        train: Statements without a debate, on which the probe is fitted.
        strengths: Of scripted debaters, ascending, 0 to 1: how often a turn quotes the text.
        turns: Speeches of each side.
        speech: How what was said stands in front of the question: "named" (who speaks for which answer) or "consider" (sentences that begin
            "Consider that"); empty, the latter for models with planted truth and the former for others.
        lean: Log-odds by which the planted judge leans to the side that speaks first.
        debater, debater_model: Address and model of an endpoint that argues in place of the script (its key stands in OPENAI_API_KEY; an
            endpoint on this machine gets none).
        judge, judge_model: Of an endpoint that judges too, by rating both answers.
        seed: Draws everything.
    """

    cases: int = 200
    train: int = 240
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0)
    turns: int = 2
    speech: str = ""
    lean: float = 1.0
    debater: str = ""
    debater_model: str = ""
    judge: str = ""
    judge_model: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("cases", 24), ("train", 48), ("turns", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}: {least} at least, got {getattr(self, name)}")
        if not self.strengths or sorted(set(self.strengths)) != list(self.strengths) or not all(0 <= s <= 1 for s in self.strengths):
            raise BadInput(f"strengths={self.strengths}: ascending numbers from 0 to 1")
        if self.speech not in ("", *FORMS):
            raise BadInput(f"speech={self.speech!r}: one of {', '.join(FORMS)}, or empty")
        for who in ("debater", "judge"):
            if bool(getattr(self, who)) != bool(getattr(self, f"{who}_model")):
                raise BadInput(f"an endpoint needs an address and the name of a model: {who}=, {who}_model=")
