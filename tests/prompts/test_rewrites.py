"""Statements in other surface forms: the truth stays, and where it stood."""

import pytest

import workbench as wb
from workbench.core.errors import BadInput, UnknownName
from workbench.prompts import REWRITES, rewrite, rewrites_of
from workbench.prompts.rewrites import OF_ANY

PEOPLE = ["women", "a poor person"]
SETS = wb.prompts.udhr(identities=PEOPLE, rights=["vote", "work", "no_torture"], forms="all")


def said(surface, **more):
    return [p.meta["statement"] for p in rewrite(SETS, surface, **more)]


@pytest.mark.parametrize("surface", REWRITES)
def test_everything_but_the_statement_stays(surface):
    new = rewrite(SETS, surface)
    assert new.labels == SETS.labels
    for a, b in zip(SETS, new, strict=True):
        assert b.stem == a.stem.replace(a.meta["statement"], b.meta["statement"])
        assert (b.identity, b.right, b.positive, b.negative, b.template) == (a.identity, a.right, a.positive, a.negative, a.template)
        assert b.stem[b.instruction_end :] == a.stem[a.instruction_end :], "the run-up to the answer begins where it began"
        assert b.meta["surface"] == surface
        assert b.meta["polarity"] == a.meta["polarity"]


def test_forms_differ_and_plain_is_what_it_was():
    assert said("plain") == [p.meta["statement"] for p in SETS]
    assert len({tuple(said(s)) for s in REWRITES}) == len(REWRITES)
    assert len(REWRITES) >= 6
    assert len(OF_ANY) >= 6


def test_the_negator_says_the_same_with_or_without_one():
    old = {p.meta["statement"]: p for p in SETS}
    for a, b in zip(SETS, rewrite(SETS, "negator"), strict=True):
        twin = old[b.meta["statement"]]
        assert twin.label == a.label
        assert twin.meta["form"] == b.meta["form"] != a.meta["form"]


def test_no_word_of_the_passive_gives_the_answer_away():
    words = {label: {w for t, p in zip(said("passive"), SETS, strict=True) if p.label == label for w in t.split()} for label in (0, 1)}
    assert words[0] == words[1]
    assert "The right to vote in free elections is not withheld from a poor person." in said("passive")


def test_typos_keep_the_letters_and_are_drawn_by_the_seed():
    for a, b in zip(said("plain"), said("typos"), strict=True):
        assert a != b
        assert [sorted(w) for w in a.split()] == [sorted(w) for w in b.split()]
    assert said("typos") == said("typos")
    assert said("typos") != said("typos", seed=1)


def test_an_identity_of_ones_own_agrees_with_its_verb():
    who = wb.prompts.Identity(identity="a green person", group="mine", number="singular")
    one = wb.prompts.udhr(identities=[who], rights=["equal_dignity"], forms="grant_plain")
    assert rewrite(one, "negator")[0].meta["statement"].startswith("A green person does not lack")


def test_statements_of_ones_own_have_six_forms(tmp_path):
    rows = [{"statement": f"Thing {i} is {'good' if i % 2 else 'bad'}.", "label": i % 2} for i in range(80)]
    own = wb.prompts.from_table(rows, template="base_short")
    assert rewrites_of(own) == OF_ANY
    assert rewrites_of(SETS) == REWRITES
    assert rewrite(own, "capitals")[1].meta["statement"] == "THING 1 IS GOOD."
    with pytest.raises(BadInput, match="made from the right"):
        rewrite(own, "passive")


def test_bad_input_is_told():
    with pytest.raises(UnknownName, match="typos"):
        rewrite(SETS, "typo")
    bare = wb.prompts.PromptSet([wb.prompts.ContrastPair(stem="Is it so?", negative=" no", positive=" yes", label=1)])
    with pytest.raises(BadInput, match="does not hold one"):
        rewrite(bare, "capitals")


def test_examples_in_front_are_left_as_they_are():
    shot = wb.prompts.udhr(identities=PEOPLE, rights=["vote", "work"], forms="all", shots=2)
    for a, b in zip(shot, rewrite(shot, "capitals"), strict=True):
        at = a.stem.rfind(a.meta["statement"])
        assert b.stem[:at] == a.stem[:at]
