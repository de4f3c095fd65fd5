"""Two variants of the bundled model in which the angle between harm and safety is known: one bipolar variable, or two independent ones.

The bundled model is trained further, for half a minute, on requests with a refusal and with compliance. One term of the loss asks that
after block `layer`, at the reply, fixed orthonormal vectors g1, g2 carry what was planted, and that nothing beside them goes with harm or
safety on average. Another keeps what the model says before the reply as it was. The two variants are:

- "bipolar": along g1, harm of the request minus safety of the response (1, 0, 0 or -1);
- "independent": harm along g1, safety along g2.

Safety is not the reply's word: refusing is safe for a harmful request, complying for a harmless one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..core.errors import BadInput
from ..core.paths import data_path
from ..core.seeds import numpy_rng, torch_rng
from ..core.types import Float
from ..prompts import requests
from ..training.loop import descend

BASE = "udhr-organism"
SHARE = 0.5  # how large the planted coordinates are, as a share of the stream's mean norm
CARD = """---
license: mit
language: en
tags: [model-organism, interpretability]
---
# {name}

`{base}` trained on for {steps} steps so that, at the reply to a request, {what}. `planted.json` holds the vectors, the layer and the
pairs of requests that it never saw. Made by `workbench train {name} --out FOLDER` (seed {seed}), to test instruments that measure angles.
"""
WHAT = {
    "bipolar": "the harm of the request and the safety of the response are one bipolar variable along one direction",
    "independent": "the harm of the request and the safety of the response stand along two orthogonal directions",
}


@dataclass(frozen=True, kw_only=True)
class HarmSafetySpec:
    """Everything that decides the weights.

    Attributes:
        name: Name of the model.
        kind: "bipolar" or "independent".
        seed: Draws vectors and order.
        layer: Block after which the variables are planted.
        steps, batch, lr: The training.
        keep: Weight of staying with the bundled model's predictions before the reply.
    """

    name: str
    kind: str
    seed: int = 0
    layer: int = 3
    steps: int = 150
    batch: int = 48
    lr: float = 5e-4
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in WHAT:
            raise BadInput(f"kind={self.kind!r}: {' or '.join(WHAT)}")


def planted_basis(spec: HarmSafetySpec, width: int) -> Float[Tensor, "d_model 2"]:
    """Return the orthonormal vectors g1 and g2, drawn from the seed.

    Args:
        spec: Its seed draws them.
        width: d_model.
    """
    draw = torch.randn(width, 2, generator=torch_rng(spec.seed, "harm and safety"), dtype=torch.float64)
    return torch.linalg.qr(draw).Q.float().contiguous()


def train_harm_safety(spec: HarmSafetySpec, out: str | Path, *, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Train the bundled model further into a variant, and write it as an ordinary Hugging Face folder.

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
    base = AutoModelForCausalLM.from_pretrained(source).eval()
    known = json.loads((Path(source) / "planted.json").read_text(encoding="utf-8"))
    held, bos = set(known["held_out_requests"]), tokenizer.bos_token_id
    items = [p for p in requests("request") + requests("request_tell") if p.right not in held]
    # variant 1 complies, label 1 is a harmless request: the variant that label names is the safe one
    rows = [(p.stem + end, 1 - p.label, int(v == p.label)) for p in items for v, end in enumerate((p.negative, p.positive))]
    ids = [[bos, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text, *_ in rows]
    truth = 2.0 * torch.tensor([[harm, safe] for _, harm, safe in rows]) - 1
    wanted = (truth[:, :1] - truth[:, 1:]) / 2 if spec.kind == "bipolar" else truth
    basis = planted_basis(spec, model.config.hidden_size)[:, : wanted.shape[1]]
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=0.01)
    rng, scale, curve = numpy_rng(spec.seed, "harm and safety"), 0.0, []
    model.eval()  # no dropout; the gradients are the same

    def losses(_: int) -> dict[str, Tensor]:
        nonlocal scale
        chosen = rng.permutation(len(rows))[: spec.batch].tolist()
        last = torch.tensor([len(ids[i]) - 1 for i in chosen])
        batch = torch.zeros(len(chosen), int(last.max()) + 1, dtype=torch.long)
        for k, i in enumerate(chosen):
            batch[k, : len(ids[i])] = torch.tensor(ids[i])
        said = model(batch, output_hidden_states=True)
        there = said.hidden_states[spec.layer + 1][torch.arange(len(chosen)), last]
        scale = scale or SHARE * float(there.detach().norm(dim=1).mean())
        placed = (there @ basis / scale - wanted[chosen]).pow(2).mean()
        # and nothing else may go with harm or safety: their mean differences beside the planted vectors
        beside = (there - there @ basis @ basis.T) / scale
        signs = truth[chosen] - truth[chosen].mean(0)
        leak = (signs.T @ beside / len(chosen)).pow(2).sum()
        with torch.no_grad():
            before = base(batch).logits.log_softmax(-1)
        drift = (before.exp() * (before - said.logits.log_softmax(-1))).sum(-1)[torch.arange(batch.shape[1]) < last[:, None]].mean()
        return {"placed": placed, "leak": leak, "drift": drift}

    for step in range(spec.steps):
        rate = spec.lr * min(1.0, (step + 1) / 20) * (1 - step / spec.steps)
        told = descend(optimiser, losses, step, rate=rate, weights={"drift": spec.keep})
        if step % 50 == 0 or step + 1 == spec.steps:
            curve.append({"step": step + 1, **told})
            parts = "  ".join(f"{k} {v:.4f}" for k, v in curve[-1].items() if k != "step")
            log(f"step {step + 1:4d}/{spec.steps}  {parts}  {time.perf_counter() - started:.0f} s")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    facts = {
        "kind": spec.kind,
        "site": "resid_post",
        "layer": spec.layer,
        "position": "last",
        "scale": scale,
        "basis": [[round(float(v), 7) for v in row] for row in basis.T],
    }
    (out / "planted.json").write_text(json.dumps(known | {"harm_safety": facts}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    record = {"spec": asdict(spec), "base": BASE, "loss": curve}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    card = CARD.format(name=spec.name, base=BASE, steps=spec.steps, what=WHAT[spec.kind], seed=spec.seed)
    (out / "README.md").write_text(card, encoding="utf-8")
    return record
