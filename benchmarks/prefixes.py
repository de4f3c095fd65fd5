"""A step of the prefix search against a plain one: the same model, prompts, words, gradient rule, width; ratios of one run.

plain    every trial with every prompt in a padded batch through Hugging Face's model (sdpa): what public gradient searches do, prompt by prompt
trie     all trials and prompts in one trie: what they begin with alike is computed once
race     the same, with a first round on four prompts (the default of `search_prefix`)

python -W ignore benchmarks/prefixes.py [--repeats N]
"""

import argparse
import statistics
import time

import numpy as np
import torch
from run import processor
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.core.paths import data_path
from workbench.prefixes import Objective, allowed
from workbench.prefixes.proposals import best_of, propose

WIDTH, TOP, LENGTH = 48, 64, 8
TEXT = " lamp bread kettle window soup bread lamp coast"


def plain_losses(hf, objective, texts):
    """The loss of texts through padded batches, one text with all prompts at a time."""
    out = []
    for ids in objective.tokens_of(texts):
        rows = [[*head, *ids, *tail] for head, tail in objective.frames]
        width = max(map(len, rows))
        batch = torch.tensor([row + [2] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            hidden = hf.model(input_ids=batch, attention_mask=mask).last_hidden_state
            last = hidden[torch.arange(len(rows)), mask.sum(1) - 1]
            logp = hf.lm_head(last).float().log_softmax(-1)
        said = torch.stack([logp[i, want[0]].logsumexp(0) for i, want in enumerate(objective.wanted)]).double()
        odds = said - torch.log(-torch.expm1(said.clamp(max=-1e-7)))
        out.append(float((objective.enough - odds).clamp(min=0).mean()))
    return np.array(out)


def steps(objective, repeats):
    """Texts of as many steps as repeats, from one place."""
    tokens = allowed(objective.model)
    table = objective.model.W_E.detach().float().numpy()[tokens]
    ids = objective.tokens_of([TEXT])[0]
    start = time.perf_counter()
    drawn = [
        propose(objective, [], TEXT, tokens, table, width=WIDTH, top=TOP, length=len(ids), rng=np.random.default_rng(k))
        for k in range(repeats)
    ]
    return drawn, (time.perf_counter() - start) / repeats


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = wb.load_model("bundled", device="cpu")
    hf = AutoModelForCausalLM.from_pretrained(data_path("models", "udhr-organism")).eval()
    print(f"machine: {processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads; {WIDTH} texts a step\n")
    print(
        f"{'where':<8}{'prompts':>8}{'gradient':>10}{'plain':>9}{'trie':>9}{'race':>9}{'plain/trie':>12}{'step ratio':>12}{'tokens saved':>14}"
    )
    for where in ("before", "after"):
        for n in (1, 16):
            prompts = wb.prompts.udhr("consider_claim", "harm", n=n, seed=0)
            objective = Objective(model, prompts, "safe", where)
            drawn, gradient = steps(objective, args.repeats + 1)
            times = {"plain": [], "trie": [], "race": []}
            for k, texts in enumerate(drawn):
                objective.tokens = objective.plain = 0
                begun = time.perf_counter()
                slow = plain_losses(hf, objective, texts)
                times["plain"].append(time.perf_counter() - begun)
                begun = time.perf_counter()
                quick = objective.losses(texts).loss
                times["trie"].append(time.perf_counter() - begun)
                saved = 1 - objective.tokens / objective.plain
                begun = time.perf_counter()
                best_of([objective], texts, fluency=0, race=4 if n > 4 else 0, draft=None, rng=np.random.default_rng(k))
                times["race"].append(time.perf_counter() - begun)
                assert np.abs(slow - quick).max() < 1e-2, "the two give one loss"
            plain, trie, race = (statistics.median(t[1:]) for t in times.values())
            whole = (gradient + plain) / (gradient + race)
            print(
                f"{where:<8}{n:>8}{gradient:>9.2f}s{plain:>8.2f}s{trie:>8.2f}s{race:>8.2f}s{plain / trie:>11.1f}x{whole:>11.1f}x{saved:>13.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
