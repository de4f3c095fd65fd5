"""Fieller's interval: the closed form on independent rows, what it refuses, and where linearising is too sure."""

import math

import numpy as np
import pytest
from scipy.stats import t

from workbench.core import errors
from workbench.core.fieller import fieller
from workbench.core.stats import ratio


def columns(n, gap, share, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    under = gap + noise * rng.standard_normal(n)
    return share * under + 0.5 * rng.standard_normal(n), under


def test_it_is_the_closed_form_of_independent_rows():
    a, b = columns(80, 1.0, 0.6, 0)
    e = fieller(a, b)
    # roots of (mean a - r mean b)^2 = t^2 (Vaa - 2 r Vab + r^2 Vbb)
    v, q = np.cov(a, b) / len(a), t.ppf(0.975, len(a) - 1) ** 2
    want = sorted(
        np.roots([b.mean() ** 2 - q * v[1, 1], -2 * (a.mean() * b.mean() - q * v[0, 1]), a.mean() ** 2 - q * v[0, 0]]).real.tolist()
    )
    assert [e.low, e.high] == pytest.approx(want, rel=1e-4)
    assert e.value == pytest.approx(a.mean() / b.mean())


def test_it_is_refused_exactly_where_the_mean_below_is_not_told_from_zero():
    told = 0
    for seed in range(40):
        a, b = columns(30, 0.4, 0.5, seed)
        e = fieller(a, b)
        far = abs(b.mean()) > t.ppf(0.975, 29) * b.std(ddof=1) / math.sqrt(30)
        told += far
        assert math.isnan(e.value) == (not far)
        assert far or "is not told from 0" in e.note
        assert not far or e.low <= e.value <= e.high
    assert 5 < told < 35


def test_clusters_widen_it_and_one_is_refused():
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(20), 10)
    b = 1 + 0.6 * rng.standard_normal(20)[who] + 0.1 * rng.standard_normal(200)
    a = 0.5 * b + 0.4 * rng.standard_normal(20)[who]
    alone, together = fieller(a, b), fieller(a, b, who)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.clusters == 20
    assert fieller(a, b, np.zeros(200)).note == "one cluster"
    assert math.isnan(fieller([], []).value)


def test_a_small_mean_below_makes_it_wider_than_the_linearised_one():
    # by construction both hold 1 almost always; what the linearised interval lacks is the far side
    a, b = columns(25, 0.7, 1.0, 4)
    wide, narrow = fieller(a, b), ratio(a, b)
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_rows_of_unequal_number_are_refused():
    with pytest.raises(errors.ShapeMismatch, match="paired rows"):
        fieller([1.0, 2.0], [1.0])
    with pytest.raises(errors.NotFinite, match="not finite"):
        fieller([1.0, math.nan], [1.0, 2.0])
