"""The one door to TransformerLens: loading, tokens, hooks, forward passes."""

from .available import available_models
from .copies import changed_copy
from .edits import Edit, Edits, Gate, Read
from .embedded import mean_embeddings
from .fetch import get_model
from .generate import Generated, generate_texts
from .hooks import SITES, Fired, edited
from .known import ModelInfo, info
from .load import load_model, untrained_copy, wrap
from .planted import planted
from .readout import Readout, readout, unembedding
from .scopes import Scope
from .source import bundled_adapters, bundled_models, check_source
from .weights import Change, head_outputs, reweighted
from .writing import writers

__all__ = [
    "SITES",
    "Change",
    "Edit",
    "Edits",
    "Fired",
    "Gate",
    "Generated",
    "ModelInfo",
    "Read",
    "Readout",
    "Scope",
    "available_models",
    "bundled_adapters",
    "bundled_models",
    "changed_copy",
    "check_source",
    "edited",
    "generate_texts",
    "get_model",
    "head_outputs",
    "info",
    "load_model",
    "mean_embeddings",
    "planted",
    "readout",
    "reweighted",
    "unembedding",
    "untrained_copy",
    "wrap",
    "writers",
]
