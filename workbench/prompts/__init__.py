"""Prompts: contrast pairs, templates, grouped splits, and where they come from."""

from .benchmarks import MultiTruth, mmlu, truthfulqa, truthfulqa_mc
from .caa import caa_behaviours, load_ab, load_caa, shared_stems
from .choices import Choice, choices_to_prompts, letter_form, to_ab
from .conversations import conversations
from .distractors import DISTRACTORS, with_distractor
from .held_out import udhr_split
from .lists import identities_from_lines, read_lines, rights_from_lines
from .loaders import from_table, read_table
from .outside import hh_rlhf, instruction_pairs, instructions, xstest
from .pairs import ContrastPair, PromptSet
from .requests import factorial, request_pairs, requests
from .rewrites import REWRITES, rewrite, rewrites_of
from .splits import Split, grouped_folds, grouped_split
from .statements import Statements, check_sides, own_statements, statements
from .templates import Template, claim_phrasings, claims, get_template, templates
from .udhr import Identity, Right, identities, rights, udhr

__all__ = [
    "DISTRACTORS",
    "REWRITES",
    "rewrite",
    "rewrites_of",
    "Choice",
    "MultiTruth",
    "caa_behaviours",
    "choices_to_prompts",
    "hh_rlhf",
    "instruction_pairs",
    "instructions",
    "letter_form",
    "load_ab",
    "load_caa",
    "mmlu",
    "shared_stems",
    "to_ab",
    "truthfulqa",
    "truthfulqa_mc",
    "xstest",
    "ContrastPair",
    "Identity",
    "PromptSet",
    "Right",
    "Split",
    "Template",
    "claim_phrasings",
    "claims",
    "conversations",
    "factorial",
    "from_table",
    "get_template",
    "grouped_folds",
    "grouped_split",
    "identities",
    "identities_from_lines",
    "read_lines",
    "read_table",
    "request_pairs",
    "requests",
    "rights",
    "rights_from_lines",
    "templates",
    "udhr",
    "udhr_split",
    "with_distractor",
    "Statements",
    "check_sides",
    "own_statements",
    "statements",
]
