"""CCS in closed form: the literal eigenproblem, planted contrasts with their null twin, and how many contrasts the spectrum counts."""

import numpy as np
import pytest
import scipy.linalg
import torch
from made import cosine, planted

from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import contrast_spectrum, fit_ccs, fit_drc, fit_rrc, fit_vinc


def quadratics(x, y):
    """E d d^T and E t t^T of variants that are centred each by itself, written out."""
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    return tuple((z.T @ z / len(z)).numpy() for z in (x - y, x + y))


def test_against_a_literal_eigenproblem():
    x, y, _, _ = planted(n=200, d=10, signal=3.0)
    d, t = quadratics(x, y)
    drc = scipy.linalg.eigh(d - t)[1][:, -1]
    assert abs(cosine(fit_drc(x, y, normalise="mean").vector, drc)) > 1 - 1e-6
    for a in (0.1, 0.5):
        metric = (1 - a) * (d + t) + a * np.trace(d + t) / 10 * np.eye(10)
        w = scipy.linalg.eigh(d - t, metric)[1][:, -1]
        found = fit_rrc(x, y, shrinkage=a, normalise="mean")
        assert abs(cosine(found.vector, w)) > 1 - 1e-6
        assert found.loss == pytest.approx(-(w @ (d - t) @ w) / (w @ (d + t) @ w), rel=1e-5)


def test_difference_relative_contrast_is_vinc_without_its_variance_and_full_shrinkage_the_same():
    x, y, _, _ = planted(n=200, d=10, signal=3.0)
    drc = fit_drc(x, y)
    assert abs(cosine(drc.weight, fit_vinc(x, y, variance=0.0).weight)) > 1 - 1e-6
    assert abs(cosine(drc.weight, fit_rrc(x, y, shrinkage=1.0).weight)) > 1 - 1e-6


@pytest.mark.parametrize("fit", [fit_drc, fit_rrc])
def test_wider_than_rows_and_not_moved_by_what_both_variants_share(fit):
    x, y, labels, direction = planted(n=400, d=600, signal=8.0, common=2.0)
    probe = fit(x[:200], y[:200])
    right = (probe.predict(x[200:], y[200:]) == labels[200:]).mean()
    assert max(right, 1 - right) > 0.95  # the sign is open
    assert abs(cosine(probe.vector, direction)) > 0.5
    assert len(probe.losses) == 1
    assert probe.oriented_on == ""


def test_a_pure_contrast_beats_a_large_impure_one_where_purity_is_asked_for():
    """Along the first axis the variants are opposite up to noise, along the second a much larger feature is opposite in 3 of 4 pairs."""
    rng = numpy_rng(3)
    n = 2000
    pure, large = rng.choice([-1.0, 1.0], n), rng.choice([-1.0, 1.0], n)
    same = np.where(rng.random(n) < 0.25, 1.0, -1.0)
    x, y = 0.3 * rng.standard_normal((2, n, 5))
    x[:, 0] += pure
    y[:, 0] -= pure
    x[:, 1] += 6 * large
    y[:, 1] += 6 * large * same
    x, y = torch.tensor(x).float(), torch.tensor(y).float()
    assert abs(fit_rrc(x, y, shrinkage=0.01, normalise="mean").weight[0]) > 10 * abs(
        fit_rrc(x, y, shrinkage=0.01, normalise="mean").weight[1]
    )
    drc = fit_drc(x, y, normalise="mean")
    assert abs(drc.weight[1]) > 10 * abs(drc.weight[0])


@pytest.mark.parametrize("features", [0, 1, 3])
def test_the_spectrum_counts_planted_contrasts(features):
    rng = numpy_rng(features, "spectrum")
    n = 600
    shared = rng.standard_normal((n, 12))
    x, y = shared + 0.5 * rng.standard_normal((2, n, 12))
    for k in range(features):
        side = rng.choice([-3.0, 3.0], n)
        x[:, k] += side
        y[:, k] -= side
    table = contrast_spectrum(torch.tensor(x), torch.tensor(y), groups=np.arange(n) // 6, count=5, normalise="mean")
    own = table[table["control"] == ""]
    assert own["above"].sum() == features
    assert own["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table.groupby("control")["share"].sum().tolist() == pytest.approx([1, 1])
    broken = table[table["control"] == "pairs broken"]
    assert ((broken["low"] < 0.2) & (broken["high"] > -0.2)).all()  # nothing but chance
    assert not broken["above"].any()


def test_the_same_seed_gives_the_same_numbers_and_no_fold_shares_a_cluster():
    x, y, _, _ = planted(n=60, d=6)
    one, two = (contrast_spectrum(x, y, groups=np.arange(60) // 6, count=2, seed=1) for _ in range(2))
    assert one.equals(two)
    # every pair of a cluster is one and the same pair: were it read where it was fitted, 10 copies of it would be pure
    few = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)), torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    x, y = (z.repeat_interleave(10, 0) for z in few)
    inside = contrast_spectrum(x, y, groups=None, count=1, normalise="none")
    apart = contrast_spectrum(x, y, groups=np.arange(60) // 10, count=1, normalise="none", folds=3)
    assert inside["value"].iloc[0] > 0.6 > apart["value"].iloc[0]


def test_it_finds_what_ccs_finds_on_a_clean_contrast():
    x, y, _, _ = planted(signal=8.0, n=400, d=16, common=1.0)
    ccs = fit_ccs(x[:200], y[:200]).predict(x[200:], y[200:])
    for fit in (fit_drc, fit_rrc):
        agree = (fit(x[:200], y[:200]).predict(x[200:], y[200:]) == ccs).mean()
        assert max(agree, 1 - agree) > 0.98


def test_errors():
    x, y, _, _ = planted(n=40, d=6)
    with pytest.raises(errors.BadInput, match="shrinkage is from above 0 to 1, got 0"):
        fit_rrc(x, y, shrinkage=0)
    with pytest.raises(errors.BadInput, match="form='ccs': 'drc' or 'rrc'"):
        contrast_spectrum(x, y, form="ccs")
    with pytest.raises(errors.BadInput, match="count is 1 or more and folds 2 or more, got 0 and 5"):
        contrast_spectrum(x, y, count=0)
    with pytest.raises(errors.TooFew, match="3 clusters and folds=5"):
        contrast_spectrum(x, y, groups=np.arange(40) % 3)
    with pytest.raises(errors.BadInput, match="two pairs at least"):
        fit_drc(x[:1], y[:1])
