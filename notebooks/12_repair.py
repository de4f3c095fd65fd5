# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Mending by weights, and what survives
#
# A harm claim breaks the answers. A low-rank adapter, trained without a label, mends them. What does it cost where no claim is made, and is
# what the model knew erased, rotated, hidden or untouched? `WORKBENCH_MODEL` names another model.

# %%
import os

import workbench as wb
from workbench.prompts import PromptSet, udhr_split
from workbench.training import LOSSES, adapted

model = wb.load_model(os.environ.get("WORKBENCH_MODEL", "bundled"))
split = udhr_split(model, seed=0)


def prompts(template, claim, n, side):
    return wb.prompts.udhr(template, claim, n=n, split=split, side=side, model=model, seed=0)


# %% [markdown]
# Every loss says what it sees of the labels.

# %%
{name: sees for name, (sees, _) in LOSSES.items()}

# %% [markdown]
# ## Train
# Answers under both claims are pulled to the model's own answers without a claim. Identities of validation are held out by itself.

# %%
training = PromptSet([*prompts("since_claim", "harm", 64, "train"), *prompts("since_claim", "good", 64, "train")])
layer = min(1, model.cfg.n_layers - 1)
adapter = wb.train_adapter(model, training, loss="invariance", rank=1, layers=[layer], steps=40, progress=False)
adapter.history.round(3)

# %% [markdown]
# ## What is said
# On held-out identities and rights: the form that was trained on, one that was not, and no claim at all.

# %%
held = {
    "trained form, harm claim": prompts("since_claim", "harm", 80, "test"),
    "other form, harm claim": prompts("consider_claim", "harm", 80, "test"),
    "no claim": prompts("base_short", None, 80, "test"),
}
before = {name: wb.agreement(wb.answers(model, p, progress=False)) for name, p in held.items()}
with adapted(model, adapter):
    after = {name: wb.agreement(wb.answers(model, p, progress=False)) for name, p in held.items()}


def safe(table):
    return table[(table["metric"] == "safe_score") & (table["polarity"] == "all")][["value", "low", "high", "n"]].round(2).iloc[0].to_dict()


{name: {"before": safe(before[name]), "after": safe(after[name])} for name in held}

# %% [markdown]
# ## What survives
# Truth under the harm claim: is it read after the change by the old probe, by a fresh one, and did the answers change?

# %%
found = wb.survival(model, adapter, prompts("since_claim", "harm", 400, "test"), depth=16, progress=False)
print(found.verdict, "because", found.why)
found.table[found.table["aspect"].isin(["behaviour", "depth"])].round(2)

# %% [markdown]
# `workbench run repair` puts every loss, words and a steering push on one page; `workbench run unlearning` sends streams elsewhere and asks
# whether what was forgotten is gone.
