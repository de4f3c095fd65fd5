"""Changing weights: adapters, losses, unlearning, and what survives them."""

from .adapter import Adapter, Part, adapted
from .fit import train_adapter
from .loop import Plan
from .tasks import LOSSES, Answered

__all__ = ["LOSSES", "Adapter", "Answered", "Part", "Plan", "adapted", "train_adapter"]
