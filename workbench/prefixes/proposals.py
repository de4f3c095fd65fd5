"""Which texts a step of the search tries, and which of them is best.

A step takes one model's gradient with respect to the embeddings of the words' tokens. Exchanging token i for token v changes the loss by
about g_i . (e_v - e_i), so that for each place the tokens with the smallest g_i . e_v are worth a trial. What is tried is scored exactly.

References:
    Greedy coordinate gradient: Zou et al. 2023, arXiv 2307.15043. Probe sampling: Zhao et al. 2024, arXiv 2403.01251.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from .objective import Objective
from .vocabulary import text_of

INSERTED = 0.2  # share of the trials that insert a token, while the words are shorter than they may be
KEPT = 8  # one in so many goes on from the first round, and of the draft's ranking
PROBED = 16  # one in so many is scored by model and draft, which tells how far the draft is believed
FEWEST = 4


def propose(
    lead: Objective,
    others: Sequence[Objective],
    text: str,
    tokens: np.ndarray,
    table: np.ndarray,
    *,
    width: int,
    top: int,
    length: int,
    rng: np.random.Generator,
) -> list[str]:
    """Return texts that differ from the present one in one token, each of which tokenises back to itself in place.

    Args:
        lead: The model whose gradient proposes.
        others: Further models, in whose tokens the texts must keep within `length` too.
        text: The present words.
        tokens: Ids that may be used.
        table: Their embeddings, `token x d_model`.
        width: How many texts; fewer where not so many are found.
        top: From how many tokens of a place one is drawn, the best ones by the gradient.
        length: The most tokens of the words, for any model.
        rng: Draws.

    Returns:
        Distinct texts, without the present one.
    """
    ids, gradient = lead.gradient(text)
    score = gradient @ table.T
    best = np.argpartition(score, min(top, score.shape[1] - 1), axis=1)[:, :top]
    found: dict[str, None] = {}
    for _ in range(4):  # in a vocabulary where much merges, one round leaves few
        drawn: dict[tuple[int, ...], str] = {}
        for _ in range(2 * width):
            new = list(ids)
            if len(ids) < length and rng.random() < INSERTED:
                new.insert(int(rng.integers(len(ids) + 1)), int(rng.choice(tokens)))
            else:
                place = int(rng.integers(len(ids)))
                new[place] = int(tokens[best[place, rng.integers(best.shape[1])]])
            if new != ids:
                drawn[tuple(new)] = text_of(lead.tokenizer, new)
            if len(drawn) >= width - len(found):
                break
        texts = list(drawn.values())
        same = [
            t
            for t, new, now in zip(texts, drawn, lead.tokens_of(texts), strict=True)
            if now is not None and tuple(now) == new and t != text
        ]
        for other in others:
            same = [t for t, now in zip(same, other.tokens_of(same), strict=True) if now is not None and len(now) <= length]
        found |= dict.fromkeys(same)
        if len(found) >= width:
            break
    return list(found)[:width]


def total(
    objectives: Sequence[Objective], texts: Sequence[str], fluency: float = 0.0, items: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Return the loss of texts: the mean over models, and `fluency` times how unlikely the words are (nats per token).

    Args:
        objectives: One per model.
        texts: Words.
        fluency: Weight of the words' own likelihood.
        items: Per model, numbers of the prompts; `None` for all.
    """
    out = np.zeros(len(texts))
    for k, objective in enumerate(objectives):
        got = objective.losses(texts, items=None if items is None else items[k], fluency=fluency > 0)
        out += got.loss + (fluency * got.fluency if fluency > 0 else 0.0)
    return out / len(objectives)


def best_of(
    objectives: Sequence[Objective], texts: Sequence[str], *, fluency: float, race: int, draft: Objective | None, rng: np.random.Generator
) -> tuple[str, float]:
    """Return the best of some texts and its loss over all prompts.

    With `race`, all are scored on a few prompts and the best eighth on all. With a draft, a small model scores all; the share of its
    ranking that is scored by the models grows with how little the two agree on a sixteenth of the texts.

    Args:
        objectives: One per model.
        texts: Words.
        fluency: As for `total`.
        race: Prompts of the first round; 0 for all at once.
        draft: Another, smaller model on the same prompts.
        rng: Draws.
    """
    texts = list(texts)
    known: dict[str, float] = {}
    if draft is not None and len(texts) > FEWEST:
        rank = draft.losses(texts).loss
        probe = rng.choice(len(texts), max(FEWEST, len(texts) // PROBED), replace=False)
        exact = total(objectives, [texts[i] for i in probe], fluency)
        known = {texts[i]: float(x) for i, x in zip(probe, exact, strict=True)}
        alike = 0.0 if np.ptp(exact) == 0 or np.ptp(rank[probe]) == 0 else float(spearmanr(rank[probe], exact)[0])  # pyright: ignore[reportArgumentType]
        keep = max(1, round((1 - alike) / 2 * len(texts) / KEPT))
        texts = [texts[i] for i in np.argsort(rank, kind="stable")[:keep]]
    elif race and all(race < len(o.prompts) for o in objectives) and len(texts) > FEWEST:
        some = [rng.choice(len(o.prompts), race, replace=False).tolist() for o in objectives]
        first = total(objectives, texts, fluency, some)
        texts = [texts[i] for i in np.argsort(first, kind="stable")[: max(FEWEST, len(texts) // KEPT)]]
    left = [t for t in texts if t not in known]
    known |= dict(zip(left, map(float, total(objectives, left, fluency)), strict=True)) if left else {}
    best = min(known, key=lambda t: known[t])
    return best, known[best]
