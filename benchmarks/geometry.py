"""`make bench`: what an angle with interval, null and bootstrap check costs, and the same written out as loops.

Nothing here is asserted: timings are for reading.
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch
from run import processor

import workbench as wb
from workbench.directions import causal_metric
from workbench.directions.cells import Cells
from workbench.directions.cross import cross, resampled
from workbench.directions.null import permuted


def timed(function):
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out


def layers(count, n, d):
    """Rows of three cells about the same items, a covariance of other rows, per layer."""
    for layer in range(count):
        g = torch.Generator().manual_seed(layer)
        x, y, z = torch.randn(3, n, d, generator=g)
        x[:, 0] += 4
        y[:, 1] += 4
        yield x, y, z, torch.randn(2 * n, d, generator=g)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--d", type=int, default=768)
    args = parser.parse_args()
    print(f"machine: {processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    head = torch.randn(args.d, 8 * args.d, generator=torch.Generator().manual_seed(0))
    rows = list(layers(args.layers, args.n, args.d))

    def whole():
        return [
            wb.compare_directions(harm=(x, z), safety=(y, z), paired=True, metric=metric, covariance=other, resamples=2000, draws=1000)
            for causal in [causal_metric(head)]
            for x, y, z, other in rows
            for metric in ("raw", "whitened", causal)
        ]

    whole()  # warm up
    runs = [timed(whole)[0] for _ in range(3)]
    print(f"\n{args.layers} layers x 3 metrics, n={args.n}, d={args.d}, interval, 1,000 permutations and 2,000 resamples: "
          f"{statistics.median(runs):.1f} s   runs: {', '.join(f'{s:.1f}' for s in runs)}", flush=True)  # fmt: skip

    x, y, z, _ = rows[0]
    items = {k: range(args.n) for k in ("x", "y", "z")}
    cells = Cells.of({"x": x, "z": z, "y": y}, items=items)
    weights = torch.tensor([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]])
    ours = timed(lambda: (cross(cells, weights), resampled(cells, weights, resamples=2000), permuted(cells, weights, draws=1000)))[0]
    a, b = (x - z).double(), (y - z).double()
    rng = np.random.default_rng(0)

    def copies():
        """A bootstrap that copies rows and recomputes all three products."""
        for _ in range(20):
            i = torch.as_tensor(rng.integers(0, args.n, args.n))
            u, v, same = a[i], b[i], i[:, None] == i[None]
            for p, q in ((u, v), (u, u), (v, v)):
                k = p @ q.T
                k[same] = 0
                k.sum()

    slow = timed(copies)[0] * 100
    print(
        f"one layer, raw: {ours:.2f} s; a bootstrap of 2,000 that copies rows (from 20, scaled) {slow:.0f} s alone  => {slow / ours:.0f}x"
    )


if __name__ == "__main__":
    main()
