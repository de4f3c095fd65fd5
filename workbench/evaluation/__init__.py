"""Evaluation: what the model says, and what a push inside does to it."""

from .agreement import agreement, answers, answers_of, choose_answers, false_negatives, recovery
from .cross_steering import cross_steering

__all__ = ["agreement", "answers", "answers_of", "choose_answers", "cross_steering", "false_negatives", "recovery"]
