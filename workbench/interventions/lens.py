"""Reading a direction in words: which tokens it points at, and which tokens of a text lie along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..directions.spaces import SpaceMap
from ..models import Read, Scope, edited, info, unembedding
from ..models.forward import run
from ..models.known import first_of
from ..models.sinks import STREAM, first_is_sink, lengths, outliers
from ..models.tokens import encode, pad
from ..models.watch import Watch
from .placing import ScopeLike, place


def top_tokens(model: Any, direction: Direction, k: int = 10, *, through: SpaceMap | None = None, seed: int = 0) -> pd.DataFrame:
    """Name the tokens that a direction points at and away from: the logit lens of a direction.

    Args:
        model: What `load_model` returns.
        direction: Of its stream.
        k: Tokens on each side; at most half of the vocabulary.
        through: A map of the direction's layer to the last one, fitted on other prompts (`directions.spaces.fit_map`): the tuned
            reading. Without it, the blocks in between are taken to change nothing.
        seed: Draws the random directions of the control.

    Returns:
        Rows `side` ("towards", "away"), `rank, token, id, cosine` with the column of the unembedding (centred over the vocabulary, with
        the final norm's measured gain; `models.unembedding`), and `chance`: the mean over random directions of the cosine at that rank.

    Raises:
        WrongModel: A direction of another model. BadInput: Its width or the map's is another.
        Disagrees: The model's logits are not what a norm and an unembedding give.

    References:
        nostalgebraist 2020 (logit lens); Belrose et al. 2023, arXiv 2303.08112 (tuned lens: an affine map per layer).
    """
    direction.check_place({"model": info(model).key()})
    w = unembedding(model).double()
    w = w - w.mean(1, keepdim=True)
    w = w / w.norm(dim=0, keepdim=True).clamp(min=1e-12)
    vector = direction.unit.double()
    if through is not None:
        vector = through.weight.double().cpu() @ vector if through.weight.shape[1] == len(vector) else vector
        if len(vector) != len(w) or through.weight.shape[1] != len(direction.unit):
            raise BadInput(f"a map of {tuple(through.weight.shape)} for a direction of width {len(direction.unit)} and d_model {len(w)}")
        vector = vector / vector.norm()
    if len(vector) != len(w):
        raise BadInput(f"a direction of width {len(vector)}; the model has d_model {len(w)}")
    cosine = vector @ w
    k = min(k, w.shape[1] // 2)
    draws = torch.randn(20, len(w), generator=torch_rng(seed, "lens"), dtype=torch.float64)
    chance = ((draws / draws.norm(dim=1, keepdim=True)) @ w).sort(dim=1, descending=True).values.mean(0)
    rows = []
    for side, order, expected in (("towards", cosine.argsort(descending=True), chance), ("away", cosine.argsort(), chance.flip(0))):
        for rank, token in enumerate(order[:k].tolist()):
            rows.append(
                {
                    "side": side,
                    "rank": rank + 1,
                    "token": model.tokenizer.decode([token]),
                    "id": token,
                    "cosine": float(cosine[token]),
                    "chance": float(expected[rank]),
                }
            )
    return pd.DataFrame(rows)


@torch.no_grad()
def project_tokens(
    model: Any, text: str, direction: Direction, *, scope: ScopeLike = None, site: str | None = None, layer: int | None = None
) -> pd.DataFrame:
    """Project every token of a text on a direction, and mark which an edit of a scope would touch.

    Args:
        model: What `load_model` returns; edits that are active act.
        text: The prompt.
        direction: Along which.
        scope: As for `wb.add`; its tokens are marked in `steered`. `None` marks none.
        site, layer: Where the stream is read; by default where the direction was read.

    Returns:
        One row per token: `position, token, id, projection` (x . u, raw units; above 0 along the direction), `cosine` (-1 to 1), `steered`,
        `read`: where the direction's own rows were read, as far as its provenance says ("stem_last" is the last token, "mean" all but the
        first special one and other attention sinks), and `sink`: the tokens that such means leave out.

    Raises:
        WrongModel: A direction of another model. BadInput: no place.
    """
    direction.check_place({"model": info(model).key()})
    where, (block, *_) = place(direction, site, layer, True)
    (ids,) = encode(model, [text])
    kept: dict[str, Any] = {}
    reads = [Read(site=where, layer=block, function=lambda x: kept.update(x=x.float().cpu()))]
    if where not in STREAM:
        reads.append(Read(site="resid_pre", layer=block, function=lambda x: kept.update(entering=lengths(x).cpu())))
    watch = Watch(model)
    try:
        watch.open()
        with edited(model, reads):
            run(model, pad(model, [ids], prompt=[len(ids)]))
        norms = lengths(kept["x"], kept.get("entering"))
        mask = watch.mask(Scope.of(scope))
        mask = None if mask is None else watch.spare(mask, norms)
    finally:
        watch.close()
    x = kept["x"][0]
    along = x @ direction.unit
    steered = np.ones(len(ids), bool) if mask is None else mask[0].cpu().numpy()
    position, first = direction.provenance.get("position"), list(first_of(model))
    counted = torch.arange(len(ids)) >= (len(first) if ids[: len(first)] == first else 0)
    sink = ~counted | outliers(norms[0], counted)
    sink[0] |= first_is_sink(model)
    last = np.arange(len(ids)) == len(ids) - 1
    read = ~sink.numpy() if position == "mean" else last if position in ("stem_last", "last") else ~np.ones_like(last)
    return pd.DataFrame(
        {
            "position": range(len(ids)),
            "token": [model.tokenizer.decode([i]) for i in ids],
            "id": ids,
            "projection": along.numpy(),
            "cosine": (along / x.norm(dim=-1).clamp(min=1e-12)).numpy(),
            "steered": steered if scope is not None else False,
            "read": read,
            "sink": sink.numpy(),
        }
    )
