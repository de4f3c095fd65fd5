"""The one door to TransformerLens: loading, tokens, hooks, forward passes."""

from .hooks import SITES, Edit, Fired, Read, edited
from .load import ModelInfo, info, load_model, untrained_copy, wrap
from .planted import planted
from .source import bundled_models
from .weights import head_outputs, unembedding

__all__ = [
    "SITES", "Edit", "Fired", "ModelInfo", "Read", "bundled_models", "edited", "head_outputs", "info", "load_model", "planted",
    "unembedding", "untrained_copy", "wrap",
]  # fmt: skip
