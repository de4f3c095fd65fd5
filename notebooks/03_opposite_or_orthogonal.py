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
# # Opposite, orthogonal, or something else?
#
# **Question.** How are *harm* and *safety* related inside a model: as directions, as information, as causes?
#
# **Why not just a cosine.** Two directions that share a baseline have a cosine of ±.5 on pure noise; two weak ones point anywhere. Here
# every product excludes pairs of rows of one cluster, and the cosine is divided by the reliability of each direction. It has
# an interval, a null with the same construction, and a verdict that may be *undetermined* or *refused*.
#
# `workbench run geometry` runs all of this for each layer and writes a report. Set `WORKBENCH_MODEL` for your own model.

# %%
import os

import numpy as np
import torch

import workbench as wb
from workbench.directions import place_of
from workbench.evaluation import cross_steering
from workbench.evaluation.agreement import REPLIES
from workbench.figures import geometry as draw

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
layer = model.cfg.n_layers * 2 // 3  # fixed before anything is read

# %% [markdown]
# ## The method on rows with a known answer
#
# No signal and one shared baseline: the naive cosine is .5, and the report says that there is nothing to compare.

# %%
g = torch.Generator().manual_seed(0)
baseline, harm, safety = torch.randn(3, 256, 128, generator=g)
noise = wb.compare_directions(harm=(harm, baseline), safety=(safety, baseline), seed=0)
print(f"naive {noise.naive_cosine:.2f}, null of this construction {noise.null['naive']:.2f}")
noise

# %% [markdown]
# The same with two directions at 120°.

# %%
a, b = torch.eye(128)[0], -0.5 * torch.eye(128)[0] + 0.75**0.5 * torch.eye(128)[1]
known = wb.compare_directions(harm=(harm + 4 * a, baseline), safety=(safety + 4 * b, baseline), seed=0)
known

# %% [markdown]
# How many prompts does a verdict need? Reliability and rank from a pilot determine it.

# %%
wb.geometry_power(cosine=-0.5, reliability=0.2, n=64, rank=60, ns=(32, 128, 512), runs=20)

# %% [markdown]
# ## A 2x2 on the model: harm of the request, safety of the claim
#
# Matched pairs of a harmful and a harmless request, each under a sentence that asks for every answer and under one that protects,
# read at the last token before the reply.

# %%
words = wb.choose_answers(model, REPLIES)  # first words of a refusal and of compliance that are single tokens
prompts = wb.prompts.factorial(answers=words)
acts = wb.capture(model, prompts, position="stem_last", logits="answers", progress=False)
rows = acts.rows
answers = wb.answers_of(acts)
answers.groupby(["input_harm", "claim"])["answer"].mean().rename("complies").to_frame()


# %%
def cells(layer):
    x, out, people = acts.layer(layer)[:, 0], {}, {}
    for h in (0, 1):
        for s in (0, 1):
            keep = ((rows["input_harm"] == h) & (rows["claim_harm"] == 1 - s)).to_numpy()
            out[h, s], people[h, s] = x[np.flatnonzero(keep)], rows["right"].to_numpy()[keep].tolist()
    return out, people


reports = {}
for k in acts.layers:
    x, people = cells(k)
    reports[k] = wb.factorial_geometry(x, ("input harm", "claim safety"), clusters=people, draws=200)
reports[layer]

# %%
table = wb.directions.table_of({k: r.reports["input harm", "claim safety"] for k, r in reports.items()}).assign(position="stem_last")
draw.angles(table, "Input harm and claim safety")

# %% [markdown]
# ## As information: erase one, read the other

# %%
concepts = {"input harm": rows["input_harm"], "claim safety": 1 - rows["claim_harm"]}
erased = wb.erase_and_reprobe(acts.layer(layer)[:, 0], concepts, groups=rows["right"]).assign(layer=layer)
draw.erasure(erased, layer)

# %% [markdown]
# ## As causes: push along one, read the other
#
# Directions come from one half of the pairs. Pushes, all at the same KL from the unpushed model, are applied on the other half.

# %%
last = acts.layers[-1]
half = rows["right"].isin(sorted(set(rows["right"]))[::2]).to_numpy()
found = {}
for name, side in (("harm", rows["input_harm"] == 1), ("safety", rows["claim_harm"] == 0)):
    for k in (layer, last):
        x, here = acts.layer(k)[:, 0], side.to_numpy()
        found[name, k] = wb.extract_direction(x[np.flatnonzero(half & here)], x[np.flatnonzero(half & ~here)], provenance=place_of(acts, k))
found["harm", layer], found["safety", layer]

# %%
test = prompts.subset(np.flatnonzero(~half)[::4])
pushed = cross_steering(
    model,
    test,
    {n: {layer: found[n, layer]} for n in ("harm", "safety")},
    {n: found[n, last] for n in ("harm", "safety")},
    read_layer=last,
    random=2,
    progress=False,
)
draw.cross(pushed, layer)

# %% [markdown]
# ## Comparison with another model

# %%
other = wb.load_model("udhr-organism-no-verdict")
statements = wb.prompts.udhr(n=96)
ours, theirs = (wb.capture(m, statements, progress=False) for m in (model, other))
draw.spaces(wb.compare_spaces(ours, theirs), "linear CKA")

# %% [markdown]
# ## Conclusion, as code

# %%
assert noise.verdict in ("refused", "undetermined"), "no signal, no verdict"
assert 0.4 < noise.naive_cosine < 0.6, "the naive cosine makes an angle out of a shared baseline"
assert known.verdict == "partly opposite"
if MODEL == "bundled":
    main = reports[layer].reports["input harm", "claim safety"]
    assert main.verdict == "partly aligned", "both make it refuse, and its reply is formed here"
    early = reports[0].reports["input harm", "claim safety"]
    assert early.verdict in ("refused", "undetermined"), "at layer 0 the last token knows little of the request"
    at = erased[(erased["method"] == "leace") & (erased["metric"] == "accuracy")].set_index(["erased", "read", "probe"])["value"]
    assert at["input harm", "claim safety", "linear"] > 0.9, "aligned, and yet one survives the erasure of the other"
    effect = pushed.set_index(["pushed", "kind", "read"])
    assert effect.loc[("harm", "add", "safety"), "low"] > effect.loc[("random", "add", "safety"), "high"], "a push along harm raises safety"

# %% [markdown]
# **What this does not show.** Both factors make this model refuse, and where the reply is formed their main effects necessarily point the
# same way: the alignment is one of their consequences. Harm itself would be represented at earlier layers and at the instruction's last token;
# `workbench run geometry` reads both positions. An angle describes these contrasts and one inner product.
