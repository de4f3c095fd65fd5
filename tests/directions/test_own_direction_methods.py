"""A direction method of one's own: found where one is planted, not in noise, and refused in words."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.directions import Sample, direction_efficiency


def rows(signal, seed=0, n=200, d=16):
    x, y = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
    return x + signal * torch.eye(d)[3], y


def medians(positive, negative):
    return positive.median(0).values - negative.median(0).values


def numpy_medians(positive, negative):
    return np.median(positive, 0) - np.median(negative, 0)


def seeded(positive, negative, seed):
    pick = torch.randperm(len(positive), generator=torch.Generator().manual_seed(seed))[: len(positive) // 2]
    return positive[pick].mean(0) - negative.mean(0)


@pytest.mark.parametrize("method", [medians, numpy_medians, seeded], ids=lambda m: m.__name__)
def test_a_planted_direction_is_found_and_none_in_noise(method):
    d = wb.extract_direction(*rows(4.0), method=method, seed=1)
    assert d.method == method.__name__
    assert float(d.unit[3]) > 0.95
    assert d.scale == pytest.approx(4.0, abs=0.6)
    assert d.reliability > 0.8
    null = wb.extract_direction(*rows(0.0), method=method, seed=1)
    assert abs(null.reliability) < 0.5


def test_a_method_of_ones_own_equals_the_built_in_one_bit_by_bit():
    def means(positive, negative):
        return positive.double().mean(0) - negative.double().mean(0)

    x, y = rows(2.0)
    ours, theirs = wb.extract_direction(x, y, method=means), wb.extract_direction(x, y)
    assert torch.equal(ours.unit, theirs.unit)
    assert (ours.scale, ours.reliability) == (theirs.scale, theirs.reliability)


def test_samples_and_efficiency_take_it():
    x, y = rows(4.0)
    names = [str(i) for i in range(len(x))]
    place = {"site": "resid_post", "layer": 2, "position": "last"}
    samples = [Sample(rows=v, items=names, clusters=names, place=place) for v in (x, y)]
    assert wb.extract_direction(*samples, method=medians).provenance["layer"] == 2
    table = direction_efficiency(x, y, methods=[medians, "mean_difference"], sizes=[8, 64], repeats=5)
    assert set(table["method"]) == {"medians", "mean_difference"}
    at = table[table["method"] == "medians"].set_index("items")["value"]
    assert at[64] > at[8] > 0.4


def returns(value):
    def mine(positive, negative):
        return value

    return mine


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (None, errors.BadInput, "returned NoneType, which is no vector of numbers: a direction method returns a vector of length d_model"),
        ("up", errors.BadInput, "returned str, which is no vector of numbers"),
        (torch.zeros(3), errors.ShapeMismatch, r"returned an array of shape \(3,\)"),
        (torch.ones(16, 2), errors.ShapeMismatch, r"returned an array of shape \(16, 2\)"),
        (torch.full((16,), torch.inf), errors.NotFinite, "returned a vector that holds NaN or infinity"),
        (torch.zeros(16), errors.ZeroDirection, "returned a vector of zeros, which has no direction"),
    ],
)
def test_what_is_no_direction_is_refused(value, error, match):
    with pytest.raises(error, match=match):
        wb.extract_direction(*rows(1.0), method=returns(value))


def test_its_name_is_its_own():
    def pca(positive, negative):
        return positive.mean(0)

    with pytest.raises(errors.BadInput, match="named 'pca', which is the name of a built-in method"):
        wb.extract_direction(*rows(1.0), method=pca)
    with pytest.raises(errors.UnknownName, match="Did you mean 'mean_difference'"):
        wb.extract_direction(*rows(1.0), method="mean_diference")
