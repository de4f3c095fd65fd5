"""AUROCs that are nearly perfect claim no more than perfect ones."""

import numpy as np
import pytest

from workbench.core import stats
from workbench.core.ranking import nearly_ordered

CODES, Y = np.repeat(np.arange(12), 40), np.tile([0, 1], 240)


def scores(wrong):
    """Ordered scores, but for one row of class 0 in each of the first `wrong` clusters."""
    s = Y + np.linspace(0, 0.5, len(Y))
    for k in range(wrong):
        s[40 * k] = 2.0
    return s


def test_one_more_misordered_cluster_never_raises_the_lower_end():
    lows = [stats.auroc(scores(k), Y, CODES).low for k in range(5)]
    assert lows[0] == pytest.approx(stats.wilson(12, 12)[0])
    assert lows == sorted(lows, reverse=True)


def test_turned_scores_have_the_mirrored_interval():
    right, turned = (stats.auroc(sign * scores(2), Y, CODES) for sign in (1, -1))
    assert (turned.low, turned.high) == pytest.approx((1 - right.high, 1 - right.low))


def test_errors_in_most_clusters_are_counted_as_they_vary():
    assert [nearly_ordered(scores(k), Y, CODES) for k in (0, 1, 4, 5)] == [True, True, True, False]
    assert not nearly_ordered(np.zeros(len(Y)), Y, CODES)
    assert stats.auroc(scores(9), Y, CODES).low > stats.wilson(12, 12)[0]


def test_a_shift_that_a_name_shares_leaves_the_order():
    names = np.repeat(["a", "b"], 240)
    moved = scores(1) + 10 * (names == "b")
    assert nearly_ordered(moved, Y, CODES, names)
    assert not nearly_ordered(moved, Y, CODES)


def test_constant_scores_have_no_interval_in_two_clusters():
    e = stats.auroc(np.zeros(8), [0, 1] * 4, np.repeat([0, 1], 4))
    assert e.value == 0.5
    assert np.isnan(e.low)


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_differences_of_shares_are_no_narrower_than_none(wrong):
    least = stats.wilson(12, 12)[0]
    area = stats.auroc_difference(scores(wrong), scores(0), Y, CODES)
    hits = np.ones(len(Y))
    hits[: 40 * wrong : 40] = 0
    share = stats.paired_difference(hits, np.ones(len(Y)), CODES, reach=1)
    for e in (area, share):
        assert e.low <= e.value - (1 - least) + 1e-12
        assert e.high >= e.value + (1 - least) - 1e-12
    assert stats.mean(hits, CODES, bounded=True).low <= least + 1e-12


def test_a_difference_of_shares_stays_within_its_reach():
    e = stats.paired_difference(np.r_[np.ones(39), 0], np.zeros(40), np.repeat([0, 1], 20), reach=1)
    assert -1 <= e.low < e.high <= 1


def test_gains_and_losses_that_cancel_in_every_cluster_have_an_interval():
    first = np.tile([1, 0], 60)
    e = stats.paired_difference(first, 1 - first, np.repeat(np.arange(12), 10), reach=1)
    assert e.value == 0
    assert e.low == pytest.approx(stats.wilson(12, 12)[0] - 1)
