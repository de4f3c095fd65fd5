"""Interventions: edits along directions, what they cost, patching, and reading a direction."""

from .alignment import align, alignment_table
from .answer_layers import answer_lens
from .asker import Asker
from .components import contrast_components
from .cost import Tuned, kl, mean_norm, random_directions, tune
from .custom import custom_edit
from .gates import gate
from .generation import generate
from .lens import project_tokens, top_tokens
from .metrics import Metric, probe_metric
from .orthogonal import orthogonalised
from .patching import attribution_error, patch
from .pushes import ablate, ablate_everywhere, add, clamp, rotate
from .vectors import VectorSet, fit_vectors, vectors_from

__all__ = [
    "Asker",
    "Metric",
    "Tuned",
    "VectorSet",
    "ablate",
    "ablate_everywhere",
    "add",
    "align",
    "alignment_table",
    "answer_lens",
    "attribution_error",
    "clamp",
    "contrast_components",
    "custom_edit",
    "fit_vectors",
    "gate",
    "generate",
    "kl",
    "mean_norm",
    "orthogonalised",
    "patch",
    "probe_metric",
    "project_tokens",
    "random_directions",
    "rotate",
    "top_tokens",
    "tune",
    "vectors_from",
]
