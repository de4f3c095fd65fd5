"""A harder organism: in it the truth of an answer is one feature among many, and no larger than the others together.

In the bundled model truth is so large at the answer that a random direction reads it. Here the bundled model is widened by hand, without
training. One block receives gated neurons. At an answer, and nowhere else, they write features of the person and the right into new
dimensions of the stream, each +1 or -1 times a size. Nothing reads these dimensions, so what the model says stays. But they enter the
norm of the stream, so every later block writes less of the truth there. At last the whole stream is rotated, so that no coordinate is
special: what standardises by coordinate does not take the features away.

Features of two values keep the norm alike from statement to statement. With graded ones it varies, the two answers of a pair hold truth in
different measure, and CCS behind a sentence of a claim no longer finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from .. import prompts as source
from ..core.paths import data_path
from ..core.seeds import numpy_rng, torch_rng
from .corpus import Corpus
from .ground_truth import STANCES, ground_truth
from .spec import FaintSpec

BASE = "udhr-organism"
READS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
STEP, LOW = 0.1, 14.0
WRITES = ("self_attn.o_proj", "mlp.down_proj")
CARD = """---
license: mit
language: en
tags: [model-organism, interpretability]
---
# {name}

`{base}`, widened by {features} dimensions, without training. What it answers, and to whom, is as in `{base}`.
At an answer, {features} features of the person and the right stand in the stream after block {block} and every later one,
each +1 or -1 times {size:g}. Nothing reads them. So truth is one direction among many: a probe and a
search without labels find it, and random directions do not. `planted.json` holds the features' directions.
Made by `workbench train {name} --out FOLDER` (seed {seed}); `workbench check --model {name}` measures it.
"""


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What enters the MLP of the block: at answers (`answer x d_model`) and elsewhere.

    `token` and `group` (form, claim, polarity) are those of the answers.
    """

    answers: Tensor
    token: Tensor
    group: Tensor
    elsewhere: Tensor


def _sample(model: Any, tokenizer: Any, spec: FaintSpec) -> _Sample:
    """Read statements about people and rights that are not held out, in every form that asks for agreement, under every claim."""
    truth = ground_truth(spec.seed)
    people = [i.identity for i in source.identities() if i.identity not in truth.held_out_identities][::2]
    rights = [r.right for r in source.rights() if r.right not in truth.held_out_rights]
    rng = numpy_rng(spec.seed, "places")
    taken: list[Tensor] = []
    hook = model.model.layers[spec.block].post_attention_layernorm.register_forward_hook(lambda _, __, out: taken.append(out.detach()))
    answers, elsewhere, token, group, groups = [], [], [], [], 0
    for form in Corpus(truth, verdict=True, seed=spec.seed).agree:
        for claim in STANCES[1:] if "claim" in form.fields else (None,):
            rows = source.udhr(form, claim, forms="all", n=spec.sample, identities=people, rights=rights).to_frame()
            for _, here in rows.groupby(["polarity", "form"]):
                for side in ("positive", "negative"):
                    stems, ends = (tokenizer(list(here[part]), add_special_tokens=False)["input_ids"] for part in ("stem", side))
                    ids = [[tokenizer.bos_token_id, *stem, end[0]] for stem, end in zip(stems, ends, strict=True)]
                    long = max(map(len, ids))
                    with torch.no_grad():  # a later token changes nothing before it
                        model(torch.tensor([row + [0] * (long - len(row)) for row in ids]))
                    for entering, row in zip(taken.pop(), ids, strict=True):
                        at = len(row) - 1
                        answers.append(entering[at])
                        elsewhere += [entering[at - 1], *entering[rng.choice(at, 4)]]
                        token.append(row[at])
                        group.append(groups)
                groups += 1
    hook.remove()
    return _Sample(
        answers=torch.stack(answers).double(),
        token=torch.tensor(token),
        group=torch.tensor(group),
        elsewhere=torch.stack(elsewhere).double(),
    )


def _ridge(x: Tensor, y: Tensor, share: float) -> Tensor:
    """Least squares without an intercept (the MLP has no bias), with a ridge of a share of the mean variance."""
    gram = x.T @ x
    return torch.linalg.solve(gram + share * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype), x.T @ y)


def _features(sample: _Sample, spec: FaintSpec) -> Tensor:
    """Weights that read features of the person and the right, each of variance 1 and of mean 0 at either answer; `d_model x feature`.

    They lie along directions in which statements of one group differ most, in comparison with what the groups differ in (a generalised
    eigenproblem). So they tell whom and what the statement is about, and not its form, its claim or its label.
    """
    within, means = torch.zeros_like(sample.answers), []
    for g in sample.group.unique():
        for t in sample.token.unique():
            here = (sample.group == g) & (sample.token == t)
            means.append(sample.answers[here].mean(0))
            within[here] = sample.answers[here] - means[-1]
    between = torch.stack(means) - torch.stack(means).mean(0)
    noise = between.T @ between / len(between)
    noise += 0.01 * noise.trace() / len(noise) * torch.eye(len(noise), dtype=noise.dtype)
    root = torch.linalg.inv(torch.linalg.cholesky(noise))
    found = root.T @ torch.linalg.eigh(root @ (within.T @ within / len(within)) @ root.T)[1].flip(1)[:, : spec.features]
    found /= (within @ found).std(0)
    wanted = torch.zeros(len(within), spec.features, dtype=found.dtype)
    for t in sample.token.unique():
        here = sample.token == t
        wanted[here] = (sample.answers[here] - sample.answers[here].mean(0)) @ found
    return _ridge(sample.answers, wanted, 1e-4)


def _gate(sample: _Sample, token: int) -> Tensor:
    """A direction on which this answer stands near 1, and the other answer and every other place well below 0."""
    x = torch.cat([sample.answers, sample.elsewhere])
    y = torch.cat([(sample.token == token).double() * 2 - 1, -torch.ones(len(sample.elsewhere)).double()])
    root = torch.cat(
        [torch.ones(len(sample.answers)), torch.full((len(sample.elsewhere),), len(sample.answers) / len(sample.elsewhere))]
    ).sqrt()
    return _ridge(x * root[:, None], y * root, 1e-5)


def _low_elsewhere(sample: _Sample, read: Tensor, token: int) -> Tensor:
    """The features at one answer, as far as weights hold them that read far below 0 at the other answer and at every other place."""
    here, there = sample.answers[sample.token == token], torch.cat([sample.answers[sample.token != token], sample.elsewhere])
    share = 0.02**0.5
    low = torch.full((len(there), read.shape[1]), -LOW * share, dtype=read.dtype)
    return _ridge(torch.cat([here, share * there]), torch.cat([here @ read, low]), 1e-6)


def _widened(base: Any, sample: _Sample, tokens: tuple[int, int], spec: FaintSpec) -> Any:
    """The model with the features' neurons and dimensions; in all else it computes the same.

    A feature f becomes +1 or -1 by its sign. With g the gate (near 1 at its answer, below 0 elsewhere), two neurons and one that all
    features share give

        g [silu(k (f + e)) - silu(k (f - e))] / (k e)  -  g silu(k g) / k

    which is near 2 - 1 or 0 - 1 at the answer, and 0 where f and g are low.
    """
    config, n = base.config, spec.features
    width, hidden = config.hidden_size, config.intermediate_size
    wider = {
        "hidden_size": width + n,
        "intermediate_size": hidden + 2 * (2 * n + 1),
        "rms_norm_eps": config.rms_norm_eps * width / (width + n),
    }
    with torch.random.fork_rng():  # it draws initial weights, all of which are replaced
        model = LlamaForCausalLM(type(config)(**config.to_dict() | wider)).eval()
    weights = model.state_dict()
    for name, old in base.state_dict().items():
        weights[name] = torch.zeros_like(weights[name])
        # the norm is a mean over more dimensions
        weights[name][tuple(slice(0, k) for k in old.shape)] = old * (width / (width + n)) ** 0.5 if "norm" in name else old
    gates, ups, downs = (weights[f"model.layers.{spec.block}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    read, k, e = _features(sample, spec), spec.gain, STEP
    one = _ridge(sample.answers, torch.ones(len(sample.answers), 1, dtype=read.dtype), 1e-5)  # 1 at either answer: the MLP has no bias
    for side, token in enumerate(tokens):
        g = _gate(sample, token)[:, None]
        first = hidden + side * (2 * n + 1)
        own = _low_elsewhere(sample, read, token)
        gates[first : first + n, :width] = (k * (own + e * one)).T.float()
        gates[first + n : first + 2 * n, :width] = (k * (own - e * one)).T.float()
        gates[first + 2 * n, :width] = k * g[:, 0].float()
        ups[first : first + 2 * n + 1, :width] = g.T.float()
        for f in range(n):
            downs[width + f, first + f] = spec.size / (k * e)
            downs[width + f, first + n + f] = -spec.size / (k * e)
            downs[width + f, first + 2 * n] = -spec.size / k
    model.load_state_dict(weights)
    return model


def _rotate(model: Any, rotation: Tensor) -> None:
    """Turn the basis of the stream; the norms' weights go into what reads after them. What is computed stays the same."""
    weights = {k: v.double() for k, v in model.state_dict().items()}
    for i in range(model.config.num_hidden_layers):
        block = f"model.layers.{i}."
        for norm, readers in READS.items():
            for name in readers:
                weights[f"{block}{name}.weight"] = weights[f"{block}{name}.weight"] * weights[f"{block}{norm}.weight"] @ rotation
            weights[f"{block}{norm}.weight"] = torch.ones(len(rotation))
        for name in WRITES:
            weights[f"{block}{name}.weight"] = rotation.T @ weights[f"{block}{name}.weight"]
    weights["lm_head.weight"] = weights["lm_head.weight"] * weights["model.norm.weight"] @ rotation
    weights["model.norm.weight"] = torch.ones(len(rotation))
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"] @ rotation
    model.load_state_dict(weights)


def build_faint(spec: FaintSpec, out: str | Path, *, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Build the organism with a faint truth from the bundled one, and write it as an ordinary Hugging Face folder in half precision.

    Args:
        spec: Everything that decides the weights.
        out: Folder for weights, tokenizer, `planted.json`, `training.json` and the card.
        log: Receives a line per step.

    Returns:
        What `training.json` holds: `spec` and `base`.
    """
    out, folder = Path(out), str(data_path("models", BASE))
    tokenizer, base = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    sample = _sample(base, tokenizer, spec)
    log(f"{len(sample.answers):,} answers read, {spec.features} features taken from them")
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" yes", " no"))
    model = _widened(base, sample, (yes, no), spec)
    width = model.config.hidden_size
    rotation = torch.linalg.qr(torch.randn(width, width, generator=torch_rng(spec.seed, "rotation"), dtype=torch.float64)).Q
    _rotate(model, rotation)
    model.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    planted = json.loads((Path(folder) / "planted.json").read_text(encoding="utf-8"))
    old = base.config.hidden_size
    planted["stance"]["basis"] = _rounded(np.array(planted["stance"]["basis"]) @ rotation[:old].numpy())
    where = {"site": "resid_post", "layer": spec.block, "position": "answer", "size": spec.size}
    planted["features"] = where | {"directions": _rounded(rotation[old:].numpy())}
    (out / "planted.json").write_text(json.dumps(planted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    record = {"spec": asdict(spec), "base": BASE}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    card = CARD.format(name=spec.name, base=BASE, features=spec.features, block=spec.block, size=spec.size, seed=spec.seed)
    (out / "README.md").write_text(card, encoding="utf-8")
    return record


def _rounded(rows: np.ndarray) -> list[list[float]]:
    return [[round(float(v), 5) for v in row] for row in rows]
