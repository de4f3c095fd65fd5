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
# # Does a debate help a judge that sees less?
#
# **Question.** Two debaters have read a text, the judge has not. Is the judge right more often after both have argued than after one consultant, or than
# without anybody? Does that rise with the debaters' strength, and does the judge lean to who speaks first?
#
# **Expectation.** A judge that counts verified quotations is right more often where debaters quote more. Nothing was expected of the model.
#
# **Control.** Judges that are scripts, with known weights: one leans to the first speaker, one hears nothing. `workbench run debate` runs all of this,
# with a probe as a judge too, and endpoints that argue and judge (`--debater`, `--judge`).

# %%
import os

import numpy as np
import pandas as pd

import workbench as wb
from workbench.evaluation.debate import CountingJudge, ModelJudge, ScriptedDebater, debate_table, rise, undebated
from workbench.evaluation.debate.hold import every
from workbench.figures import steering as draw
from workbench.studies.debate.study import case_of

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
form = "consider" if MODEL == "bundled" else "named"  # how what was said stands in front of the question

# %% [markdown]
# ## Hold debates
#
# Debaters are scripts: with the probability of their strength a turn quotes the text, else it says what the project's claims say.

# %%
prompts = wb.prompts.udhr("base_short", n=48, answers=words, split=wb.prompts.udhr_split(model, seed=0), model=model, seed=0)
cases = [case_of(pair, f"case {k + 1}") for k, pair in enumerate(prompts)]
held = [t for case in cases for t in undebated(case)]
for strength in (0.0, 1.0):
    one = ScriptedDebater(strength=strength)
    held += every(cases, (one, one), 1, strength=strength)
print(next(t for t in held if t.protocol == "debate" and t.strength == 1).document())

# %% [markdown]
# ## Judge them

# %%
judges = {
    "the model": ModelJudge(model, form),
    "planted: counts quotations": CountingJudge(seed=1),
    "planted: leans to the first speaker": CountingJudge(first=1.0, seed=2),
    "planted: hears nothing": CountingJudge(facts=0.0, seed=3),
}
chosen = {name: judge.choose(held) for name, judge in judges.items()}
table = pd.concat([debate_table(held, p).assign(judge=name) for name, p in chosen.items()], ignore_index=True)
right = table[table.metric == "accuracy"]
at = [p if np.isnan(s) else f"{p}, strength {s:g}" for p, s in zip(right.protocol, right.strength, strict=True)]
draw.points(right.assign(at=at), "at", "judge", "Who judges rightly, after what?", axis="share of right verdicts", zero=0.5)

# %%
leaning = table[(table.protocol == "debate") & (table.strength == 0) & table.metric.isin(["first speaker", "called A", "positive answer"])]
draw.points(leaning, "metric", "judge", "To what does a judge lean?", axis="mean probability, less a half", zero=0.0)

# %%
cell = leaning.set_index(["judge", "metric"])
assert cell.loc[("planted: leans to the first speaker", "first speaker"), "low"] > 0
assert cell.loc[("planted: hears nothing", "first speaker"), "low"] <= 0 <= cell.loc[("planted: hears nothing", "first speaker"), "high"]
rises = pd.concat([rise(held, p).assign(judge=name) for name, p in chosen.items()], ignore_index=True)
assert rises[(rises.judge == "planted: counts quotations") & (rises.protocol == "debate")]["low"].iloc[0] > 0
rises[rises.protocol == "debate"].round(2)

# %% [markdown]
# **What this does not show.** The judge that counts was made to be helped by facts: it shows that the measures find what is there. The bundled model yields to
# claims, and a speech stands where a claim stands.
