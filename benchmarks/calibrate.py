"""`make calibrate`: is the instrument of `compare_directions` right as often as it says? Planted angles, counted verdicts.

48 fixed cells of planted rows, 1,000 runs each (`--full`: the whole grid). A cell fails only where the 99 % Wilson interval of a share
excludes its target:

- no signal: refused or undetermined in 95 % at least;
- a wrong verdict in 5 % at most, the wrong sign in 1 % at most;
- the right verdict in 95 % where both reliabilities are .8 or more;
- the interval covers in 93 % at least where both reliabilities are .5 or more, and in 97 % at most where the noise has an effective
  rank of 30 or more.
"""

import argparse
import itertools
import os
import sys
import time
from multiprocessing import Pool

import numpy as np
import pandas as pd
import torch
from run import processor

from workbench.core.seeds import numpy_rng
from workbench.core.stats import wilson
from workbench.directions import compare_directions, metrics, verdict
from workbench.directions.power import plant

D = 256
ANGLES = (0, 60, 90, 120, 180)
MASSIVE = [30.0] * 4 + [1.0] * (D - 4)
UNEVEN = (np.arange(1, D + 1) ** -0.5 * 4).tolist()


def cell(angle, signal, n, **more):
    return {"angle": angle, "signal": signal, "n": n, **more}


def fixed():
    """The 48 cells."""
    none = [
        cell(90, 0, 64), cell(90, 0, 256), cell(90, 0, 128, construction="disjoint"), cell(90, 0, 128, construction="chain"),
        cell(90, 0, 128, construction="one contrast"), cell(90, 0, 128, noise="massive"),
        cell(90, 0, 128, noise="massive", construction="disjoint"), cell(90, 0, 128, noise="heavy"),
        cell(90, 0, 256, noise="clustered"), cell(90, 0, 128, noise="paired"), cell(90, 0, 128, metric="whitened"),
        cell(90, 0, 128, metric="causal"),
    ]  # fmt: skip
    some = [
        *(cell(a, 3, 256) for a in ANGLES),
        *(cell(a, 5, 256, construction="disjoint") for a in ANGLES),
        *(cell(a, 5, 1024) for a in (0, 90, 180)),
        *(cell(a, 5, 256, noise="paired") for a in (60, 90, 180)),
        *(cell(a, 3, 512, noise="heavy") for a in (90, 180)),
        *(cell(a, 5, 1024, noise="massive") for a in (60, 90, 120, 180)),
        *(cell(a, 5, 512, noise="clustered") for a in (90, 120)),
        *(cell(a, 5, 512, metric="whitened") for a in (0, 60, 90, 180)),
        *(cell(a, 5, 512, metric="causal") for a in (0, 90, 120)),
        cell(120, 5, 32), cell(180, 4, 64), cell(90, 1, 256), cell(120, 2, 128, construction="chain"), cell(60, 4, 128, construction="disjoint"),
    ]  # fmt: skip
    return none + some


def whole():
    grid = itertools.product(
        ANGLES, (0, 1, 2, 3, 5), (32, 64, 128, 256, 512, 1024), ("equal", "massive", "heavy", "clustered", "paired"), ("shared", "disjoint"),
        ("raw", "whitened", "causal"),
    )  # fmt: skip
    for angle, signal, n, noise, construction, metric in grid:
        if (signal or angle == 90) and not (noise == "paired" and construction == "disjoint"):
            yield cell(angle, signal, n, noise=noise, construction=construction, metric=metric)


def one(task):
    """One run: verdict, truth in the metric used, interval, reliabilities, rank, naive cosine."""
    spec, seed = task
    rng = numpy_rng(seed, "calibrate", sorted(spec.items()))
    noise, metric = spec.get("noise", "equal"), spec.get("metric", "raw")
    cosine = round(float(np.cos(np.radians(spec["angle"]))), 12)
    how = {"construction": spec.get("construction", "shared")}
    if noise == "massive":
        how["spread"] = MASSIVE
    elif noise == "heavy":
        how["tails"] = "heavy"
    elif noise == "clustered":
        how |= {"rows_per_cluster": 8, "shared_variance": 0.2}
    elif noise == "paired":
        how["paired"] = 0.5
    spread = np.asarray(UNEVEN if metric == "whitened" and noise != "massive" else how.get("spread", np.ones(D)), float)
    how["spread"] = spread
    made = plant(rng, cosine=cosine, signal=spec["signal"], n=spec["n"], d=D, **how)
    more, a, b = {}, made.a, made.b
    harm, safety = [list(made.harm), list(made.safety)]
    if metric == "whitened":
        # the planted angle is one between directions in units of the noise
        shift = lambda rows, v: rows - v + v * spread  # noqa: E731
        harm[0], safety[0] = shift(harm[0], a), shift(safety[0], b)
        a, b = a * spread, b * spread
        more = {"covariance": rng.standard_normal((1024, D)) * spread}
    elif metric == "causal":
        basis = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
        gain = np.arange(1, D + 1) ** -0.25
        u = basis @ (gain[:, None] * np.random.default_rng(1).standard_normal((D, 4 * D)))
        inverse = basis @ np.diag(1 / gain) @ basis.T
        new = inverse @ a, inverse @ b
        harm[0], safety[0] = harm[0] - a + new[0], safety[0] - b + new[1]
        a, b = new
        more = {"unembedding": u}
    matrix = metrics.root(metric, **more)
    if matrix is not None:
        a, b = matrix.numpy() @ a, matrix.numpy() @ b
    true = float(a @ b / np.sqrt((a @ a) * (b @ b))) if spec["signal"] else np.nan
    if made.clusters:
        more["clusters"] = {
            "harm": (made.clusters, [f"b{c}" for c in made.clusters]), "safety": ([f"s{c}" for c in made.clusters], [f"b{c}" for c in made.clusters])
        }  # fmt: skip
        if how["construction"] == "disjoint":
            more["clusters"]["safety"] = ([f"s{c}" for c in made.clusters], [f"t{c}" for c in made.clusters])
    found = compare_directions(harm=tuple(harm), safety=tuple(safety), metric=metric, paired=noise == "paired", draws=0, **more)
    low, high = found.interval
    return found.verdict, true, low, high, min(found.reliability.values()), min(found.rank.values()), found.naive_cosine


def judge(spec, runs):
    """Count, and compare with the targets."""
    table = pd.DataFrame(runs, columns=["verdict", "true", "low", "high", "reliability", "rank", "naive"])
    n, signal = len(table), spec["signal"] > 0
    quiet = table["verdict"].isin(["refused", "undetermined"])
    cosine = round(float(np.cos(np.radians(spec["angle"]))), 12)
    right = verdict((cosine, cosine))
    # the inner product that was used decides which class is right: whitening by estimated noise bends the angle a little
    hits = table["verdict"] == ([verdict((t, t)) for t in table["true"]] if signal else right)
    wrong = ~quiet & ~hits if signal else ~quiet
    sign = table["verdict"].str.contains("opposite") & (table["true"] > 0.1) | table["verdict"].str.contains("aligned") & (
        table["true"] < -0.1
    )
    cover = (table["low"] <= table["true"] + 1e-9) & (table["true"] - 1e-9 <= table["high"])
    reliability, rank = table["reliability"].median(), table["rank"].median()
    out = {
        **{"angle": spec["angle"] if signal else "none", "signal": spec["signal"], "n": spec["n"], "noise": spec.get("noise", "equal")},
        "construction": spec.get("construction", "shared"), "metric": spec.get("metric", "raw"), "runs": n, "reliability": reliability,
        "rank": rank, "right": hits.mean() if signal else np.nan, "quiet": quiet.mean(), "wrong": wrong.mean(), "wrong_sign": sign.mean(),
        "cover": cover.mean() if signal else np.nan, "width": (table["high"] - table["low"]).median() if signal else np.nan,
        "naive": table["naive"].mean(), "naive_error": (table["naive"] - table["true"]).abs().mean() if signal else table["naive"].abs().mean(),
    }  # fmt: skip

    def ends(share):
        return wilson(round(share * n), n, 0.99)

    fails = []
    if not signal and ends(out["quiet"])[1] < 0.95:
        fails.append("speaks without signal")
    if ends(out["wrong"])[0] > 0.05:
        fails.append("wrong verdicts")
    if ends(out["wrong_sign"])[0] > 0.01:
        fails.append("wrong signs")
    if signal and reliability >= 0.8 and ends(out["right"])[1] < 0.95:
        fails.append("too seldom right")
    if signal and reliability >= 0.5 and ends(out["cover"])[1] < 0.93:
        fails.append("covers too little")
    if signal and reliability >= 0.5 and rank >= 30 and ends(out["cover"])[0] > 0.97:
        fails.append("covers too much")
    return out | {"fails": ", ".join(fails)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--full", action="store_true", help="the whole grid (hours)")
    parser.add_argument("--only", default="", help="cells by number, for example 0,5,12")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--csv", default="", help="also write the table here")
    args = parser.parse_args()
    cells = list(whole()) if args.full else fixed()
    chosen = [int(k) for k in args.only.split(",")] if args.only else range(len(cells))
    print(f"machine: {processor()}, {os.cpu_count()} cores; {len(chosen)} cells x {args.runs} runs, d={D}", flush=True)
    print(f"{'':>3} {'angle':>5} {'signal':>6} {'n':>4} {'noise':>9} {'construction':>12} {'metric':>8} {'reliab':>6} {'rank':>4} "
          f"{'right':>6} {'quiet':>6} {'wrong':>6} {'sign':>6} {'cover':>6} {'width':>6} {'naive':>6} {'error':>6}", flush=True)  # fmt: skip
    rows, start = [], time.perf_counter()
    with Pool(args.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for k in chosen:
            spec = cells[k]
            rows.append(judge(spec, pool.map(one, [(spec, s) for s in range(args.runs)], chunksize=10)))
            r = rows[-1]
            print(f"{k:>3} {r['angle']:>5} {r['signal']:>6} {r['n']:>4} {r['noise']:>9} {r['construction']:>12} {r['metric']:>8} {r['reliability']:>6.2f} "
                  f"{r['rank']:>4.0f} {r['right']:>6.3f} {r['quiet']:>6.3f} {r['wrong']:>6.3f} {r['wrong_sign']:>6.3f} {r['cover']:>6.3f} {r['width']:>6.3f} "
                  f"{r['naive']:>6.2f} {r['naive_error']:>6.2f} {r['fails'] and 'FAILS: ' + r['fails']}", flush=True)  # fmt: skip
    table = pd.DataFrame(rows)
    if args.csv:
        table.to_csv(args.csv, index=False, float_format="%.4g")
    failed = int((table["fails"] != "").sum())
    print(f"{len(table)} cells, {failed} fail; {time.perf_counter() - start:.0f} s")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
