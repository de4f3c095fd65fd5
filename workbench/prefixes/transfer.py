"""Whether words that were found on one model work on another: every prefix on every model, and own words against the others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput, ShapeMismatch
from ..core.stats import Estimate, paired_difference, undefined
from ..core.tables import units_of
from ..evaluation import answers
from ..models.known import name_of
from ..prompts import PromptSet
from .effects import NONE, RANDOM, prefix_effects
from .prefix import Prefix

OWN, APART, BOTH = "own less other words", "words of all less other words", "all models"
COLUMNS = ["model", "prefix", "own", "text", "metric", "value", "low", "high", "n", "note"]


def prefix_transfer(
    models: Mapping[str, Any],
    prompts: PromptSet | Mapping[str, PromptSet],
    prefixes: Mapping[str, Prefix],
    *,
    random: Mapping[str, Sequence[Prefix]] | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Measure words on the models that they were searched on, and on those that they were not.

    Args:
        models: What `load_model` returns, by name; two at least, whose own names differ. Tokenizers may differ.
        prompts: Held-out contrast pairs, one set for all, or by name of the model the same statements as that model is asked them.
        prefixes: Words by name. Which models they were searched on is read from `Prefix.ids`.
        random: By name of the model, words drawn at random in its tokens (`random_prefixes`).
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        Rows `model, prefix, own, text, metric, value, low, high, n, note`. For each model and prefix the metrics of `prefix_effects`;
        `own` is 1 where the words were searched on the model, alone or with others, 0 where not, and -1 for controls. Two contrasts of
        `safe_score` by model and, under "all models", over all: "own less other words" (words searched on this model alone less words
        searched on other models alone, the diagonal against the rest) and "words of all less other words" (words searched on all models
        together less words searched on other models alone). Both are paired by statement and clustered by identity.

    Raises:
        BadInput: There are fewer than two models, two share a name, or a prefix was searched on none of them.
        ShapeMismatch: Models are given different numbers of statements.

    Note:
        A model that follows any words at all shows transfer that has nothing to do with the search: see the row "random".
    """
    named = {key: name_of(model) for key, model in models.items()}
    if len(set(named.values())) < 2 or len(set(named.values())) < len(named):
        raise BadInput(f"transfer is between two models at least, whose names differ; got {', '.join(named.values()) or 'none'}")
    found = {p: {key for key, name in named.items() if name in prefix.ids} for p, prefix in prefixes.items()}
    if stray := sorted(p for p, on in found.items() if not on):
        raise BadInput(f"the words {stray[0]!r} were searched on none of {', '.join(named.values())}: their .ids name no such model")
    sets = {key: prompts if isinstance(prompts, PromptSet) else prompts[key] for key in models}
    if len({len(s) for s in sets.values()}) > 1:
        raise ShapeMismatch(f"models are given {sorted({len(s) for s in sets.values()})} statements: the same ones for all")
    out: list[pd.DataFrame] = []
    safe: dict[tuple[str, str], np.ndarray] = {}
    for key, model in models.items():
        table = prefix_effects(model, sets[key], prefixes, random=(random or {}).get(key, ()), progress=progress)
        own = {**{p: int(key in on) for p, on in found.items()}, NONE: -1, RANDOM: -1}
        out.append(table.assign(model=key, own=table["prefix"].map(own)))
        for p, prefix in prefixes.items():
            safe[key, p] = answers(model, prefix.put(sets[key], model=model), progress=False)["safe"].to_numpy(float)
    people = units_of(next(iter(sets.values())).to_frame())
    rows = _contrast(OWN, safe, {key: [p for p, on in found.items() if on == {key}] for key in models}, found, people)
    rows += _contrast(APART, safe, {key: [p for p, on in found.items() if on == set(models)] for key in models}, found, people)
    return pd.concat([*out, pd.DataFrame(rows)], ignore_index=True)[COLUMNS]


def _contrast(
    name: str, safe: Mapping[tuple[str, str], np.ndarray], first: Mapping[str, list[str]], found: Mapping[str, set[str]], people: Any
) -> list[dict[str, Any]]:
    """Rows of a contrast: on each model, the words of `first` less those that were searched on other models only."""
    rows, sides = [], []
    for key, mine in first.items():
        others = [p for p, on in found.items() if key not in on]
        if not mine or not others:
            rows.append(_row(key, name, undefined("no words to compare")))
            continue
        a, b = (np.mean([safe[key, p] for p in group], axis=0) for group in (mine, others))
        sides.append((a, b))
        rows.append(_row(key, name, paired_difference(a, b, people, reach=1.0)))
    whole = undefined("no words to compare")
    if sides:
        a, b = (np.mean(side, axis=0) for side in zip(*sides, strict=True))
        whole = paired_difference(a, b, people, reach=1.0)
    return [*rows, _row(BOTH, name, whole)]


def _row(model: str, prefix: str, found: Estimate) -> dict[str, Any]:
    return {"model": model, "prefix": prefix, "own": -1, "text": "", "metric": "safe_score", **found.row(), "note": found.note}


__all__ = ["APART", "BOTH", "OWN", "prefix_transfer"]
