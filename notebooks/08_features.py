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
# # What is a direction made of?
#
# **Question.** Which latents of a dictionary make up the stance direction (good claim minus harm claim), and do they do what it does?
#
# **Method.** A dictionary (sparse autoencoder) of the stream gives one direction per latent. The direction is decomposed into these by orthogonal matching
# pursuit, with coefficients of either sign. It does not go through the encoder, which was trained on activations and not on differences of them
# (Mayne et al. 2024, arXiv 2411.08790). Controls: random directions, shuffled labels, permuted dictionaries.
#
# `workbench run features` trains dictionaries and writes a report. Here the dictionary of the bundled model is used: SAELens is not needed.

# %%
import pandas as pd
import torch

import workbench as wb
from workbench.core.tables import pick
from workbench.directions import place_of
from workbench.features import bootstrap_directions, latent_tokens, read_streams, shuffled_directions, top_contexts
from workbench.figures import features as draw

model = wb.load_model("bundled")
sae = wb.Dictionary.load("bundled", model=model)
layer = sae.provenance["layer"]
sae

# %% [markdown]
# ## The direction
#
# The same statements under both claims, at the last token of the prompt.

# %%
words = wb.choose_answers(model)
split = wb.prompts.udhr_split(model)
how = {"n": 64, "side": "train", "split": split, "answers": words}
acts = {
    claim: wb.capture(model, wb.prompts.udhr("consider_claim", claim, **how), layers=[layer], position="stem_last", progress=False)
    for claim in ("good", "harm")
}
good, harm = (acts[claim].layer(layer)[:, 0] for claim in ("good", "harm"))
people, where = acts["good"].rows["identity"].to_numpy(), place_of(acts["good"], layer)
stance = wb.Direction.of((good - harm).mean(0), method="stance", n=len(good), provenance=where)
stance

# %% [markdown]
# ## Its latents

# %%
parts = wb.decompose(
    stance,
    sae,
    random=39,
    resampled=bootstrap_directions(good, harm, people, provenance=where),
    shuffled=shuffled_directions(good, harm, people, provenance=where),
)
parts.parts.round(3)

# %%
explained = pick(parts.table, metric="explained").assign(direction="stance")
draw.explained(explained)

# %% [markdown]
# ## Where they act, and which tokens they point at

# %%
texts = wb.prompts.udhr("consider_claim", "harm", **how) + wb.prompts.udhr("consider_claim", "good", **how)
streams = read_streams(model, texts, layer=layer, progress=False)
some = list(parts.chosen[:3])
top_contexts(model, sae, streams, some, k=3)

# %%
latent_tokens(model, sae, some, k=3).round(2)

# %% [markdown]
# ## Do they do what the direction does?
#
# Held-out statements under the harm claim: add the direction, the part that its latents make up, and what they leave.

# %%
made = torch.tensor(parts.parts["coefficient"].to_numpy()).float() @ torch.nn.functional.normalize(sae.decoder, dim=1)[list(parts.chosen)]
inside = wb.Direction.of(made, method="its latents", provenance=where)
rest = wb.Direction.of(stance.vector - made, method="the rest", provenance=where)
held = wb.prompts.udhr("consider_claim", "harm", n=40, split=split, answers=words)
safe = {}
for name, direction in {"nothing": None, "the direction": stance, "its latents": inside, "the rest": rest}.items():
    with wb.edited(model, [] if direction is None else wb.add(direction)):
        asked = wb.agreement(wb.answers(model, held, progress=False))
    safe[name] = pick(asked, metric="safe_score", polarity="all").assign(added=name)
pd.concat(safe.values())[["added", "value", "low", "high", "n"]].round(2)

# %% [markdown]
# ## What came out, as code

# %%
at = pick(explained, latents=8).set_index("subject")
for control in ("random directions", "permuted dictionary", "shuffled labels"):
    assert at.loc["direction", "low"] > at.loc[control, "high"], f"eight latents explain more of stance than of {control}"
share = {name: table["value"].iloc[0] for name, table in safe.items()}
assert share["nothing"] < 0.5 < share["its latents"], "the latents of stance bring the safe answers back"
assert share["its latents"] - share["the rest"] > 0.3, "what they leave does less"

# %% [markdown]
# **What this does not show.** Another dictionary has other latents: the study says how many of them come back in dictionaries of other seeds. A latent
# has no meaning beyond where it acts and what a push along it does.
