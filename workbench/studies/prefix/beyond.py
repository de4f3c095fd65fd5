"""What words do beside the answers: words matched with the stance, vectors in place of words, what survives, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...activations import capture
from ...core.direction import Direction
from ...directions import extract_direction, place_of
from ...prefixes import (
    Prefix,
    SoftPrefix,
    fit_soft_prefix,
    prefix_effects,
    prefix_match,
    random_prefixes,
    search_prefix,
    written,
)
from ...training import survival
from ..outside import TABLES as OUTSIDE
from ..outside import judges
from .report import SEARCHED

if TYPE_CHECKING:
    from .study import Words

MATCHED = "matched words"
FEWEST = 40  # held-out statements, below which too few people are left to fit a probe on and to read others with
TABLES = {
    "match": "prefix metric | text value low high n note",
    "soft": "condition prefix metric | text value low high n note",
    "nearest": "place | token distance cosine norm between",
    "survival": "words verdict aspect detail layer metric | value low high n note",
    **OUTSIDE,
}


def early(study: Words) -> int:
    """The layer of the stance, a third of the way up: later the answer is decided. It was chosen after two thirds had been seen to fail."""
    return study.info.n_layers // 3


def _stance(study: Words) -> Direction:
    """From the harm claim to the good one, at the last token of the prompt, on training statements."""
    sides = [study._prompts(study.set.template, c, study.set.clean, "train") for c in (study.good, study.harm)]
    good, harm = (capture(study.model, s, layers=[early(study)], position="stem_last", progress=study.progress) for s in sides)
    x, y = (acts.layer(early(study))[:, 0] for acts in (good, harm))
    return extract_direction(x, y, halves=0, provenance=place_of(good, early(study)), seed=study.set.seed)


def matched(study: Words, found: Mapping[str, Path]) -> None:
    """Search for words that move the stream as the stance does, and measure how near all words come to it.

    Args:
        study: The study, with its prompts.
        found: By name, the folders of the words that were searched before.
    """
    if not study.set.matched:
        return
    train, validation = study.searched[study.harm]

    def search(place: Path, state: Path) -> None:
        how: dict[str, Any] = {"where": study.set.where, "width": study.set.width, "words": study.set.filter, "seed": study.set.seed}
        how |= {
            "race": min(4, len(train) - 1),
            "validation": validation,
            "progress": study.progress,
            "steps": study.set.matched,
            "store": state,
        }
        search_prefix(study.model, train, _stance(study), study.set.length, **how).save(place)

    path = study.run.folder(MATCHED, None, search, doing="search words that move the stream as the stance does", resumes=True)

    def make() -> pd.DataFrame:
        words = {MATCHED: Prefix.load(path), **{name: Prefix.load(p) for name, p in found.items()}, "good claim": written()["good_claim"]}
        how: dict[str, Any] = {"count": study.set.random, "where": study.set.where, "words": study.set.filter, "seed": study.set.seed}
        drawn = random_prefixes(study.model, train, study.set.length, **how)
        return prefix_match(study.model, study.held[f"{study.harm} claim"], _stance(study), words, random=drawn, seed=study.set.seed)

    items = study.set.test * (3 + 2 * len(found) + study.set.random)
    study.run.table("match", make=make, doing="compare the effects of words with the stance", items=items)


def soft(study: Words) -> None:
    """Train vectors in front of the prompt, and measure them beside the nearest words and random vectors."""
    if not study.set.soft:
        return
    train, validation = study.searched[study.harm]

    def fit(place: Path, state: Path) -> None:
        how: dict[str, Any] = {
            "place": state,
            "steps": study.set.soft,
            "words": study.set.filter,
            "seed": study.set.seed,
            "progress": study.progress,
        }
        fit_soft_prefix(study.model, train, "safe", study.set.length, validation=validation, **how).save(place)

    path = study.run.folder("soft prefix", None, fit, doing="train a soft prefix", resumes=True)

    def make() -> dict[str, pd.DataFrame]:
        vectors = SoftPrefix.load(path)
        words, near = vectors.nearest(study.model, study.set.filter)
        held = {f"{study.harm} claim": study.held[f"{study.harm} claim"]}
        drawn = vectors.shuffled(study.set.random, seed=study.set.seed)
        both: dict[str, Any] = {"soft prefix": vectors, "its nearest words": words}
        return {"soft": prefix_effects(study.model, held, both, random=drawn, progress=study.progress), "nearest": near}

    study.run.table(("soft", "nearest"), make=make, doing="measure a soft prefix", items=study.set.test * (3 + study.set.random))


def survives(study: Words, found: Mapping[str, Path]) -> None:
    """Whether what the model knows survives words: erased, rotated, hidden or untouched."""
    if study.set.test < FEWEST:
        return

    def make() -> pd.DataFrame:
        out = []
        for name, condition in zip(SEARCHED, (f"{study.harm} claim", "no claim"), strict=True):
            words = Prefix.load(found[name]).on(study.model)
            told = survival(study.model, words, study.held[condition], layers=study.layers, seed=study.set.seed, progress=study.progress)
            out.append(told.table.assign(words=f"{name}, {condition}", verdict=told.verdict))
        return pd.concat(out, ignore_index=True)

    study.run.table("survival", make=make, doing="what survives words", items=8 * study.set.test)


def refused(study: Words, found: Mapping[str, Path]) -> None:
    """Refusals of harmful and harmless requests under words, and right answers to questions of others: what they cost."""

    def some() -> dict[str, Prefix]:
        words = {name: Prefix.load(path) for name, path in found.items()} | {"written: care": written()["care"]}
        drawn = partial(random_prefixes, study.model, study.searched[study.harm][0], study.set.length, count=1, where=study.set.where)
        return words | {"random words": drawn(words=study.set.filter, seed=study.set.seed)[0]}

    count = 2 + len(found)
    study.outside.refused(some, count, judges(study.set.judge, study.set.judge_model, study.set.seed))
    study.outside.asked(lambda: {name: words.on(study.model) for name, words in some().items()}, count)
