"""Fitted on some surface forms, read on others: truth that carries over, truth that does not, and what being right varies with."""

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadInput
from workbench.core.seeds import numpy_rng
from workbench.probes import read_surfaces
from workbench.prompts import grouped_split

FORMS = ["plain", "negator", "passive", "question"]


def planted(own=0.0, shared=3.0, shift=0.0, people=40, bare=()):
    """Pairs whose truth stands along a shared direction (but in bare forms), and along one of each half of the forms."""
    cells = [(f"p{i}", f"r{k}", f, (i + k) % 2) for i in range(people) for k in range(8) for f in FORMS]
    rows = pd.DataFrame(cells, columns=["identity", "right", "surface", "label"])
    half = np.array([FORMS.index(f) % 2 for f in rows["surface"]])
    values = numpy_rng(7, "surfaces").standard_normal((len(rows), 2, 2, 6)) * 0.7
    sign = np.stack([1 - 2 * rows["label"], 2 * rows["label"] - 1], 1)  # item x variant
    values[:, :, :, 0] += (shared * sign / 2)[:, :, None] * ~rows["surface"].isin(bare).to_numpy()[:, None, None]
    for k in (0, 1):
        values[half == k, :, :, 1 + k] += (own * sign / 2)[half == k][:, :, None]
    values[half == 1, 1, :, 0] += shift
    given = {"layers": [0, 1], "site": "resid_post", "position": "last", "rows": rows}
    return wb.Activations(values=torch.tensor(values).float(), **given)


def read(acts, **more):
    split = grouped_split(acts.rows, test=0.4, seed=0)
    return read_surfaces(acts, split=split, methods=("logistic",), **more)


def at(table, reading, metric, surface="all", layer=1):
    here = table[(table.reading == reading) & (table.metric == metric) & (table.surface == surface) & (table.layer == layer)]
    assert len(here) == 1
    return here.iloc[0]


def test_shared_truth_carries_over():
    table, parts = read(planted())
    assert at(table, "unseen", "auroc").low > 0.75
    less = at(table, "unseen - seen", "auroc")
    assert less.low <= 0 <= less.high
    assert set(table.surface) == {"all", *FORMS}
    assert parts.set_index("factor").share["rest"] > 0.9


def test_truth_that_each_half_has_for_itself_does_not():
    table, _ = read(planted(own=4.0, shared=0.0))
    assert at(table, "seen", "auroc").low > 0.75
    new = at(table, "unseen", "auroc")
    assert new.low <= 0.5 <= new.high
    assert at(table, "unseen - seen", "auroc").high < -0.3
    for form in FORMS:
        assert at(table, "unseen", "accuracy", form).value < 0.7


def test_a_shift_takes_the_threshold_and_leaves_the_order():
    table, parts = read(planted(shift=12.0))
    assert at(table, "unseen", "auroc").low > 0.75
    assert at(table, "unseen", "accuracy").high < 0.75
    assert at(table, "unseen", "accuracy_centred").low > 0.8
    assert parts.set_index("factor").share["rest"] > 0.5


def test_being_right_varies_with_the_form_where_only_some_forms_are_read():
    _, parts = read(planted(bare=("negator", "passive")))
    parts = parts.set_index("factor")
    assert parts.low["surface"] > 0
    assert parts.share["surface"] > 5 * max(parts.share[["identity", "right", "layer", "seed"]])


def test_bad_input_is_told():
    acts = planted(people=8)
    one = acts.subset((acts.rows["surface"] == "plain").to_numpy())
    split = grouped_split(acts.rows, test=0.4, seed=0)
    with pytest.raises(BadInput, match="no two surface forms"):
        read_surfaces(one, split=split)
    with pytest.raises(BadInput, match="seeds=1"):
        read_surfaces(acts, split=split, seeds=1)
