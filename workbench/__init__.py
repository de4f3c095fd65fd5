"""The workbench: what a language model says, what it knows inside, and along which directions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "load_model": "models",
    "untrained_copy": "models",
    "bundled_models": "models",
    "available_models": "models",
    "get_model": "models",
    "edited": "models",
    "Edit": "models",
    "Read": "models",
    "Edits": "models",
    "Scope": "models",
    "PromptSet": "prompts",
    "ContrastPair": "prompts",
    "Split": "prompts",
    "grouped_split": "prompts",
    "capture": "activations",
    "Activations": "activations",
    "attention_patterns": "activations",
    "stream_statistics": "activations",
    "capture_parallel": "activations",
    "fit_logistic": "probes",
    "fit_mass_mean": "probes",
    "fit_difference_in_means": "probes",
    "fit_lda": "probes",
    "fit_ridge": "probes",
    "fit_svm": "probes",
    "fit_ccs": "probes",
    "fit_contrast": "probes",
    "resolve_sign": "probes",
    "fit_weak_labels": "probes",
    "probe_layers": "probes",
    "transfer_matrix": "probes",
    "sample_efficiency": "probes",
    "ccs_honesty": "probes",
    "fit_tamper": "probes",
    "tamper_score": "probes",
    "Direction": "directions",
    "extract_direction": "directions",
    "compare_directions": "directions",
    "factorial_geometry": "directions",
    "compare_subspaces": "directions",
    "geometry_power": "directions",
    "erase_and_reprobe": "directions",
    "compare_spaces": "directions",
    "answers": "evaluation",
    "answers_of": "evaluation",
    "agreement": "evaluation",
    "false_negatives": "evaluation",
    "choose_answers": "evaluation",
    "dose_response": "evaluation",
    "multiple_choice": "evaluation",
    "capability": "evaluation",
    "steerability": "evaluation",
    "equal_cost": "evaluation",
    "gap_recovered": "evaluation",
    "imitation": "evaluation",
    "add": "interventions",
    "ablate": "interventions",
    "ablate_everywhere": "interventions",
    "clamp": "interventions",
    "rotate": "interventions",
    "gate": "interventions",
    "orthogonalised": "interventions",
    "generate": "interventions",
    "tune": "interventions",
    "mean_norm": "interventions",
    "VectorSet": "interventions",
    "fit_vectors": "interventions",
    "patch": "interventions",
    "attribution_error": "interventions",
    "top_tokens": "interventions",
    "project_tokens": "interventions",
    "train_adapter": "training",
    "adapted": "training",
    "unlearn": "training",
    "survival": "training",
    "Adapter": "training",
    "Dictionary": "features",
    "train_dictionary": "features",
    "decompose": "features",
    "lens": "features",
    "Lens": "features",
    "search_prefix": "prefixes",
    "answer_depth": "prefixes",
    "Prefix": "prefixes",
    "run_study": "runs",
    "run_sweep": "runs",
    "Sweep": "runs",
    "plan": "runs",
    "compare_runs": "runs",
    "rerun": "runs",
    "redraw": "runs",
    "check_study": "runs",
    "Study": "runs",
    "Main": "runs",
    "Report": "runs",
}
_ROOMS = (
    "activations",
    "core",
    "directions",
    "evaluation",
    "features",
    "figures",
    "interventions",
    "models",
    "organism",
    "prefixes",
    "probes",
    "prompts",
    "runs",
    "studies",
    "training",
)
__all__ = [*_ROOMS, *_WHERE]

if TYPE_CHECKING:
    from . import (
        activations,
        core,
        directions,
        evaluation,
        features,
        figures,
        interventions,
        models,
        organism,
        prefixes,
        probes,
        prompts,
        runs,
        studies,
        training,
    )
    from .activations import Activations, attention_patterns, capture, capture_parallel, stream_statistics
    from .directions import (
        Direction,
        compare_directions,
        compare_spaces,
        compare_subspaces,
        erase_and_reprobe,
        extract_direction,
        factorial_geometry,
        geometry_power,
    )
    from .evaluation import (
        agreement,
        answers,
        answers_of,
        capability,
        choose_answers,
        dose_response,
        equal_cost,
        false_negatives,
        gap_recovered,
        imitation,
        multiple_choice,
        steerability,
    )
    from .features import Dictionary, Lens, decompose, lens, train_dictionary
    from .interventions import (
        VectorSet,
        ablate,
        ablate_everywhere,
        add,
        attribution_error,
        clamp,
        fit_vectors,
        gate,
        generate,
        mean_norm,
        orthogonalised,
        patch,
        project_tokens,
        rotate,
        top_tokens,
        tune,
    )
    from .models import (
        Edit,
        Edits,
        Read,
        Scope,
        available_models,
        bundled_models,
        edited,
        get_model,
        load_model,
        untrained_copy,
    )
    from .prefixes import Prefix, answer_depth, search_prefix
    from .probes import (
        ccs_honesty,
        fit_ccs,
        fit_contrast,
        fit_difference_in_means,
        fit_lda,
        fit_logistic,
        fit_mass_mean,
        fit_ridge,
        fit_svm,
        fit_tamper,
        fit_weak_labels,
        probe_layers,
        resolve_sign,
        sample_efficiency,
        tamper_score,
        transfer_matrix,
    )
    from .prompts import ContrastPair, PromptSet, Split, grouped_split
    from .runs import Main, Report, Study, Sweep, check_study, compare_runs, plan, redraw, rerun, run_study, run_sweep
    from .training import Adapter, adapted, survival, train_adapter, unlearn


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
