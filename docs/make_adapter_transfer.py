"""Write docs/training/transfer.csv: an adapter of the bundled organism, carried to the organisms with a faint truth and without a verdict.

python docs/make_adapter_transfer.py
"""

from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.prompts import PromptSet
from workbench.training import adapter_transfer, train_adapter

OTHERS = ("udhr-organism-faint", "udhr-organism-no-verdict")


def main():
    """Train one adapter without labels, and carry it by both kinds of map."""
    first = wb.load_model("bundled")
    split = wb.prompts.udhr_split(first, seed=0)

    def items(form, claim, n, side):
        return wb.prompts.udhr(form, claim, n=n, seed=0, split=split, side=side)

    fit = PromptSet(p for claim in ("harm", "good") for p in items("since_claim", claim, 240, "train"))
    held = {f"{form}, harm claim": items(form, "harm", 160, "test") for form in ("since_claim", "consider_claim")}
    held["base_short, no claim"] = items("base_short", None, 160, "test")
    adapter = train_adapter(first, fit, rank=1, layers=[1])
    parts = []
    for name in OTHERS:
        second = wb.load_model(name)
        for method in ("procrustes", "ridge"):
            table = adapter_transfer(first, second, adapter, fit, held, method=method)
            parts.append(table.assign(model=name, method=method))
    table = pd.concat(parts, ignore_index=True)
    out = Path(__file__).parent / "training" / "transfer.csv"
    table[["model", "method", *table.columns[:-2]]].round(4).to_csv(out, index=False)


if __name__ == "__main__":
    main()
