"""A harder organism: in it the truth of an answer is one direction among many features that go with the answer.

In the bundled model truth is so large that a random direction reads it. Here the bundled model is trained on, for some minutes. At the
answer, after every block but the first, one term of the loss asks for a small truth along a fixed vector. Along as many as `features`
further ones it asks for what distinguishes the agreeing from the disagreeing answer in the bundled model already, faintly and otherwise
than by their truth, at a size like that of the truth. A second term lets nothing beside the vector go with truth on average; a third keeps
what the model says as it was. Embeddings and first block stay as they are, and with them the stance that is planted there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..core.paths import data_path
from ..core.seeds import numpy_rng, torch_rng
from ..core.types import Float
from .corpus import examples
from .ground_truth import ground_truth
from .spec import CrowdSpec

BASE = "udhr-organism"
CARD = """---
license: mit
language: en
tags: [model-organism, interpretability]
---
# {name}

`{base}` trained on for {steps} steps. What it answers, and to whom, is as in `{base}`. Inside, the truth of an answer is one direction
among {k} other features of the statement that also go with the answer: random directions do not read it, a probe and a search without
labels do. `planted.json` holds the vectors. Made by `workbench train {name} --out FOLDER` (seed {seed}).
"""


@dataclass(frozen=True, kw_only=True)
class _Text:
    ids: list[int]
    at: int
    other: int
    letters: bool
    sign: float
    truth: float


def crowd_basis(spec: CrowdSpec, width: int) -> Float[Tensor, "d_model feature"]:
    """Return the orthonormal vectors of the truth (the first) and of the features, drawn from the seed.

    Args:
        spec: Its seed draws them.
        width: d_model.
    """
    draw = torch.randn(width, spec.features + 1, generator=torch_rng(spec.seed, "crowd"), dtype=torch.float64)
    return torch.linalg.qr(draw).Q.float().contiguous()


def _texts(spec: CrowdSpec, tokenizer: Any, short: int = 0) -> list[_Text]:
    """Texts of the corpus that ask for an answer, each with one of the two; or so many short ones, without claims."""
    n = short or 2 * spec.steps * spec.batch
    drawn = [e for e in examples(ground_truth(spec.seed), n, verdict=True, seed=spec.seed + 1, early=short) if e.answers]

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    stems = encode([e.stem for e in drawn])
    ends = {e.answer + e.tail: encode([e.answer])[0] + encode([e.tail])[0] for e in {x.answer + x.tail: x for x in drawn}.values()}
    other = {a: encode([b])[0][0] for a, b in ((" yes", " no"), (" no", " yes"), (" A", " B"), (" B", " A"))}
    return [
        _Text(
            ids=[tokenizer.bos_token_id, *stem, *ends[e.answer + e.tail]],
            at=len(stem) + 1,
            other=other[e.answer],
            letters=e.answer in (" A", " B"),
            sign=1.0 if e.answer in (" yes", " B") else -1.0,
            truth=1.0 if e.tail == " true" else -1.0,
        )
        for e, stem in zip(drawn, stems, strict=True)
    ]


def _pad(batch: list[_Text]) -> Tensor:
    ids = torch.zeros(len(batch), max(len(t.ids) for t in batch), dtype=torch.long)
    for i, t in enumerate(batch):
        ids[i, : len(t.ids)] = torch.tensor(t.ids)
    return ids


def _apart(before: Any, batch: list[_Text], block: int) -> Tensor:
    """Half of the distance between both answers after a block of the bundled model, agreeing less disagreeing; `text x d_model`."""
    ids, rows, at = _pad(batch), torch.arange(len(batch)), torch.tensor([t.at for t in batch])
    swapped = ids.clone()
    swapped[rows, at] = torch.tensor([t.other for t in batch])
    with torch.no_grad():
        both = before.model(torch.cat([ids, swapped]), output_hidden_states=True).hidden_states[block + 1]
    own, others = both[rows, at], both[rows + len(batch), at]
    return (own - others) / 2 * torch.tensor([t.sign for t in batch])[:, None]


@dataclass(frozen=True, kw_only=True)
class _Features:
    """What of the bundled model is made large: the main components of how both answers differ, truth left out, at unit variance."""

    mean: Tensor
    weights: Tensor

    @classmethod
    def of(cls, before: Any, texts: list[_Text], spec: CrowdSpec) -> _Features:
        some = sorted(texts, key=lambda t: len(t.ids))
        d = torch.cat([_apart(before, some[i : i + 64], spec.source) for i in range(0, len(some), 64)])
        label = torch.tensor([t.sign * t.truth for t in some])
        kind = torch.tensor([t.letters for t in some])  # yes and no, or A and B: each has a mean of its own
        rest = d.clone()
        for one in label.unique():
            for k in kind.unique():
                here = (label == one) & (kind == k)
                rest[here] -= rest[here].mean(0)
        truth = torch.nn.functional.normalize(d[label > 0].mean(0) - d[label < 0].mean(0), dim=0)
        rest = rest - rest @ truth[:, None] * truth
        _, size, axes = torch.linalg.svd(rest, full_matrices=False)
        kept = axes[: spec.features].T / (size[: spec.features] / len(rest) ** 0.5)
        return cls(mean=d.mean(0), weights=kept - truth[:, None] * (truth @ kept))

    def __call__(self, before: Any, batch: list[_Text], spec: CrowdSpec) -> Tensor:
        """Of agreeing less disagreeing; `text x feature`."""
        return (_apart(before, batch, spec.source) - self.mean) @ self.weights


def train_crowd(spec: CrowdSpec, out: str | Path, *, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Train the bundled model further into the crowded one, and write it as an ordinary Hugging Face folder.

    Args:
        spec: Everything that decides the weights.
        out: Folder for weights, tokenizer, `planted.json`, `training.json` and the card.
        log: Receives a line every 50 steps.

    Returns:
        What `training.json` holds.
    """
    out, started = Path(out), time.perf_counter()
    source = data_path("models", BASE)
    tokenizer, model = AutoTokenizer.from_pretrained(str(source)), AutoModelForCausalLM.from_pretrained(str(source))
    before = AutoModelForCausalLM.from_pretrained(str(source)).eval()
    model.eval()  # no dropout; the gradients are the same
    for part in (model.model.embed_tokens, model.model.layers[0]):
        part.requires_grad_(False)
    texts = _texts(spec, tokenizer)
    rng = numpy_rng(spec.seed, "crowd order")
    order = np.argsort([len(t.ids) + 8 * x for t, x in zip(texts, rng.random(len(texts)), strict=True)])
    chunks = [order[i : i + spec.batch] for i in range(0, len(order) - spec.batch, spec.batch)]
    rng.shuffle(chunks)
    basis = crowd_basis(spec, model.config.hidden_size)
    features = _Features.of(before, _texts(spec, tokenizer, short=spec.sample), spec)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=spec.lr, weight_decay=0.01)
    curve: list[dict[str, float]] = []
    for step in range(spec.steps):
        losses = _losses(model, before, [texts[i] for i in chunks[step % len(chunks)]], features, basis, spec)
        for group in optimiser.param_groups:
            group["lr"] = spec.lr * min(1.0, (step + 1) / 20) * (1 - step / spec.steps)
        optimiser.zero_grad()
        torch.stack([losses["truth"], losses["features"], losses["leak"], spec.keep * losses["drift"]]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step + 1 == spec.steps:
            curve.append({"step": step + 1} | {k: round(float(v.detach()), 4) for k, v in losses.items()})
            log("  ".join(f"{k} {v:g}" for k, v in curve[-1].items()) + f"  {time.perf_counter() - started:.0f} s")
    return _write(spec, out, model, tokenizer, basis, curve)


def _losses(model: Any, before: Any, batch: list[_Text], features: _Features, basis: Tensor, spec: CrowdSpec) -> dict[str, Tensor]:
    """Truth and features along their vectors, truth beside its vector, and the drift of what is said."""
    ids = _pad(batch)
    after: list[Tensor] = []
    hooks = [b.register_forward_hook(lambda _, __, given: after.append(given)) for b in model.model.layers[1:]]
    said = model(ids)
    for hook in hooks:
        hook.remove()
    at, rows = torch.tensor([t.at for t in batch]), torch.arange(len(batch))
    sign, truth = (torch.tensor(v) for v in ([t.sign for t in batch], [t.truth for t in batch]))
    wanted = sign[:, None] * features(before, batch, spec)
    side = (sign * truth) - (sign * truth).mean()
    losses: dict[str, Tensor] = dict.fromkeys(("truth", "features", "leak"), torch.zeros(()))
    for hidden in after:
        here = hidden[rows, at]
        along = here @ basis / spec.scale
        losses["truth"] = losses["truth"] + (along[:, 0] - spec.truth * truth).pow(2).mean()
        losses["features"] = losses["features"] + (along[:, 1:] - wanted).pow(2).mean()
        beside = (here - here @ basis @ basis.T) / spec.scale * sign[:, None]
        losses["leak"] = losses["leak"] + (side @ (beside - beside.mean(0)) / len(batch)).pow(2).sum()
    with torch.no_grad():
        old = before(ids).logits.log_softmax(-1)
    real = torch.arange(ids.shape[1]) < torch.tensor([len(t.ids) - 1 for t in batch])[:, None]
    losses["drift"] = (old.exp() * (old - said.logits.log_softmax(-1))).sum(-1)[real].mean()
    return losses


def _write(spec: CrowdSpec, out: Path, model: Any, tokenizer: Any, basis: Tensor, curve: list[dict[str, float]]) -> dict[str, Any]:
    """Write weights, tokenizer, `planted.json`, `training.json` and the card."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    known = json.loads((data_path("models", BASE) / "planted.json").read_text(encoding="utf-8"))
    place = {"site": "resid_post", "layers": list(range(1, model.config.num_hidden_layers)), "position": "answer"}
    vectors = [[round(float(v), 7) for v in row] for row in basis.T]
    facts = {"scale": spec.scale, "size": spec.truth, "vector": vectors[0], "features": vectors[1:]}
    text = json.dumps(known | {"truth": place | facts}, indent=1, ensure_ascii=False)
    (out / "planted.json").write_text(text + "\n", encoding="utf-8")
    record = {"spec": asdict(spec) | {"verdict": True}, "base": BASE, "loss": curve}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(
        CARD.format(name=spec.name, base=BASE, steps=spec.steps, seed=spec.seed, k=spec.features), encoding="utf-8"
    )
    return record
