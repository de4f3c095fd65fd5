"""Controls hold their level: the range of draws, and labels that are permuted within identities on both sides."""

import numpy as np
import pytest
from made import activations

import workbench as wb
from workbench.core import errors
from workbench.core.nulls import central
from workbench.core.seeds import numpy_rng
from workbench.core.stats import wilson
from workbench.probes.shuffled import permuted


@pytest.mark.parametrize("draws", [19, 20, 39, 50, 199])
def test_the_range_of_draws_holds_a_further_one_as_often_as_it_says(draws):
    """Interpolated quantiles hold 87 % at 20 draws, 91 % at 39 and at 50."""
    x = numpy_rng(0, draws).standard_normal((3000, draws + 1))
    inside, level = 0, 0.0
    for one in x:
        part = central(one[1:])
        inside, level = inside + (part.low <= one[0] <= part.high), part.level
    low, high = wilson(int(inside), len(x), 0.998)
    assert low <= level <= high
    assert level >= 0.95 or draws < 39


def test_the_range_of_draws_says_what_it_is():
    assert (central(range(39)).low, central(range(39)).high) == (0, 38)
    assert (central(range(199)).low, central(range(199)).high) == (4, 194)
    assert central(range(199)).note == "middle and central 95 % of 199 draws"
    assert central(range(20)).note == "middle, least and most of 20 draws: a further one lies between in 90.5 %"
    assert central([0.3]).level == 0
    for draws, level in (([], 0.95), ([1.0], 1.0)):
        with pytest.raises(errors.BadInput, match="one draw at least"):
            central(draws, level)


def test_labels_stay_within_their_identity_and_lone_labels_move_with_it():
    people = np.repeat(np.arange(8), 6)
    labels = np.r_[np.tile([0, 1, 1, 0, 1, 1], 4), np.repeat([0, 1, 0, 1], 6)]  # the last four have one label each
    seen = set()
    for k in range(20):
        new = permuted(labels, people, numpy_rng(k))
        sums = [int(new[people == p].sum()) for p in range(8)]
        assert sums[:4] == [4] * 4
        assert sorted(sums[4:]) == [0, 0, 6, 6]
        seen.add((tuple(new[:24]), tuple(sums[4:])))
    assert len(seen) > 10
    assert len({s for _, s in seen}) > 2


def test_shuffled_labels_stay_about_one_half_where_truth_is_strong():
    """Training labels alone, read against the true ones, gave 0 to 1 here."""
    acts = activations(n_identities=30, n_rights=8, signal=12.0)
    methods = ["logistic", "lda", "knn", "ccs"]
    table = wb.probe_layers(acts, methods=methods, controls=["shuffled_labels"], resamples=0, ccs_options={"epochs": 200})
    real = table[(table["control"] == "") & (table["metric"] == "accuracy") & (table["layer"] == 1)].set_index("method")["value"]
    null = table[(table["control"] == "shuffled_labels") & (table["layer"] == 1)].set_index("method")
    assert set(null.index) == set(methods)
    assert (real > 0.95).all()
    assert (null["high"] < 0.8).all()
    assert (null["low"] > 0.2).all()
    assert null["note"].str.contains("19 draws").all()
    assert null["note"].str.endswith("p = 0.05").all()


def test_shuffled_labels_call_noise_noise():
    """The labels of layer 0 say nothing: p = .05 in 5 % of data sets; 8 of 40 or more have probability .0008."""
    small = 0
    for k in range(40):
        acts = activations(n_identities=12, n_rights=6, seed=k, layers=2).where(layers=[0])
        table = wb.probe_layers(acts, methods=["mass_mean"], controls=["shuffled_labels"], resamples=0, check_labels=False)
        small += table.loc[table["control"] == "shuffled_labels", "note"].iloc[0].endswith("p = 0.05")
    assert small <= 7
