"""The tuned lens: an affine map per layer, trained so that each layer says what the model says in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..activations import capture
from ..core.errors import BadInput, TooFew
from ..core.provenance import provenance
from ..core.seeds import numpy_rng, torch_rng
from ..core.types import Float, Int, Tensor
from ..models.hooks import active_edits
from ..models.known import info, n_layers
from ..models.readout import Readout, readout
from ..models.tokens import encode, encode_pairs
from ..training.loop import Plan, train
from .lenses import Lens
from .streams import Texts, as_prompts, kept

BLOCK = 256  # texts whose activations of all layers are in memory at a time
HELD = 0.1  # of the texts, on which the best state is chosen


def train_tuned_lens(
    model: Any,
    texts: Texts,
    *,
    tokens: int = 20_000,
    steps: int = 600,
    batch: int = 128,
    rate: float = 2e-3,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool | None = None,
) -> Lens:
    """Train a tuned lens of a model on texts. No label is seen.

        min over W_l, b_l of the mean over tokens of KL( softmax(unembed(norm(x_last))) | softmax(unembed(norm(W_l x_l + b_l))) )

    W begins as the identity and b at 0, the logit lens; of the states on the way the one with the lowest KL on held-out texts is kept.

    Args:
        model: What `load_model` returns.
        texts: Texts, or a prompt set; not those that will be read with the lens.
        tokens: At most, of texts taken in an order drawn at random; memory holds 4 bytes x tokens x layers x d_model.
        steps, batch: Of training, and tokens per step.
        rate: Learning rate at its highest, for maps in units of the layer's mean length.
        seed: Draws the texts, those that are held out, and the order.
        store: A folder: streams and training resume there after a kill.
        progress: Show bars.

    Returns:
        The lens; its provenance says the KL of each layer on held-out texts before and after ("held out").

    Raises:
        BadInput: A number that cannot be used, or edits are active. TooFew: fewer than ten texts.
        Diverged: The loss is not finite; lower `rate`.

    References:
        Belrose et al. 2023, arXiv 2303.08112, equations 4 and 5.
    """
    if tokens < 100 or steps < 1 or batch < 1 or not rate > 0:
        raise BadInput(f"tokens={tokens} (100 at least), steps={steps} (1), batch={batch} (1), rate={rate} (above 0)")
    if active_edits(model):
        raise BadInput("edits are active: the lens would be one of the edited model. Train it outside of `edited`")
    read = readout(model)
    rows, text, names = _read(model, texts, tokens, seed, None if store is None else Path(store) / "streams", progress)
    count, width = len(rows) - 1, rows.shape[-1]
    units = np.unique(text.numpy())
    if len(units) < 10 or count < 1:
        raise TooFew(f"{len(units)} texts and {count} layers below the last: ten texts and one layer at least")
    out = torch.from_numpy(numpy_rng(seed, "held-out texts").permutation(units)[: max(1, round(HELD * len(units)))])
    held = torch.isin(text, out)
    side = {"train": torch.nonzero(~held).flatten(), "held": torch.nonzero(held).flatten()}
    size = rows[:-1, side["train"]].pow(2).mean((1, 2)).sqrt().clamp(min=1e-6)[:, None, None]
    maps = {"weight": torch.zeros(count, width, width, requires_grad=True), "bias": torch.zeros(count, 1, width, requires_grad=True)}
    rng = torch_rng(seed, "tuned lens")
    order = torch.stack([side["train"][torch.randint(len(side["train"]), (batch,), generator=rng)] for _ in range(steps)])

    def through(x: Tensor) -> Tensor:
        return x + x @ maps["weight"].transpose(1, 2) + size * maps["bias"]

    def validate() -> dict[str, float]:
        return {"validation": float(_apart(read, rows, side["held"], through).mean())}

    known = info(model).key()
    key = {"model": known, "texts": names, "tokens": tokens, "batch": batch, "seed": seed}
    before = _apart(read, rows, side["held"], lambda x: x)
    with torch.enable_grad():
        train(
            maps,
            lambda step: {"kl": _kl(read, rows, order[step], through).mean()},
            validate,
            Plan(steps=steps, lr=rate, warmup=max(1, steps // 20), every=max(1, steps // 20), patience=steps),
            place=None if store is None else Path(store) / "training",
            key=key,
            progress=progress,
            what="train tuned lens",
        )
    with torch.no_grad():
        after = _apart(read, rows, side["held"], through)
        eye = torch.eye(width)
        weight = torch.cat([maps["weight"].detach() + eye, eye[None]])
        bias = torch.cat([(size * maps["bias"].detach())[:, 0], torch.zeros(1, width)])
    pairs = enumerate(zip(before.tolist(), after.tolist(), strict=True))
    told = [{"layer": k, "logit": round(b, 4), "tuned": round(a, 4)} for k, (b, a) in pairs]
    used = {"tokens": len(side["train"]), "texts": len(units) - len(out), "steps": steps, "batch": batch, "rate": rate, "seed": seed}
    facts = provenance(model=known, prompts=names, trained=used, held_out={"kl": told, "texts": len(out)})
    return Lens(kind="tuned", layers=tuple(range(count + 1)), weight=weight, bias=bias, provenance=facts)


def _read(
    model: Any, texts: Texts, tokens: int, seed: int, store: Path | None, progress: bool | None
) -> tuple[Float[Tensor, "layer row d_model"], Int[Tensor, " row"], str]:
    """The streams of all layers at every token that counts, which text each belongs to, and a hash of the texts."""
    prompts = as_prompts(texts)
    order = numpy_rng(seed, "texts of a lens").permutation(len(prompts))
    ends = np.cumsum([len(encode(model, [prompts[int(i)].stem + prompts[int(i)].positive])[0]) for i in order])
    chosen = prompts.subset(order[: int(np.searchsorted(ends, tokens)) + 1])
    layers, parts, owners = range(n_layers(model)), [], []
    for start in range(0, len(chosen), BLOCK):
        block = chosen.subset(range(start, min(start + BLOCK, len(chosen))))
        acts = capture(model, block, position="all", store=store, progress=progress, note="read texts")
        keep = kept(acts, encode_pairs(model, block), layers)
        parts.append(torch.stack([acts.layer(layer)[:, 1][keep].float() for layer in layers]))
        owners.append(keep.nonzero()[:, 0] + start)
    return torch.cat(parts, 1), torch.cat(owners), chosen.hash


def _kl(read: Readout, rows: Tensor, chosen: Tensor, through: Any) -> Float[Tensor, " layer"]:
    """The mean KL of each layer but the last, over chosen rows."""
    with torch.no_grad():
        want = read.logits(rows[-1, chosen]).log_softmax(-1)
    got = read.logits(through(rows[:-1, chosen])).log_softmax(-1)
    return (want.exp() * (want - got)).sum(-1).mean(-1)


@torch.no_grad()
def _apart(read: Readout, rows: Tensor, chosen: Tensor, through: Any, size: int = 256) -> Float[Tensor, " layer"]:
    parts: Sequence[Tensor] = chosen.split(size)
    return sum((_kl(read, rows, part, through) * len(part) for part in parts), torch.zeros(())) / len(chosen)
