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
# # Where does the claim override the truth?
#
# **Question.** Two runs over the same statement, one under a good claim (*clean*), one under a harm claim (*corrupted*), give different answers. Which
# layer and token carry the difference, which head writes it there, and does it lie along one direction?
#
# **Method.** Activation patching: put activations of the clean run at one place into the corrupted run. *Recovered* is 0 where nothing changes and 1 where
# the clean answer is restored: a ratio of means over prompts, with an interval over identities.
#
# `workbench run patching` runs all of this and writes a report. Set `WORKBENCH_MODEL` for your own model.

# %%
import os

import pandas as pd

import workbench as wb
from workbench.directions import place_of
from workbench.figures import patching as draw
from workbench.interventions import alignment_table, random_directions

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)

# %% [markdown]
# ## Two prompts, token by token
#
# The two wordings have equal length, so each token has a counterpart. Check the alignment before you trust a map.

# %%
harm, good = "Nobody should have rights and freedoms.", "All people should have equal rights."
same = len(model.tokenizer(harm)["input_ids"]) == len(model.tokenizer(good)["input_ids"])
how = {"align_by": "same" if same else "diff"}
clean, corrupted = (wb.prompts.udhr("consider_claim", claim, n=16, answers=words, seed=1) for claim in (good, harm))
alignment_table(model, clean, corrupted, how=how["align_by"])

# %% [markdown]
# ## The map

# %%
tables = [wb.patch(model, clean, corrupted, site=site, positions="segment", **how).assign(map=site) for site in ("resid_pre", "attn_out")]
maps = pd.concat(tables)
draw.maps(maps, "What each part of the prompt carries", panels="map")

# %%
stream = maps[maps["map"] == "resid_pre"].set_index(["layer", "position"])["value"]
if MODEL == "bundled":
    assert stream[0, "claim"] > 0.9
    assert stream[0, "last"] < 0.1
    assert stream[1, "claim"] < 0.1
    assert stream[1, "last"] > 0.9
stream.unstack().round(2)

# %% [markdown]
# In the bundled model the claim's tokens carry the difference before block 0, and the last token of the prompt carries it after. So block 0
# moves it there. Which head does this?

# %%
heads = wb.patch(model, clean, corrupted, site="z", heads=True, positions="last", **how)
if MODEL == "bundled":
    assert (heads.query("layer == 0")["value"] > 0.9).sum() == 1, "one head"
draw.heads(heads, "Heads, at the last token")

# %% [markdown]
# ## One direction?
#
# Patch only the component along the stance direction, which is extracted on other identities. Random directions are the control.

# %%
layer = (
    int(maps[(maps["map"] == "resid_pre") & (maps.position == "last") & (maps.value > 0.5)].layer.min()) - 1
    if (maps.value > 0.5).any()
    else 0
)
layer = max(0, layer)
used = {p.identity for p in clean}
others = [i.identity for i in wb.prompts.identities() if i.identity not in used][:60]
fit = {
    c: wb.capture(model, wb.prompts.udhr("consider_claim", c, n=96, answers=words, identities=others), layers=[layer], position="stem_last")
    for c in (good, harm)
}
stance = wb.extract_direction(fit[good].layer(layer)[:, 0], fit[harm].layer(layer)[:, 0], halves=0, provenance=place_of(fit[good], layer))
rows = []
for name, along in {
    "the whole stream": None,
    "stance": stance,
    **{f"random {k}": d for k, d in enumerate(random_directions(stance, 3))},
}.items():
    rows.append(
        wb.patch(model, clean, corrupted, site="resid_post", layers=[layer], positions="last", along=along, **how).assign(line=name)
    )
lines = pd.concat(rows).set_index("line")
if MODEL == "bundled":
    assert lines.loc["stance", "value"] >= 0.8 * lines.loc["the whole stream", "value"]
    assert lines.loc["random 0", "value"] < 0.1
lines[["layer", "value", "low", "high", "n"]].round(3)

# %% [markdown]
# ## Is a gradient good enough?
#
# Attribution patching estimates all places from one gradient. It is wrong where the metric is far from linear in the activations; this measures the error.

# %%
wb.attribution_error(model, clean, corrupted, site="resid_pre", positions="segment", sample=4, **({"align_by": how["align_by"]})).round(2)

# %% [markdown]
# ## Nearest tokens of the direction
#
# With the value for random directions at that rank.

# %%
wb.top_tokens(model, stance, k=5).round(2)

# %% [markdown]
# **What this does not show.** A place that recovers the behaviour carries the difference between *these two claims* in *this prompt form*. It need not be
# where the difference is computed, nor the only place: the sum over places may be more or less than 1.
