"""Changing weights: adapters, losses, unlearning, and what survives them."""

from .acting import Words, acting, under
from .adapter import Adapter, Part, adapted
from .carry import adapter_transfer, carry_adapter
from .fit import train_adapter
from .loop import Plan
from .survival import Survival, survival
from .tasks import LOSSES, Answered
from .unlearn import direction_of, unlearn
from .verdict import VERDICTS, survival_verdict

__all__ = [
    "LOSSES",
    "VERDICTS",
    "Adapter",
    "Answered",
    "Part",
    "Plan",
    "Survival",
    "Words",
    "acting",
    "adapted",
    "adapter_transfer",
    "carry_adapter",
    "direction_of",
    "survival",
    "survival_verdict",
    "train_adapter",
    "under",
    "unlearn",
]
