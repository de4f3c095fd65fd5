"""Level 3 of geometry: push along one direction, read along another, at equal distance from the unpushed model.

Two directions can be orthogonal and yet move each other (blocks above carry one into the other), or lie opposite and yet not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.direction import Direction
from ..core.errors import BadInput
from ..core.seeds import torch_rng
from ..core.stats import mean
from ..interventions.cost import sought
from ..models import Edit, edited, info
from ..models.forward import residuals
from ..models.hooks import check_layer
from ..models.tokens import answer_tokens, encode_pairs, pad
from ..prompts import PromptSet

ROWS = 64  # prompts of a pass
POSITIONS = ("stem_last", "instruction_last", "stem")
RANDOM = "random"
KINDS = {"add": 1.0, "subtract": -1.0, "ablate": 0.0}
SEARCH = 64  # prompts on which the scale of a push is sought
FARTHEST = 200  # times the first guess, which is .3 of the mean norm: nothing that a model does by itself


@dataclass(frozen=True, kw_only=True)
class _Batch:
    batch: Any
    last: Tensor
    place: Tensor
    own: Tensor


@dataclass(frozen=True, kw_only=True)
class _Said:
    """Of every prompt: log-probabilities after the stem, and the reading layer's stream there."""

    logp: Tensor
    stream: Tensor


def cross_steering(
    model: Any,
    prompts: PromptSet,
    push: Mapping[str, Mapping[int, Direction]],
    read: Mapping[str, Direction],
    *,
    read_layer: int,
    positions: Sequence[str] = ("stem_last",),
    kl: float = 0.1,
    random: int = 3,
    kinds: Iterable[str] = KINDS,
    tolerance: float = 0.05,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Add or ablate along A, read B and the behaviour.

    Every push is scaled until the next-token distribution after the stem is, on average over prompts, `kl` nats away from the
    unpushed model's (KL(unpushed || pushed)), so that strong and weak directions are compared at one cost; each sign has its own scale.

    Args:
        model: What `load_model` returns.
        prompts: Held-out items; the two endings of each are the behaviour that is measured.
        push: Directions to push along, by name and layer, in `resid_post`.
        read: Directions to read along at `read_layer`, by name.
        read_layer: Above or at the layers of the pushes.
        positions: Where to push: "stem_last", "instruction_last", or "stem" (every token of the stem but a first special one).
        kl: The distance, in nats.
        random: Random directions of the control; 0 for none. They stand in the table as one, "random", with the spread of their effects.
        kinds: Of "add", "subtract" and "ablate" (the coordinate along A set to its mean over prompts at those positions; as it is, at
            whatever distance that makes).
        tolerance: Relative, of the distance.
        resamples, seed: For the intervals, clustered by identity; the seed also draws the random directions.
        progress: Show a progress bar.

    Returns:
        One row per layer x position x A (`pushed`) x kind ("add", "subtract", "ablate") x B (`read`, or "behaviour"). For a direction,
        `value` is the mean change of the coordinate along B in standard deviations over unpushed prompts; `direct` is the part of it that is
        the added vector itself, carried along the residual stream. For "behaviour" it is the mean change of the log-odds of the positive ending.
        Columns also: `coefficient` (raw units), `norm_share` (of the layer's mean stream norm), `kl`, `low, high, n, note`.

    Raises:
        BadInput: No such position, or a push above the reading layer; WrongModel: a direction of another model or layer.
        UnknownLayer, AnswerTokens, TokenBoundary: Before any forward pass.

    Note:
        At equal KL a direction that the output depends on little gets a large coefficient; `norm_share` says how far that is from
        anything the model does by itself.

    References:
        Wollschlaeger et al. 2025, arXiv 2502.17420 (orthogonal is not independent under intervention).
    """
    read_layer = check_layer(model, read_layer)
    layers = sorted({layer for d in push.values() for layer in d})
    for name in positions:
        if name not in POSITIONS:
            raise BadInput(f"position {name!r}: one of {', '.join(POSITIONS)}")
    place = {"model": info(model).key(), "site": "resid_post"}
    kinds = tuple(kinds)
    for name in kinds:
        if name not in KINDS:
            raise BadInput(f"kind {name!r}: one of {', '.join(KINDS)}")
    for name, by_layer in push.items():
        if name.startswith(RANDOM):
            raise BadInput(f"a push named {name!r}: names that begin with {RANDOM!r} are the control's")
        for layer, d in by_layer.items():
            if check_layer(model, layer) > read_layer:
                raise BadInput(f"{name!r} is pushed at layer {layer}, above the reading layer {read_layer}: nothing could arrive")
            d.check_place(place | {"layer": layer})
    for d in read.values():
        d.check_place(place | {"layer": read_layer})
    tokens = [answer_tokens(model, (p.negative, p.positive)) for p in prompts]
    people = np.array([p.right or p.identity for p in prompts])
    names = sorted(read)
    basis = torch.stack([read[n].unit for n in names], 1)
    rows: list[dict[str, Any]] = []
    for position in positions:
        batches = list(_batches(model, prompts, position))
        base = _say(model, batches, read_layer)
        some = np.unique(np.linspace(0, len(prompts) - 1, SEARCH).round().astype(int))
        trial = list(_batches(model, prompts.subset(some), position))
        spread = (base.stream @ basis).std(0).clamp(min=1e-12)
        jobs = [(layer, name, d[layer].unit) for layer in layers for name, d in push.items() if layer in d]
        width = len(next(iter(read.values())).unit)
        jobs += [(layer, f"{RANDOM} {k}", _random(width, seed, layer, k)) for layer in layers for k in range(random)]
        for layer, name, unit in tqdm(jobs, desc=f"push at {position}", disable=None if progress is None else not progress):
            norm, middle = _norms(model, batches, layer, unit)
            for kind, sign in ((k, KINDS[k]) for k in kinds):
                if sign:
                    size, said, apart = _scaled(model, batches, base, trial, some, layer, unit, sign, kl, norm, read_layer, tolerance)
                else:
                    size = float("nan")
                    said = _say(model, batches, read_layer, layer, lambda x, u=unit, m=middle: x - ((x @ u.to(x)) - m)[..., None] * u.to(x))
                    apart = _distance(base, said)
                direct = sign * size * (unit @ basis) / spread if sign and position != "instruction_last" else torch.zeros(len(names))
                moved = (said.stream - base.stream) @ basis / spread
                odds = _odds(said.logp, tokens) - _odds(base.logp, tokens)
                reached = not sign or abs(apart / kl - 1) <= 2 * tolerance
                common = {
                    "layer": layer,
                    "site": "resid_post",
                    "position": position,
                    "pushed": name,
                    "kind": kind,
                    "coefficient": sign * size if sign else size,
                    "norm_share": size / norm,
                    "kl": apart,
                    "note": "" if reached else f"{apart:.3g} nats is as near as it comes to {kl:g}",
                }
                for k, other in enumerate(names):
                    got = mean(moved[:, k].numpy(), people, resamples=resamples, seed=seed)
                    rows.append(common | {"read": other, "metric": "change, sd", "direct": float(direct[k]), **got.row()})
                got = mean(odds.numpy(), people, resamples=resamples, seed=seed)
                rows.append(common | {"read": "behaviour", "metric": "change, log-odds", "direct": float("nan"), **got.row()})
    return _pooled(pd.DataFrame(rows))


def _batches(model: Any, prompts: PromptSet, position: str) -> Iterator[_Batch]:
    items = encode_pairs(model, prompts)
    for start in range(0, len(items), ROWS):
        some = items[start : start + ROWS]
        batch = pad(model, [i.negative[: i.stem] for i in some])
        last = batch.place(torch.tensor([i.stem - 1 for i in some], device=batch.ids.device))[:, None]
        if position == "stem_last":
            place = last
        elif position == "instruction_last":
            place = batch.place(torch.tensor([i.instruction - 1 for i in some], device=batch.ids.device))[:, None]
        else:  # rows of unequal length name their last token again
            width = max(i.stem for i in some)
            columns = [[min(c, i.stem - 1) for c in range(i.bos, width)] for i in some]
            place = batch.starts[:, None] + torch.tensor(columns, device=batch.ids.device)
        own = torch.ones(place.shape, dtype=torch.bool)
        own[:, 1:] = (place[:, 1:] != place[:, :-1]).cpu()  # a repeated column is the same token again
        yield _Batch(batch=batch, last=last, place=place, own=own)


def _say(model: Any, batches: Sequence[_Batch], read_layer: int, layer: int | None = None, change: Any = None) -> _Said:
    logp, stream = [], []
    for b in batches:
        edit = (
            nullcontext()
            if change is None
            else edited(model, Edit(site="resid_post", layer=layer or 0, function=change, positions=b.place, label="push"))
        )
        with edit:
            values, logits = residuals(model, b.batch, b.last, site="resid_post", layers=[read_layer], ask=b.last)
        assert values is not None
        assert logits is not None
        stream.append(values[:, 0, 0].float().cpu())
        logp.append(torch.log_softmax(logits[:, 0].float(), -1).cpu())
    return _Said(logp=torch.cat(logp), stream=torch.cat(stream))


def _distance(base: _Said, said: _Said) -> float:
    return float((base.logp.exp() * (base.logp - said.logp)).sum(-1).mean())


def _norms(model: Any, batches: Sequence[_Batch], layer: int, unit: Tensor) -> tuple[float, float]:
    """Mean norm of the stream where it will be pushed, and its mean coordinate along a direction."""
    norms, along = [], []
    for b in batches:
        values, _ = residuals(model, b.batch, b.place, site="resid_post", layers=[layer])
        assert values is not None
        x = values[:, :, 0].float().cpu()[b.own]
        norms.append(x.norm(dim=-1))
        along.append(x @ unit)
    return float(torch.cat(norms).mean()), float(torch.cat(along).mean())


def _scaled(
    model: Any,
    batches: Sequence[_Batch],
    base: _Said,
    trial: Sequence[_Batch],
    some: np.ndarray,
    layer: int,
    unit: Tensor,
    sign: float,
    kl: float,
    norm: float,
    read_layer: int,
    tolerance: float,
) -> tuple[float, _Said, float]:
    """The size of a push that is `kl` away: sought on some prompts, then put right on all of them."""

    def push(size: float, where: Sequence[_Batch]) -> _Said:
        return _say(model, where, read_layer, layer, lambda x, c=sign * size: x + c * unit.to(x))

    few = _Said(logp=base.logp[some], stream=base.stream[some])
    size, slope = sought(lambda c: _distance(few, push(c, trial)), kl, 0.3 * norm, tolerance, FARTHEST)
    best: tuple[float, _Said, float] | None = None
    for _ in range(4):
        said = push(size, batches)
        apart = _distance(base, said)
        if best is None or abs(np.log(max(apart, 1e-12) / kl)) < abs(np.log(max(best[2], 1e-12) / kl)):
            best = size, said, apart
        ratio = kl / max(apart, 1e-12)
        if abs(ratio - 1) <= tolerance or not 0.2 < ratio < 5:
            break
        size *= ratio ** (1 / slope)
    assert best is not None
    return best


def _odds(logp: Tensor, tokens: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    return torch.stack([row[two[1]].logsumexp(0) - row[two[0]].logsumexp(0) for row, two in zip(logp, tokens, strict=True)])


def _random(width: int, seed: int, layer: int, k: int) -> Tensor:
    v = torch.randn(width, generator=torch_rng(seed, "random push", layer, k))
    return v / v.norm()


def _pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Random directions as one row: the mean effect, and the smallest and largest of them."""
    chance = table["pushed"].str.startswith(f"{RANDOM} ")
    keys = ["layer", "site", "position", "kind", "read", "metric"]
    rows = [
        dict(zip(keys, key, strict=True))
        | {
            "pushed": RANDOM,
            "value": part["value"].mean(),
            "low": part["value"].min(),
            "high": part["value"].max(),
            "n": int(part["n"].iloc[0]),
            "direct": part["direct"].mean(),
            "coefficient": part["coefficient"].mean(),
            "norm_share": part["norm_share"].mean(),
            "kl": part["kl"].mean(),
            "note": f"{len(part)} directions: mean, smallest and largest",
        }
        for key, part in table[chance].groupby(keys, sort=False)
    ]
    order = [
        "layer",
        "site",
        "position",
        "pushed",
        "kind",
        "read",
        "metric",
        "value",
        "low",
        "high",
        "n",
        "direct",
        "coefficient",
        "norm_share",
        "kl",
        "note",
    ]
    return pd.concat([table[~chance], pd.DataFrame(rows)], ignore_index=True)[order] if rows else table[order]
