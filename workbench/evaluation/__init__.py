"""Evaluation: what the model says, and what a push inside does to it."""

from . import judges
from .agreement import agreement, answers, answers_of, choose_answers, false_negatives, recovery
from .cost import equal_cost
from .cross_steering import cross_steering
from .dose import dose_response, fluency_break, steerability
from .multiple_choice import capability, multiple_choice
from .texts import fluency, perplexity, perplexity_ratio, text_nll

__all__ = [
    "agreement",
    "answers",
    "answers_of",
    "capability",
    "choose_answers",
    "cross_steering",
    "dose_response",
    "equal_cost",
    "false_negatives",
    "judges",
    "fluency",
    "fluency_break",
    "multiple_choice",
    "perplexity",
    "perplexity_ratio",
    "recovery",
    "steerability",
    "text_nll",
]
