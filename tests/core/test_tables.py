import numpy as np
import pandas as pd
import pytest

from workbench.core.errors import MissingColumn, TooFew
from workbench.core.tables import pick, span

TABLE = pd.DataFrame({"layer": [0, 1, 1], "split": ["test", "train", "test"], "n": [40, 60, 50]})


def test_pick_keeps_the_matching_rows_and_their_labels():
    assert pick(TABLE, layer=1).index.tolist() == [1, 2]
    assert pick(TABLE, layer=1, split="test").index.tolist() == [2]
    assert pick(TABLE).equals(TABLE)
    assert pick(TABLE, layer=9).columns.tolist() == ["layer", "split", "n"]


def test_pick_changes_nothing():
    before = TABLE.copy()
    pick(TABLE, layer=1)
    assert TABLE.equals(before)


def test_pick_names_the_columns_that_exist():
    with pytest.raises(MissingColumn, match=r"no column 'site'.*layer, split, n"):
        pick(TABLE, site="resid_post")


@pytest.mark.parametrize(("counts", "text"), [([60, 60], "60"), ([60, 40, 50], "40 to 60"), ([np.nan, 7.0], "7")])
def test_span(counts, text):
    assert span(pd.DataFrame({"n": counts})) == text


@pytest.mark.parametrize("counts", [[], [np.nan, np.nan]])
def test_span_of_nothing(counts):
    with pytest.raises(TooFew, match="no number of items"):
        span(pd.DataFrame({"n": counts}))


def test_span_without_counts():
    with pytest.raises(MissingColumn, match=r"no column 'n'.*layer"):
        span(pd.DataFrame({"layer": [0]}))
