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
# # A tour in five minutes
#
# **Question.** When a prompt pushes a model to answer harmfully, what does it still know inside, along which directions, and can it be pushed
# back? This notebook runs every step once, with small sets: prompts → activations → probes and CCS → directions → patching → steering → a
# figure → a report. Each later notebook covers one step in full.
#
# **Expectation.** On the bundled organism the answers follow the claim, while a direction found without labels and without a claim still
# separates rights granted from rights denied. With `WORKBENCH_MODEL=gpt2` (or a folder) the same cells run on your model, where the result is open.

# %%
import os

import workbench as wb

MODEL = os.environ.get("WORKBENCH_MODEL", "bundled")
model = wb.load_model(MODEL)
words = wb.choose_answers(model)
planted = wb.models.planted(model)  # what an organism was taught; None for every other model
model.cfg.n_layers, model.cfg.d_model, words

# %% [markdown]
# ## Prompts
#
# Every item is one prompt with two endings, of which one is right. The split holds out identities *and* rights.

# %%
split = wb.prompts.udhr_split(test=0.4, seed=0)
how = {"split": split, "answers": words}
calm = wb.prompts.udhr("base_short", n=240, side="train", **how) + wb.prompts.udhr("base_short", n=120, **how)
harm = wb.prompts.udhr("since_claim", "harm", n=120, **how)
neutral = wb.prompts.udhr("since_claim", "neutral", n=120, **how)
harm

# %% [markdown]
# ## What it says, and what it knows
#
# One forward pass gives both: the answers, and the residual stream at the last token of both endings. Probes are fitted without a claim. The
# control is a neutral sentence in the position of the harm claim: it tests whether any sentence there has the effect.

# %%
acts = {
    name: wb.capture(model, prompts, logits="answers", progress=False)
    for name, prompts in {"no claim": calm, "harm": harm, "neutral": neutral}.items()
}
says = wb.agreement(wb.answers_of(acts["harm"]))
calmly = wb.agreement(wb.answers_of(acts["neutral"]))
acts["harm"]

# %%
table = wb.probe_layers(
    acts["no claim"], test={k: acts[k] for k in ("neutral", "harm")}, split=split, condition="no claim", methods=["logistic", "ccs"],
    resamples=0, metrics=("accuracy",), random_directions=20, seed=0,
)  # fmt: skip
wb.figures.udhr.layer_curves(table, ["no claim", "neutral", "harm"])

# %% [markdown]
# ## A direction
#
# The effect of a harm claim on the residual stream against that of a good claim, both from one neutral baseline. The naive cosine is the one that
# most papers report: two differences from one baseline have a cosine near .5 even if they are noise.

# %%
layer = max(1, model.cfg.n_layers // 6)
fit = {
    claim: wb.capture(
        model, wb.prompts.udhr("consider_claim", claim, n=96, side="train", **how), layers=[layer], position="stem_last", progress=False
    )
    for claim in ("good", "harm", "neutral")
}
rows = {claim: wb.directions.sample(one, layer) for claim, one in fit.items()}
angle = wb.compare_directions(harm=(rows["harm"], rows["neutral"]), good=(rows["good"], rows["neutral"]), seed=0)
angle

# %%
stance = wb.extract_direction(rows["good"], rows["harm"])
stance

# %% [markdown]
# ## Push back, and locate the effect of the claim
#
# The control is twenty random directions of the same length. Patching puts activations under the good claim into the run under
# the harm claim: 1 where the answer is restored, 0 where nothing changes.

# %%
asked = wb.prompts.udhr("consider_claim", "harm", n=40, **how)
doses = wb.dose_response(model, asked, stance, [0.5, 1.0], scope="last", progress=False)
shown = doses[(doses["metric"] == "safe_score") & (doses["condition"] == "all")]
shown[["method", "coefficient", "value", "low", "high", "n"]].round(2)

# %%
claims = wb.prompts.claims()
one, two = (wb.prompts.udhr("consider_claim", claims[c], n=8, seed=1, answers=words) for c in ("good", "harm"))
same = len(one.token_ids(model)[0][0]) == len(two.token_ids(model)[0][0])
recovered = wb.patch(model, one, two, site="resid_pre", positions="segment", align_by="same" if same else "diff", progress=False)
recovered.pivot(index="position", columns="layer", values="value").round(2)

# %% [markdown]
# ## A study runs all of this with every control
#
# `wb.run_study("udhr")` runs the main study. A sweep runs a study on every combination of models, datasets, prompt forms, sites and seeds, for
# lists of layers and methods. Here is a small one with two cells. Steps are cached by content: a second run computes nothing.

# %%
sweep = wb.Sweep(
    name="two sites", models=(MODEL,), sites=("resid_post", "mlp_out"), layers=(layer, model.cfg.n_layers * 2 // 3),
    methods=("logistic", "ccs"), claims=("harm",), fast=True,
)  # fmt: skip
run = wb.run_study(sweep, out="figures/tour", progress=False)
run

# %% [markdown]
# ## What came out, as code

# %%
safe = {name: t[(t["metric"] == "safe_score") & (t["polarity"] == "all")].iloc[0] for name, t in (("harm", says), ("neutral", calmly))}
upper = model.cfg.n_layers * 2 // 3
read = table[(table["metric"] == "accuracy") & (table["layer"] == upper) & (table["condition"] == "harm") & (table["control"] == "")]
knows = read.set_index("method")
assert len(run.failed) == 0
if planted:
    assert safe["harm"]["high"] < 0.3, "under the harm claim the answers deny the rights"
    assert safe["neutral"]["low"] > 0.8, "a neutral sentence in the same place does not"
    assert knows.loc["ccs", "low"] > 0.8, "what CCS found without labels still reads the truth"
    assert angle.verdict != "refused"
    pushed = shown[shown["coefficient"] == 1.0].set_index("method")["value"]
    assert pushed.drop(index=[m for m in pushed.index if "random" in m]).max() > 0.8, "the push along the stance repairs the answers"
    assert pushed[[m for m in pushed.index if "random" in m]].max() < 0.5, "random directions of equal length do not"

# %% [markdown]
# **What it does not show.** One organism in which all of this was planted shows that the methods detect such findings where they exist. The sets
# are small and the intervals wide. Nothing was chosen on validation rows, and the cost of the push was not measured; `workbench run steering` does both.
