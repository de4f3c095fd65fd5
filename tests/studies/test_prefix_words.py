"""Findings of the studies `prefix` and `depth` follow rules, on tables that were made up."""

from types import SimpleNamespace

import pandas as pd
import pytest

from workbench.core.errors import BadInput, UnknownTemplate
from workbench.studies.depth.report import undone
from workbench.studies.depth.study import DepthSettings
from workbench.studies.prefix.report import more_than_random
from workbench.studies.prefix.settings import PrefixSettings


@pytest.mark.parametrize(
    ("gain", "random", "sign", "says"),
    [
        ((0.9, 0.7, 1.0), (0.0, 0.05), 1, "more than random words of equal length do"),
        ((0.3, 0.1, 0.5), (0.0, 0.4), 1, "no more than random words of equal length do"),
        ((0.1, -0.1, 0.3), (0.0, 0.05), 1, "not told from no effect"),
        ((-0.9, -1.0, -0.7), (-0.1, 0.0), -1, "more than random words of equal length do"),
        ((-0.3, -0.5, -0.1), (-0.4, 0.0), -1, "no more than random words of equal length do"),
        ((0.9, 0.7, 1.0), (-0.1, 0.0), -1, "not told from no effect"),
    ],
)
def test_words_against_random_words(gain, random, sign, says):
    row = SimpleNamespace(value=gain[0], low=gain[1], high=gain[2])
    assert more_than_random(row, SimpleNamespace(low=random[0], high=random[1]), sign) == says


def refused(*rows):
    return pd.DataFrame(
        [{"condition": "aligned", "metric": "refused", "tokens": t, "value": v, "low": lo, "high": hi, "n": 30} for t, v, lo, hi in rows]
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [(0, 1.0, 0.8, 1.0), (1, 0.9, 0.7, 1.0), (5, 0.1, 0.0, 0.3)],
            "aligned: 1.00 [0.80, 1.00] without a beginning, 0.10 [0.00, 0.30] after 5 tokens",
        ),
        ([(0, 1.0, 0.8, 1.0), (1, 0.0, 0.0, 0.2)], "0.00 [0.00, 0.20] after 1 token"),
        ([(0, 1.0, 0.8, 1.0), (1, 0.9, 0.7, 1.0)], "not told to be halved by 1 tokens (0.90 [0.70, 1.00])"),
        ([(0, 0.0, 0.0, 0.2), (1, 0.0, 0.0, 0.2)], "refuses 0.00 [0.00, 0.20] without a beginning, too few to lose"),
        ([(1, 0.0, 0.0, 0.2)], "not known without a beginning"),
    ],
)
def test_what_a_beginning_undoes(rows, says):
    assert says in undone(refused(*rows), "aligned")


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"template": "base_short"}, UnknownTemplate, "template with a claim"),
        ({"claims": ("harm",)}, BadInput, "two of them"),
        ({"where": "behind"}, BadInput, "where='behind'"),
        ({"random": 3}, BadInput, "random: 20 at least"),
        ({"readable": -1}, BadInput, "readable: 0 or more"),
    ],
)
def test_settings_of_prefix(more, error, says):
    with pytest.raises(error, match=says):
        PrefixSettings(**more)


def test_settings_of_depth():
    with pytest.raises(BadInput, match="requests: 8 at least"):
        DepthSettings(requests=2)
    with pytest.raises(BadInput, match="prefilled: numbers of tokens"):
        DepthSettings(prefilled=())
