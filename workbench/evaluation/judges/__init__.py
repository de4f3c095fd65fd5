"""Judges: what says of an answer whether it shows a behaviour, how wrong it is, and how far several agree."""

from ...models.thoughts import Answer, answer_of
from .base import (
    BadVerdicts,
    BudgetExceeded,
    EndpointFailed,
    EndpointRefused,
    Judge,
    MissingKey,
    UnknownLabel,
    judge_all,
)
from .classifier import ClassifierJudge
from .endpoint import EndpointJudge
from .kappa import agreement_between
from .people import PeopleJudge
from .phrases import PHRASES, RefusalPhrases, known_errors, labelled_refusals
from .price import CostEstimate
from .probe import ProbeJudge
from .rubric import HARM_RUBRIC, REFUSAL_RUBRIC

__all__ = [
    "HARM_RUBRIC",
    "PHRASES",
    "REFUSAL_RUBRIC",
    "Answer",
    "BadVerdicts",
    "BudgetExceeded",
    "ClassifierJudge",
    "CostEstimate",
    "EndpointFailed",
    "EndpointJudge",
    "EndpointRefused",
    "Judge",
    "MissingKey",
    "PeopleJudge",
    "ProbeJudge",
    "RefusalPhrases",
    "UnknownLabel",
    "agreement_between",
    "answer_of",
    "judge_all",
    "known_errors",
    "labelled_refusals",
]
