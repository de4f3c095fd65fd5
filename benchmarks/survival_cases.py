"""Planted interventions whose verdict is known, and how often `survival` finds it: `python benchmarks/survival_cases.py --out FOLDER`.

On the bundled models: nothing done; a stream rotated; attention cut off, so that the truth of an answer is never formed; the answer patched
behind everything that reads it. Each with other prompts, blocks, rotations and splits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import workbench as wb
from workbench.core.seeds import derive, torch_rng
from workbench.core.stats import proportion
from workbench.models import Edit, Edits, Scope
from workbench.models.tokens import single_token

MODELS = ("bundled", "udhr-organism-no-verdict")
WANTED = {"nothing done": "untouched", "rotated stream": "rotated", "attention cut off": "erased", "answer patched": "hidden"}


def planted(model: Any, case: str, seed: int) -> Edits:
    """Return the intervention of a case."""
    count, width = int(model.cfg.n_layers), int(model.cfg.d_model)
    rng = torch_rng(seed, case)
    if case == "nothing done":
        noise = torch.randn(width, generator=rng) * 1e-4
        return Edits([Edit(site="resid_post", layer=seed % (count - 1), function=lambda x: x + noise.to(x), label="next to nothing")])
    if case == "rotated stream":
        turn = torch.linalg.qr(torch.randn(width, width, generator=rng)).Q
        return Edits([Edit(site="resid_post", layer=count - 1 - seed % 2, function=lambda x: x @ turn.to(x), label="rotate")])
    if case == "attention cut off":
        return Edits([Edit(site="attn_out", layer=k, function=torch.zeros_like, label="cut") for k in range(seed % 2, count)])
    unembed = model.W_U if hasattr(model, "W_U") else model.unembed.W_U
    ids = [single_token(model, w) for w in ((" yes", " no") if seed % 2 else (" no", " yes"))]
    push = (unembed[:, ids[0]] - unembed[:, ids[1]]).detach()
    push = 3 * push / push.norm()

    def patch(x: torch.Tensor) -> torch.Tensor:
        return x + x.norm(dim=-1, keepdim=True) * push.to(x)

    return Edits([Edit(site="resid_post", layer=count - 1, function=patch, scope=Scope("last"), label="patch the answer")])


def cases(count: int) -> Iterator[tuple[str, str, int]]:
    """Yield models, cases and seeds."""
    for name in MODELS:
        for case in WANTED:
            for seed in range(count):
                yield name, case, seed


def judge(model: Any, case: str, seed: int, items: int = 400) -> tuple[str, str]:
    """Return the verdict on a planted case, and why."""
    prompts = wb.prompts.udhr("base_short", n=items, seed=derive(seed, case) % 10**6)
    found = wb.survival(model, planted(model, case, seed), prompts, depth=0, progress=False, seed=seed)
    return found.verdict, found.why


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/survival"))
    parser.add_argument("--count", type=int, default=13, help="seeds of each case and model")
    given = parser.parse_args()
    rows, models, started = [], {name: wb.load_model(name) for name in MODELS}, time.perf_counter()
    for name, case, seed in cases(given.count):
        verdict, why = judge(models[name], case, seed)
        rows.append({"model": name, "case": case, "wanted": WANTED[case], "seed": seed, "verdict": verdict, "why": why})
        print(f"{time.perf_counter() - started:6.0f} s  {name:26} {case:18} {seed:3} {verdict:13} {why}", flush=True)
    table = pd.DataFrame(rows)
    given.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.out / "survival-cases.csv", index=False)
    out = []
    for case, part in [*table.groupby("case", sort=False), ("all", table)]:
        right, unsure = part["verdict"] == part["wanted"], part["verdict"] == "undetermined"
        for metric, hits in (("right", right), ("wrong", ~right & ~unsure), ("undetermined", unsure)):
            out.append({"case": case, "metric": metric, **proportion(hits.to_numpy()).row()})
    summary = pd.DataFrame(out)
    summary.to_csv(given.out / "survival-calibration.csv", index=False)
    print(summary.to_string(index=False))


if __name__ == "__main__":
    main()
