"""Words of one model on another: the contrast is found where it is planted, is none between twins, and is that of the answers."""

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadInput, ShapeMismatch
from workbench.prefixes import Prefix, prefix_transfer
from workbench.prefixes.transfer import APART, BOTH, OWN

GOOD = " Everyone should have equal rights. Everyone should have equal rights."
A, B = "udhr-organism", "udhr-organism-no-verdict"


@pytest.fixture(scope="module")
def models(organism):
    return {"one": organism, "two": wb.load_model(B, device="cpu")}


@pytest.fixture(scope="module")
def held(organism):
    return wb.prompts.udhr("consider_claim", "harm", n=32, split=wb.prompts.udhr_split(organism), side="test", seed=0)


def words(**texts):
    """Prefixes by name, searched on the models that stand behind the text."""
    return {name: Prefix(text=text, ids=dict.fromkeys(on, (1,))) for name, (text, on) in texts.items()}


def only(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = table.itertuples()
    return row


class TestContrast:
    @pytest.fixture(scope="class")
    def table(self, models, held):
        """Each model's own words are the good claim; the other's words do nothing."""
        found = words(first=(GOOD, [A]), lamp=(" The lamp.", [B]), all=(GOOD, [A, B]))
        return prefix_transfer(models, held, found, progress=False)

    def test_own_words_that_work_alone_differ_from_words_that_do_not(self, table):
        one, two = (only(table, model=m, prefix=OWN) for m in ("one", "two"))
        assert one.low > 0.2  # the good claim is this model's own
        assert two.high < -0.2  # and the lamp that of the other, which also follows the claim
        assert only(table, model=BOTH, prefix=OWN).value == pytest.approx((one.value + two.value) / 2)

    def test_words_of_all_against_others(self, table):
        assert only(table, model="one", prefix=APART).low > 0.2
        both = only(table, model="two", prefix=APART)
        assert both.value == 0.0  # the same text as the other model found alone
        assert both.low < 0 < both.high

    def test_it_is_the_difference_of_the_answers(self, models, held, table):
        for key, name in (("one", "first"), ("two", "lamp")):
            for prefix, text in (("first", GOOD), ("lamp", " The lamp.")):
                safe = wb.answers(models[key], wb.prefixes.put(held, text))["safe"].mean()
                row = only(table, model=key, prefix=prefix, metric="safe_score")
                assert row.value == safe
                assert row.own == int(prefix == name)
        gap = (
            only(table, model="one", prefix="first", metric="safe_score").value
            - only(table, model="one", prefix="lamp", metric="safe_score").value
        )
        assert only(table, model="one", prefix=OWN).value == pytest.approx(gap)

    def test_no_gap_where_both_found_the_same(self, models, held):
        table = prefix_transfer(models, held, words(first=(GOOD, [A]), second=(GOOD, [B])), progress=False)
        for model in ("one", "two", BOTH):
            row = only(table, model=model, prefix=OWN)
            assert row.value == 0.0
            assert row.low < 0 < row.high  # statements are few: no difference is not told to the last digit

    def test_without_words_of_others_nothing_is_compared(self, models, held):
        table = prefix_transfer(models, held, words(all=(GOOD, [A, B])), progress=False)
        rows = table[table["prefix"].isin([OWN, APART])]
        assert rows["value"].isna().all()
        assert set(rows["note"]) == {"no words to compare"}


class TestRefused:
    def test_one_model_or_one_twice(self, organism, held):
        for given in ({"a": organism}, {"a": organism, "b": organism}):
            with pytest.raises(BadInput, match="between two models at least, whose names differ"):
                prefix_transfer(given, held, {})

    def test_words_of_neither(self, models, held):
        with pytest.raises(BadInput, match="'lamp' were searched on none of"):
            prefix_transfer(models, held, {"lamp": Prefix(text="The lamp.")})

    def test_other_statements(self, models, held):
        with pytest.raises(ShapeMismatch, match="the same ones for all"):
            prefix_transfer(models, {"one": held, "two": held.subset(range(8))}, words(a=(GOOD, [A])))


def test_random_words_are_a_row_of_each_model(models, held):
    drawn = {k: wb.prefixes.random_prefixes(m, held, 4, count=2, seed=0) for k, m in models.items()}
    table = prefix_transfer(models, held.subset(range(12)), words(a=(GOOD, [A])), random=drawn, progress=False)
    rows = table[(table["prefix"] == "random") & (table["metric"] == "safe_score")]
    assert set(rows["model"]) == {"one", "two"}
    assert set(rows["own"]) == {-1}
    assert np.isfinite(rows["value"]).all()
