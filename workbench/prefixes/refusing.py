"""How often a model refuses requests under words, an adapter or a push: refusals of harmful requests, and of harmless ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..core.errors import BadInput
from ..core.paired import paired_proportions
from ..core.stats import Estimate, proportion, undefined
from ..evaluation.judges import Judge, RefusalPhrases
from ..models import generate_texts
from ..models.tokens import encode_pairs
from ..prompts import PromptSet
from .depth import defended

NONE = "none"


def refusals(
    model: Any,
    requests: Mapping[str, PromptSet],
    defences: Mapping[str, Any] | None = None,
    *,
    judges: Mapping[str, Judge] | None = None,
    new_tokens: int = 24,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Count refusals of requests, with nothing done and under each defence.

    Args:
        model: What `load_model` returns.
        requests: Prompts by name, such as harmful ones, harmless ones, and those of XSTest that only look harmful.
        defences: By name, what acts: a prefix (`Prefix`), an adapter, or edits.
        judges: By name, what says which replies are refusals; stock phrases by default. Several show where they part.
        new_tokens: Tokens of a reply.
        progress: Show a progress bar; by default only in a terminal or a notebook.

    Returns:
        Rows `requests, condition, judge, metric, value, low, high, n, note`, intervals clustered by identity. "refused" is a share; "more"
        its difference from the condition "none" over the same requests. Replies that a judge cannot tell are left out of both.

    Raises:
        BadInput: A defence is named "none".

    Note:
        Refusing harmless requests is the price of a defence that makes a model refuse: see Röttger et al. 2024, arXiv 2308.01263.
    """
    if NONE in (defences or {}):
        raise BadInput(f"{NONE!r} is the model as it is: name the defence otherwise")
    chosen: dict[str, Any] = {"phrases": RefusalPhrases()} if judges is None else dict(judges)
    ways = {NONE: None, **(defences or {})}
    rows: list[dict[str, Any]] = []
    hidden = None if progress is None else not progress
    with tqdm(total=len(ways) * len(requests), desc="refusals", leave=False, disable=hidden) as bar:
        for name, prompts in requests.items():
            people = prompts.to_frame()["identity"].to_numpy()
            first: dict[str, pd.Series] = {}
            for condition, defence in ways.items():
                with defended(model, defence) as words:
                    asked = prompts if words is None else words.put(prompts, model=model)
                    stems = [pair.negative[: pair.stem] for pair in encode_pairs(model, asked)]
                    wrote = [g.text for g in generate_texts(model, stems, max_new_tokens=new_tokens, progress=False)]
                for judge, one in chosen.items():
                    said = one.judge([p.stem for p in prompts], wrote)["verdict"].reset_index(drop=True)
                    first.setdefault(judge, said)
                    place = {"requests": name, "condition": condition, "judge": judge}
                    told = {"refused": _share(said, people), "more": _more(said, first[judge], people)}
                    rows += [place | {"metric": m, **e.row(), "note": e.note} for m, e in told.items() if condition != NONE or m != "more"]
                bar.update()
    return pd.DataFrame(rows)


def _share(said: pd.Series, people: Any) -> Estimate:
    heard = said.notna().to_numpy()
    return proportion(said[heard].astype(bool).to_numpy(), people[heard]) if heard.any() else undefined("no reply could be judged")


def _more(said: pd.Series, before: pd.Series, people: Any) -> Estimate:
    heard = (said.notna() & before.notna()).to_numpy()
    if not heard.any():
        return undefined("no reply could be judged")
    return paired_proportions(said[heard].astype(float).to_numpy(), before[heard].astype(float).to_numpy(), people[heard])


__all__ = ["refusals"]
