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
    decode, rows = model.tokenizer.decode, []
    wanted = {t for t, ids in enumerate(streams.tokens) if word.lower() in decode(list(ids)).lower()} if word else None
    places = top_places(dictionary, streams, latents, k=k, texts=wanted)
    active = dictionary.encode(streams.rows)[:, list(latents)]
    for column, latent in enumerate(latents):
        values = active[:, column]
        for rank, row in enumerate(places[latent], 1):
            ids, at = list(streams.tokens[int(streams.text[row])]), int(streams.place[row])
            rows.append(
                {
                    "latent": int(latent),
                    "rank": rank,
                    "activation": float(values[row]),
                    "acts": float((values > 0).float().mean()),
                    "before": decode(ids[max(0, at - around) : at]),
                    "token": decode([ids[at]]),
                    "after": decode(ids[at + 1 : at + 1 + around]),
                }
            )
    return pd.DataFrame(rows, columns=["latent", "rank", "activation", "acts", "before", "token", "after"])


def top_places(
    dictionary: Dictionary, streams: Streams, latents: Sequence[int], *, k: int = 5, texts: set[int] | None = None
) -> dict[int, list[int]]:
    """Return the rows on which latents act most, each context once.

    Args:
        dictionary, streams, latents, k: As for `top_contexts`.
        texts: Only in these.

    Returns:
        By latent, rows in the order of its activation; fewer than k where it acts on fewer.

    Raises:
        UnknownName: There is no such latent. WrongModel: The rows come from another place.
    """
    for latent in latents:
        dictionary.check_latent(latent)
    dictionary.check_place(place=streams.provenance)
    active, out = dictionary.encode(streams.rows)[:, list(latents)], {}
    for column, latent in enumerate(latents):
        values, seen = active[:, column], {}
        for row in values.argsort(descending=True).tolist():
            text = int(streams.text[row])
            if len(seen) == k or float(values[row]) <= 0:
                break
            same = tuple(streams.tokens[text][: int(streams.place[row]) + 1])  # texts that begin alike are one context up to here
            if same not in seen and (texts is None or text in texts):
                seen[same] = row
        out[int(latent)] = list(seen.values())
    return out


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
