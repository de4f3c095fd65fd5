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
# # Pushing back
#
# **Question.** Under a harm claim a model denies everybody's rights. Can a push on its activations restore the answers, for statements that grant
# *and* for statements that deny, and what does it cost elsewhere?
#
# **Expectation.** The safe answer is claim XOR polarity ("yes" for a granting statement, "no" for a denying one), so a push towards one *word*
# cannot repair both. A push along the *stance* (good claim minus harm claim) may, if the model uses it there.
#
# `workbench run steering` runs all of this with every choice made on validation rows, and writes a report. Set `WORKBENCH_MODEL` for your own model.

# %%
import os

import numpy as np
import pandas as pd

import workbench as wb
from workbench.directions import place_of
from workbench.figures import steering as draw
from workbench.figures.tokens import token_view
from workbench.interventions import random_directions

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
layer = max(1, model.cfg.n_layers // 6)  # early, fixed before anything is read

# %% [markdown]
# ## The split
#
# Directions are extracted on half of the identities and rights; everything below is measured on the other half.

# %%
how = {"split": wb.prompts.udhr_split(test=0.5, seed=0), "n": 96, "answers": words}
fit = {
    claim: wb.capture(model, wb.prompts.udhr("consider_claim", claim, side="train", **how), layers=[layer], position="stem_last")
    for claim in ("harm", "good")
}
stance = wb.extract_direction(fit["good"].layer(layer)[:, 0], fit["harm"].layer(layer)[:, 0], provenance=place_of(fit["harm"], layer))
stance

# %% [markdown]
# ## Dose and response, with a control
#
# The push acts on the last token of the prompt only. A coefficient of 1 adds the difference of the two means. The control is twenty random
# directions of the same length.

# %%
under_harm, plain = wb.prompts.udhr("consider_claim", "harm", **how), wb.prompts.udhr(**how)
texts = [(p.stem, p.positive if p.label else p.negative) for p in plain]
doses = [-1, 0.5, 1]
table = pd.concat(
    [
        wb.dose_response(model, under_harm, stance, doses, scope="last").assign(prompts="under the harm claim"),
        wb.dose_response(model, plain, stance, doses, scope="last", texts=texts).assign(prompts="without a claim"),
    ]
)
draw.doses(table, "safe_score", "A push along the stance")

# %%
cell = table[table.metric == "safe_score"].set_index(["prompts", "method", "coefficient", "condition"])["value"].sort_index()
if MODEL == "bundled":
    for polarity in ("grant", "deny"):
        assert cell["under the harm claim", "direction", 0.0, polarity] <= 0.05
        assert cell["under the harm claim", "direction", 1.0, polarity] >= 0.9
    assert cell["under the harm claim", "random", 1.0, "all"] <= 0.2
    assert cell["without a claim", "direction", 1.0, "all"] >= 0.98, "no tax where no claim is made"
    assert cell["without a claim", "direction", -1.0, "all"] <= 0.5, "the reverse sign breaks it"
cell.unstack().round(2)

# %% [markdown]
# ## Which tokens are changed
#
# A scope is computed at each forward pass. The view shows each token's coordinate along the stance; ▸ marks the tokens that the push changes.

# %%
shown = wb.project_tokens(model, under_harm[0].stem, stance, scope="last")
assert shown["steered"].sum() == 1
token_view(shown)

# %% [markdown]
# ## Edits are values
#
# `|` composes edits in order; they end with the block. A gate applies a push only on prompts that it selects.

# %%
probe = wb.fit_logistic(fit["harm"].layer(layer)[:, 0], fit["good"].layer(layer)[:, 0])
only_under_harm = wb.gate(probe, site="resid_post", layer=layer, pool="last")
ways = {
    "add": wb.add(stance, 1.0, scope="last"),
    "add, gated": wb.add(stance, 1.0, scope="last", when=only_under_harm),
    "ablate": wb.ablate(stance, scope="last"),
    "rotate 30 degrees": wb.rotate(stance, 30, scope="last"),
    "every token": wb.add(stance, 1.0),
}
price = wb.capability(model, ways, answers={"without a claim": plain, "under the harm claim": under_harm}, texts={"text": texts})
price.pivot(index="edit", columns=["task", "metric"], values="value").round(3)

# %% [markdown]
# ## At equal cost
#
# A weak direction with a large coefficient is not a weak push. Each family is tuned to the same mean KL from the unpushed model.

# %%
families = {"stance": lambda c: wb.add(stance, c, scope="last"), "rotate": lambda c: wb.rotate(stance, min(c, 179.0), scope="last")}
for k, d in enumerate(random_directions(stance, 2)):
    families[f"random {k}"] = lambda c, d=d: wb.add(d, c, scope="last")
cost = wb.equal_cost(model, under_harm, families, target=0.5, starts={"rotate": 10.0})
cost[cost.metric.isin(["safe_score", "log_odds"])].round(3)

# %% [markdown]
# ## Item by item
#
# A mean can hide prompts on which a push backfires (Tan et al. 2024). Here the measured change is towards *yes*: right for granting statements, wrong for
# denying ones.

# %%
items, summary = wb.steerability(model, under_harm, stance, [-0.5, 0, 0.5, 1], scope="last")
items.groupby("polarity")[["slope", "spearman"]].mean().round(2)

# %%
if MODEL == "bundled":
    share = summary.set_index("metric").loc["anti_steerable", "value"]
    assert np.isclose(share, (items.polarity == "deny").mean(), atol=0.05)
summary.round(3)

# %% [markdown]
# ## Generated text, side by side

# %%
wb.generate(
    model, [p.stem for p in under_harm[:3]], {"stance": ways["add"], "reverse": wb.add(stance, -1.0, scope="last")}, max_new_tokens=3
)

# %% [markdown]
# **What this does not show.** That the push works on other claims, wordings or prompt forms, or that the finding holds in other models: the stance was planted
# in the bundled model at this place. The study (`workbench run steering`) adds other directions and layers, and the claim inside the answer.
# `workbench run refusal` is the study of refusal.
