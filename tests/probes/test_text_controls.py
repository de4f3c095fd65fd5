"""What the words alone say: three controls, each able to find what it is meant to find."""

import numpy as np
import pandas as pd
import pytest

from workbench.core.seeds import numpy_rng
from workbench.core.text_controls import TEXT_CONTROLS, strongest_words
from workbench.probes import bag_of_words, text_scorers

NAMES = ["people", "women", "men", "farmers", "teachers", "artists", "drivers", "nurses"]


def texts(kind, n=160):
    """Statements of which something tells the label: a word, the order of two words, letters within made-up words, or likeness."""
    rng, y, out = numpy_rng(3, kind), np.tile([0, 1], n // 2), []
    for label in y:
        who, made = NAMES[rng.integers(8)], "".join(rng.choice(list("bdfgklm"), 5))
        first, second = ("never", "always") if label else ("always", "never")
        out.append(
            {
                "word": f"{who} {'may' if label else 'must'} rest",
                "order": f"{who} {first} {second} rest",
                "letters": f"{who} {made}{'xo' if label else 'ax'}{rng.integers(1000)} rest",
                "nothing": f"{who} {made} rest",
            }[kind]
        )
    return out, y, np.repeat(np.arange(n // 4), 4)


def accuracy(kind, name, **more):
    given, y, groups = texts(kind)
    half = groups < groups.max() // 2
    train, test = ([t for t, k in zip(given, half, strict=True) if k == side] for side in (True, False))
    ((_, score),) = text_scorers(train, y[half], groups[half], names=[name], **more)
    return float(((score(test) > 0) == y[~half]).mean())


@pytest.mark.parametrize(("kind", "bag"), [("word", True), ("order", False), ("letters", False)])
def test_runs_see_order_and_letters_that_a_bag_does_not(kind, bag):
    assert accuracy(kind, "ngrams") > 0.95
    assert (accuracy(kind, "bag_of_words") > 0.9) == bag


@pytest.mark.parametrize("name", ["bag_of_words", "ngrams"])
def test_words_that_say_nothing_are_not_read(name):
    assert accuracy("nothing", name) < 0.7


def test_embeddings_know_which_words_are_alike():
    given, y, _ = texts("nothing")
    rng = numpy_rng(5)
    vectors = {t: rng.standard_normal(16) for t in given}
    for t, label in zip(given, y, strict=True):
        vectors[t][3] += 6 * label
    assert accuracy("nothing", "token_embeddings", vectors=vectors) > 0.9
    assert not list(text_scorers(given, y, names=["token_embeddings"])), "left out without vectors"


def test_the_bag_alone_is_what_it_was():
    given, y, _ = texts("word")
    ((_, score),) = text_scorers(given, y, names=["bag_of_words"])
    np.testing.assert_allclose(score(given), bag_of_words(given, y, given))


def test_one_group_or_one_class_in_a_fold_is_fitted_without_choosing():
    given, y, _ = texts("word", 8)
    for groups in (np.zeros(8), y):
        ((_, score),) = text_scorers(given, y, groups, names=["ngrams"])
        assert len(score(given)) == 8


def test_the_strongest_of_the_three_counts():
    table = pd.DataFrame({"control": ["", *TEXT_CONTROLS], "value": [0.99, 0.6, 0.7, np.nan]})
    assert strongest_words(table).control == "ngrams"
    assert strongest_words(table[:1]) is None
