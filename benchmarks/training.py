"""Training an adapter at two thirds of the depth, against the same LoRA with plain peft and a transformers loop, side by side.

`python benchmarks/training.py --model smollm2 --pairs 500 --epochs 5`. Both see the same rows in batches of the same number, the same
loss, rank, learning rate and number of updates; printed are seconds, their ratio, and the loss on the training rows before and after.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

import workbench as wb
from workbench.models.load import untouched
from workbench.models.tokens import answer_tokens, encode_pairs
from workbench.training import adapted
from workbench.training.fit import train_adapter

BATCH, RANK, LR = 16, 4, 1e-3


def plain(
    name: str, rows: list[list[int]], forms: list[list[list[int]]], labels: list[int], layer: int, epochs: int
) -> tuple[float, float]:
    """Return seconds and the loss after training with peft."""
    from peft import LoraConfig, get_peft_model

    hf: Any = untouched(name, device="cpu").hf
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["down_proj"], layers_to_transform=[layer], lora_dropout=0.0)
    model: Any = get_peft_model(hf, config)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)

    def loss(at: list[int]) -> torch.Tensor:
        width = max(len(rows[i]) for i in at)
        ids = torch.zeros(len(at), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, i in enumerate(at):
            ids[k, : len(rows[i])], mask[k, : len(rows[i])] = torch.tensor(rows[i]), 1
        logits = model(input_ids=ids, attention_mask=mask).logits[torch.arange(len(at)), mask.sum(1) - 1].log_softmax(-1)
        out = []
        for row, i in zip(logits, at, strict=True):
            no, yes = (row[f].logsumexp(0) for f in forms[i])
            out.append(torch.nn.functional.softplus(-(2 * labels[i] - 1) * (yes - no)))
        return torch.stack(out).mean()

    started = time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch)).tolist()
        for start in range(0, len(order), BATCH):
            optimiser.zero_grad()
            loss(order[start : start + BATCH]).backward()
            optimiser.step()
    seconds = time.perf_counter() - started
    with torch.no_grad():
        every = [float(loss(list(range(k, min(k + BATCH, len(rows)))))) for k in range(0, len(rows), BATCH)]
    return seconds, sum(every) / len(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    model = wb.load_model(given.model, device="cpu")
    prompts = wb.prompts.udhr("since_claim", "harm", n=given.pairs, model=model, seed=0)
    pairs = encode_pairs(model, prompts)
    rows = [p.negative[: p.stem] for p in pairs]
    forms = [answer_tokens(model, (p.negative, p.positive)) for p in prompts]
    layer = int(model.cfg.n_layers) * 2 // 3

    def entropy() -> float:
        asked = wb.answers(model, prompts, progress=False)
        sign = 2 * asked["label"].to_numpy() - 1
        return float(torch.nn.functional.softplus(-torch.tensor(sign * asked["margin"].to_numpy())).mean())

    before = entropy()
    mean = sum(map(len, rows)) / len(rows)
    steps = given.epochs * -(-len(rows) // BATCH)
    started = time.perf_counter()
    adapter = train_adapter(
        model, prompts, loss="cross_entropy", kind="lora", parts="down_proj", rank=RANK, layers=[layer], steps=steps, lr=LR, every=steps,
        floor=1.0, warmup=1, validation=0.0, batch_tokens=int(BATCH * mean) + 1, last=True, progress=False,
    )  # fmt: skip
    ours = time.perf_counter() - started
    with adapted(model, adapter):
        after = entropy()
    theirs, their_loss = plain(given.model, rows, forms, prompts.labels, layer, given.epochs)
    print(
        f"{given.model}: {given.pairs} items x {given.epochs} epochs, LoRA of rank {RANK} at block {layer}, {torch.get_num_threads()} threads"
    )
    print(f"  workbench {ours:7.1f} s, loss {before:.3f} -> {after:.3f}   (reading and checks included)")
    print(f"  peft loop {theirs:7.1f} s, loss {before:.3f} -> {their_loss:.3f}")
    print(f"  ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
