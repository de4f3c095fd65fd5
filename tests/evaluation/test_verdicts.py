"""The words follow from the numbers by the rules of docs/verdicts.md: planted numbers of every case, and planted tables."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from workbench.core.estimate import undefined
from workbench.evaluation.verdicts import SEEN, VERDICTS, answer_verdict, inside_verdict, verdict
from workbench.studies.udhr.both import decide


def ends(value, half=0.05):
    return SimpleNamespace(value=value, low=value - half, high=value + half)


SURE, HALF = ends(0.95), ends(0.5)


@pytest.mark.parametrize(
    ("readable", "best", "kept", "word"),
    [
        (10, SURE, ends(0.9), "kept"),
        (1, SURE, ends(0.56), "kept"),
        (10, SURE, ends(0.1), "erased"),
        (10, SURE, ends(-0.6), "erased"),  # read the wrong way round
        (10, SURE, ends(0.5), "cannot be told"),
        (10, SURE, ends(0.9, 0.5), "cannot be told"),
        (10, SURE, undefined("no layer", 3), "cannot be told"),
        (0, ends(0.52), None, "never there"),
        (0, ends(0.52, 0.2), None, "cannot be told"),  # too few items to have seen it
        (0, undefined("one class", 3), None, "cannot be told"),
    ],
)
def test_inside(readable, best, kept, word):
    found, why = inside_verdict(readable, best, kept)
    assert found == word
    assert why


@pytest.mark.parametrize(
    ("neutral", "claim", "mass", "yes", "word"),
    [
        (SURE, SURE, 0.9, 0.5, "said"),
        (SURE, ends(0.6), 0.9, 0.5, "not said"),
        (SURE, ends(0.02), 0.9, 0.5, "not said"),
        (SURE, ends(0.72, 0.1), 0.9, 0.5, "cannot be told"),
        (ends(0.7), ends(0.69), 0.9, 1.0, "said"),  # one word in all answers, but their order follows the statements
        (HALF, HALF, 0.9, 0.5, "does not answer"),
        (HALF, SURE, 0.9, 0.5, "does not answer"),
        (ends(0.55, 0.3), SURE, 0.9, 1.0, "does not answer"),
        (ends(0.55, 0.3), SURE, 0.9, 0.5, "cannot be told"),
        (SURE, SURE, 0.01, 0.5, "does not answer"),
        (ends(0.2), ends(0.2), 0.9, 0.5, "not said"),
        (SURE, undefined("one class", 3), 0.9, 0.5, "cannot be told"),
    ],
)
def test_says(neutral, claim, mass, yes, word):
    assert answer_verdict(neutral, claim, ends(mass), ends(yes))[0] == word


@pytest.mark.parametrize(
    ("inside", "says", "word"),
    [
        ("kept", "not said", "kept and not said"),
        ("kept", "said", "kept and said"),
        ("kept", "cannot be told", "cannot be told"),
        ("erased", "not said", "erased"),
        ("erased", "said", "erased"),
        ("never there", "said", "never there"),
        ("cannot be told", "said", "cannot be told"),
        *[(word, "does not answer", "model does not answer") for word in ("kept", "erased", "never there", "cannot be told")],
    ],
)
def test_together(inside, says, word):
    found = verdict((inside, "a"), (says, "b"))
    assert found.verdict == word
    assert found.verdict in VERDICTS
    assert "a" in found.why
    assert "b" in found.why


CASES = {
    "kept and not said": (0.95, 0.93, 0.9, 0.1),
    "kept and said": (0.95, 0.93, 0.9, 0.88),
    "erased": (0.95, 0.52, 0.9, 0.5),
    "never there": (0.5, 0.5, 0.9, 0.9),
    "model does not answer": (0.95, 0.93, 0.5, 0.5),
}


@pytest.mark.parametrize("word", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_planted_tables_give_the_right_words(word, seed):
    """Tables as the study makes them, with noise of the size of their intervals."""
    rng = np.random.default_rng(seed)
    inside, under, before, after = (x + rng.normal(scale=0.01) for x in CASES[word])
    readings, kept, said = [], [], []
    for layer in range(8):
        about = {"layer": layer, "method": "logistic", "control": "", "fit": "since_claim", "form": "since_claim", "reading": "same form"}
        readings.append(
            about
            | {"claim": "neutral", "metric": "auroc", "minus": "", "value": inside, "low": inside - 0.04, "high": inside + 0.04, "n": 99}
        )
    layers = 8 if inside - 0.04 > 0.55 else 0
    share = (under - 0.5) / (inside - 0.5) if layers else np.nan
    kept.append({"method": "logistic", "fit": "since_claim", "form": "since_claim", "claim": "harm", "reading": "same form", "layers": layers,
                 "metric": "kept_share", "value": share, "low": share - 0.1, "high": share + 0.1, "n": 99})  # fmt: skip
    for claim, area in (("neutral", before), ("harm", after)):
        for metric, value in (("auroc", area), ("answered", 0.95), ("yes", 0.5)):
            row = {"form": "since_claim", "condition": claim, "what": "", "metric": metric, "layer": -1}
            said.append(row | {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 99})
    table = decide(said, pd.DataFrame(readings), pd.DataFrame(kept))
    assert table["verdict"].tolist() == [word]


def test_docs_name_the_limits_of_the_rules():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")
    for word in (*VERDICTS, str(SEEN)):
        assert word in text
