"""Fits are kept within a block, by the content of all that they depend on."""

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core.remember import remembered, remembering


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.bfloat16)),
        (np.arange(3), np.arange(3.0)),
        ({"c": 1.0}, {"c": 2.0}),
        ({"groups": ["a", "b"]}, {"groups": ["ab"]}),
        ([1, 2], (1, 2)),
        ([[1], [2]], [[1, 2]]),
        (True, 1),
        ("1", 1),
    ],
)
def test_a_fit_is_made_again_for_other_content(one, other):
    made = []
    with remembering():
        for about in (one, other, one, other):
            remembered(lambda: made.append(1), "logistic", about)
    assert len(made) == 2


def test_outside_a_block_and_for_functions_nothing_is_kept():
    made = []
    for _ in range(2):
        remembered(lambda: made.append(1), "logistic", 1)
    with remembering():
        for _ in range(2):
            remembered(lambda: made.append(1), len, 1)
            remembered(lambda: made.append(1), "logistic", {"loss": len})
    assert len(made) == 6


@pytest.mark.parametrize("method", ["logistic", "mass_mean", "ccs", "ccs:mlp", "crc"])
def test_what_is_kept_is_what_would_be_fitted_whatever_the_labels(method):
    values = torch.randn(60, 2, 1, 8, generator=torch.Generator().manual_seed(0))
    labels = np.arange(60) % 2
    values[range(60), labels, 0, 3] += 3

    def acts(labels):
        rows = pd.DataFrame({"identity": [f"i{k // 4}" for k in range(60)], "label": labels})
        return wb.Activations(values=values, layers=[0], site="resid_post", position="last", rows=rows)

    alone = [wb.probes.fit_layers(acts(y), method, seed=1).scores(acts(y), 0) for y in (labels, 1 - labels)]
    with remembering():
        kept = [wb.probes.fit_layers(acts(y), method, seed=1).scores(acts(y), 0) for y in (labels, 1 - labels, labels)]
    for a, b in zip((*alone, alone[0]), kept, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(alone[0], alone[1])
