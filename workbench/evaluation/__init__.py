"""Evaluation: what the model says, and what a push inside does to it."""

from . import judges
from .agreement import agreement, answers, answers_of, choose_answers, false_negatives, recovery
from .cost import equal_cost
from .cross_steering import cross_steering
from .detection import claim_effects, content_free, discrimination
from .dose import dose_response, fluency_break, steerability
from .eliciting import Form, best_form, elicitation, forms
from .multiple_choice import capability, multiple_choice
from .shot_laws import ShotLaws, fit_shot_laws
from .texts import fluency, perplexity, perplexity_ratio, text_nll
from .verdicts import answer_verdict, inside_verdict, verdict
from .weak_to_strong import Imitation, gap_recovered, imitation

__all__ = [
    "Form",
    "Imitation",
    "agreement",
    "answers",
    "answers_of",
    "best_form",
    "capability",
    "claim_effects",
    "content_free",
    "choose_answers",
    "cross_steering",
    "discrimination",
    "dose_response",
    "elicitation",
    "equal_cost",
    "false_negatives",
    "judges",
    "fluency",
    "fluency_break",
    "ShotLaws",
    "fit_shot_laws",
    "forms",
    "gap_recovered",
    "imitation",
    "multiple_choice",
    "perplexity",
    "perplexity_ratio",
    "recovery",
    "steerability",
    "text_nll",
    "answer_verdict",
    "inside_verdict",
    "verdict",
]
