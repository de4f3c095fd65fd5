"""The Jacobian lens: what a small change of a layer's stream does to the last stream, on average over texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from ..core.errors import BadInput, DamagedStore, NotFinite
from ..core.provenance import content_hash, provenance
from ..core.seeds import numpy_rng
from ..core.types import Bool, Float, Tensor
from ..core.whole import replacing
from ..models.differentiable import Learner
from ..models.known import first_of, info
from ..models.sinks import outliers
from ..models.tokens import encode
from ..models.trees import plant
from .lenses import Lens
from .streams import Texts, as_prompts


def fit_jacobian_lens(
    model: Any,
    texts: Texts,
    *,
    count: int = 40,
    length: int = 64,
    batch: int = 8,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool | None = None,
) -> Lens:
    """Average the Jacobian of the last stream with respect to each layer's over texts.

        J_l = mean over texts and positions p of the sum over positions q >= p of  d x_last[q] / d x_l[p]

    Positions of beginning-of-text tokens and attention sinks are left out on both sides.

    Args:
        model: What `load_model` returns.
        texts: Texts, or a prompt set.
        count: Texts at most, drawn at random. Raising it makes early layers less noisy.
        length: Tokens of each text at most.
        batch: Texts of one pass. There are `d_model` backward passes for each.
        seed: Draws the texts.
        store: A folder: sums so far lie there, and a killed run goes on from them; one batch is lost at most.
        progress: Show a bar.

    Returns:
        The lens. J of the last layer is the identity.

    Raises:
        BadInput: A number that cannot be used, edits are active, or the model has no pass with gradients.
        NotFinite: The gradients hold NaN.
        DamagedStore: The sums cannot be read.

    References:
        Gurnee et al. 2026, arXiv 2607.15495.
    """
    if count < 1 or length < 2 or batch < 1:
        raise BadInput(f"count={count} (1 at least), length={length} (2), batch={batch} (1)")
    prompts = as_prompts(texts)
    chosen = [int(i) for i in numpy_rng(seed, "texts of a lens").permutation(len(prompts))[:count]]
    rows = [ids[:length] for ids in encode(model, [prompts[i].stem + prompts[i].positive for i in chosen])]
    learner, known, d = Learner(model), info(model).key(), info(model).d_model
    layers = range(learner.count)
    if len(layers) < 2:
        raise BadInput(f"{info(model).name} has one layer: there is nothing to read below the last")
    learner.change("resid_post", 0, lambda value, now: value.detach().requires_grad_())
    sums, seen, done = torch.zeros(len(layers) - 1, d, d), torch.zeros(()), 0
    about = content_hash(known, rows, length, batch)
    file = None if store is None else Path(store) / f"jacobian-{about}.safetensors"
    if file is not None and file.is_file():
        sums, seen, done = _sums(file)
    starts = range(0, len(rows), batch)
    hidden = None if progress is None else not progress
    with tqdm(total=len(starts) * d, initial=done * d, desc="fit Jacobian lens", unit="pass", disable=hidden) as bar:
        for start in starts[done:]:
            some = rows[start : start + batch]
            own, places = _jacobians(learner, some, bar)
            if not bool(own.isfinite().all()):
                raise NotFinite(f"the gradients of texts {start} to {start + len(some) - 1} hold NaN or infinity")
            sums, seen, done = sums + own, seen + places, done + 1
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as temporary:
                    save_file({"sums": sums, "seen": seen}, str(temporary), metadata={"done": json.dumps(done)})
    if not float(seen) > 0:
        raise BadInput("no token of the texts counts: each has only beginning-of-text tokens or attention sinks")
    facts = provenance(
        model=known, prompts=prompts.hash, fitted={"texts": len(rows), "positions": int(seen), "length": length, "seed": seed}
    )
    weight = torch.cat([sums / seen, torch.eye(d)[None]])
    out = Lens(kind="jacobian", layers=tuple(layers), weight=weight, bias=torch.zeros(len(layers), d), provenance=facts)
    if file is not None:
        file.unlink(missing_ok=True)
    return out


def _sums(file: Path) -> tuple[Tensor, Tensor, int]:
    try:
        with safe_open(str(file), framework="pt") as opened:
            done = int(json.loads((opened.metadata() or {})["done"]))
            return opened.get_tensor("sums"), opened.get_tensor("seen"), done
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedStore(f"{file.name} cannot be read ({type(error).__name__}): delete it to begin anew") from None


def _jacobians(learner: Learner, rows: list[list[int]], bar: Any) -> tuple[Float[Tensor, "layer d_model d_model"], Tensor]:
    """Sums over the positions of some texts, and how many positions there are."""
    trees = plant(rows, size=0)
    with torch.enable_grad():
        _, streams = learner.run(trees, read=tuple(range(learner.count)))
        *lower, final = [streams[layer] for layer in range(learner.count)]
        counts = _counts(learner, rows, trees, [*lower, final])
        out = torch.zeros(len(lower), final.shape[-1], final.shape[-1])
        for j in range(final.shape[-1]):
            aim = torch.zeros_like(final)
            aim[..., j] = counts.to(final)
            found = torch.autograd.grad(final, lower, aim, retain_graph=j + 1 < final.shape[-1])
            for k, gradient in enumerate(found):
                out[k, j] = gradient[counts.to(gradient.device)].float().sum(0).cpu()
            bar.update()
    return out, counts.sum().float()


@torch.no_grad()
def _counts(learner: Learner, rows: list[list[int]], trees: Any, streams: list[Tensor]) -> Bool[Tensor, "tree place"]:
    """Which places count: no padding, no beginning-of-text token, no first token, no attention sink of any layer."""
    out = torch.zeros(trees.ids.shape, dtype=torch.bool)
    first = list(first_of(learner.model))
    for row, (tree, places) in zip(rows, trees.at, strict=True):
        real = torch.ones(len(row), dtype=torch.bool)
        real[: max(1, len(first) if row[: len(first)] == first else 0)] = False
        for stream in streams:
            real &= ~outliers(stream[tree, list(places)].float().norm(dim=-1).cpu(), real)
        out[tree, list(places)] = real
    return out
