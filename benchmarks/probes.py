"""`make bench`: the batched probe solvers against what one would write without them, side by side in one run.

Nothing here is asserted: timings are for reading. Data are planted: correlated features with a power-law spectrum, one direction
of truth, its strength rising with the layer.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from run import processor
from sklearn.linear_model import LogisticRegression

from workbench.core.stats import auroc, auroc_weighted, cluster_weights
from workbench.probes.ccs import fit_contrast
from workbench.probes.solve import Axes, solve


def timed(function):
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out


def features(n, d, layer, seed=0):
    g = torch.Generator().manual_seed(seed + 100 * layer)
    spectrum = torch.arange(1, d + 1).float() ** -0.5
    basis = torch.linalg.qr(torch.randn(d, d, generator=g))[0]
    y = torch.randint(0, 2, (n,), generator=g)
    x = (torch.randn(n, d, generator=g) * spectrum) @ basis.T
    x = (x - x.mean(0)) / x.std(0)
    v = torch.randn(d, generator=g)
    return x + (0.1 + layer / 8) * (2 * y - 1)[:, None] * v / v.norm(), y


def newton(x, y, c):
    """The optimum in float64, by plain Newton with a direct solve: what coefficients are compared with."""
    x, t = x.double(), (2 * y - 1).double()
    w, eye = torch.zeros(x.shape[1]).double(), torch.eye(x.shape[1]).double()

    def value(w):
        return torch.nn.functional.softplus(-t * (x @ w)).sum() + w @ w / (2 * c)

    for _ in range(200):
        p = torch.sigmoid(-t * (x @ w))
        step = torch.linalg.solve((x.T * (p * (1 - p))) @ x + eye / c, -(x.T @ (p * t)) + w / c)
        size = 1.0
        while value(w - size * step) > value(w) + 1e-12 and size > 1e-8:
            size /= 2
        w = w - size * step
        if step.norm() < 1e-10 * w.norm():
            break
    return w


def logistic(layers, sample):
    n, d, folds, strengths = 2000, 768, 5, np.logspace(-4, 4, 10)
    penalties = torch.tensor(1 / strengths).float().repeat(folds)
    fold = torch.arange(n) % folds
    weights = torch.stack([(fold != k).float() for k in range(folds)], 1).repeat_interleave(len(strengths), 1)
    data = [features(n, d, layer) for layer in range(layers)]
    solve(Axes.of(data[0][0][:, :64]), (2 * data[0][1] - 1)[:, None], weights[:, :2], penalties[:2])  # warm up

    def batched():
        return [solve(Axes.of(x), (2 * y - 1)[:, None], weights, penalties)[0] for x, y in data]

    ours, found = zip(*[timed(batched) for _ in range(3)], strict=True)
    took = {"to convergence (lbfgs, tol 1e-8)": [], "at its defaults": []}
    worst = dict.fromkeys(("ours", *took), 0.0)
    for layer in np.linspace(0, layers - 1, sample).round().astype(int):
        x, y = data[layer]
        keep = fold != 0
        a, b = x[keep].double().numpy(), y[keep].numpy()
        seconds = dict.fromkeys(took, 0.0)
        for k, c in enumerate(strengths):
            best = newton(x[keep], y[keep], c)
            error = lambda w, best=best: float((torch.as_tensor(w).double() - best).norm() / best.norm())  # noqa: E731
            worst["ours"] = max(worst["ours"], error(found[0][layer][:, k]))
            for name, how in (("to convergence (lbfgs, tol 1e-8)", {"tol": 1e-8, "max_iter": 100_000}), ("at its defaults", {})):
                model = LogisticRegression(C=c, fit_intercept=False, **how)
                s, _ = timed(lambda model=model, a=a, b=b: model.fit(a, b))
                seconds[name] += s
                worst[name] = max(worst[name], error(model.coef_[0]))
        for name, s in seconds.items():
            took[name].append(s)
    mine = statistics.median(ours)
    print(f"\nlogistic, {layers} layers x {folds} folds x {len(strengths)} strengths (1e-4 to 1e4), n={n}, d={d}")
    print(f"  batched                          {mine:7.1f} s   runs: {', '.join(f'{s:.1f}' for s in ours)}; "
          f"largest relative error of coefficients {worst['ours']:.1e}")  # fmt: skip
    for name, each in took.items():
        total = statistics.mean(each) * layers * folds
        print(
            f"  scikit-learn {name:<34} {total:7.1f} s   from one fold of {sample} layers, scaled; error {worst[name]:.1e}  => {total / mine:.1f}x"
        )


def reference_ccs(x, y, starts, epochs=1000):
    """The reference form: full-batch AdamW, one restart after another."""
    best = None
    for start in starts:
        layer = torch.nn.Linear(x.shape[1], 1)
        with torch.no_grad():
            layer.weight.copy_(start[None, :-1])
            layer.bias.copy_(start[-1:])
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=1e-2)
        for _ in range(epochs):
            p, q = torch.sigmoid(layer(x)), torch.sigmoid(layer(y))
            loss = ((p - (1 - q)) ** 2).mean() + (torch.minimum(p, q) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            p, q = torch.sigmoid(layer(x)), torch.sigmoid(layer(y))
            value = float(((p - (1 - q)) ** 2).mean() + (torch.minimum(p, q) ** 2).mean())
        if best is None or value < best[0]:
            best = value, layer.weight.detach()[0], float(layer.bias)
    return best


def pairs(layer, n=1000, d=768, weak=False):
    """Training and as many held-out pairs; the planted signal rises with the layer."""
    g = torch.Generator().manual_seed(layer)
    spectrum = torch.arange(1, d + 1).float() ** -0.5
    basis = torch.linalg.qr(torch.randn(d, d, generator=g))[0]
    t = (2 * torch.randint(0, 2, (2 * n,), generator=g) - 1).float()
    v, u = torch.randn(d, generator=g), torch.randn(d, generator=g)

    def noise(size):
        return size * (torch.randn(2 * n, d, generator=g) * spectrum) @ basis.T

    shared, push = noise(2.0), (0.25 + 0.1 * layer) / 2 * t[:, None] * v / v.norm()
    return shared + push + noise(0.7) + u, shared - push + noise(0.7) - u, t > 0


def ccs(layers):
    n = 1000
    data = [pairs(layer) for layer in range(layers)]
    ours, found = timed(lambda: [fit_contrast(x[:n], y[:n], seed=0) for x, y, _ in data])
    runs = [ours, *(timed(lambda: [fit_contrast(x[:n], y[:n], seed=0) for x, y, _ in data])[0] for _ in range(2))]
    rows, loop = [], 0.0
    for (x, y, truth), probe in zip(data, found, strict=True):
        a, b = probe.scaler(x, y)
        starts = torch.empty(10, x.shape[1] + 1).uniform_(
            -(x.shape[1] ** -0.5), x.shape[1] ** -0.5, generator=torch.Generator().manual_seed(1)
        )
        s, (loss, w, bias) = timed(lambda a=a, b=b, starts=starts: reference_ccs(a[:n], b[:n], starts))
        loop += s

        def accuracy(said, truth=truth):
            hits = said == truth
            return float((hits if hits[:n].float().mean() >= 0.5 else ~hits)[n:].float().mean())

        theirs = accuracy(torch.sigmoid(a @ w + bias) > torch.sigmoid(b @ w + bias))
        rows.append((probe.loss, loss, accuracy(torch.as_tensor(probe.score(x, y)) > 0), theirs))
    mine = statistics.median(runs)
    print(f"\nCCS, {layers} layers x 10 restarts, at most 1,000 steps, n={n} pairs, d=768")
    print(f"  batched {mine:.1f} s (runs: {', '.join(f'{s:.1f}' for s in runs)}), loop of AdamW {loop:.1f} s  => {loop / mine:.1f}x")
    print("  layer  loss   loop's  accuracy  loop's   (best of restarts by loss; accuracy on held-out pairs)")
    for k, (a, b, c, e) in enumerate(rows):
        print(f"  {k:>5}  {a:.4f} {b:.4f}  {c:.3f}     {e:.3f}")
    print(f"  largest loss above the loop's: {max(a - b for a, b, *_ in rows):+.1e}; largest difference in accuracy: "
          f"{max(abs(c - e) for *_, c, e in rows):.3f}")  # fmt: skip


def intervals():
    rng = np.random.default_rng(0)
    n, people = 1000, np.arange(1000) // 10
    y = rng.integers(0, 2, n)
    scores = [np.round(rng.standard_normal(n) + 0.5 * y, 1) for _ in range(12 * 6)]
    auroc(scores[0], y, people)
    ours, _ = timed(lambda: [auroc(s, y, people) for s in scores])
    rows, _ = timed(lambda: [auroc_weighted(s, y, cluster_weights(people, n, 2000, 0)) for s in scores[:4]])
    print(f"\nAUROC with ties, 2,000 resamples of 100 clusters, n={n}, 12 layers x 6 methods: {ours:.2f} s "
          f"({rows * 18 / ours:.0f}x a resampling of rows, from 4 of 72)")  # fmt: skip


def large():
    """One layer of d=4,096 and n=8,000 pairs, in a process of its own, with its peak memory."""
    n, d = 8000, 4096
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (n,), generator=g)
    v = torch.randn(d, generator=g) / d**0.5
    x = torch.randn(n, d, generator=g) + (2 * y - 1)[:, None] * v
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part = np.arange(n) % 5 == np.arange(5)[:, None]
    from workbench.probes import fit_ccs, fit_logistic

    s, probe = timed(lambda: fit_logistic(x, -x, y.numpy(), c=np.logspace(-4, 4, 10).tolist(), folds=(~part, part)))
    print(f"\nn={n:,} pairs, d={d:,}: logistic, 5 folds x 10 strengths {s:.0f} s (C = {probe.strength:.1g})", flush=True)
    s, _ = timed(lambda: fit_ccs(x, -x, restarts=10))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  CCS, 10 restarts {s:.0f} s; peak memory {peak / 2**20:.1f} GiB, {start / 2**20:.1f} GiB of it before the first fit")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="logistic,ccs,intervals,large")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--sample", type=int, default=3, help="layers of which one fold is given to scikit-learn")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        large()
        return
    print(f"machine: {processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    asked = args.only.split(",")
    if "logistic" in asked:
        logistic(args.layers, args.sample)
    if "ccs" in asked:
        ccs(args.layers)
    if "intervals" in asked:
        intervals()
    if "large" in asked:
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--inside"], check=True)


if __name__ == "__main__":
    main()
