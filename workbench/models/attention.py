"""Attention over a packed trie: every token is there once and attends to its ancestors, whatever the branch.

The engine lays the tokens of many prompts end to end in one row (`activations.planner`), so that all matrix products see
each shared prefix once and no padding. What is left to this module is the one operation that mixes positions. A token's
keys lie in two places: in the *prefix*, ancestors that an earlier pass computed and whose keys and values were kept, and
in its own *unit*, a small subtree that is computed together. Each part is an ordinary attention. The two are joined by
their normalisers: with m the largest score of a part and z = sum exp(score - m), a part's weight is proportional to
z exp(m). m and z are kept apart, because their joint logarithm would lose digits where scores are large.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .trees import Attending

NAME = "workbench_trie"
SCORES = {"cpu": 2**20}  # scores alive at a time, small enough for the cache; 2^27 on anything else


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Units of like length, side by side.

    Attributes:
        index: `unit x position`, places in the packed row; padded with the unit's own first place.
        mask: `unit x 1 x position x position`, true where a token may look; `None` for chains, which are causal.
        real: Places in the flattened bucket that hold tokens.
        packed: The place in the packed row of each of these tokens.
        rooted: The units follow no prefix: one attention gives the result.
    """

    index: Tensor
    mask: Tensor | None
    real: Tensor
    packed: Tensor
    rooted: bool


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One packed forward pass.

    Attributes:
        ids, positions: `token`; positions count from 0 in each prompt.
        prefixed: (begin, end, prefix): this run of the packed row follows that kept prefix.
        buckets: All units, in buckets.
        keep: (begin, end, name, prefix): keep the keys of this run, after those of its own prefix, under a name.
        drop: Names that no later pass needs.
    """

    ids: Tensor
    positions: Tensor
    prefixed: tuple[tuple[int, int, int], ...]
    buckets: tuple[Bucket, ...]
    keep: tuple[tuple[int, int, int, int], ...] = ()
    drop: tuple[int, ...] = ()


@dataclass
class Kept:
    """Keys and values of shared prefixes, per layer and name, `1 x head x position x d_head`."""

    tensors: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)
    now: Pass | None = None

    def forget(self, names: tuple[int, ...]) -> None:
        """Drop the keys and values of these prefixes."""
        for key in [k for k in self.tensors if k[1] in names]:
            del self.tensors[key]


CURRENT: ContextVar[Kept | Attending] = ContextVar("workbench_trie")


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return attention over one part of the keys, with its normaliser.

    Args:
        q: `batch x head x query x d_head`.
        k, v: `batch x head x key x d_head`.
        mask: True where a query may look, broadcastable to `batch x head x query x key`.
        causal: A query looks at the keys up to its own place (instead of a mask).
        scale: Factor of the scores.
        softcap: c of c tanh(score / c), or `None`.

    Returns:
        `batch x head x query x d_head`; the largest score m and z = sum exp(score - m), `batch x head x query`, in float32 or better.
        Where a query may look at nothing they are 0, minus infinity and 0.
    """
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    exact = torch.promote_types(q.dtype, torch.float32)
    bias = None if mask is None else torch.zeros(mask.shape, dtype=exact, device=q.device).masked_fill_(~mask, float("-inf"))
    step = max(1, SCORES.get(q.device.type, 2**27) // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    outs, tops, sums = [], [], []
    for start in range(0, q.shape[2], step):
        scores = torch.matmul(q[:, :, start : start + step], k.transpose(-1, -2)).to(exact).mul_(scale)
        if softcap is not None:
            scores = scores.div_(softcap).tanh_().mul_(softcap)
        if bias is not None:
            scores += bias if bias.shape[-2] == 1 else bias[..., start : start + step, :]
        top = scores.amax(-1, keepdim=True)
        weights = scores.sub_(top.clamp(min=torch.finfo(exact).min)).exp_()
        total = weights.sum(-1, keepdim=True)
        weights = weights.div_(total.clamp(min=torch.finfo(exact).tiny))
        outs.append(torch.matmul(weights.to(v.dtype), v))
        tops.append(top[..., 0])
        sums.append(total[..., 0])
    if len(outs) == 1:
        return outs[0], tops[0], sums[0]
    return torch.cat(outs, 2), torch.cat(tops, 2), torch.cat(sums, 2)


def trie_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend over the packed trie of the current pass (`1 x head x token x d_head`) or its trees, in the form that transformers calls."""
    kept = CURRENT.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    groups = query.shape[1] // key.shape[1]  # grouped queries: each key head serves several
    if isinstance(kept, Attending):
        served = _serve(key, groups), _serve(value, groups)
        return kept.attend(query, *served, scale=scale, softcap=softcap, window=sliding_window), None
    now = kept.now
    assert now is not None
    layer = id(module)
    kept.windows[getattr(module, "layer_idx", -1)] = sliding_window
    rules: dict[str, Any] = {"scale": scale, "softcap": softcap}
    # `token x head x d_head`, the layout in which transformers wants the result
    q, k, v = (x[0].transpose(0, 1) for x in (query, _serve(key, groups), _serve(value, groups)))
    out = q.new_empty(q.shape)
    top, total = (q.new_zeros(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32)) for _ in range(2))
    place = now.positions.to(q.device)
    for bucket in now.buckets:
        index, real, packed = (x.to(q.device) for x in (bucket.index, bucket.real, bucket.packed))
        qs, ks, vs = (x[index].transpose(1, 2) for x in (q, k, v))
        mask = None if bucket.mask is None else bucket.mask.to(q.device)
        if sliding_window is not None and index.shape[1] > sliding_window:
            near = place[index][:, None, :, None] - place[index][:, None, None, :] < sliding_window
            mask = near & (mask if mask is not None else torch.ones(near.shape[-2:], dtype=torch.bool, device=q.device).tril())
        if bucket.rooted and softcap is None:
            got = torch.nn.functional.scaled_dot_product_attention(qs, ks, vs, attn_mask=mask, is_causal=mask is None, scale=scale)
        else:
            got, m, z = attend(qs, ks, vs, mask=mask, causal=mask is None, **rules)
            top[packed], total[packed] = (x.transpose(1, 2).flatten(0, 1)[real] for x in (m, z))
        out[packed] = got.transpose(1, 2).flatten(0, 1)[real]
    for begin, end, prefix in now.prefixed:
        pk, pv = (_serve(x, groups) for x in kept.tensors[layer, prefix])
        mask = None
        if sliding_window is not None and int(now.positions[begin:end].max()) >= sliding_window:
            far = place[begin:end, None] - torch.arange(pk.shape[2], device=q.device)
            mask = (far < sliding_window)[None, None]
        got, m, z = (x[0].transpose(0, 1) for x in attend(q[None, begin:end].transpose(1, 2), pk, pv, mask=mask, causal=False, **rules))
        # a token always sees itself, so that the own part's m is finite and its z at least 1
        theirs = z * (m - top[begin:end]).exp_()
        share = torch.where(theirs.isinf(), 1.0, theirs / (theirs + total[begin:end]))[..., None].to(out.dtype)
        out[begin:end] = torch.lerp(out[begin:end], got, share)
    for begin, end, name, prefix in now.keep:
        pair = tuple(x[:, :, begin:end].clone() for x in (key, value))
        if prefix >= 0:
            pair = tuple(torch.cat([old, new], dim=2) for old, new in zip(kept.tensors[layer, prefix], pair, strict=True))
        kept.tensors[layer, name] = pair  # pyright: ignore[reportArgumentType]
    return out[None], None


def _serve(x: Tensor, groups: int) -> Tensor:
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)
