"""Evaluation: what the model says."""

from .agreement import agreement, answers, answers_of, choose_answers, false_negatives, recovery

__all__ = ["agreement", "answers", "answers_of", "choose_answers", "false_negatives", "recovery"]
