"""How often the right kind of law is chosen: curves made from known laws, 64 questions, a level of each question's own and noise.

`python benchmarks/shot_laws.py --runs 100`: the share of runs that choose the planted kind, the other one, and none.
"""

import argparse

import numpy as np

from workbench.core.seeds import numpy_rng
from workbench.core.stats import wilson
from workbench.evaluation.shot_laws import fit_shot_laws, law

SHOTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
LAWS = [
    ("power", (0.5, 3.0)),
    ("power", (0.2, 2.0)),
    ("exponential", (0.3, 3.0, 20.0)),
    ("exponential", (0.1, 2.0, 8.0)),
    ("bayesian", (0.2, 4.0, 0.05, 0.02)),
    ("bayesian", (0.05, 3.0, 0.01, 0.1)),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.3, 0.6])
    args = parser.parse_args()
    print("| law | parameters | noise | right | other | none |\n|---|---|---|---|---|---|")
    for noise in args.noise:
        for name, parameters in LAWS:
            kind, chosen = "power" if name == "power" else "bounded", []
            for seed in range(args.runs):
                rng = numpy_rng(seed, "curves", name, str(parameters))
                level, each = rng.standard_normal((64, 1)), rng.standard_normal((64, len(SHOTS)))
                curves = law(name, SHOTS, parameters) * np.exp(noise * (level + each))
                chosen.append(fit_shot_laws(curves, SHOTS, resamples=50, seed=seed).chosen)
            right, none = chosen.count(kind), chosen.count("")
            low, high = wilson(right, args.runs)
            shown = ", ".join(f"{p:g}" for p in parameters)
            other = (args.runs - right - none) / args.runs
            print(
                f"| {name} | {shown} | {noise} | {right / args.runs:.2f} [{low:.2f}, {high:.2f}] | {other:.2f} | {none / args.runs:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
