"""What a latent acts on, and which tokens its direction points at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..interventions.lens import top_tokens
from .dictionary import Dictionary
from .streams import Streams


def top_contexts(
    model: Any, dictionary: Dictionary, streams: Streams, latents: Sequence[int], *, k: int = 5, around: int = 8, word: str = ""
) -> pd.DataFrame:
    """Return the contexts in which latents act most, each once.

    Args:
        model: What `load_model` returns, for its tokenizer; or a handle.
        dictionary: The dictionary.
        streams: Rows of texts.
        latents: Which.
        k: Contexts per latent.
        around: Tokens shown before and after.
        word: Only texts that hold this word.

    Returns:
        `latent, rank, activation, acts, before, token, after`; `acts` is the share of all rows on which the latent acts.

    Raises:
        UnknownName: There is no such latent.
        WrongModel: The rows come from another place.
    """
    for latent in latents:
        dictionary.check_latent(latent)
    dictionary.check_place(place=streams.provenance)
    decode, rows = model.tokenizer.decode, []
    active = dictionary.encode(streams.rows)[:, list(latents)]
    wanted = {t for t, ids in enumerate(streams.tokens) if word.lower() in decode(list(ids)).lower()} if word else None
    for column, latent in enumerate(latents):
        values, seen = active[:, column], set()
        for row in values.argsort(descending=True).tolist():
            text = int(streams.text[row])
            if len(seen) == k or float(values[row]) <= 0:
                break
            ids, at = list(streams.tokens[text]), int(streams.place[row])
            same = tuple(ids[: at + 1])  # texts that begin alike are one context up to here
            if same in seen or (wanted is not None and text not in wanted):
                continue
            seen.add(same)
            rows.append(
                {
                    "latent": int(latent),
                    "rank": len(seen),
                    "activation": float(values[row]),
                    "acts": float((values > 0).float().mean()),
                    "before": decode(ids[max(0, at - around) : at]),
                    "token": decode([ids[at]]),
                    "after": decode(ids[at + 1 : at + 1 + around]),
                }
            )
    return pd.DataFrame(rows, columns=["latent", "rank", "activation", "acts", "before", "token", "after"])


def latent_tokens(model: Any, dictionary: Dictionary, latents: Sequence[int], *, k: int = 5, seed: int = 0) -> pd.DataFrame:
    """Return the tokens that the directions of latents point at and away from, through the final norm and the unembedding.

    Args:
        model: What `load_model` returns.
        dictionary: Of its stream.
        latents: Which.
        k: Tokens on each side.
        seed: Draws the random directions of the control.

    Returns:
        `latent` and the columns of `wb.top_tokens`: `side, rank, token, id, cosine, chance`.

    Raises:
        UnknownName: There is no such latent.
        WrongModel: A dictionary of another model.
    """
    dictionary.check_place(model)
    tables = [top_tokens(model, dictionary.latent(i), k, seed=seed).assign(latent=int(i)) for i in latents]
    columns = ["latent", "side", "rank", "token", "id", "cosine", "chance"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
