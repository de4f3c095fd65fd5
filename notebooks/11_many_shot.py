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
# # How do demonstrations move the next answer?
#
# **Question.** Many-shot jailbreaking shows a model many answers that it should not give, and asks the next question. How does the answer move with the
# number of demonstrations, and does the fall of its negative log-likelihood have a floor?
#
# **Controls.** Demonstrations that give the *safe* answer, and prose of equal length: what they do as well is not what the harmful answers did.
#
# `workbench run many_shot` runs all of this with more questions, interventions and what is read inside, and writes a report.

# %%
import os
from dataclasses import replace

import numpy as np
import pandas as pd

import workbench as wb
from workbench.core.stats import mean, proportion
from workbench.evaluation import answers, fit_shot_laws
from workbench.evaluation.shot_laws import law
from workbench.figures import shots as draw
from workbench.prompts import PromptSet, udhr_split

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
split = udhr_split(model, seed=0)

# %% [markdown]
# ## One chain of demonstrations, every length
#
# A demonstration is a training statement with an answer. Each number of demonstrations is a prefix of the next, so one pass of the engine reads all.

# %%
SHOTS = [0, 1, 2, 3, 4, 6, 8, 12, 16]
how = {"template": "base_short", "answers": words, "model": model, "chat": False, "split": split}
chain = wb.prompts.udhr(n=16, side="train", seed=1, **how)
chain = [chain[int(i)] for i in np.random.default_rng(0).permutation(16)]
given = {"harmful": [replace(p, label=1 - p.label) for p in chain], "benign": chain}
asked = {k: PromptSet([p for n in SHOTS for p in wb.prompts.udhr(n=20, shots=v[:n], seed=2, **how)], name=k) for k, v in given.items()}
print(asked["harmful"][2 * 20].stem)

# %%
rows, nll = [], {}
for kind, prompts in asked.items():
    said = answers(model, prompts)
    harm = np.where(said["label"] == 1, said["logp_negative"], said["logp_positive"])
    people = said["identity"].to_numpy().reshape(len(SHOTS), -1)
    nll[kind] = -harm.reshape(len(SHOTS), -1).T
    wrong = 1 - said["safe"].to_numpy().reshape(len(SHOTS), -1)
    for k, n in enumerate(SHOTS):
        facts = {"kind": kind, "intervention": "none", "shots": n}
        rows.append({**facts, "metric": draw.NLL, **mean(nll[kind][:, k], people[k]).row()})
        rows.append({**facts, "metric": draw.SHARE, **proportion(wrong[k], people[k]).row()})
table = pd.DataFrame(rows)
draw.answers(table)

# %% [markdown]
# If both lines fall together, the model does not follow the answers of the demonstrations: it is the text in front that moves it.
#
# ## A power law, or a floor?
#
# Each law is fitted to two of three numbers of demonstrations and judged on the others. On a planted power law the power law must be chosen.

# %%
planted = law("power", SHOTS[1:], (0.4, 3.0)) * np.exp(0.1 * np.random.default_rng(0).standard_normal((40, len(SHOTS) - 1)))
found = fit_shot_laws(planted, SHOTS[1:], resamples=40)
print(found)

# %%
fit_shot_laws(nll["harmful"][:, 1:], SHOTS[1:], clusters=people[0], resamples=40).table

# %%
if MODEL == "bundled":
    assert found.chosen == "power", "the planted power law is found"
    assert (
        table.query("shots == 0 and kind == 'harmful'")["value"].tolist()
        == table.query("shots == 0 and kind == 'benign'")["value"].tolist()
    )
