"""Pages of latents: what each acts on and points at, written to a folder that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import BadInput
from ..core.whole import check_writable, write_whole
from ..figures.latent_pages import latent_index, latent_page
from .dictionary import Dictionary
from .looking import latent_tokens, top_places
from .streams import Streams

BINS = 24


def latent_tables(
    model: Any, dictionary: Dictionary, streams: Streams, latents: Sequence[int], *, k: int = 10, around: int = 12
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the contexts of latents token by token, and how often each acts how much.

    Args:
        model: What `load_model` returns, for its tokenizer; or a handle.
        dictionary: The dictionary.
        streams: Rows of texts.
        latents: Which.
        k: Contexts per latent.
        around: Tokens before and after the one on which it acts most.

    Returns:
        `latent, rank, position, token, activation, peak`, and `latent, left, right, count, rows`.

    Raises:
        UnknownName: There is no such latent. WrongModel: The rows come from another place.
    """
    places = top_places(dictionary, streams, latents, k=k)
    active = dictionary.encode(streams.rows)[:, list(latents)].numpy()
    at = {(int(t), int(p)): row for row, (t, p) in enumerate(zip(streams.text.tolist(), streams.place.tolist(), strict=True))}
    rows, bars = [], []
    for column, latent in enumerate(latents):
        for rank, row in enumerate(places[latent], 1):
            text, middle = int(streams.text[row]), int(streams.place[row])
            ids = streams.tokens[text]
            for position in range(max(0, middle - around), min(len(ids), middle + around + 1)):
                own = at.get((text, position))
                acts = 0.0 if own is None else float(active[own, column])
                token = model.tokenizer.decode([ids[position]])
                rows.append((int(latent), rank, position, token, acts, position == middle))
        values = active[active[:, column] > 0, column]
        counts, edges = np.histogram(values, BINS, (0, float(values.max()))) if len(values) else (np.zeros(0, int), np.zeros(1))
        bars += [(int(latent), edges[b], edges[b + 1], int(c), len(active)) for b, c in enumerate(counts)]
    contexts = pd.DataFrame(rows, columns=["latent", "rank", "position", "token", "activation", "peak"])
    return contexts, pd.DataFrame(bars, columns=["latent", "left", "right", "count", "rows"])


def write_latents(
    model: Any,
    dictionary: Dictionary,
    streams: Streams,
    out: str | Path,
    latents: Sequence[int] | None = None,
    *,
    k: int = 10,
    around: int = 12,
    seed: int = 0,
) -> Path:
    """Write a page per latent, and one that lists them and searches them by word.

    Args:
        model: What `load_model` returns.
        dictionary: Of its stream.
        streams: Rows of texts to show, from `read_streams`.
        out: The folder: `index.html`, `latent-N.html`.
        latents: Which; by default those that act on these rows.
        k: Contexts per latent.
        around: Tokens before and after.
        seed: Draws the random directions beside the tokens.

    Returns:
        The path of `index.html`. Pages open without a network.

    Raises:
        UnknownName: There is no such latent. WrongModel: Another model or place. BadInput: No latent acts on these rows.
    """
    folder = Path(out)
    check_writable(folder)
    dictionary.check_place(model)
    if latents is None:
        latents = [int(i) for i in np.flatnonzero((~dictionary.dead(dictionary.encode(streams.rows))).numpy())]
    if not len(latents):
        raise BadInput("no latent acts on these rows: name some, or read other texts")
    contexts, bars = latent_tables(model, dictionary, streams, latents, k=k, around=around)
    tokens = latent_tokens(model, dictionary, latents, k=k, seed=seed)
    place = ", ".join(f"{name} {dictionary.provenance[name]}" for name in ("site", "layer") if name in dictionary.provenance)
    about = f"{dictionary.width:,} latents, {place}; contexts from {len(streams.tokens):,} texts"
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for latent in latents:
        own, said = contexts[contexts["latent"] == latent], tokens[tokens["latent"] == latent]
        counted = bars[bars["latent"] == latent]
        write_whole(folder / f"latent-{latent}.html", latent_page(latent, own, said, counted, about))
        towards = said[said["side"] == "towards"]["token"].tolist()
        first = "".join(own[own["rank"] == 1]["token"])
        words = " ".join([*(str(t) for t in towards), *("".join(c["token"]) for _, c in own.groupby("rank"))])
        acts = counted["count"].sum() / max(1, len(streams))
        listed.append({"latent": latent, "acts": acts, "tokens": " · ".join(towards[:5]), "context": first, "words": words})
    index = folder / "index.html"
    write_whole(index, latent_index(pd.DataFrame(listed), "Latents of a dictionary", about))
    return index
