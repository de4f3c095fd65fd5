"""What the reports of steering and patching say of a model in which nothing is planted, on tables written by hand."""

from types import SimpleNamespace

import pandas as pd
import pytest

from workbench.studies.patching.report import _half
from workbench.studies.steering.report import _elsewhere


def tables(unpushed, tax):
    rows = [
        {"site": "resid_post", "layer": 3, "polarity": p, "value": v, "low": v, "high": v, "n": 32}
        for p, v in (("grant", 1.0), ("deny", 0.0))
    ]
    doses = [
        {
            "metric": "safe_score",
            "prompts": "harm claim",
            "method": "direction",
            "coefficient": 0.0,
            "condition": p,
            "value": v,
            "low": v,
            "high": v,
        }
        for p, v in zip(("grant", "deny"), unpushed, strict=True)
    ]
    return SimpleNamespace(
        tables={
            "choice": pd.DataFrame([{"direction": "agree", "tax": tax, "worse": 0.1}]),
            "places": pd.DataFrame(rows).assign(direction="agree", tax_on_validation=tax),
            "dose_response": pd.DataFrame(doses),
        }
    )


STUDY = SimpleNamespace(set=SimpleNamespace(most_tax=0.02, claims=("harm", "good")))


@pytest.mark.parametrize(
    ("unpushed", "says", "not_said"),
    [((0.0, 0.1), "repairs one and not the other", "answers move"), ((1.0, 0.0), "answers move to one word", "repairs")],
)
def test_a_push_towards_one_word(unpushed, says, not_said):
    """A model that says one word whatever is asked was not repaired by a push towards it."""
    text = str(_elsewhere(tables(unpushed, 0.0), STUDY, "agree")).split("statements")[-1]
    assert says in text
    assert not_said not in text


def test_no_place_is_cheap_enough():
    text = str(_elsewhere(tables((0.0, 0.0), 0.5), STUDY, "agree"))
    assert "No place and coefficient costs at most 2 points" in text
    assert "nan" not in text


def test_where_the_last_token_recovers_half_nowhere():
    assert "lowest layer" in _half(0.5)
    assert "at no layer" in _half(0.49)
    assert "at no layer" in _half(float("nan"))
