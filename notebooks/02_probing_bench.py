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
# # The probe bench
#
# **Questions.** At which layer can truth be read? Do nonlinear probes add anything? What does CCS find without
# labels? How few samples are enough? Can the disagreement of probe and answer show that a model was pushed?
#
# **Expectation.** The bundled organism carries the truth of its answers, so every method should read it, with labels and without.
# Its twin was trained on the same answers without a verdict on them: there CCS should fail, and the report
# should say so. On your own model (set `WORKBENCH_MODEL`) the result is open.
#
# `workbench run probes` runs all of this with more items and more methods, and writes a report.

# %%
import os

import pandas as pd

import workbench as wb
from workbench.figures import probes as draw

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
layer = model.cfg.n_layers * 2 // 3  # fixed before anything is read


# %% [markdown]
# ## Data
#
# There are two conditions, with and without a claim. The answers come from the same forward pass as the activations. No fit uses
# held-out identities or rights.


# %%
def read(model, split, template="base_short", claim=None, change=lambda p: p, n=(300, 200)):
    sides = [wb.prompts.udhr(template, claim, n=k, split=split, side=s, answers=words) for k, s in zip(n, ("train", "test"), strict=True)]
    acts = wb.capture(model, change(sides[0] + sides[1]), logits="answers", progress=False)
    return acts.with_column("answer", wb.answers_of(acts)["answer"])


split = wb.prompts.udhr_split(model)
clean, pushed = read(model, split), read(model, split, "since_claim", "harm")
clean

# %% [markdown]
# ## One table: layers, methods, conditions, controls
#
# Probes are fitted without the claim and tested without and under it. `gap` is the accuracy of a nonlinear probe minus that of the best linear
# one, paired on the same items; `selectivity` is accuracy minus that on a task that only memorisation solves.

# %%
table = wb.probe_layers(
    clean,
    test={"harm": pushed},
    split=split,
    condition="no claim",
    methods=["logistic", "lda", "mass_mean", "mlp", "ccs", "crc"],
    resamples=200,
)
accuracy = table[(table["metric"] == "accuracy") & (table["control"] == "")]
accuracy.pivot_table(index="method", columns=["condition", "layer"], values="value").round(2)

# %%
draw.curves(table, ["no claim", "harm"])

# %%
table[table["metric"].isin(["gap", "selectivity"]) & (table["layer"] == layer)][
    ["method", "condition", "metric", "value", "low", "high", "n", "note"]
]

# %% [markdown]
# The controls of the same call: shuffled labels, random directions and the words alone.

# %%
table[(table["control"] != "") & (table["metric"] == "accuracy") & (table["layer"].isin([layer, -1]))][
    ["control", "condition", "layer", "value", "low", "high", "note"]
]

# %% [markdown]
# ## What did CCS find?
#
# The same test on the organism and on its twin without a verdict. Half of the prompts contain a speaker's opinion: which
# feature does a search without labels then find (Farquhar et al. 2023)?

# %%
panels = {}
for name in ("udhr-organism", "udhr-organism-no-verdict") if MODEL == "bundled" else (MODEL,):
    one = model if name in (MODEL, "udhr-organism") else wb.load_model(name)
    two = wb.prompts.udhr_split(one)
    told = read(one, two, change=lambda p: wb.prompts.with_distractor(p, "speaker"))
    panels[name] = wb.ccs_honesty(read(one, two), layer=layer, split=two, distractors={"speaker": told}, draws=100, resamples=200)
panels[name]

# %%
pd.concat({name: panel.table.set_index("what")[["value", "low", "high"]].round(2) for name, panel in panels.items()}, axis=1)

# %% [markdown]
# ## A loss of your own
#
# Any function of the two probabilities (each `restart x item`) is a method, with restarts, controls and intervals.


# %%
def agree_to_differ(p_negative, p_positive):
    return ((p_positive + p_negative - 1) ** 2 + p_positive * p_negative).mean(-1)


mine = wb.probe_layers(clean, split=split, methods=[agree_to_differ, "ccs"], controls=(), resamples=100)
mine[mine["metric"] == "accuracy"].pivot(index="method", columns="layer", values="value").round(2)

# %% [markdown]
# ## Sample efficiency and transfer

# %%
few = wb.sample_efficiency(clean, layer=layer, split=split, methods=["logistic", "ccs"], repeats=5, resamples=200)
draw.efficiency(few)

# %%
wb.probes.smallest(few, threshold=0.9)

# %%
draw.transfer(wb.transfer_matrix({"no claim": clean, "harm": pushed}, layers=[layer], split=split))

# %% [markdown]
# ## Tampering
#
# The detector was fitted on no pushed prompt. It consists of a probe, its calibrated probability, and a threshold from unpushed prompts.

# %%
detector = wb.fit_tamper(clean, layer=layer, split=split, false_alarms=0.15)
wb.probes.tamper_roc(clean, {"harm": pushed}, detector, split=split)

# %%
held = pushed.subset(split.side(pushed.rows) == "test")
wb.tamper_score(held, detector)[["identity", "right", "tamper_score", "probe_probability", "answer_probability", "flagged"]].head()

# %% [markdown]
# ## Conclusion, as code
#
# On the organism the findings must hold; on another model they are open.

# %%
if MODEL == "bundled":
    at = accuracy[accuracy["layer"] == layer].set_index(["method", "condition"])
    assert at.loc[("ccs", "harm"), "low"] > 0.8, "CCS, fitted without labels and without a claim, reads the truth under the claim"
    assert (table.loc[(table["metric"] == "gap") & (table["layer"] == layer), "value"] <= 0.02).all(), "nonlinear probes add nothing"
    assert "CCS finds the truth no better than random directions" in str(panels["udhr-organism"]), "truth is read from everywhere"
    assert panels["udhr-organism-no-verdict"].found == "speaker", "the twin's CCS finds the speaker instead"
    assert (tamper := wb.tamper_score(held, detector))["tamper_score"].mean() > 0.9, "pushed prompts disagree with the probe"

# %% [markdown]
# **What this does not show.** A probe shows what can be read, not what the model uses. CCS gets its sign from labelled training rows
# (the report includes a rule that needs none). A disagreement shows that the answer is not what the probe reads, not why.
