"""`make calibrate`, second part: does every interval hold the truth as often as it says? Planted rows, counted.

A row passes where the coverage lies within three Monte-Carlo errors of 95 %, or above: an interval may be too wide, and then the table
shows how wide. `--csv` and `--page` write docs/intervals-calibration.csv and docs/calibration.md.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from workbench.core import stats
from workbench.core.paired import paired_proportions
from workbench.core.seeds import numpy_rng
from workbench.probes import calibration_error

NOMINAL = 0.95
SIZES = {
    "1 x 300 + 59 x 5": [300, *[5] * 59],
    "60 x 10": [10] * 60,
    "40, lognormal sizes": None,
    "12 x 10": [10] * 12,
    "5 x 20": [20] * 5,
}
HEAD = """# Calibration

How often an interval that says 95 % holds the truth, on planted rows. `make calibrate` prints this table; `error` is the Monte-Carlo error of the
coverage. A row fails where the coverage lies more than three errors below 95 %. Above is allowed: few clusters make an interval that is sure rather than
narrow, and `width` shows the price. The calibration of angles has a table of its own ([geometry](geometry.md)).

"""

WHY = {
    (
        "mean, lognormal",
        "40, lognormal sizes",
    ): "numbers with a long tail in clusters of very uneven size: Student's interval is symmetric, and misses on the side of the tail",
    (
        "AUROC .998",
        "60 x 10",
    ): "an order that is nearly perfect hangs on the rows of a few clusters: where these happen to be in order, the "
    "interval lies above the truth, more often than below it",
}


def clusters(rng, sizes):
    """The cluster of each row."""
    sizes = np.maximum(1, rng.lognormal(1.5, 1, 40).astype(int)) if sizes is None else np.array(sizes)
    return np.repeat(np.arange(len(sizes)), sizes), len(sizes)


def share(p, rho):
    """Zeros and ones; each cluster has a rate of its own."""

    def draw(rng, sizes):
        codes, m = clusters(rng, sizes)
        rates = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho, m) if rho else np.full(m, p)
        return stats.proportion((rng.random(len(codes)) < rates[codes]).astype(float), codes), p

    return draw


def shares_apart(rng, sizes):
    """The difference of two shares on the same rows."""
    codes, m = clusters(rng, sizes)
    shift = 0.3 * rng.standard_normal(m)[codes]
    a, b = (rng.random(len(codes)) < norm.cdf(shift + x) for x in (0.5, 0.0))
    spread = math.sqrt(1 + 0.3**2)
    return paired_proportions(a.astype(float), b.astype(float), codes), float(norm.cdf(0.5 / spread) - 0.5)


def average(rng, sizes):
    """A mean of numbers that share a part by cluster."""
    codes, m = clusters(rng, sizes)
    return stats.mean(0.5 * rng.standard_normal(m)[codes] + rng.standard_normal(len(codes)), codes), 0.0


def skewed(rng, sizes):
    """A mean of lognormal numbers."""
    codes, m = clusters(rng, sizes)
    x = np.exp(0.5 * (0.5 * rng.standard_normal(m)[codes] + rng.standard_normal(len(codes))))
    return stats.mean(x, codes), math.exp(0.125 * 1.25)


def area(d, tau):
    """The AUROC of scores that share a part by cluster and class."""

    def draw(rng, sizes):
        codes, m = clusters(rng, sizes)
        y = np.arange(len(codes)) % 2
        scores = d * y + tau * rng.standard_normal((m, 2))[codes, y] + rng.standard_normal(len(codes))
        return stats.auroc(scores, y, codes), float(norm.cdf(d / math.sqrt(2 * (1 + tau**2))))

    return draw


def areas_apart(rng, sizes):
    """The difference of two AUROCs on the same rows."""
    codes, m = clusters(rng, sizes)
    y = np.arange(len(codes)) % 2
    shared = 0.5 * rng.standard_normal((m, 2))[codes, y] + 0.7 * rng.standard_normal(len(codes))
    a, b = (d * y + shared + 0.7 * rng.standard_normal(len(codes)) for d in (1.5, 0.5))
    s = math.sqrt(2 * (0.25 + 0.98))
    return stats.auroc_difference(a, b, y, codes), float(norm.cdf(1.5 / s) - norm.cdf(0.5 / s))


def recovered(rng, sizes):
    """The share of a difference that patching recovers: a ratio of means that vary by cluster."""
    codes, m = clusters(rng, sizes)
    gap = 2 + 0.8 * rng.standard_normal(m)[codes] + 0.5 * rng.standard_normal(len(codes))
    moved = 0.6 * gap + 0.4 * rng.standard_normal(m)[codes] + 0.5 * rng.standard_normal(len(codes))
    return stats.ratio(moved, gap, codes), 0.6


def perplexity(rng, sizes):
    """exp(nll / tokens) of texts that share a part by cluster."""
    codes, m = clusters(rng, sizes)
    tokens = rng.integers(5, 40, len(codes)).astype(float)
    nll = tokens * (2 + 0.2 * rng.standard_normal(m)[codes]) + np.sqrt(tokens) * rng.standard_normal(len(codes))
    return stats.exp_ratio(nll, tokens, codes), math.exp(2)


def calibrated(rng, sizes):
    """The calibration error of probabilities that are right."""
    codes, _ = clusters(rng, sizes)
    p = rng.uniform(0, 1, len(codes))
    return calibration_error(p, (rng.random(len(p)) < p).astype(int), codes), 0.0


def overconfident(rng, sizes):
    """The calibration error of probabilities that are off by a tenth everywhere (but for the ends)."""
    codes, _ = clusters(rng, sizes)
    p = rng.uniform(0.2, 0.8, len(codes))
    return calibration_error(p + 0.1, (rng.random(len(p)) < p).astype(int), codes), 0.1


def crossed(kind, people, rights, ti, tr):
    """Rows that cross identities with rights: each has a part of its own."""

    def draw(rng, _):
        codes = np.repeat(np.array([(i, r) for i in range(people) for r in range(rights)]), 2, axis=0)
        y = np.arange(len(codes)) % 2
        if kind == "auroc":
            own = ti * rng.standard_normal((people, 2))[codes[:, 0], y] + tr * rng.standard_normal((rights, 2))[codes[:, 1], y]
            scores = y + own + rng.standard_normal(len(y))
            return stats.auroc(scores, y, codes), float(norm.cdf(1 / math.sqrt(2 * (1 + ti**2 + tr**2))))
        x = ti * rng.standard_normal(people)[codes[:, 0]] + tr * rng.standard_normal(rights)[codes[:, 1]] + rng.standard_normal(len(y))
        if kind == "mean":
            return stats.mean(x, codes), 0.0
        return stats.proportion((x > -0.8).astype(float), codes), float(norm.cdf(0.8 / math.sqrt(1 + ti**2 + tr**2)))

    return draw


def cells():
    """What is simulated: the statistic, how rows are clustered, and the draw."""
    out = []
    for name, sizes in SIZES.items():
        out += [(f"share .5, correlation {r}", name, share(0.5, r), sizes) for r in (0.1, 0.5)]
        out += [("share .9, correlation .1", name, share(0.9, 0.1), sizes), ("share .97, correlation .2", name, share(0.97, 0.2), sizes)]
        out += [
            ("difference of shares", name, shares_apart, sizes),
            ("mean, normal", name, average, sizes),
            ("mean, lognormal", name, skewed, sizes),
        ]
        out += [
            ("AUROC .50", name, area(0.0, 0.5), sizes),
            ("AUROC .74", name, area(1.0, 0.5), sizes),
            ("AUROC .93", name, area(2.5, 0.7), sizes),
        ]
        out += [("AUROC .998", name, area(4.5, 0.5), sizes), ("share recovered by patching", name, recovered, sizes)]
        out += [("difference of AUROCs", name, areas_apart, sizes), ("perplexity", name, perplexity, sizes)]
    for n in (100, 400, 2000):
        out.append(("calibration error, calibrated", f"{n} rows", calibrated, [1] * n))
        out.append(("calibration error, off by .1", f"{n} rows", overconfident, [1] * n))
    for kind in ("share", "mean", "auroc"):
        for people, rights, ti, tr in ((40, 12, 0.5, 0.5), (40, 12, 0.5, 0.0), (40, 12, 0.0, 0.7), (40, 6, 0.3, 0.3)):
            out.append(
                (
                    f"{kind}, identity sd {ti}, right sd {tr}",
                    f"{people} identities x {rights} rights",
                    crossed(kind, people, rights, ti, tr),
                    None,
                )
            )
    return out


def measure(draw, sizes, runs, name):
    """Coverage, its Monte-Carlo error, the median width, the mean value and the truth."""
    hits, widths, values, truth = 0, [], [], math.nan
    for k in range(runs):
        e, truth = draw(numpy_rng(k, "intervals", name), sizes)
        hits += bool(e.low - 1e-12 <= truth <= e.high + 1e-12)
        widths.append(e.high - e.low)
        values.append(e.value)
    cover = hits / runs
    error = math.sqrt(max(cover * (1 - cover), NOMINAL * (1 - NOMINAL)) / runs)
    return {"coverage": cover, "error": error, "width": float(np.nanmedian(widths)), "mean": float(np.nanmean(values)), "truth": truth}


def page(table):
    """The page, from the table."""
    head = ["statistic", "rows", "coverage", "error", "width", "mean estimate", "truth", ""]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for r in table.itertuples():
        numbers = [f"{x:.3f}" for x in (r.coverage, r.error, r.width, r.mean, r.truth)]
        lines.append(f"| {r.statistic} | {r.rows} | {' | '.join(numbers)} | {'**fails**' if r.fails else ''} |")
    failed = [(r.statistic, r.rows) for r in table.itertuples() if r.fails]
    why = "".join(f"- *{s}, {k}* fails: {WHY.get((s, k), 'not explained yet')}.\n" for s, k in failed)
    return HEAD + f"{int(table['runs'].iloc[0])} runs each.\n\n" + "\n".join(lines) + "\n" + (f"\n{why}" if why else "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--csv", default="")
    parser.add_argument("--page", default="")
    args = parser.parse_args()
    rows, start = [], time.perf_counter()
    for statistic, kind, draw, sizes in cells():
        found = measure(draw, sizes, args.runs, f"{statistic}, {kind}")
        fails = found["coverage"] + 3 * found["error"] < NOMINAL
        rows.append({"statistic": statistic, "rows": kind, "runs": args.runs, **found, "fails": fails})
        print(
            f"{statistic:42} {kind:28} {found['coverage']:.3f} +- {found['error']:.3f}  width {found['width']:.3f}{'  FAILS' if fails else ''}",
            flush=True,
        )
    table = pd.DataFrame(rows)
    if args.csv:
        table.to_csv(args.csv, index=False, float_format="%.4g")
    if args.page:
        Path(args.page).write_text(page(table), encoding="utf-8")
    print(f"{len(table)} rows, {int(table['fails'].sum())} fail; {time.perf_counter() - start:.0f} s")
    unexplained = [(r.statistic, r.rows) for r in table.itertuples() if r.fails and (r.statistic, r.rows) not in WHY]
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main()
