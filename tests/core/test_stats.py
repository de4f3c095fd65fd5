import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control, norm
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
    assert stats.auroc(s, y).value == pytest.approx(roc_auc_score(y, s))
    assert stats.auroc_difference(s, -s, y).value == pytest.approx(2 * roc_auc_score(y, s) - 1)


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


def coverage(draw, truth, runs=600):
    """How often intervals hold the truth, as a Wilson interval at 99.9 %."""
    hits = 0
    for k in range(runs):
        e = draw(numpy_rng(4, "coverage", k))
        hits += bool(e.low <= truth <= e.high)
    return stats.wilson(hits, runs, 0.999)


def uneven(rng, sizes, p, rho):
    """Zeros and ones in clusters of these sizes, each with a rate of its own."""
    rates = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho, len(sizes))
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(codes)) < rates[codes]).astype(float), codes


@pytest.mark.parametrize("sizes", [[300, *[5] * 59], [10] * 60, [20] * 5])
def test_a_proportion_covers_with_one_cluster_of_half_the_rows_and_with_few(sizes):
    low, high = coverage(lambda rng: stats.proportion(*uneven(rng, sizes, 0.5, 0.1)), 0.5)
    assert high >= 0.95
    assert low > 0.89


@pytest.mark.parametrize("clusters", [5, 12])
def test_a_mean_and_an_auroc_of_few_clusters_cover(clusters):
    def rows(rng):
        codes, y = np.repeat(np.arange(clusters), 20), np.tile([0, 1], 10 * clusters)
        return codes, y, y + 0.5 * rng.standard_normal((clusters, 2))[codes, y] + rng.standard_normal(len(y))

    def mean(rng):
        codes, _, x = rows(rng)
        return stats.mean(x, codes)

    def area(rng):
        codes, y, x = rows(rng)
        return stats.auroc(x, y, codes)

    for draw, truth in ((mean, 0.5), (area, norm.cdf(1 / np.sqrt(2.5)))):
        low, high = coverage(draw, truth)
        assert low < 0.95 < high + 0.02
        assert low > 0.90


def test_factors_that_cross_are_both_counted():
    def rows(rng):
        codes = np.array([(i, r) for i in range(40) for r in range(12)])
        x = 0.5 * rng.standard_normal(40)[codes[:, 0]] + 0.5 * rng.standard_normal(12)[codes[:, 1]] + rng.standard_normal(480)
        return x, codes

    both = coverage(lambda rng: stats.mean(*rows(rng)), 0.0)
    one = coverage(lambda rng: (lambda x, c: stats.mean(x, c[:, 0]))(*rows(rng)), 0.0)
    assert both[0] > 0.90
    assert one[1] < 0.90, "identities alone leave out that rights vary"


def test_influence_is_what_leaving_a_row_out_changes():
    rng = numpy_rng(9)
    y, s = np.tile([0, 1], 60), rng.standard_normal(120) + np.tile([0, 1], 60)
    value, u = stats.auroc_influence(s, y)
    least, _ = stats.auroc_influence(np.delete(s, 7), np.delete(y, 7))
    assert value - least == pytest.approx(u[7] * 60 / 59, abs=1e-9)
    assert abs(u.sum()) < 1e-12


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


def test_a_perplexity_covers():
    def draw(rng):
        tokens = rng.integers(5, 40, 12)
        return stats.exp_ratio(tokens * 2 + np.sqrt(tokens) * rng.standard_normal(12), tokens)

    low, high = coverage(draw, np.exp(2))
    assert low < 0.95 < high + 0.02


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
