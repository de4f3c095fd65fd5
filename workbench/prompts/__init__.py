"""Prompts: contrast pairs, templates, grouped splits, and where they come from."""

from .conversations import conversations
from .distractors import DISTRACTORS, with_distractor
from .loaders import from_table, identities_from_lines, read_lines, read_table, rights_from_lines
from .pairs import ContrastPair, PromptSet
from .requests import factorial, request_pairs, requests
from .splits import Split, grouped_folds, grouped_split
from .templates import Template, claim_phrasings, claims, get_template, templates
from .udhr import Identity, Right, identities, rights, udhr

__all__ = [
    "DISTRACTORS", "ContrastPair", "Identity", "PromptSet", "Right", "Split", "Template", "claim_phrasings", "claims", "conversations",
    "factorial", "from_table", "get_template", "grouped_folds", "grouped_split", "identities", "identities_from_lines", "read_lines",
    "read_table", "request_pairs", "requests", "rights", "rights_from_lines", "templates", "udhr", "with_distractor",
]  # fmt: skip
