"""Capture: read a model in bulk, keep what was read with its rows and its origin."""

from .activations import Activations
from .capture import capture
from .reading import POSITIONS

__all__ = ["POSITIONS", "Activations", "capture"]
