"""`make calibrate`, fourth part: does the interval of the performance gap recovered hold the truth, and is it refused where there is no gap?

Teachers, students and ceilings are simulated: each is right on a row with a known probability. Rows of one identity, and the three of them on
one row, are alike; a student may copy the teacher's errors. `covers` counts the simulations in which a value was given at all.
`--csv` writes docs/weak-to-strong-calibration.csv.
"""

import argparse
import math
import sys
import time

import numpy as np
import pandas as pd
from scipy.stats import norm

from workbench.core.seeds import numpy_rng
from workbench.evaluation.weak_to_strong import gap_recovered, imitation

LEAST = 0.93
# (name, identities, rights or rows of each): crossed with rights where the last is given
ROWS = {"60 x 4": (60, 4, 0), "24 x 8": (24, 8, 0), "12 x 10": (12, 10, 0), "54 x 4, crossed with 12 rights": (54, 4, 12)}
GAPS = {"wide": (0.7, 0.95), "middle": (0.8, 0.95), "narrow": (0.85, 0.93), "none": (0.85, 0.85)}


def simulate(rng, rows, weak, ceiling, recovered, copied, alike=0.3, hard=0.3):
    """Whether teacher, student and ceiling are right on every row, and the rows' clusters.

    Args:
        rng: Draws everything.
        rows: Identities, rows of each, rights.
        weak, ceiling: Accuracies of teacher and ceiling.
        recovered: The true performance gap recovered.
        copied: Share of rows on which the student errs by the teacher's own noise.
        alike, hard: Share of the variance of what makes a row hard that its identity (and right) has; and of that in whether one errs.
    """
    people, each, rights = rows
    n = people * each
    who = np.repeat(np.arange(people), each)
    what = rng.integers(0, rights, n) if rights else np.zeros(n, int)
    parts = [rng.standard_normal(people)[who]] + ([rng.standard_normal(rights)[what]] if rights else [])
    difficulty = sum(p * math.sqrt(alike / len(parts)) for p in parts) + math.sqrt(1 - alike) * rng.standard_normal(n)
    own = rng.standard_normal((3, n))
    own[1] = np.where(rng.random(n) < copied, own[0], own[1])
    accuracy = [weak, weak + recovered * (ceiling - weak), ceiling]
    right = [math.sqrt(hard) * difficulty + math.sqrt(1 - hard) * x < norm.ppf(a) for x, a in zip(own, accuracy, strict=True)]
    return (*(r.astype(float) for r in right), np.array([who, what]).T.astype(str) if rights else who)


def measure(runs, rows, gap, recovered, copied):
    """How often the interval holds the truth, how often a value is refused, and the width of the interval."""
    weak, ceiling = GAPS[gap]
    given, hits, widths, excess = 0, 0, [], []
    for k in range(runs):
        rng = numpy_rng(k, "weak to strong", *rows, gap, int(100 * recovered), int(100 * copied))
        w, s, c, units = simulate(rng, rows, weak, ceiling, recovered, copied)
        e = gap_recovered(s, w, c, units)
        excess.append(imitation(s, w, units).excess.value)
        if math.isnan(e.value):
            continue
        given += 1
        hits += e.low <= recovered <= e.high
        widths.append(e.high - e.low)
    covers = hits / given if given else math.nan
    return {
        "covers": covers,
        "error": math.sqrt(max(covers * (1 - covers), 0.95 * 0.05) / given) if given else math.nan,
        "refused": 1 - given / runs,
        "width": float(np.median(widths)) if widths else math.nan,
        "excess": float(np.nanmean(excess)),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--csv", default="")
    args = parser.parse_args()
    out, start = [], time.perf_counter()
    for name, rows in ROWS.items():
        for gap in GAPS:
            for recovered, copied in ((0.0, 0.0), (0.0, 0.9), (0.5, 0.0), (0.5, 0.6), (1.0, 0.0)):
                if gap == "none" and recovered:
                    continue
                found = measure(args.runs, rows, gap, recovered, copied)
                if gap == "none":
                    failed = found["refused"] < 0.95
                else:  # few rows tell a narrow gap now and then only: those are its largest, and a value there says too little
                    failed = found["refused"] < 0.5 and found["covers"] + 2 * found["error"] < LEAST
                out.append(
                    {"rows": name, "gap": gap, "recovered": recovered, "copied": copied, "runs": args.runs, **found, "fails": failed}
                )
                print(
                    f"{name:32} {gap:7} PGR {recovered:.1f} copied {copied:.1f}: covers {found['covers']:.3f} +- {found['error']:.3f}, refused "
                    f"{found['refused']:.3f}, width {found['width']:.2f}, excess {found['excess']:+.2f}{'  FAILS' if failed else ''}",
                    flush=True,
                )
    table = pd.DataFrame(out)
    if args.csv:
        table.to_csv(args.csv, index=False, float_format="%.4g")
    print(f"{len(table)} rows, {int(table['fails'].sum())} fail; {time.perf_counter() - start:.0f} s")
    sys.exit(bool(table["fails"].any()))


if __name__ == "__main__":
    main()
