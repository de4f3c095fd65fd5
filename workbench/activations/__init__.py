"""Capture: read a model in bulk, keep what was read with its rows and its origin."""

from .activations import Activations
from .capture import answer_logp, capture
from .parallel import capture_parallel
from .patterns import AttentionPattern, attention_patterns
from .reading import POSITIONS
from .statistics import Statistics, stream_statistics

__all__ = [
    "POSITIONS",
    "Activations",
    "AttentionPattern",
    "Statistics",
    "answer_logp",
    "attention_patterns",
    "capture",
    "capture_parallel",
    "stream_statistics",
]
