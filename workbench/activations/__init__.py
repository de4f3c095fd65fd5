"""Capture: read a model in bulk, keep what was read with its rows and its origin."""

from .activations import Activations
from .capture import answer_logp, capture
from .reading import POSITIONS

__all__ = ["POSITIONS", "Activations", "answer_logp", "capture"]
