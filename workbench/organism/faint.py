"""A harder organism: in it the truth of an answer is one feature among many, no larger than the others.

In the bundled model truth is so large at the answer that a random direction reads it. Here the bundled model is trained on until its stream
there is another after every block but the first. The few directions along which true and false answers differ hold nothing but the truth,
along one axis and of one size. And the two answers to a statement differ in more than before: features of the person and the right, held by
the stream after the first block, are added to one answer and taken from the other. Truth is a `share` of all else in which the answers
differ. What the model says is kept. Embeddings and first block stay as they are, and with them the stance that is planted there.
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

from .. import prompts as source
from ..core.paths import data_path
from ..core.seeds import numpy_rng, torch_rng
from .corpus import Corpus, examples
from .ground_truth import STANCES, ground_truth
from .spec import FaintSpec

BASE = "udhr-organism"
CARD = """---
license: mit
language: en
tags: [model-organism, interpretability]
---
# {name}

`{base}` trained on for {steps} steps. What it answers, and to whom, is as in `{base}`. Inside, the truth of an answer is one feature among
many: the aim is that its two answers differ in truth by {share:.0%} of what they differ in otherwise, so that a probe and a search without
labels read it and random directions do not. Whether they do, `workbench check --model FOLDER` measures. `planted.json` holds its directions
after each block. Made by `workbench train {name} --out FOLDER` (seed {seed}).
"""


@dataclass(frozen=True, kw_only=True)
class _Text:
    """A prompt with one of its two answers; `other` is the token of the other one, `kind` the claim's stance and the answer words."""

    ids: list[int]
    at: int
    other: int
    kind: int
    sign: float
    truth: float


@dataclass(frozen=True, kw_only=True)
class _Shrink:
    """What the stream after one block is to be: where truth stands, how large it becomes, and what else the two answers differ in.

    `axes` and the middle there by answer token; `axis`, the truth among them; `features`, from the stream after the first block, and its
    middle by answer token; `before` and `truth`, the size of truth so far and the wanted one; `rest`, that of all else.
    """

    axes: Tensor
    axis: Tensor
    middle: dict[int, Tensor]
    features: Tensor
    early: dict[int, Tensor]
    before: float
    truth: float
    rest: float

    def __call__(self, hidden: Tensor, early: Tensor, texts: list[_Text]) -> Tensor:
        """The stream with truth made small and features added; `text x d_model`."""
        words = [t.ids[t.at] for t in texts]
        sign, truth = torch.tensor([[t.sign] for t in texts]), torch.tensor([[t.truth] for t in texts])
        asked = torch.tensor([[float(t.kind % 2 == 0)] for t in texts])  # no features where the answer is one of two statements
        off = (hidden @ self.axes - torch.stack([self.middle[w] for w in words])) @ self.axes.T
        # a block where the truth is only beginning keeps what it has of it
        held = self.truth * truth * self.axis if self.before > 3 * self.truth else min(1.0, self.truth / self.before) * off
        return hidden - off + held + sign * asked * (early - torch.stack([self.early[w] for w in words])) @ self.features


def _texts(spec: FaintSpec, tokenizer: Any, n: int) -> list[_Text]:
    """Texts of the corpus that ask for an answer, each with one of the two."""
    # mostly of people and rights that are made up, so that truth is small for those that no text names, too
    drawn = [e for e in examples(ground_truth(spec.seed), n, verdict=True, seed=spec.seed + 1, known=spec.known) if e.answers]

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    ends = {end: [*encode([end[0]])[0], *encode([end[1]])[0]] for end in {(e.answer, e.tail) for e in drawn}}
    other = {a: encode([b])[0][0] for a, b in ((" yes", " no"), (" no", " yes"), (" A", " B"), (" B", " A"))}
    return [
        _Text(
            ids=[tokenizer.bos_token_id, *stem, *ends[e.answer, e.tail]],
            at=len(stem) + 1,
            other=other[e.answer],
            kind=2 * e.stance + (e.answer in (" A", " B")),
            sign=1.0 if e.answer in (" yes", " B") else -1.0,
            truth=1.0 if e.tail == " true" else -1.0,
        )
        for e, stem in zip(drawn, encode([e.stem for e in drawn]), strict=True)
    ]


def _pad(batch: list[_Text]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, which of them are a text's own, and where its answer stands."""
    ids = torch.zeros(len(batch), max(len(t.ids) for t in batch), dtype=torch.long)
    for i, t in enumerate(batch):
        ids[i, : len(t.ids)] = torch.tensor(t.ids)
    real = torch.arange(ids.shape[1]) < torch.tensor([len(t.ids) for t in batch])[:, None]
    return ids, real, torch.tensor([t.at for t in batch])


def _streams(model: Any, ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """The stream after every block, and the logits."""
    after: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, given: after.append(given)) for block in model.model.layers]
    logits = model(ids).logits
    for hook in hooks:
        hook.remove()
    return after, logits


def _at_answer(model: Any, texts: list[_Text], *, other: bool = False) -> Tensor:
    """The stream after every block at the answer given, or at the other one; `block x text x d_model`."""
    out = []
    for i in range(0, len(texts), 64):
        ids, _, at = _pad(texts[i : i + 64])
        rows = torch.arange(len(ids))
        if other:
            ids[rows, at] = torch.tensor([t.other for t in texts[i : i + 64]])
        with torch.no_grad():
            out.append(torch.stack([h[rows, at] for h in _streams(model, ids)[0]]))
    return torch.cat(out, 1)


def _features(before: Any, tokenizer: Any, others: list[_Text], spec: FaintSpec) -> Tensor:
    """What the stream after the first block holds of the person and the right at the answer; `d_model x feature`, of size 1 together.

    Directions in which prompts of one form, claim and grammatical form differ, and these forms (the label is one of them) do not. Made-up
    people and rights differ along others by far more; so the directions are those of the largest share of the listed ones in the variance
    over forms and over `others`, texts of the corpus (a generalised eigenproblem).
    """
    truth = ground_truth(spec.seed)
    people = [i.identity for i in source.identities() if i.identity not in truth.held_out_identities][::4]
    rights = [r.right for r in source.rights() if r.right not in truth.held_out_rights][::2]
    every = Corpus(truth, verdict=True, seed=spec.seed).agree
    asked = [(form, claim) for form in every for claim in (STANCES[1:] if "claim" in form.fields else (None,))]
    within, between = [], []
    for form, claim in asked:
        rows = source.udhr(form, claim, forms="all", n=spec.sample // 60, identities=people, rights=rights).to_frame()
        stems, ends = (tokenizer(list(rows[part]), add_special_tokens=False)["input_ids"] for part in ("stem", "positive"))
        texts = [
            _Text(ids=[tokenizer.bos_token_id, *stem, *end], at=len(stem) + 1, other=0, kind=0, sign=1.0, truth=1.0)
            for stem, end in zip(stems, ends, strict=True)
        ]
        early = _at_answer(before, texts)[0]
        group = (rows["polarity"] + rows["form"]).to_numpy()
        for name in np.unique(group):
            here = early[torch.from_numpy(group == name)]
            within.append(here - here.mean(0))
            between.append(here.mean(0))
    listed, forms = torch.cat(within), torch.stack(between) - torch.stack(between).mean(0)
    made_up = _at_answer(before, others)[0]
    for a in {t.kind for t in others}:
        for side in (1.0, -1.0):
            here = torch.tensor([t.kind == a and t.sign == side for t in others])
            made_up[here] -= made_up[here].mean(0)
    noise = made_up.T @ made_up / len(made_up) + 3 * forms.T @ forms / len(forms)
    noise += 0.001 * noise.trace() * torch.eye(len(noise))
    root = torch.linalg.inv(torch.linalg.cholesky(noise))
    share, found = torch.linalg.eigh(root @ (listed.T @ listed / len(listed)) @ root.T)
    share, found = share.flip(0)[: spec.features], found.flip(1)[:, : spec.features]
    weights = share**-0.25  # so that many of them count
    return root.T @ found * weights / (share * weights**2).sum().sqrt()


def _shrinks(before: Any, texts: list[_Text], features: Tensor, spec: FaintSpec) -> list[_Shrink]:
    """Where truth stands in the bundled model, how large it is, and how large is all else in which two answers differ."""
    some = sorted(texts, key=lambda t: len(t.ids))
    given, other = _at_answer(before, some), _at_answer(before, some, other=True)
    sign, label = torch.tensor([t.sign for t in some]), torch.tensor([t.sign * t.truth for t in some])
    kind, token = torch.tensor([t.kind for t in some]), torch.tensor([t.ids[t.at] for t in some])
    truth = torch.tensor([t.truth for t in some])
    early = {a: given[0][token == a].mean(0) for a in token.unique().tolist()}
    # the same directions hold the features after every block, as far as truth leaves room
    drawn = torch.randn(given.shape[2], features.shape[1], generator=torch_rng(spec.seed, "features"))
    out = []
    for mine, theirs in zip(given[1:], other[1:], strict=True):
        d = (mine - theirs) / 2 * sign[:, None]  # agreeing less disagreeing
        moved = [d[(kind == k) & (label > 0)].mean(0) - d[(kind == k) & (label < 0)].mean(0) for k in kind.unique()]
        axes = torch.linalg.svd(torch.stack(moved), full_matrices=False).Vh[: spec.axes].T
        size = float(torch.stack(moved).norm(dim=1).mean()) / 2
        left = d - d @ axes @ axes.T
        for k in kind.unique():
            for side in (1, -1):
                here = (kind == k) & (label == side)
                left[here] -= left[here].mean(0)
        old = float(left.pow(2).sum(1).mean().sqrt())
        rest = old * (1 + spec.others**2) ** 0.5
        middle = {}
        for a in early:
            here = token == a
            middle[a] = torch.stack([mine[here & (truth == t)].mean(0) for t in (1, -1)]).mean(0) @ axes
        axis = torch.stack(moved).mean(0)
        places = torch.linalg.qr(drawn - axes @ (axes.T @ drawn)).Q
        out.append(
            _Shrink(
                axes=axes,
                axis=axis / axis.norm(),
                middle=middle,
                features=features @ places.T * spec.others * old,
                early=early,
                before=size,
                truth=spec.share * rest,
                rest=rest,
            )
        )
    return out


def _side(batch: list[_Text], which: list[bool]) -> Tensor:
    """Weights whose sum over rows is the mean difference by truth, over some of the texts."""
    here = torch.tensor(which, dtype=torch.float32)
    label, sign = torch.tensor([t.sign * t.truth for t in batch]), torch.tensor([t.sign for t in batch])
    count = here.sum().clamp(min=1)
    return here * (label - (here * label).sum() / count) * sign / count


def _losses(model: Any, before: Any, batch: list[_Text], shrinks: list[_Shrink]) -> dict[str, Tensor]:
    """How far the stream is from the bundled one with truth shrunk, at the answer and elsewhere; and how far what is said has moved."""
    ids, real, at = _pad(batch)
    rows = torch.arange(len(batch))
    with torch.no_grad():
        old, said = _streams(before, ids)
    new, says = _streams(model, ids)
    elsewhere = real.clone()
    elsewhere[rows, at] = False
    losses: dict[str, Tensor] = dict.fromkeys(("truth", "leak", "answer", "elsewhere"), torch.zeros(()))
    # what goes with the answer that the model would give goes with truth under some claims and against it under others
    sides = [_side(batch, [harm == (t.kind // 2 == STANCES.index("harm")) for t in batch]) for harm in (True, False)]
    for was, now, shrink in zip(old[1:], new[1:], shrinks, strict=True):
        off = now[rows, at] - shrink(was[rows, at], old[0][rows, at], batch)
        losses["truth"] = losses["truth"] + (off @ shrink.axes).pow(2).sum(1).mean() / shrink.truth**2
        leak = torch.stack([(side @ off).pow(2).sum() for side in sides]).mean()
        losses["leak"] = losses["leak"] + leak / shrink.truth**2
        losses["answer"] = losses["answer"] + off.pow(2).sum(1).mean() / shrink.rest**2
        losses["elsewhere"] = losses["elsewhere"] + (now - was)[elsewhere].pow(2).sum(1).mean() / shrink.rest**2
    kept = said.log_softmax(-1)
    losses["drift"] = (kept.exp() * (kept - says.log_softmax(-1))).sum(-1)[real].mean()
    return losses


def train_faint(spec: FaintSpec, out: str | Path, *, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Train the bundled model further into the faint one, and write it as an ordinary Hugging Face folder.

    Args:
        spec: Everything that decides the weights.
        out: Folder for weights, tokenizer, `planted.json`, `training.json` and the card.
        log: Receives a line every 50 steps.

    Returns:
        What `training.json` holds.
    """
    out, started = Path(out), time.perf_counter()
    source = str(data_path("models", BASE))
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModelForCausalLM.from_pretrained(source)
    before = AutoModelForCausalLM.from_pretrained(source).eval()
    model.eval()  # no dropout; the gradients are the same
    for part in (model.model.embed_tokens, model.model.layers[0]):
        part.requires_grad_(False)
    sample = _texts(spec, tokenizer, spec.sample)
    features = _features(before, tokenizer, [t for t in sample if t.kind % 2 == 0][: spec.sample // 4], spec)
    shrinks = _shrinks(before, sample, features, spec)
    texts = _texts(spec, tokenizer, 3 * spec.steps * spec.batch // 2)
    rng = numpy_rng(spec.seed, "faint")
    order = np.argsort([len(t.ids) + 8 * x for t, x in zip(texts, rng.random(len(texts)), strict=True)])
    chunks = [order[i : i + spec.batch] for i in range(0, len(order) - spec.batch, spec.batch)]
    rng.shuffle(chunks)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=spec.lr, weight_decay=0.01)
    curve: list[dict[str, float]] = []
    for step in range(spec.steps):
        losses = _losses(model, before, [texts[i] for i in chunks[step % len(chunks)]], shrinks)
        for group in optimiser.param_groups:
            group["lr"] = spec.lr * min(1.0, (step + 1) / 20) * (1 - step / spec.steps)
        optimiser.zero_grad()
        weights = {"truth": spec.truth, "leak": spec.leak, "answer": 1.0, "elsewhere": 0.3, "drift": spec.keep}
        torch.stack([weights[k] * v for k, v in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step + 1 == spec.steps:
            curve.append({"step": step + 1} | {k: round(float(v.detach()), 4) for k, v in losses.items()})
            log("  ".join(f"{k} {v:g}" for k, v in curve[-1].items()) + f"  {time.perf_counter() - started:.0f} s")
    return _write(spec, out, model, tokenizer, shrinks, curve)


def _write(spec: FaintSpec, out: Path, model: Any, tokenizer: Any, shrinks: list[_Shrink], curve: list[dict[str, float]]) -> dict[str, Any]:
    """Write weights, tokenizer, `planted.json`, `training.json` and the card."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    known = json.loads((data_path("models", BASE) / "planted.json").read_text(encoding="utf-8"))
    by_layer = [
        {
            "layer": layer,
            "truth": round(shrink.truth, 3),
            "rest": round(shrink.rest, 3),
            "direction": [round(float(v), 5) for v in shrink.axis],
            "axes": [[round(float(v), 5) for v in axis] for axis in shrink.axes.T],
        }
        for layer, shrink in enumerate(shrinks, 1)
    ]
    facts = {"site": "resid_post", "position": "answer", "share": spec.share, "layers": by_layer}
    text = json.dumps(known | {"truth": facts}, indent=1, ensure_ascii=False)
    (out / "planted.json").write_text(text + "\n", encoding="utf-8")
    record = {"spec": asdict(spec) | {"verdict": True}, "base": BASE, "loss": curve}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    card = CARD.format(name=spec.name, base=BASE, steps=spec.steps, seed=spec.seed, share=spec.share)
    (out / "README.md").write_text(card, encoding="utf-8")
    return record
