import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control
from sklearn.metrics import roc_auc_score

from workbench.core import stats
from workbench.core.errors import BadInput, NotFinite, OneClass, ShapeMismatch
from workbench.core.seeds import numpy_rng


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 7), (5, 5), (40, 100), (999, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy(k, n, level):
    oracle = binomtest(k, n).proportion_ci(level, method="wilson")
    assert stats.wilson(k, n, level) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_benjamini_hochberg_equals_scipy():
    p = numpy_rng(0).random(50) ** 2
    assert stats.benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_sklearn(ties):
    rng = numpy_rng(1)
    y = rng.integers(0, 2, 200)
    s = rng.standard_normal(200) + y
    s = np.round(s) if ties else s
    weights = np.stack([np.ones(200), rng.integers(0, 4, 200)]).astype(float)
    got = stats.auroc_weighted(s, y, weights)
    assert got[0] == pytest.approx(roc_auc_score(y, s))
    assert got[1] == pytest.approx(roc_auc_score(y, s, sample_weight=weights[1]))


def test_proportion_of_independent_rows_is_wilson():
    hits = numpy_rng(2).random(80) < 0.7
    estimate = stats.proportion(hits)
    assert (estimate.low, estimate.high) == stats.wilson(int(hits.sum()), 80)


def test_clusters_widen_the_interval_and_cover():
    """40 clusters of 20 rows that mostly agree: rows as independent cover far too rarely, clusters at the nominal rate."""
    rng = numpy_rng(3)
    covered = {"clustered": 0, "naive": 0}
    clusters = np.repeat(np.arange(40), 20)
    for _ in range(300):
        rates = rng.beta(2, 1, 40)  # mean 2/3
        hits = rng.random(800) < rates[clusters]
        for name, by in (("clustered", clusters), ("naive", None)):
            e = stats.proportion(hits, by)
            covered[name] += e.low <= 2 / 3 <= e.high
    assert covered["clustered"] >= 0.91 * 300
    assert covered["naive"] < 0.75 * 300


def test_all_right_in_few_clusters_is_not_certain():
    e = stats.proportion(np.ones(1000), np.repeat(np.arange(5), 200))
    assert e.low == pytest.approx(stats.wilson(5, 5)[0])
    assert stats.proportion(np.ones(10), np.zeros(10)).low == 0.0


def test_one_error_more_never_raises_the_lower_bound():
    """600 of 600 in 60 clusters once had a lower bound of .94, and 599 of 600 one of .99."""
    clusters = np.repeat(np.arange(60), 10)
    lows = [stats.proportion(np.r_[np.zeros(k), np.ones(600 - k)], clusters).low for k in range(5)]
    assert lows == sorted(lows, reverse=True)


def test_a_bootstrap_without_spread_claims_nothing():
    same = stats.paired_difference(np.arange(20.0), np.arange(20.0))
    assert same.value == 0
    assert np.isnan(same.low)
    assert same.note == "no resample changes it"
    perfect = stats.auroc([0.0] * 10 + [1.0] * 10, [0] * 10 + [1] * 10)
    assert perfect.value == 1
    assert perfect.low == pytest.approx(stats.wilson(20, 20)[0])


def test_bootstrap_of_a_mean_covers():
    rng = numpy_rng(4)
    hits = sum((e := stats.mean(rng.standard_normal(60) + 0.3, resamples=400, seed=k)).low <= 0.3 <= e.high for k in range(200))
    assert 0.88 * 200 <= hits <= 0.99 * 200


def test_paired_difference_is_narrower_than_unpaired():
    rng = numpy_rng(5)
    shared = 3 * rng.standard_normal(100)
    a, b = shared + 0.2 + 0.1 * rng.standard_normal(100), shared + 0.1 * rng.standard_normal(100)
    e = stats.paired_difference(a, b)
    assert 0.1 < e.low < 0.2 < e.high < 0.3
    assert stats.mean(a).high - stats.mean(a).low > 5 * (e.high - e.low)


def test_permutation_p():
    assert stats.permutation_p(10, np.zeros(99)) == pytest.approx(0.01)
    assert stats.permutation_p(-1, np.zeros(99)) == 1.0
    null = stats.permutation_null(lambda y: float(y[:50].mean() - y[50:].mean()), np.r_[np.ones(50), np.zeros(50)], draws=300)
    assert stats.permutation_p(1.0, null) == pytest.approx(1 / 301)
    assert abs(null.mean()) < 0.05


def test_permutation_within_clusters_keeps_their_sums():
    y, clusters = np.r_[np.ones(6), np.zeros(6)], np.repeat([0, 1], 6)
    null = stats.permutation_null(lambda v: float(v[:6].sum()), y, clusters, draws=50)
    assert set(null) == {6.0}


def test_same_seed_same_interval():
    x = numpy_rng(6).standard_normal(50)
    assert stats.mean(x, seed=1) == stats.mean(x, seed=1)
    assert stats.mean(x, seed=1) != stats.mean(x, seed=2)


def test_errors_say_what_is_wrong():
    with pytest.raises(BadInput, match="7 successes of 5"):
        stats.wilson(7, 5)
    with pytest.raises(BadInput, match="zeros and ones"):
        stats.proportion([0.5, 1])
    with pytest.raises(NotFinite, match="1 of 3 values are not finite, the first in row 1"):
        stats.mean([1, np.nan, 2])
    with pytest.raises(OneClass, match="all 3 labels are 1"):
        stats.auroc([1, 2, 3], [1, 1, 1])
    with pytest.raises(ShapeMismatch, match="4 rows and clusters of shape"):
        stats.proportion([1, 0, 1, 0], [1, 2])
    with pytest.raises(BadInput, match="says why"):
        stats.Estimate(value=float("nan"), low=0, high=1, n=1, clusters=1)
    assert str(stats.undefined("no rows")) == "undefined (no rows)"
