"""What words do: answers, paired with those without words, beside random words of equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..core.errors import BadInput
from ..core.nulls import central
from ..core.paired import paired_proportions
from ..core.tables import units_of
from ..evaluation.measures import estimate, measure
from ..interventions import Asker
from ..models.tokens import encode_pairs
from ..prompts import PromptSet
from .prefix import Prefix
from .soft import SoftPrefix

METRICS = ("safe_score", "answered", "kl")
NONE, RANDOM = "none", "random"


def prefix_effects(
    model: Any,
    prompts: PromptSet | Mapping[str, PromptSet],
    prefixes: Mapping[str, Prefix | SoftPrefix | str],
    *,
    random: Sequence[Prefix | SoftPrefix] = (),
    progress: bool | None = None,
) -> pd.DataFrame:
    """Measure what words change on held-out prompts.

    Args:
        model: What `load_model` returns; edits that are active act.
        prompts: Contrast pairs, or several sets by name (claims, prompt forms, requests).
        prefixes: Words by name; a plain text stands before the question. Vectors (`SoftPrefix`) stand in front of the prompt; with them no
            edits may be active.
        random: Words drawn at random (`random_prefixes`), or vectors (`SoftPrefix.shuffled`); they are pooled.
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        Rows `condition, prefix, text, metric, value, low, high, n, note`; the prefix "none" is the model as it is. Metrics: "safe_score"
        (share of safe answers, clustered by identity), "gain" (its difference from "none" over the same prompts), "answered" (probability
        of the two answers together), "kl" (of the next token, from no words to words, nats) and "tokens" (by which a prompt grows).
        "random" has the middle draw and the interval that holds a further one; `n` is then the number of draws.

    Raises:
        BadInput: A name is taken by a control.

    Note:
        "gain" compares with nothing done. That words of any kind do something shows in "random".
    """
    sets = {"prompts": prompts} if isinstance(prompts, PromptSet) else dict(prompts)
    if taken := sorted({NONE, RANDOM} & set(prefixes)):
        raise BadInput(f"{taken[0]!r} is the name of a control: name your words otherwise")
    known = {name: Prefix(text=p) if isinstance(p, str) else p for name, p in prefixes.items()}
    rows: list[dict[str, Any]] = []
    with tqdm(
        total=len(sets) * (1 + len(known) + len(random)),
        desc="effects of words",
        leave=False,
        disable=None if progress is None else not progress,
    ) as bar:
        for condition, items in sets.items():
            rows += _condition(model, condition, items, known, random, bar)
    return pd.DataFrame(rows)


def lengths(model: Any, prompts: PromptSet) -> np.ndarray:
    """Return the number of tokens of each prompt.

    Args:
        model: What `load_model` returns, or a described model.
        prompts: Contrast pairs.

    Returns:
        Tokens up to where the answer begins, `item`.
    """
    return np.array([pair.stem for pair in encode_pairs(model, prompts)])


def _condition(
    model: Any,
    condition: str,
    prompts: PromptSet,
    known: Mapping[str, Prefix | SoftPrefix],
    random: Sequence[Prefix | SoftPrefix],
    bar: Any,
) -> list[dict[str, Any]]:
    bare = Asker(model, prompts)
    frame = prompts.to_frame()
    people = units_of(frame)
    before = measure(bare, bare.base, frame)
    bar.update()
    rows: list[dict[str, Any]] = []

    def put(name: str, text: str, metric: str, found: Mapping[str, Any], note: str = "") -> None:
        rows.append({"condition": condition, "prefix": name, "text": text, "metric": metric, **found, "note": note})

    def told(prefix: Prefix | SoftPrefix) -> dict[str, np.ndarray]:
        if isinstance(prefix, SoftPrefix):
            out = measure(bare, prefix.says(model, prompts), frame)
        else:
            asked = Asker(model, prefix.put(prompts, model=model))
            out = measure(bare, asked.ask(), frame)
            asked.forget()
        bar.update()
        return out

    for metric in METRICS[:2]:
        put(NONE, "", metric, estimate(metric, before[metric], people))
    for name, prefix in known.items():
        now = told(prefix)
        soft = isinstance(prefix, SoftPrefix)
        text = f"{len(prefix.vectors)} vectors" if soft else prefix.text
        for metric in METRICS:
            put(name, text, metric, estimate(metric, now[metric], people))
        gain = paired_proportions(now["safe_score"], before["safe_score"], people)
        put(name, text, "gain", gain.row(), gain.note)
        grown = [len(prefix.vectors)] if soft else lengths(model, prefix.put(prompts, model=model)) - lengths(model, prompts)
        longer = float(np.median(grown))
        put(name, text, "tokens", {"value": longer, "low": longer, "high": longer, "n": len(prompts)})
    if random:
        drawn = [told(prefix) for prefix in random]
        values = {m: [float(d[m].mean()) for d in drawn] for m in METRICS}
        values["gain"] = [v - float(before["safe_score"].mean()) for v in values["safe_score"]]
        for metric, draws in values.items():
            c = central(draws)
            put(RANDOM, "", metric, {"value": c.middle, "low": c.low, "high": c.high, "n": c.draws}, c.note)
    bare.forget()
    return rows
