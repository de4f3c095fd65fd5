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
# # Can a weak teacher bring out what a strong model knows?
#
# **Question.** A probe on a weak model labels statements, and is wrong about some. A probe on a stronger model learns from these labels only. How much of the
# gap to the truth does it recover, and does it repeat its teacher's errors? (Burns et al. 2023, arXiv 2312.09390)
#
# **Controls.** The same student taught by the truth (the ceiling), by labels with as many errors at *random* places, and on an *untrained* copy, in which
# there is nothing to bring out. Where the ceiling is not told to be above the teacher, the share recovered is refused.
#
# `workbench run weak_to_strong --model weak=… --model strong=…` runs all of this with adapters, full fine-tuning, claims and other data, and writes a report.

# %%
import os

import numpy as np
import pandas as pd

import workbench as wb
from workbench.core.tables import units_of
from workbench.figures import weak_to_strong as draw
from workbench.probes import STUDENT_LOSSES
from workbench.prompts import udhr_split
from workbench.studies.weak_to_strong.counted import accuracies, repeated

MODEL = os.environ.get("WORKBENCH_MODEL", "udhr-organism-faint")
strong, weak = wb.load_model(MODEL), wb.load_model("udhr-organism-no-verdict")
split = udhr_split(strong, seed=0)

# %% [markdown]
# ## Who is shown what
#
# The teacher is taught the truth about some people and rights. It labels statements about others. Both are read on people and rights that neither met.

# %%
held = split.values("train")
cut = {c: len(v) // 3 for c, v in held.items()}
sides = {
    "teach": {c: v[: cut[c]] for c, v in held.items()},
    "train": {c: v[cut[c] :] for c, v in held.items()},
    "test": split.values("test"),
}


def read(model, side, layer, n=160):
    who = sides[side]
    prompts = wb.prompts.udhr(
        "base_short", n=n, seed=0, answers=wb.choose_answers(model), identities=who["identity"], rights=who["right"], chat=False
    )
    acts = wb.capture(model, prompts, layers=[layer], progress=False)
    x = acts.layer(layer)
    return x[:, 1], x[:, 0], np.array(acts.labels), acts.rows


WEAK, STRONG = 3, strong.cfg.n_layers * 2 // 3
yes, no, truth, _ = read(weak, "teach", WEAK, 100)
teacher = wb.fit_logistic(yes, no, truth, c=0.01)
yes, no, truth, _ = read(weak, "train", WEAK)
labels = 1 / (1 + np.exp(-teacher.score(yes, no)))
print(f"the teacher's labels are right on {((labels > 0.5) == truth).mean():.2f} of the statements that it labels")

# %% [markdown]
# ## Students

# %%
rng = np.random.default_rng(0)
wrong = rng.permutation((labels > 0.5) != truth)
given = {"truth": truth.astype(float), **dict.fromkeys(STUDENT_LOSSES, labels), "random errors": np.where(truth ^ wrong, 0.9, 0.1)}
yes, no, _, _ = read(strong, "train", STRONG)
students = {k: wb.fit_weak_labels(yes, no, t, loss=k if k in STUDENT_LOSSES else "plain", c=0.01) for k, t in given.items()}

yes, no, truth, rows = read(weak, "test", WEAK)
right = {("teacher", ""): teacher.predict(yes, no) == truth}
yes, no, truth, _ = read(strong, "test", STRONG)
right |= {("probe", k): p.predict(yes, no) == truth for k, p in students.items()}

copy = wb.untrained_copy(strong, seed=0)
seen, asked = read(copy, "train", STRONG), read(copy, "test", STRONG)
for k in ("truth", "plain"):
    probe = wb.fit_weak_labels(seen[0], seen[1], given[k], c=0.01)
    right["untrained copy", k] = probe.predict(asked[0], asked[1]) == truth

# %%
units = units_of(rows)
table = pd.DataFrame(accuracies("held out", right, units))
draw.accuracies(table)

# %%
draw.recovered(table)

# %%
table.query("metric == 'gap recovered'")[["student", "trained", "value", "low", "high", "n", "note"]].round(2)

# %% [markdown]
# ## Does the student repeat the teacher's errors?
#
# Where the teacher is wrong, how often does the student give the same answer? A student of equal accuracy whose errors had nothing to do with the teacher's
# would do so as often as it errs at all.

# %%
errors = pd.DataFrame(repeated("held out", right, units))
draw.repeated(errors)

# %% [markdown]
# ## Planted: errors that can be learnt, and errors that cannot
#
# The same statements, and a teacher who is wrong about one kind of right that the student can tell apart, or about as many at random.

# %%
n = 400
x, fact, trap = rng.standard_normal((n, 16)), rng.integers(0, 2, n), rng.random(n) < 0.3
x[:, 0] += 3 * (2 * fact - 1)
x[:, 1] += 3 * (2 * trap - 1)
half = np.arange(n) < n // 2
found = {}
for name, errs in {"learnable": trap & (fact == 1), "random": rng.permutation(trap & (fact == 1))}.items():
    said = np.where(fact ^ errs, 0.9, 0.1)
    probe = wb.fit_weak_labels(x[half], -x[half], said[half], c=1.0)
    student, judge = (probe.predict(x[~half], -x[~half]) == fact[~half], ~errs[~half])
    found[name] = wb.imitation(student, judge)
    print(f"{name} errors: excess agreement with the teacher's wrong answers {found[name].excess}")

# %%
assert found["learnable"].excess.low > 0.3, "errors that can be learnt are repeated"
assert found["random"].excess.low < 0 < found["random"].excess.high or found["random"].excess.value < 0.1, "errors at random are not"
twin = table.query("student == 'untrained copy' and metric == 'gap recovered'")
assert twin["value"].isna().all(), "where there is nothing to bring out, no share is given"
