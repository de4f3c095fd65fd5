"""Prompts: contrast pairs, templates, grouped splits, and where they come from."""

from .benchmarks import MultiTruth, mmlu, truthfulqa, truthfulqa_mc
from .caa import caa_behaviours, load_ab, load_caa, shared_stems
from .choices import Choice, choices_to_prompts, letter_form
from .conversations import conversations
from .distractors import DISTRACTORS, with_distractor
from .held_out import udhr_split
from .layouts import layouts
from .left_out import Skipped
from .lists import identities_from_lines, read_lines, rights_from_lines
from .load import Listing, Loaded, left_out_table, load
from .loaders import from_table, read_table
from .outside import hh_rlhf, instruction_pairs, instructions, xstest
from .pairs import ContrastPair, PromptSet
from .requests import factorial, request_pairs, requests
from .rewrites import REWRITES, rewrite, rewrites_of
from .singles import as_questions, negation_pairs, single_statements
from .splits import Split, grouped_folds, grouped_split
from .statements import Statements, check_sides, own_statements, statements
from .student_prompts import StudentProject, project_pairs, student_project
from .templates import Template, claim_phrasings, claims, get_template, templates
from .two_options import to_ab
from .udhr import Identity, Right, identities, rights, udhr
from .unclaimed import without_claim

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
    "without_claim",
    "udhr_split",
    "with_distractor",
    "Listing",
    "Loaded",
    "Skipped",
    "StudentProject",
    "layouts",
    "left_out_table",
    "load",
    "project_pairs",
    "student_project",
    "Statements",
    "as_questions",
    "negation_pairs",
    "single_statements",
    "check_sides",
    "own_statements",
    "statements",
]
