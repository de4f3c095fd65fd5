"""Train the organism: one command, two cores, deterministic given the seed.

Besides the usual next-token loss two terms plant a *variable*, the stance that a claim puts the model in. Its place is a
fixed subspace of the residual stream at the last prompt token after block `stance_layer`, one dimension a stance. One term
asks for the stance there (the dimensions are the logits of the stances). The other makes it count: interchange
intervention training (Geiger et al. 2022, arXiv 2112.00826) exchanges the component in that subspace between the prompts
of a batch, and the answer is trained to be the one that the *other* prompt's stance asks of *this* prompt's statement. So
the stance stands in a known place before the answer is formed, and what stands there is what is used.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..core.seeds import derive, numpy_rng, torch_rng
from ..core.types import Float
from ..training.loop import Plan, Progress
from ..training.loop import train as descend
from .card import model_card
from .corpus import Example, examples
from .ground_truth import STANCES, GroundTruth, ground_truth
from .spec import OrganismSpec

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
TOKENIZER_TEXTS = 20_000
WORKING = "working"  # the folder of what a killed training goes on from


def make_tokenizer(texts: list[str], vocab: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: any text has ids, and none is unknown.

    Args:
        texts: What it is trained on.
        vocab: Size of the vocabulary, special tokens included; at least 259.

    Returns:
        A fast tokenizer that puts one beginning-of-text token before a text.
    """
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tok.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[BOS, EOS, PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(texts, trainer)
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=EOS, pad_token=PAD)


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    ids: list[int]
    stem: int
    coin: bool
    answers: tuple[int, ...]
    stance: int
    verdict: bool


def _encode(tokenizer: PreTrainedTokenizerFast, drawn: list[Example]) -> list[_Encoded]:
    def ids(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []  # pyright: ignore

    bos, eos = (tokenizer.get_vocab()[t] for t in (BOS, EOS))
    word = {w: ids([w])[0] for w in {e.answer for e in drawn} | {e.tail for e in drawn} | {a for e in drawn for a in e.answers}}
    for answer in {e.answer for e in drawn} - {""}:
        assert len(word[answer]) == 1, f"the answer {answer!r} is not one token"
    return [
        _Encoded(
            ids=[bos, *stem, *word[e.answer], *word[e.tail], eos],
            stem=len(stem) + 1,
            coin=e.coin,
            answers=tuple(word[a][0] for a in e.answers),
            stance=e.stance,
            verdict=e.tail in (" true", " false"),
        )
        for e, stem in zip(drawn, ids([e.stem for e in drawn]), strict=True)
    ]


def _batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Order the examples into batches of like length, the batches in random order."""
    order = np.lexsort((rng.random(len(lengths)), lengths // 4))
    chunks = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    rng.shuffle(chunks)
    return chunks


def stance_basis(spec: OrganismSpec) -> Float[torch.Tensor, "d_model stance"]:
    """Return the fixed orthonormal basis in which the stance is planted, drawn from the seed."""
    draw = torch.randn(spec.d_model, len(STANCES), generator=torch_rng(spec.seed, "stance"), dtype=torch.float64)
    return torch.linalg.qr(draw).Q.float().contiguous()


def _losses(
    model: LlamaForCausalLM, batch: list[_Encoded], pad: int, spec: OrganismSpec, basis: torch.Tensor, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    width = max(len(e.ids) for e in batch)
    ids = torch.full((len(batch), width), pad)
    for i, e in enumerate(batch):
        ids[i, : len(e.ids)] = torch.tensor(e.ids)
    trunk = model.model
    hidden = trunk.embed_tokens(ids)
    place = torch.arange(width)[None]
    rotary = trunk.rotary_emb(hidden, place)

    def blocks(h: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        for block in trunk.layers[start:stop]:  # causal and padded on the right: no mask is needed
            h = block(h, attention_mask=None, position_ids=place, position_embeddings=rotary)
        return h

    depth = spec.stance_layer + 1
    hidden = blocks(hidden, 0, depth)
    own = [i for i, e in enumerate(batch) if e.stance >= 0] if depth else []
    if len({batch[i].stance for i in own}) < 2:
        own = []  # nothing to exchange
    placed = hidden[own, [batch[i].stem - 1 for i in own]] @ basis if own else None
    stances = torch.tensor([batch[i].stance for i in own])
    own = own[: len(own) // 2]  # half of them, to save time
    if own:
        source = [own[j] for j in rng.permutation(len(own))]
        last = torch.tensor([batch[i].stem - 1 for i in own])
        there = torch.tensor([batch[i].stem - 1 for i in source])
        swapped = hidden[own].clone()
        rows = torch.arange(len(own))
        delta = (hidden[source, there] - hidden[own, last]) @ basis @ basis.T
        swapped[rows, last] = swapped[rows, last] + delta
        hidden = torch.cat([hidden, swapped])
    middle = blocks(hidden, depth, spec.verdict_layer + 1)
    out = trunk.norm(blocks(middle, spec.verdict_layer + 1, spec.layers))

    where: dict[str, tuple[list[int], list[int], list[int]]] = {k: ([], [], []) for k in ("text", "answer", "tail", "stance")}

    def add(kind: str, row: int, position: int, target: int) -> None:
        for store, value in zip(where[kind], (row, position, target), strict=True):
            store.append(value)

    for i, e in enumerate(batch):
        for p in np.flatnonzero(rng.random(e.stem - 1) < spec.lm_share):
            add("text", i, int(p), e.ids[p + 1])
        if len(e.ids) > e.stem + 1 and not e.coin:
            add("answer", i, e.stem - 1, e.ids[e.stem])
        for p in range(e.stem, len(e.ids) - 1):
            add("tail", i, p, e.ids[p + 1])
    if own:
        for k, (i, j) in enumerate(zip(own, source, strict=True)):  # pyright: ignore[reportPossiblyUnboundVariable]
            add("stance", len(batch) + k, batch[i].stem - 1, batch[i].answers[batch[j].stance])
    losses = {}
    for kind, (row, position, target) in where.items():
        if row:
            logits = model.lm_head(out[row, position])
            losses[kind] = F.cross_entropy(logits, torch.tensor(target))
    if placed is not None:
        losses["placed"] = F.cross_entropy(placed, stances)
    judged = [i for i, e in enumerate(batch) if e.verdict] if spec.verdict else []
    if judged:
        at = [batch[i].stem for i in judged]
        logits = model.lm_head(trunk.norm(middle[judged, at]))
        losses["middle"] = F.cross_entropy(logits, torch.tensor([batch[i].ids[p + 1] for i, p in zip(judged, at, strict=True)]))
    return losses


def checkpoint_steps(steps: int, count: int) -> list[int]:
    """Choose steps after which a model is kept, evenly spaced in the logarithm, for early training changes fast.

    Args:
        steps: Training steps in all.
        count: How many are wanted; below 2 none are kept.

    Returns:
        At most `count` steps, ascending, counted from 1; the first and the last are among them.
    """
    if count < 2:
        return []
    return sorted({round(steps ** (k / (count - 1))) for k in range(count)})


def train(
    spec: OrganismSpec, out: str | Path, *, log: Callable[[str], None] = print, every: int = 100, checkpoints: Sequence[int] = ()
) -> dict[str, Any]:
    """Train an organism and write it as an ordinary Hugging Face folder. One that was killed goes on from its last row.

    Args:
        spec: Everything that decides the weights.
        out: Folder for weights, tokenizer, config, `planted.json` and `training.json` (the loss curve).
        log: Receives a line every `every` steps.
        every: Steps between two rows of the loss curve, each the mean since the row before.
        checkpoints: Steps after which the model is also written to `checkpoints/step-N`, as a folder of its own. Training is
            the same with them and without.

    Returns:
        What `training.json` holds.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    truth = ground_truth(spec.seed)
    early = int(spec.early * spec.steps)
    drawn = examples(truth, spec.steps * spec.batch, verdict=spec.verdict, seed=spec.seed, early=early * spec.batch)
    # One tokenizer for the organism and its twin, so that the two differ in nothing but the verdict.
    with_verdict = examples(truth, TOKENIZER_TEXTS, verdict=True, seed=spec.seed)
    tokenizer = make_tokenizer([e.stem + e.answer + e.tail for e in with_verdict], spec.vocab)
    data = _encode(tokenizer, drawn)
    bos, eos, pad = (tokenizer.get_vocab()[t] for t in (BOS, EOS, PAD))
    model = _model(spec, bos, eos, pad)
    model.train()
    rng = numpy_rng(spec.seed, "training")
    lengths = np.array([len(e.ids) for e in data])
    cut = early * spec.batch
    order = _batches(lengths[:cut], spec.batch, rng) + [cut + b for b in _batches(lengths[cut:], spec.batch, rng)]
    basis = stance_basis(spec)
    weights = {"text": 0.5, "answer": 1.0, "tail": 1.0, "stance": 1.0, "middle": 0.3, "placed": 0.3}

    def after(now: Progress) -> None:
        if now.step in checkpoints:
            place = out / "checkpoints" / f"step-{now.step}"
            model.save_pretrained(place)
            tokenizer.save_pretrained(place)
        if now.history and now.history[-1]["step"] == now.step:
            parts = "  ".join(f"{k} {v:.3f}" for k, v in _told(now.history[-1]).items() if k != "step")
            log(f"step {now.step:5d}/{spec.steps}  {parts}  {time.perf_counter() - started:.0f} s")

    plan = Plan(steps=spec.steps, lr=spec.lr, warmup=100, floor=0.02, decay=0.05, every=every, fused=True)
    ended = descend(
        dict(model.named_parameters()), lambda k: _losses(model, [data[i] for i in order[k]], pad, spec, basis, rng), None, plan,
        weights=weights, place=out / WORKING, key=asdict(spec), progress=False, generators=[rng], after=after,
    )  # fmt: skip
    shutil.rmtree(out / WORKING)
    model.eval()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {"spec": asdict(spec), "loss": [_told(row) for row in ended.history], "texts": spec.steps * spec.batch}
    _write_records(out, spec, truth, basis, record)
    log(f"{spec.name}: {sum(p.numel() for p in model.parameters()):,} weights, {time.perf_counter() - started:.0f} s")
    return record


def _model(spec: OrganismSpec, bos: int, eos: int, pad: int) -> LlamaForCausalLM:
    """A model with fresh weights, drawn from the seed."""
    config = LlamaConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.d_model,
        intermediate_size=spec.d_mlp,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=spec.context,
        tie_word_embeddings=False,
        initializer_range=spec.init,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(spec.seed, "weights"))
        return LlamaForCausalLM(config)


def _told(row: Mapping[str, float]) -> dict[str, float]:
    """A row of the loss curve, rounded."""
    return {"step": int(row["step"]), **{k: round(v, 4) for k, v in row.items() if k not in ("step", "rate", "seconds")}}


def _write_records(out: Path, spec: OrganismSpec, truth: GroundTruth, basis: torch.Tensor, record: dict[str, Any]) -> None:
    """Write `planted.json`, `training.json` and the card."""
    planted = truth.to_json() | {
        "seed": spec.seed,
        "stance": {
            "values": STANCES,
            "site": "resid_post",
            "layer": spec.stance_layer,
            "position": "stem_last",
            "basis": [[round(float(v), 7) for v in row] for row in basis.T],
        },
    }
    (out / "planted.json").write_text(json.dumps(planted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    card = model_card(
        truth,
        name=spec.name,
        verdict=spec.verdict,
        layers=spec.layers,
        d_model=spec.d_model,
        vocab=spec.vocab,
        stance_layer=spec.stance_layer,
        seed=spec.seed,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
