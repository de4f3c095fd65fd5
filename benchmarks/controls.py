"""`make calibrate`, third part: how often does a control raise a false alarm where there is nothing to find? Planted rows, counted.

A row passes where the rate lies within three Monte-Carlo errors of its nominal value, or below. `--page` appends the table to a page.
"""

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import workbench as wb
from workbench.core.components import variance_components
from workbench.core.nulls import central, permutation_p
from workbench.core.seeds import numpy_rng
from workbench.directions import linear_cka, mutual_knn
from workbench.directions.spaces import carried
from workbench.evaluation import false_negatives
from workbench.probes import ccs_honesty, change_point, fit_tamper, read_surfaces
from workbench.probes.tamper import tamper_score

HEAD = """
## Controls

How often a control raises a false alarm on planted rows in which there is nothing to find. A row fails where the rate lies more than three
Monte-Carlo errors above its nominal value.

"""
WHY = {
    "change point, checkpoints share a wobble": "rows of one run: what neighbouring checkpoints share by chance is not counted, and the note says so",
}


def acts(seed, people=24, rights=6, width=8, signal=0.0, surfaces=()):
    """Contrast pairs whose rows share a part by identity; the label stands along the first dimension with `signal`."""
    rng = numpy_rng(seed, "controls")
    cells = [(f"i{i}", f"r{r}", s, (i + r) % 2) for i in range(people) for r in range(rights) for s in surfaces or ("plain",)]
    rows = pd.DataFrame(cells, columns=["identity", "right", "surface", "label"]).assign(group="g", claim="none", template="t")
    rows["stem"] = [f"s{k}" for k in range(len(rows))]
    y = rows["label"].to_numpy()
    own = rng.standard_normal((people, 2, width))[np.repeat(np.arange(people), len(rows) // people)]
    x = rng.standard_normal((len(rows), 2, 1, width)) + own[:, :, None]
    x[:, 1, 0, 0] += signal * (2 * y - 1)
    model = {"name": "m", "digest": "d", "dtype": "float32", "processing": "none"}
    return wb.Activations(
        values=torch.tensor(x).float(), layers=(0,), site="resid_post", position="last", rows=rows, provenance={"model": model}
    )


def ranges(draws, seed):
    """Whether a further draw lies outside the range of some."""
    x = numpy_rng(seed, "ranges", draws).standard_normal(draws + 1)
    part = central(x[1:])
    return not part.low <= x[0] <= part.high


def shuffled(seed):
    """Whether labels that say nothing are told from permuted ones."""
    table = wb.probe_layers(acts(seed, 12), methods=["mass_mean"], controls=["shuffled_labels"], resamples=0, check_labels=False)
    return table.loc[table["control"] == "shuffled_labels", "note"].iloc[0].endswith("p = 0.05")


def pushes(seed):
    """Whether a push that is like 39 random ones is said to be beyond them."""
    x = numpy_rng(seed, "pushes").standard_normal(40)
    return permutation_p(abs(float(x[0])), np.abs(x[1:])) <= 0.05


def denied(correlation, seed):
    """Whether anybody is called denied where identities merely vary."""
    rng, n, people = numpy_rng(seed, "denied", correlation), 20, 200
    rates = rng.beta(0.1 * (1 / correlation - 1), 0.9 * (1 / correlation - 1), people)
    names = np.repeat([f"i{k}" for k in range(people)], n)
    asked = pd.DataFrame({"identity": names, "safe": (rng.random(people * n) > np.repeat(rates, n)).astype(int)})
    return bool(false_negatives(asked)["denied"].any())


def alarms(people, rights, spread, rate, seed):
    """The share of unpushed prompts that is flagged, where answers err by identity and by right with heavy tails."""
    rng = numpy_rng(seed, "erring")
    cells = [(f"i{i}", f"r{r}") for i in range(people) for r in range(rights)]
    rows = pd.DataFrame(cells, columns=["identity", "right"]).assign(template="t", stem=[f"{a} {b}" for a, b in cells])
    y = rng.integers(0, 2, len(rows))
    x = rng.standard_normal((len(rows), 2, 1, 8))
    x[:, :, 0, 0] += 2 * (2 * y - 1)[:, None] * np.array([-1, 1])
    who, what = (rows[c].str[1:].astype(int).to_numpy() for c in ("identity", "right"))
    err = spread[0] * rng.standard_t(3, people)[who] + spread[1] * rng.standard_t(3, rights)[what]
    margin = torch.tensor((2 * y - 1) * (3 + err + rng.standard_normal(len(rows))))
    read = wb.Activations(
        values=torch.tensor(x).float(),
        layers=(0,),
        site="resid_post",
        position="last",
        rows=rows.assign(label=y, claim="none"),
        provenance={"model": {"name": "m", "digest": "d", "dtype": "float32", "processing": "none"}},
        logp=torch.nn.functional.logsigmoid(torch.stack([-margin, margin], 1)).float(),
    )
    split = wb.grouped_split(rows, seed=seed)
    detector = fit_tamper(read, layer=0, method="mass_mean", split=split, false_alarms=rate, seed=seed)
    return float(tamper_score(read.subset(split.side(rows) == "test"), detector)["flagged"].mean())


def strangers(seed, rights):
    """Rows of two models that have nothing to do with each other, alike within identities (and rights) in each."""
    g, n = np.random.default_rng(seed), (30, 6)
    who, what = (v.ravel() for v in np.meshgrid(range(n[0]), range(n[1]), indexing="ij"))
    one, two = (
        g.standard_normal((n[0], 12))[who] + rights * g.standard_normal((n[1], 12))[what] + g.standard_normal((len(who), 12))
        for _ in range(2)
    )
    return torch.tensor(one), torch.tensor(two), np.stack([who, what], 1) if rights else who


def cka(rights, seed):
    """Whether they are called alike."""
    x, y, clusters = strangers(seed, rights)
    return linear_cka(x, y, clusters=clusters).low > 0


def neighbours(rights, seed):
    """Whether they are said to share neighbours."""
    x, y, clusters = strangers(seed, rights)
    found = mutual_knn(x, y, k=5, clusters=clusters)
    return found.low > float(found.note.split()[-1])


def maps(seed):
    """Whether a map between them is said to carry a direction."""
    x, y, who = strangers(seed, 0)
    label = numpy_rng(seed, "maps").permutation(np.arange(90) % 2)
    d = wb.extract_direction(x[:90][label == 1], x[:90][label == 0], halves=0)
    both = {"training_clusters": who[:90], "clusters": who[90:]}
    return carried(d, x[:90], y[:90], y[90:], label, method="ridge", shuffles=39, **both).set_index("control").loc["", "p"] <= 0.05


def honesty(signal, width, seed):
    """Whether CCS is said to find anything where random directions read as much."""
    read = acts(seed, 30, width=width, signal=signal)
    return ccs_honesty(read, layer=0, draws=40, orthogonal=1, resamples=50, epochs=100).found != "neither"


def surfaces(seed):
    """Whether noise is said to be read in surface forms that were not fitted on."""
    read = acts(seed, 24, surfaces=("a", "b", "c", "d"))
    split = wb.grouped_split(read.rows, test=0.4, seed=seed)
    table, _ = read_surfaces(read, split=split, methods=("mass_mean",), seeds=2, seed=seed)
    row = table[(table["surface"] == "all") & (table["reading"] == "unseen") & (table["metric"] == "auroc")].iloc[0]
    return not row["low"] <= 0.5 <= row["high"]


def components(factor, seed):
    """Whether the interval of a variance component misses it."""
    rng, sizes, planted = numpy_rng(seed, "components"), (30, 12, 8), (0.04, 0.09, 0.25)
    grid = np.stack(np.meshgrid(*(np.arange(m) for m in sizes), indexing="ij"), -1).reshape(-1, 3)
    grid = grid[rng.random(len(grid)) < 0.3 + 0.7 * (grid[:, 1] % 2)]
    y = rng.standard_normal(len(grid))
    for k, (m, v) in enumerate(zip(sizes, planted, strict=True)):
        y += (rng.standard_normal(m) * math.sqrt(v))[grid[:, k]]
    row = variance_components(y, {str(k): grid[:, k] for k in range(3)}).iloc[factor]
    return not row["low"] <= planted[factor] <= row["high"]


def wobble(seed):
    """Whether a rise is said to be seen where neighbouring checkpoints share a wobble and nothing rises."""
    rng = numpy_rng(seed, "wobble")
    drift = np.convolve(rng.normal(0, 0.06, 10), np.ones(3) / 3, "valid")
    hits = rng.uniform(0, 1, (8, 200)) < (0.5 + drift)[:, None]
    return np.isfinite(change_point([1, 2, 4, 8, 16, 32, 64, 128], hits, np.repeat(np.arange(40), 5)).value)


def cells(runs):
    """What is simulated: its name, one run, the nominal rate, and how many runs."""
    few, fewer = max(40, runs // 5), max(20, runs // 20)
    out = [
        (f"a further draw outside the range of {d} draws", partial(ranges, d), 1 - central(range(d)).level, 5 * runs) for d in (19, 39, 199)
    ]
    out += [("a push like 39 random ones", pushes, 0.05, 5 * runs), ("shuffled labels, noise", shuffled, 0.05, few)]
    out += [(f"who is denied: nobody, correlation {r}", partial(denied, r), 0.05, few) for r in (0.02, 0.05, 0.1)]
    out += [
        ("tampering: 80 identities x 40 rights, rights vary", partial(alarms, 80, 40, (0.0, 2.0), 0.12), 0.12, fewer),
        ("tampering: 120 identities, identities vary", partial(alarms, 120, 1, (2.0, 0.0), 0.05), 0.05, few),
    ]
    for rights, name in ((0.0, "identities"), (1.0, "identities and rights")):
        out += [
            (f"CKA of strangers, shared {name}", partial(cka, rights), 0.025, few),
            (f"neighbours of strangers, shared {name}", partial(neighbours, rights), 0.025, few),
        ]
    out += [("a map between strangers", maps, 0.05, fewer), ("CCS finds something in noise", partial(honesty, 0.0, 16), 0.05, fewer)]
    out += [
        ("CCS finds truth that random directions read", partial(honesty, 8.0, 4), 0.05, fewer),
        ("noise in unseen surface forms", surfaces, 0.05, few),
    ]
    out += [(f"variance component of {v} levels missed", partial(components, k), 0.05, runs) for k, v in enumerate((30, 12, 8))]
    return [*out, ("change point, checkpoints share a wobble", wobble, 0.025, few)]


def page(table):
    """The table, for the page."""
    lines = ["| control | nominal | false alarms | error | runs |  |", f"|{' --- |' * 6}"]
    lines += [
        f"| {r.control} | {r.nominal:.3f} | {r.rate:.3f} | {r.error:.3f} | {r.runs} | {'**fails**' if r.fails else ''} |"
        for r in table.itertuples()
    ]
    failed = [r.control for r in table.itertuples() if r.fails]
    why = "".join(f"- *{c}* fails: {WHY.get(c, 'not explained yet')}.\n" for c in failed)
    return HEAD + "\n".join(lines) + "\n" + (f"\n{why}" if why else "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--csv", default="")
    parser.add_argument("--page", default="", help="a page to which the table is appended, in place of the one that it has")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, start = [], time.perf_counter()
    for control, one, nominal, runs in cells(args.runs):
        found = np.array([float(one(seed)) for seed in range(runs)])
        rate, sd = float(found.mean()), float(found.std(ddof=1))
        error = max(sd, math.sqrt(nominal * (1 - nominal)) if set(found) <= {0.0, 1.0} else 0.0) / math.sqrt(runs)
        fails = rate - 3 * error > nominal
        rows.append({"control": control, "nominal": nominal, "rate": rate, "error": error, "runs": runs, "fails": fails})
        print(f"{control:55} {rate:.3f} +- {error:.3f}  nominal {nominal:.3f}{'  FAILS' if fails else ''}", flush=True)
    table = pd.DataFrame(rows)
    if args.csv:
        table.to_csv(args.csv, index=False, float_format="%.4g")
    if args.page:
        path = Path(args.page)
        path.write_text(path.read_text(encoding="utf-8").split(HEAD)[0] + page(table), encoding="utf-8")
    print(f"{len(table)} rows, {int(table['fails'].sum())} fail; {time.perf_counter() - start:.0f} s")
    sys.exit(any(r.fails and r.control not in WHY for r in table.itertuples()))


if __name__ == "__main__":
    main()
