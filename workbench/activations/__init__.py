"""Capture: read a model in bulk, keep what was read with its rows and its origin."""

from .capture import POSITIONS, capture
from .store import Activations

__all__ = ["POSITIONS", "Activations", "capture"]
