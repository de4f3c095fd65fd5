"""Write the table of docs/prefixes.md on transfer: words found on one model, on another and on both, measured on each.

    workbench train udhr-organism-other-tokens --out TWIN
    python docs/make_prefix_transfer.py OUT bundled TWIN

OUT holds the searches, which go on where they stood, the table (transfer.csv) and the words (words.csv). The models are asked in one form, so that they answer the same words.
"""

import sys
from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.core.tables import write_csv
from workbench.models.known import name_of

STEPS, LENGTH, TRAIN, VALIDATION, TEST, RANDOM, SEED = 24, 8, 16, 24, 64, 5, 0


def sides(model):
    """Statements under the harm claim: to search on, to choose by, and about people and rights that neither saw."""
    split = wb.prompts.udhr_split(model)
    make = lambda n, side, seed: wb.prompts.udhr("consider_claim", "harm", n=n, split=split, side=side, seed=seed)  # noqa: E731
    train = make(TRAIN, "train", SEED)
    people, rights = ({getattr(p, k) for p in train} for k in ("identity", "right"))
    more = make(8 * VALIDATION, "train", SEED + 1)
    apart = [i for i, p in enumerate(more) if p.identity not in people and p.right not in rights]
    return train, more.subset(apart[:VALIDATION]), make(TEST, "test", SEED)


def main():
    """Search, measure, and write."""
    out, *names = sys.argv[1:]
    if len(names) != 2:
        raise SystemExit(__doc__)
    models = {name_of(model): model for model in map(wb.load_model, names)}
    train, validation, test = sides(next(iter(models.values())))
    groups = {name: [model] for name, model in models.items()} | {"both": list(models.values())}
    found = {}
    for name, group in groups.items():
        store = Path(out) / name.replace("/", "_")
        options = {"validation": validation, "steps": STEPS, "store": store, "seed": SEED}
        found[f"safe words of {name}"] = wb.search_prefix(group, train, "safe", LENGTH, **options)
    drawn = {name: wb.prefixes.random_prefixes(model, train, LENGTH, count=RANDOM, seed=SEED) for name, model in models.items()}
    table = wb.prefixes.prefix_transfer(models, test, found, random=drawn)
    write_csv(Path(out) / "transfer.csv", table)
    told = pd.DataFrame([{"words": k, "text": p.text, "steps": len(p.history) - 1, "loss": p.loss} for k, p in found.items()])
    write_csv(Path(out) / "words.csv", told)


if __name__ == "__main__":
    main()
