"""Write docs/truth-transfer.md and its tables: does a probe of truth read other people's statements, and in other surface forms?

    python docs/make_truth_transfer.py FOLDER [MODEL …]

FOLDER holds csv files with the columns statement and label (those of Azaria and Mitchell 2023, arXiv 2304.13734, are not part of the project).
"""

import sys
from pathlib import Path

import pandas as pd

import workbench as wb
from workbench.core.tables import pick
from workbench.models import mean_embeddings
from workbench.probes import read_surfaces
from workbench.prompts import PromptSet

HERE = Path(__file__).parent
N, FORMS_N, SEED = 600, 160, 0
METHODS = ("logistic", "mass_mean", "lda")
HEAD = """# Truth probes on outside statements

Single statements of Azaria and Mitchell (2023, arXiv 2304.13734), read at their last token ([how](how-to/single-statements.md)). Probes are fitted on
the training half of one set and read on the held-out half of each, at the layer two thirds of the way up, which was fixed beforehand. Every
statement is a cluster of its own (the files do not say what a statement is about); repeated ones are left out.

`python docs/make_truth_transfer.py FOLDER smollm2 gemma3-270m` makes this page ({n} statements a set at most, {forms} in other surface forms,
seed {seed}).

How to read it. A probe reads its own set above every control on the words alone in most sets, and little of that carries over to another set: two
sets of geography carry over to each other on Gemma, and facts and negated facts, which share statements, on both. Where an interval includes .5,
nothing was told from chance. In other surface forms that is nearly everywhere so, with few statements and wide intervals: it shows no collapse and no
transfer. In negated facts the words alone read below .5: a statement and its negation have the same words and may stand on opposite sides of the
split, so that words learned from one mislead on the other.
"""


def sets(folder):
    """The statements of each file, as many of each label as the other as far as they go."""
    out = {}
    for file in sorted(Path(folder).glob("*.csv")):
        read = wb.prompts.load(file, n=N, seed=SEED)
        out[file.stem.removesuffix("_true_false")] = read
    return out


def cell(row):
    """A number with its interval."""
    return f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"


def of_model(name, statements):
    """The tables of one model."""
    model = wb.load_model(name)
    layer = min(model.cfg.n_layers - 1, model.cfg.n_layers * 2 // 3)
    acts = {k: wb.capture(model, p, layers=[layer], progress=False) for k, p in statements.items()}
    # one side for each statement, whichever sets it stands in
    whole = wb.grouped_split(pd.concat([a.rows for a in acts.values()], ignore_index=True), by=("stem",), test=0.4, seed=SEED)
    matrix = wb.transfer_matrix(acts, method="logistic", split=whole, seed=SEED)
    beside = []
    for k, a in acts.items():
        vectors = mean_embeddings(model, a.rows["statement"])
        table = wb.probe_layers(
            a, methods=METHODS, split=whole, condition=k, text_vectors=vectors, random_directions=199, shuffles=19, seed=SEED
        )
        beside.append(table)
    forms = []
    for k, p in statements.items():
        some = p.subset(range(min(FORMS_N, len(p))))
        every = PromptSet(q for s in wb.prompts.rewrites_of(some) for q in wb.prompts.rewrite(some, s, seed=SEED))
        read = wb.capture(model, every, layers=[layer], progress=False)
        apart = wb.grouped_split(read.rows, by=("identity",), test=0.4, seed=SEED)
        table, _ = read_surfaces(read, split=apart, methods=("logistic",), seeds=2, seed=SEED)
        forms.append(table.assign(condition=k))
    return {
        "transfer": matrix.assign(model=name),
        "controls": pd.concat(beside, ignore_index=True).assign(model=name),
        "surfaces": pd.concat(forms, ignore_index=True).assign(model=name),
    }


def page(tables):
    """The page's text."""
    out = [HEAD.format(n=N, forms=FORMS_N, seed=SEED)]
    for model in dict.fromkeys(tables["transfer"]["model"]):
        matrix = pick(tables["transfer"], model=model, metric="auroc")
        layer = int(matrix["layer"].iloc[0])
        names = list(dict.fromkeys(matrix["fit_condition"]))
        out.append(f"## {model}, layer {layer}\n\nAUROC of the logistic probe, fitted on the row's set and read on the column's.\n")
        out.append("| fitted on | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1))
        for one in names:
            row = [cell(next(pick(matrix, fit_condition=one, condition=other).itertuples())) for other in names]
            out.append(f"| {one} | " + " | ".join(row) + " |")
        out.append("\nBeside each set's own probe (AUROC; the range of 199 random directions is of accuracy):\n")
        out.append(
            "| set | logistic | bag of words | runs of words | token embeddings | random directions | shuffled labels |\n|" + " --- |" * 7
        )
        for one in names:
            t = pick(tables["controls"], model=model, condition=one)
            a = [next(pick(t, method=m, control=c, metric="auroc").itertuples()) for m, c in (("logistic", ""), *((w, w) for w in WORDS))]
            drawn = next(pick(t, control="random_directions").itertuples())
            null = next(pick(t, method="logistic", control="shuffled_labels").itertuples())
            out.append(f"| {one} | " + " | ".join(map(cell, a)) + f" | {cell(drawn)} | {cell(null)} |")
        out.append("\nIn surface forms that the probe was not fitted on (AUROC, fitted on half of the forms):\n")
        out.append("| set | fitted forms | other forms | strongest words alone, other forms |\n|" + " --- |" * 4)
        for one in names:
            t = pick(tables["surfaces"], model=model, condition=one, surface="all", metric="auroc")
            probe = pick(t, method="logistic").set_index("reading")
            words = t[(t["method"] != "logistic") & (t["reading"] == "unseen")].sort_values("value").tail(1)
            said = cell(next(words.itertuples())) if len(words) else ""
            seen = cell(probe.loc["seen"]) if "seen" in probe.index else ""
            out.append(f"| {one} | {seen} | {cell(probe.loc['unseen'])} | {said} |")
        out.append("")
    return "\n".join(out) + "\n"


WORDS = ("bag_of_words", "ngrams", "token_embeddings")


def kept():
    """The tables that are kept, by name."""
    return {file.stem: pd.read_csv(file).fillna({"control": "", "note": ""}) for file in sorted((HERE / "truth-transfer").glob("*.csv"))}


def main():
    """Read the folder, measure, write."""
    folder, *models = sys.argv[1:]
    statements = sets(folder)
    tables = {}
    for name in models or ["bundled"]:
        for key, table in of_model(name, statements).items():
            tables.setdefault(key, []).append(table)
        print(f"{name}: done", flush=True)  # noqa: T201
    tables = {key: pd.concat(parts, ignore_index=True) for key, parts in tables.items()}
    place = HERE / "truth-transfer"
    place.mkdir(exist_ok=True)
    for key, table in tables.items():
        table.to_csv(place / f"{key}.csv", index=False, float_format="%.5g")
    (HERE / "truth-transfer.md").write_text(page(kept()), encoding="utf-8")


if __name__ == "__main__":
    main()
