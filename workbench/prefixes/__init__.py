"""Words that change what a model says: search, baselines, effects, and how deep alignment goes."""

from .objective import Losses, Objective
from .placing import Slot, put, slots
from .prefix import Prefix
from .search import search_prefix
from .vocabulary import allowed

__all__ = ["Losses", "Objective", "Prefix", "Slot", "allowed", "put", "search_prefix", "slots"]
