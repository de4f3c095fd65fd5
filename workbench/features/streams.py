"""The stream of a model over texts, token by token: what dictionaries are trained on and looked at with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..activations import Activations, capture
from ..core.errors import BadInput, ShapeMismatch
from ..core.seeds import numpy_rng
from ..core.types import Bool, Float, Int, Tensor
from ..models.tokens import EncodedPair, encode_pairs
from ..prompts import PromptSet
from ..prompts.singles import single_statements

Texts = Sequence[str] | PromptSet
BLOCK = 1024  # texts whose padded activations are in memory at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Streams:
    """Activations of every token of some texts, attention sinks left out.

    Attributes:
        rows: Activations in float32.
        text: Which text each row belongs to.
        place: Where in its text the token stands, counted from 0 with the first token.
        tokens: The ids of each text.
        provenance: Model, site, layer, prompts.
    """

    rows: Float[Tensor, "row d_in"]
    text: Int[Tensor, " row"]
    place: Int[Tensor, " row"]
    tokens: tuple[tuple[int, ...], ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.text) == len(self.place):
            raise ShapeMismatch(f"{len(self.rows)} rows, {len(self.text)} texts and {len(self.place)} places")

    def __len__(self) -> int:
        return len(self.rows)


def as_prompts(texts: Texts) -> PromptSet:
    """Return texts as a prompt set.

    Args:
        texts: Texts, or a prompt set.

    Returns:
        The prompt set; texts as single statements, each of itself.

    Raises:
        BadInput: No text, or an empty one.
    """
    if isinstance(texts, PromptSet):
        return texts
    given = [str(t) for t in texts]
    if not given or not all(t.strip() for t in given):
        raise BadInput(f"{len(given)} texts, none of them empty: at least one is needed")
    rows = [{"statement": t, "label": k % 2, "identity": f"text {k}"} for k, t in enumerate(given)]
    return single_statements(rows, name="texts")


def read_streams(
    model: Any,
    texts: Texts,
    *,
    layer: int,
    site: str = "resid_post",
    store: str | Path | None = None,
    progress: bool | None = None,
) -> Streams:
    """Read every token of some texts at one place of a model, with the capture engine.

    Args:
        model: What `load_model` returns; edits that are active act.
        texts: Texts, or a prompt set: of contrast pairs the positive variant is read.
        layer: The block, counted from 0.
        site: A site of the width of the stream.
        store: A folder to stream to: a killed reading resumes.
        progress: Show a bar; by default only in a terminal or a notebook.

    Returns:
        The rows, without attention sinks (which hold position 0 on most models) and beginning-of-text tokens. They are read in blocks of
        texts, so that memory holds the rows (4 bytes x tokens x d_model) and one block.

    Raises:
        BadInput: The site has another shape. Otherwise as `capture`.
    """
    if site in ("z", "pattern"):
        raise BadInput(f"a dictionary is trained on vectors of the stream's width, and {site!r} has none: resid_post, mlp_out, attn_out, …")
    prompts = as_prompts(texts)
    blocks, parts = range(0, len(prompts), BLOCK), []
    how: dict[str, Any] = {"site": site, "layers": [layer], "position": "all", "store": store}
    with tqdm(blocks, desc="read blocks of texts", disable=_hidden(progress) if len(blocks) > 1 else True) as bar:
        for start in bar:
            block = prompts.subset(range(start, min(start + BLOCK, len(prompts))))
            acts = capture(model, block, **how, progress=progress if len(blocks) == 1 else False, note="read texts")
            parts.append(streams_of(acts, model, block))
    return _joined(parts, prompts)


def _hidden(progress: bool | None) -> bool | None:
    return None if progress is None else not progress


def _joined(parts: Sequence[Streams], prompts: PromptSet) -> Streams:
    """Rows of blocks of texts, as if they had been read at once."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(len(p.tokens) for p in parts)])
    facts = {**parts[0].provenance, "prompts": prompts.hash, "texts": len(prompts)}
    if "sinks" in facts:
        counts = [p.provenance["sinks"]["tokens"] for p in parts]
        facts["sinks"] = {**facts["sinks"], "tokens": {k: sum(c.get(k, 0) for c in counts) for k in counts[0]}}
    return Streams(
        rows=torch.cat([p.rows for p in parts]),
        text=torch.cat([p.text + int(end) for p, end in zip(parts, ends[:-1], strict=True)]),
        place=torch.cat([p.place for p in parts]),
        tokens=tuple(ids for p in parts for ids in p.tokens),
        provenance=facts,
    )


def streams_of(acts: Activations, model: Any, prompts: PromptSet, layer: int | None = None) -> Streams:
    """Return the rows of activations that were captured at every token.

    Args:
        acts: Captured with position="all".
        model: What they were captured from, or its handle; for its tokenizer.
        prompts: What was read.
        layer: The block; by default the first that was captured.

    Returns:
        The rows of the positive variants, without attention sinks and beginning-of-text tokens.

    Raises:
        BadInput: The activations hold single positions.
    """
    layer, encoded = acts.layers[0] if layer is None else layer, encode_pairs(model, prompts)
    keep = kept(acts, encoded, [layer])
    where = keep.nonzero()
    known = acts.provenance
    facts = {"site": acts.site, "layer": layer, "prompts": prompts.hash, "texts": len(prompts)}
    facts |= {name: known[name] for name in ("model", "sinks") if name in known}
    return Streams(
        rows=acts.layer(layer)[:, 1][keep],
        text=where[:, 0],
        place=where[:, 1],
        tokens=tuple(tuple(p.positive) for p in encoded),
        provenance=facts,
    )


def kept(acts: Activations, encoded: Sequence[EncodedPair], layers: Sequence[int]) -> Bool[Tensor, "item position"]:
    """Return which tokens of the positive variants count.

    Args:
        acts: Captured with position="all".
        encoded: What was read.
        layers: An attention sink of any of these is left out.

    Returns:
        True for tokens that are neither attention sinks, beginning-of-text tokens, nor padding.

    Raises:
        BadInput: The activations hold single positions.
    """
    if acts.mask is None:
        raise BadInput(f"streams are of every token: capture with position='all', not {acts.position!r}")
    keep = acts.mask[:, 1].clone()
    for layer in layers:
        sinks = acts.sinks(layer)
        if sinks is not None and sinks.ndim == 3:
            keep &= ~sinks[:, 1].bool()
    for k, pair in enumerate(encoded):
        keep[k, : pair.bos] = False
    return keep


def split_texts(streams: Streams, share: float = 0.25, *, seed: int = 0) -> tuple[Streams, Streams]:
    """Split by text: no text has rows on both sides.

    Args:
        streams: What `read_streams` returned.
        share: Of texts, on the second side.
        seed: Draws them.

    Returns:
        The two sides; the texts' numbers stay.

    Raises:
        BadInput: Too few texts for two sides.
    """
    names = np.unique(streams.text.numpy())
    count = round(len(names) * share)
    if not 0 < count < len(names):
        raise BadInput(f"{len(names)} texts cannot be split with a share of {share}")
    held = torch.from_numpy(numpy_rng(seed, "split texts").permutation(names)[:count])
    second = torch.isin(streams.text, held)
    return part(streams, ~second), part(streams, second)


def part(streams: Streams, keep: Bool[Tensor, " row"]) -> Streams:
    """Return some rows.

    Args:
        streams: Rows.
        keep: Which, true or false per row.

    Returns:
        Those rows, with the tokens of all texts.
    """
    return Streams(
        rows=streams.rows[keep], text=streams.text[keep], place=streams.place[keep], tokens=streams.tokens, provenance=streams.provenance
    )
