"""Words that change what a model says: search, baselines, effects, and how deep alignment goes."""

from .baselines import random_prefixes, written
from .deepening import deepen, recovered
from .depth import AnswerDepth, answer_depth
from .effects import prefix_effects
from .inside import prefix_geometry, prefix_inside
from .matching import Matching, prefix_match
from .objective import Losses, Objective
from .placing import Slot, put, slots
from .prefix import Prefix
from .refusing import refusals
from .search import search_prefix
from .soft import SoftPrefix, fit_soft_prefix
from .transfer import prefix_transfer
from .vocabulary import allowed

__all__ = [
    "AnswerDepth",
    "Losses",
    "Matching",
    "Objective",
    "Prefix",
    "Slot",
    "SoftPrefix",
    "allowed",
    "answer_depth",
    "deepen",
    "fit_soft_prefix",
    "prefix_effects",
    "prefix_geometry",
    "prefix_inside",
    "prefix_match",
    "prefix_transfer",
    "put",
    "random_prefixes",
    "recovered",
    "refusals",
    "search_prefix",
    "slots",
    "written",
]
