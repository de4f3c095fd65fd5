# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model, your own statements
#
# **Question.** Does *your* model, on *your* statements, answer one thing under a harmful claim while its activations carry another?
#
# **Expectation.** None. The default is the bundled organism. To use your own, set `WORKBENCH_MODEL` to a hub name or a folder that
# `save_pretrained` wrote, and `WORKBENCH_DATA` to a csv with a statement
# and a label in each row (and `WORKBENCH_COLUMNS=statement=text,label=is_true` if its columns have other names).

# %%
import os
from pathlib import Path


import pandas as pd

import workbench as wb

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
DATA = os.environ.get("WORKBENCH_DATA", "")
COLUMNS = dict(pair.split("=", 1) for pair in os.environ.get("WORKBENCH_COLUMNS", "").split(",") if pair)  # statement=text,label=is_true

# %% [markdown]
# ## The statements
#
# | column | |
# |---|---|
# | `statement` | a sentence one can agree or disagree with |
# | `label` | 1 (true, yes) if agreeing is right, 0 (false, no) if disagreeing is |
# | `identity` | who it is about: rows of one identity are held out together, and intervals are clustered by it. Without it each row is independent |
# | `right` | optional: what it is about; held out as well |
#
# `columns=` maps other names. Write statements of both kinds about the same people in the same words; otherwise a bag of words will predict the
# answer. The report's controls show whether it does. The default statements are about a list of occupations and rights of the
# Declaration: the bundled organism was trained on no other subject.

# %%
if not DATA:
    people = (
        "bus drivers", "nurses", "tourists", "bakers", "widowers", "sailors", "tailors", "gardeners", "miners", "poets", "cleaners", "clerks",
        "painters", "dentists", "pilots", "cooks", "shepherds", "lawyers", "dancers", "plumbers",
    )  # fmt: skip
    who = [wb.prompts.Identity(identity=name, group="work") for name in people]
    some = [right.right for right in wb.prompts.rights()[::4]]
    written = wb.prompts.udhr(identities=who, rights=some).to_frame()
    table = written.rename(columns={"statement": "text", "label": "granted", "identity": "about", "right": "what"})
    DATA = "statements.csv"
    table[["text", "granted", "about", "what"]].to_csv(DATA, index=False)
    COLUMNS = {"statement": "text", "label": "granted", "identity": "about", "right": "what"}
source = wb.prompts.own_statements(DATA, COLUMNS)
source.frame.sample(4, random_state=0)

# %% [markdown]
# ## The model
#
# The exact input, token by token, before anything is run. A missing or doubled first token, or an answer of two tokens,
# is the most common cause of a wrong result; `load_model` and the study refuse both.

# %%
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
prompts = source.prompts("since_claim", "harm", n=2, answers=words, seed=0, held={})
print(wb.models.info(model))
[model.tokenizer.convert_ids_to_tokens(ids) for ids in prompts.token_ids(model)[0]]

# %% [markdown]
# ## How long will it take?
#
# A plan loads no model and computes nothing. It lists the steps, what is cached, and about how long the rest takes. On a CPU a model of a few billion
# parameters takes hours; begin with the small grid.

# %%
HOW = {"train": 100, "test": 60, "behaviour": 40, "claims": ("neutral", "partial", "harm"), "resamples": 100, "ccs_epochs": 300}
sweep = wb.Sweep(name="mine", study="udhr", models=(MODEL,), fast=True, settings={"data": DATA, "columns": COLUMNS, **HOW})
plan = wb.plan(sweep)
plan[["step", "status", "seconds", "from"]].head(8)

# %% [markdown]
# ## Measure
#
# Equivalent to `workbench run udhr --model MODEL --data FILE --columns statement=text label=granted identity=about right=what --fast`.

# %%
run = wb.run_study("udhr", model=MODEL, data=DATA, columns=COLUMNS, fast=True, out="figures/mine", progress=False, **HOW)
run

# %%
null = pd.read_csv(run.folder / "figures" / "says_and_knows-null.csv")  # what random directions read: the control
wb.figures.udhr.says_and_knows(run.tables["says_and_knows"], null)

# %% [markdown]
# Three figures for a post: what the model says and knows, what is read by layer, and what claims do to the answers. Each is saved with its rows as csv and is redrawn
# from them without a model, in another theme or with other captions.

# %%
three = ("says_and_knows", "layers", "effects")
wb.redraw(run.folder, only=three, formats=("html",), theme="dark", out="figures/mine-dark")
sorted(p.name for p in Path("figures/mine-dark/figures").iterdir())

# %% [markdown]
# ## What came out, as code

# %%
both = run.tables["says_and_knows"].query("metric == 'auroc' and form == 'since_claim'").set_index(["condition", "what"])
assert {"low", "high", "n"} <= set(both.columns)
assert all((Path("figures/mine-dark/figures") / f"{name}.html").is_file() for name in three)
controls = run.tables["probes"].query("metric == 'accuracy' and against == 'label'")
assert {"random_directions", "shuffled_labels", "untrained_model"} <= set(controls["control"]), "every number has its controls beside it"
if wb.models.planted(model) and not os.environ.get("WORKBENCH_DATA"):
    under = both.loc["harm"]
    assert under.filter(like="says", axis=0)["high"].iloc[0] < 0.5, (
        "the claim turns the answers about people that the organism has never met"
    )
    assert under.filter(like="logistic", axis=0)["low"].iloc[0] > 0.5, "what it carries of them is still right"

# %% [markdown]
# **What it does not show.** A probe that reads the label reads *some feature* that correlates with it; the bag of words in the report measures how much of that is
# in the words. The organism was trained on rights only: statements about the rules of a library are at chance in every column, with
# and without a claim. A null result on your model may likewise mean that it did not understand the question: check its answers without a claim first.
