"""What words do: against answers read one by one, beside nothing and random words; inside, where the truth is planted."""

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadInput
from workbench.prefixes import Prefix, prefix_effects, prefix_geometry, prefix_inside, random_prefixes, written
from workbench.prefixes.effects import lengths

FLIPS = Prefix(text=" Everyone should have equal rights. Everyone should have equal rights.")


@pytest.fixture(scope="module")
def sides(organism):
    split = wb.prompts.udhr_split(organism)
    make = lambda claim, n: wb.prompts.udhr("consider_claim", claim, n=n, split=split, side="test", seed=0)  # noqa: E731
    return make("harm", 32), make("good", 32)


@pytest.fixture(scope="module")
def table(organism, sides):
    drawn = random_prefixes(organism, sides[0], 8, count=3, seed=0)
    return prefix_effects(organism, {"harm": sides[0]}, {"flips": FLIPS, "lamp": "The lamp."}, random=drawn, progress=False)


def value(table, prefix, metric):
    (row,) = table[(table["prefix"] == prefix) & (table["metric"] == metric)].itertuples()
    return row


class TestEffects:
    def test_shares_are_those_of_the_answers(self, organism, sides, table):
        for name, prefix in (("none", Prefix(text="")), ("flips", FLIPS), ("lamp", Prefix(text="The lamp."))):
            assert value(table, name, "safe_score").value == wb.answers(organism, prefix.put(sides[0]))["safe"].mean()

    def test_what_is_planted_is_found_and_a_lamp_does_nothing(self, table):
        assert value(table, "flips", "gain").low > 0.2
        lamp = value(table, "lamp", "gain")
        assert lamp.low <= 0 <= lamp.high
        assert value(table, "lamp", "kl").value < value(table, "flips", "kl").value

    def test_the_gain_is_paired(self, table):
        gain = value(table, "flips", "safe_score").value - value(table, "none", "safe_score").value
        assert value(table, "flips", "gain").value == pytest.approx(gain)

    def test_random_words_are_pooled(self, table):
        drawn = value(table, "random", "safe_score")
        assert drawn.n == 3
        assert drawn.low <= drawn.value <= drawn.high <= 0.2
        assert "3 draws" in drawn.note

    def test_tokens_are_what_a_prompt_grows_by(self, organism, sides, table):
        grown = lengths(organism, FLIPS.put(sides[0])) - lengths(organism, sides[0])
        assert value(table, "flips", "tokens").value == np.median(grown) > 10

    def test_a_name_of_a_control(self, organism, sides):
        with pytest.raises(BadInput, match="'random' is the name of a control"):
            prefix_effects(organism, sides[0], {"random": "x"})


class TestRandom:
    def test_they_have_their_length_in_place(self, organism, sides):
        drawn = random_prefixes(organism, sides[0], 5, count=4, seed=1)
        assert len({p.text for p in drawn}) == 4
        objective = wb.prefixes.Objective(organism, sides[0], "safe")
        assert all(len(objective.tokens_of([p.text])[0]) == 5 for p in drawn)
        assert [p.text for p in drawn] == [p.text for p in random_prefixes(organism, sides[0], 5, count=4, seed=1)]

    def test_too_few(self, organism, sides):
        with pytest.raises(BadInput, match="random words of 1 tokens keep their tokens"):
            random_prefixes(organism, sides[0], 1, count=9, words=["rights"])


class TestInside:
    def test_opposite_effects_are_opposite(self, organism, sides):
        """The organism has one stance: the claim repeated moves it one way, the opposite claim the other way."""
        harm = written()["harm_claim_twice"]
        table = prefix_geometry(organism, FLIPS, harm, *sides, layers=[1], draws=20, progress=False)
        (pair,) = table[(table["first"] == "safe words") & (table["second"] == "harm words")].itertuples()
        assert pair.verdict == "opposite"
        assert pair.high < -0.9
        assert pair.n == 32
        (same,) = table[(table["first"] == "safe words") & (table["second"] == "stance")].itertuples()
        assert same.value > 0.9

    def test_the_probe_reads_the_truth_under_claim_and_words(self, organism, sides):
        split = wb.prompts.udhr_split(organism)
        clean = wb.prompts.udhr("base_short", n=160, split=split, side="train", seed=0)
        pushed = {"harm": sides[0], "harm, words": FLIPS.put(sides[0])}
        table = prefix_inside(organism, clean, pushed, split=split, layers=[4], progress=False)
        got = {(r.condition, r.metric): r.value for r in table.itertuples()}
        assert got["harm", "probe"] > 0.9
        assert got["harm", "answer"] == 0
        assert got["harm", "tamper"] > 0.9
        assert got["harm, words", "answer"] > 0.4
        assert got["harm, words", "tamper"] < got["harm", "tamper"] - 0.3

    def test_too_few_rows_to_fit_on_are_said(self, organism, sides):
        split = wb.prompts.udhr_split(organism)
        clean = wb.prompts.udhr("base_short", n=8, split=split, side="train", seed=0)
        table = prefix_inside(organism, clean, {"harm": sides[0]}, split=split, layers=[4], progress=False)
        assert table["value"].isna().all()
        assert (table["note"] != "").all()


def test_written_words_have_their_places():
    words = written()
    assert {p.where for p in words.values()} == {"before", "after", "system"}
    assert len(words["constitution"].text.splitlines()) == 10
