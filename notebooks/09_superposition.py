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
# # Toy models of superposition
#
# **Question.** When do more features than dimensions fit into a model, and how do they lie there?
#
# **Method.** A toy gives n features back through m < n dimensions, $x' = \mathrm{ReLU}(W^T W x + b)$ (Elhage et al. 2022, arXiv 2209.10652). All instances of
# a grid are trained as one batch; a linear model beside it is the control.
#
# `workbench run superposition` runs the whole grid and writes a report.

# %%
from workbench.core.tables import pick
from workbench.features import superposition as toys
from workbench.features.toys import crossed, train_toys
from workbench.figures import superposition as draw

# %% [markdown]
# ## Sparse features share dimensions
#
# Twelve features of falling importance in three dimensions.

# %%
falling = [0.7**k for k in range(12)]
trained = train_toys(crossed([0.0, 0.9, 0.99], [falling], activations=("relu", "linear"), seeds=4), 3, steps=1000, progress=False)
counts = toys.count_table(trained)
pick(counts, metric="represented").round(2)

# %%
features, example = toys.feature_table(trained), toys.gram_table(trained)
draw.gram(pick(example, activation="relu"), features)

# %% [markdown]
# ## Digons, then a pentagon
#
# Five equally important features in two dimensions. A replicate is the best of four starts, by its loss on fresh examples.

# %%
equal = train_toys(crossed([0.0, 0.6, 0.9], [[1.0] * 5], seeds=16), 2, steps=1000, batch=128, progress=False)
arranged = toys.arrangement_table(equal, restarts=4)
draw.arrangements(arranged.assign(panel="5 features, 2 dimensions, ReLU"))

# %% [markdown]
# ## What came out, as code

# %%
represented = pick(counts, metric="represented").set_index(["activation", "sparsity"])["value"]
assert (represented["linear"].round() == 3).all(), "a linear model has room for three"
assert round(represented["relu", 0.0]) == 3, "and so has a ReLU model without sparsity"
assert represented["relu", 0.99] > 3.5, "sparse features share"
shares = arranged.set_index(["sparsity", "arrangement"])["value"]
assert shares[0.6, "digon"] > 0.5
assert shares[0.9, "pentagon"] > 0.5

# %% [markdown]
# **What this does not show.** That features of a language model lie as those of a toy do.
