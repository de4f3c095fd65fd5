"""Toy models of superposition: one batch of instances against a loop over them, and what the figures of the study take.

    python benchmarks/superposition.py [--instances 400] [--steps 200] [--repeats 3] [--study]

The loop is the plain way to train one toy: autograd, Adam, the same examples. Both ways are timed in turn in one process, after a warm-up
of each; the loop trains a sample of the instances and its time is scaled to all of them. Nothing here is asserted.
"""

import argparse
import statistics
import tempfile
import time

import torch
from run import processor

import workbench as wb
from workbench.features.toys import crossed, features_of, train_toys

SAMPLE = 8


def clock(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def one(toy, hidden, steps, batch):
    """Train one toy as one would by hand."""
    n = len(toy.importance)
    rng = torch.Generator().manual_seed(toy.seed)
    w = (torch.randn(hidden, n, generator=rng) * (2 / (hidden + n)) ** 0.5).requires_grad_()
    b = torch.zeros(n, requires_grad=True)
    importance, gap = torch.tensor(toy.importance), torch.tensor([toy.sparsity])
    adam = torch.optim.Adam([w, b], lr=0.01)
    for _ in range(steps):
        x = features_of(torch.rand(1, n, batch, generator=rng), gap, n)[0].T
        out = torch.relu(x @ w.T @ w + b)
        loss = (importance * (x - out) ** 2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--study", action="store_true", help="also run the whole study, nothing cached")
    given = parser.parse_args()
    print(processor(), f"{torch.get_num_threads()} threads")
    for n, m in ((2, 1), (5, 2), (20, 5)):
        sparsities = [0.1 * k for k in range(10)]
        toys = crossed(sparsities, [[0.9**i for i in range(n)]], seeds=given.instances // 10)
        how = {"steps": given.steps, "batch": given.batch}
        few = toys[:: len(toys) // SAMPLE][:SAMPLE]
        train_toys(few, m, steps=5, batch=given.batch, progress=False)
        one(few[0], m, 5, given.batch)
        pairs = [
            (
                clock(lambda: train_toys(toys, m, progress=False, **how)),  # noqa: B023
                clock(lambda: [one(t, m, **how) for t in few]) * len(toys) / len(few),  # noqa: B023
            )
            for _ in range(given.repeats)
        ]
        batched, looped = (statistics.median(x) for x in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(
            f"{n} features in {m}, {len(toys)} instances, {given.steps} steps: batch {batched:.2f} s, loop {looped:.1f} s, {ratio:.1f} times"
        )
    if given.study:
        with tempfile.TemporaryDirectory() as place:
            from workbench.runs.cache import Cache

            seconds = clock(
                lambda: wb.run_study("superposition", out=f"{place}/run", formats=("html",), progress=False, cache=Cache(f"{place}/cache"))
            )
            print(f"the study, its five figures: {seconds:.0f} s")


if __name__ == "__main__":
    main()
