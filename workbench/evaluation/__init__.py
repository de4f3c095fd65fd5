"""Evaluation: what the model says."""

from .agreement import agreement, answers, choose_answers, false_negatives, recovery

__all__ = ["agreement", "answers", "choose_answers", "false_negatives", "recovery"]
