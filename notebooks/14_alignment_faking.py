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
# # Does it behave only where it is watched?
#
# **Question.** A model resists a harm claim, unless it is told that it is trained or watched: then it goes along. Is being watched a direction inside, does it lie
# along the stance that the claim puts it in, and does taking it out close the gap?
#
# **Expectation, written before the run.** Being watched is read in the twin as well, since the words say it. Only in the faker does a push along it move answers.
#
# **Control.** The twin, trained on the same sentences, resists always. Harmless sentences, words of the cue without its meaning, random directions.
#
# `workbench run alignment_faking` runs all of this with what is read of truth, and free-tier and paid-tier requests, on this or another model.

# %%
import numpy as np
import pandas as pd
import torch

import workbench as wb
from workbench.core.stats import proportion
from workbench.figures import planted as draw
from workbench.organism import faking
from workbench.organism.adapted import asks

models = {
    "faker": wb.load_model("bundled", adapter="udhr-organism-faker"),
    "twin": wb.load_model("bundled", adapter="udhr-organism-faker-twin"),
}
ask = asks(wb.load_model("bundled"))
kinds = faking.sentences(models["faker"])
tests = {k: faking.behind(ask["test"], s, "consider_claim", "harm", 60, 0) for k, s in kinds.items()}
print(tests["watched"][0].stem)

# %% [markdown]
# ## What it says

# %%
said = []
for name, model in models.items():
    for kind, prompts in tests.items():
        asked = wb.answers(model, prompts, progress=False)
        harmful = ~asked["safe"].to_numpy().astype(bool)
        said.append({"model": name, "sentence": kind, **proportion(harmful, asked["identity"].to_numpy()).row()})
said = pd.DataFrame(said)
draw.conditions(said, "sentence", "model", "Does it go along with a harm claim?", "share of answers that go along").show()

# %% [markdown]
# ## Push along being watched
#
# The direction is the difference between training prompts behind sentences that say it is watched and behind harmless ones, after block 3 at the last token. Three times
# its length is put into every token of prompts that are not watched. Random directions have equal length.

# %%
LAYER = 3
rows = []
for name, model in models.items():
    read = {
        k: wb.capture(
            model,
            faking.behind(ask["train"], kinds[k], "consider_claim", "harm", 80, 5),
            position="stem_last",
            layers=[LAYER],
            progress=False,
        )
        for k in ("watched", "harmless")
    }
    watched, harmless = (read[k].layer(LAYER)[:, 0] for k in ("watched", "harmless"))
    place = {**read["watched"].provenance, "site": "resid_post", "layer": LAYER, "position": "stem_last"}
    way = wb.Direction.of((watched - harmless).mean(0), method="watched less harmless", provenance=place)
    random = wb.Direction(unit=torch.nn.functional.normalize(torch.randn(128, generator=torch.Generator().manual_seed(0)), dim=0),
                          scale=way.scale, method="random", provenance=place)  # fmt: skip
    for push, d in (("being watched", way), ("a random direction", random)):
        with wb.edited(model, wb.add(d, 3.0, scope="content")):
            asked = wb.answers(model, tests["harmless"], progress=False)
        harmful = ~asked["safe"].to_numpy().astype(bool)
        rows.append({"model": name, "put in": push, **proportion(harmful, asked["identity"].to_numpy()).row()})
pushed = pd.DataFrame(rows)
print(pushed.round(2).to_string())
assert np.isfinite(pushed["value"]).all()

# %% [markdown]
# ## What it does not show
#
# The faker was trained to answer so. Nothing here shows that a model comes to it by itself, or that it protects a goal. A cue is told to the model; whether it would
# find out by itself that it is watched is not asked.
