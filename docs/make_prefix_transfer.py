"""Makes docs/prefixes/transfer.csv: safe words searched on one model or on two at once, measured on both; the models read them with one tokenizer.

python docs/make_prefix_transfer.py
"""

from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.prefixes import prefix_effects, random_prefixes

MODELS = ("udhr-organism", "udhr-organism-no-verdict")
HERE = Path(__file__).parent / "prefixes"


def main():
    """Search, measure, write the table."""
    models = {name: wb.load_model(name) for name in MODELS}
    split = wb.prompts.udhr_split(models[MODELS[0]])

    def ask(n, side, seed):
        return wb.prompts.udhr("consider_claim", "harm", n=n, split=split, side=side, seed=seed)

    train, validation, test = ask(16, "train", 0), ask(32, "train", 100), ask(200, "test", 0)
    searched = {**{name: [model] for name, model in models.items()}, "both at once": list(models.values())}
    found = {
        name: wb.search_prefix(on, train, validation=validation, length=8, steps=60, width=48, seed=0, progress=False)
        for name, on in searched.items()
    }
    tables = []
    for name, model in models.items():
        drawn = random_prefixes(model, test, 8, count=20, seed=0)
        tables.append(prefix_effects(model, test, found, random=drawn, progress=False).assign(measured_on=name))
    table = pd.concat(tables)
    table = table[table["metric"] == "safe_score"].rename(columns={"prefix": "searched_on"})
    HERE.mkdir(exist_ok=True)
    table[["searched_on", "measured_on", "text", "value", "low", "high", "n", "note"]].to_csv(HERE / "transfer.csv", index=False)


if __name__ == "__main__":
    main()
