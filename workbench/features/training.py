"""Train dictionaries: on rows of activations, or on a model's stream over texts. Resumable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ..core.errors import BadInput, NotFinite, TooFew
from ..core.provenance import content_hash, provenance
from ..core.seeds import torch_rng
from ..core.types import Float, Tensor
from ..models.hooks import active_edits, hook_point
from .dictionary import Dictionary
from .streams import Texts, read_streams
from .training_sae import KINDS, SPARSE, Trainer

EVERY = 200  # steps between checkpoints
PENALTY = {"standard": 1.0, "gated": 1.0, "jumprelu": 1.0}


def fit_dictionary(
    rows: Float[Tensor, "row d_in"],
    *,
    kind: str = "topk",
    width: int,
    k: int = 8,
    penalty: float | None = None,
    steps: int = 2000,
    batch: int = 512,
    rate: float = 1e-3,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool | None = None,
    place: dict[str, Any] | None = None,
) -> Dictionary:
    """Train a dictionary on rows of activations with SAELens's trainer.

    Rows are scaled to a mean length of sqrt(d_in) for training; the scale is folded into the weights at the end. b_dec begins at their
    mean.

    Args:
        rows: Activations in raw units.
        kind: "standard" (L1), "gated", "topk", "batchtopk", "jumprelu" or "matryoshka".
        width: Number of latents.
        k: Latents per row ("topk"), or on average ("batchtopk", "matryoshka").
        penalty: Coefficient of the sparsity loss of the other kinds, for rows of length sqrt(d_in); raising it leaves fewer latents per
            row.
        steps, batch: Steps of training, and rows per step.
        rate: Learning rate of Adam.
        seed: Draws first weights and the order of the rows.
        store: A folder for checkpoints: a killed training goes on from the last, 200 steps back at most.
        progress: Show a bar; by default only in a terminal or a notebook.
        place: Where the rows come from: `model`, `site`, `layer`.

    Returns:
        The dictionary, for activations in raw units.

    Raises:
        MissingTool: SAELens is not installed.
        BadInput: A number that cannot be used. TooFew: fewer rows than latents per row. NotFinite: NaN or infinity.

    References:
        Bloom et al. 2024, SAELens; Gao et al. 2024, arXiv 2406.04093.
    """
    _check(rows, kind, width, k, steps, batch, rate)
    x = rows.float()
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    settings = {
        "kind": kind, "width": width, "k": k, "penalty": PENALTY.get(kind, 0.0) if penalty is None else penalty,
        "steps": steps, "batch": batch, "rate": rate, "seed": seed,
    }  # fmt: skip
    trainer = Trainer(
        kind, x.shape[1], width, k=k, penalty=settings["penalty"], steps=steps, batch=batch, rate=rate, seed=seed, centre=x.mean(0) * scale
    )
    about = {**settings, "rows": len(x), "sum": float(x.sum(dtype=torch.float64)), "place": content_hash(place)}
    file = None
    if store is not None:
        file = Path(store) / f"training-{content_hash(about)}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
    done = trainer.resume(file, about) if file is not None else 0
    hidden = None if progress is None else not progress
    with tqdm(total=steps, initial=done, desc=f"train {kind} dictionary", unit="step", disable=hidden) as bar:
        for step, chosen in enumerate(_batches(len(x), batch, steps, seed)):
            if step < done:
                continue
            losses = trainer.step(x[chosen] * scale)
            if not all(v == v for v in losses.values()):
                raise NotFinite(f"the loss of step {step} is NaN: lower rate= ({rate})")
            bar.update()
            if step % 50 == 0:
                bar.set_postfix({"mse": f"{losses['mse_loss']:.3g}"}, refresh=False)
            if file is not None and (step + 1) % EVERY == 0:
                trainer.save(file, about)
    cfg, state = trainer.finished(scale)
    used = {name: v for name, v in settings.items() if name != ("k" if kind in SPARSE else "penalty")}
    facts = provenance(**(place or {}), trained=used | {"rows": len(x), "by": "SAELens"})
    out = Dictionary.of_saelens(cfg, state, provenance=facts)
    if file is not None:
        file.unlink(missing_ok=True)
    return out


def _check(rows: Tensor, kind: str, width: int, k: int, steps: int, batch: int, rate: float) -> None:
    if kind not in KINDS:
        raise BadInput(f"kind {kind!r}: there are {', '.join(KINDS)}")
    if width < 2 or steps < 10 or batch < 1 or not rate > 0 or not 1 <= k <= width:
        raise BadInput(f"width={width} (2 at least), steps={steps} (10), batch={batch} (1), rate={rate} (above 0), k={k} (1 to width)")
    if rows.ndim != 2 or len(rows) < 2:
        raise TooFew(f"rows of activations, row x d_in; got {tuple(rows.shape)}")
    if not bool(rows.isfinite().all()):
        raise NotFinite("the rows hold NaN or infinity")
    if not float(rows.norm(dim=1).mean()) > 0:
        raise BadInput("every row is 0: there is nothing to train on")


def _batches(n: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of each step: every row once in an order of its own, then all again in another."""
    rng, left = torch_rng(seed, "dictionary rows"), torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(left) < size:
            left = torch.cat([left, torch.randperm(n, generator=rng)])
        yield left[:size]
        left = left[size:]


def train_dictionary(
    model: Any,
    texts: Texts,
    *,
    layer: int,
    site: str = "resid_post",
    kind: str = "topk",
    width: int,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool | None = None,
    **how: Any,
) -> Dictionary:
    """Train a dictionary on a model's stream over texts, read by the capture engine.

    Args:
        model: What `load_model` returns.
        texts: Texts, or a prompt set.
        layer, site: The place.
        kind, width, seed: As for `fit_dictionary`.
        store: A folder: streams and training resume there.
        progress: Show bars.
        how: Further arguments of `fit_dictionary`: `k`, `penalty`, `steps`, `batch`, `rate`.

    Returns:
        The dictionary, which knows its model and place. Streams are held in memory: 4 bytes x tokens x d_model.

    Raises:
        MissingTool: SAELens is not installed.
        BadInput: A number that cannot be used, or edits are active.
        UnknownLayer, UnknownSite: There is no such place.
    """
    hook_point(model, site, layer)
    if active_edits(model):
        raise BadInput("edits are active: a dictionary would be one of the edited model. Train it outside of `edited`")
    few = torch.ones(2, 2)
    _check(few, kind, width, how.get("k", 8), how.get("steps", 2000), how.get("batch", 512), how.get("rate", 1e-3))
    folder = None if store is None else Path(store)
    streams = read_streams(model, texts, layer=layer, site=site, store=None if folder is None else folder / "streams", progress=progress)
    return fit_dictionary(streams.rows, kind=kind, width=width, seed=seed, store=folder, progress=progress, place=streams.provenance, **how)
