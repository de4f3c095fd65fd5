"""Streamed statistics equal those of the activations kept, whatever the blocks, and lose no digits to a large mean."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.activations.statistics import Statistics
from workbench.core import errors


@pytest.mark.parametrize("block", [1, 5, 512])
@pytest.mark.parametrize("by", ["variant", "truth", "group"])
def test_equal_those_of_kept_activations(calm, branching, by, block):
    stats = wb.stream_statistics(calm, branching, by=by, layers=[0, 2], block_items=block, progress=False)
    acts = wb.capture(calm, branching, layers=[0, 2], progress=False)
    label = torch.tensor(acts.labels)
    for k, group in enumerate(stats.groups):
        rows = {
            "variant": lambda x, k=k: x[:, k],
            "truth": lambda x, k=k: x[torch.arange(len(x)), label if k else 1 - label],
            "group": lambda x, g=group: x[torch.tensor((acts.rows["group"] == g).tolist())].flatten(0, 1),
        }[by]
        for layer in (0, 2):
            x = rows(acts.layer(layer)).double().numpy()
            assert int(stats.count[k]) == len(x)
            np.testing.assert_allclose(stats.mean[k, stats.layers.index(layer)], x.mean(0), atol=1e-5)
            np.testing.assert_allclose(stats.covariance(layer, group), np.cov(x.T), atol=1e-4)
            np.testing.assert_allclose(stats.gram(layer, group), x.T @ x, rtol=1e-4, atol=1e-3)
    pooled = sum((stats.count[k] - 1) * stats.covariance(2, g) for k, g in enumerate(stats.groups)) / (
        stats.count.sum() - len(stats.groups)
    )
    np.testing.assert_allclose(stats.covariance(2), pooled)


def one(x, groups=("a",)):
    x = torch.as_tensor(x, dtype=torch.float64)
    mean = x.mean(0)
    return Statistics(
        groups=groups,
        count=torch.tensor([float(len(x))]),
        mean=mean[None, None],
        scatter=((x - mean).T @ (x - mean))[None, None],
        layers=(0,),
        site="resid_post",
        position="last",
        provenance={"prompts": "p"},
    )


def test_a_large_mean_costs_no_digits():
    x = np.random.default_rng(0).normal(size=(1000, 3)) + 1e7  # raw squares would keep 16 - 14 digits of the variance
    total = one(x[:10])
    for start in range(10, 1000, 90):
        total = total + one(x[start : start + 90])
    np.testing.assert_allclose(total.covariance(0, "a"), np.cov(x.T), rtol=1e-7)
    assert int(total.count[0]) == 1000


def test_every_token_and_every_head(calm, branching):
    stats = wb.stream_statistics(calm, branching, position="all", site="z", layers=[1], progress=False)
    acts = wb.capture(calm, branching, position="all", site="z", layers=[1], progress=False)
    x = acts.layer(1)[:, 1][acts.mask[:, 1]].flatten(1).double().numpy()
    assert int(stats.count[1]) == len(x)
    np.testing.assert_allclose(stats.covariance(1, "positive"), np.cov(x.T), atol=1e-4)


def test_bad_input(calm, branching):
    with pytest.raises(errors.MissingColumn, match="no column 'colour' to group by"):
        wb.stream_statistics(calm, branching, by="colour")
    stats = wb.stream_statistics(calm, branching, layers=[1], second=False, progress=False)
    with pytest.raises(errors.BadInput, match="second=True"):
        stats.covariance(1)
    with pytest.raises(errors.UnknownLayer, match="layer 0 was not read"):
        wb.stream_statistics(calm, branching, layers=[1], progress=False).gram(0, "negative")
    with pytest.raises(errors.UnknownName, match="no group named 'neutral'"):
        wb.stream_statistics(calm, branching, layers=[1], progress=False).gram(1, "neutral")
    with pytest.raises(errors.WrongModel, match="statistics of groups"):
        one([[1.0], [2.0]]) + one([[1.0], [2.0]], groups=("b",))
