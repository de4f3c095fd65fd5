"""Laws of shots: the equations, planted laws found on held-out shots, and what is refused."""

import numpy as np
import pytest

from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.evaluation.shot_laws import LAWS, fit_shot_laws, law

SHOTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def curves(name, parameters, seed=0, questions=64, noise=0.3, shots=SHOTS):
    """Negative log-likelihoods that follow a law, with a level of each question's own and noise."""
    rng = numpy_rng(seed, "curves", name)
    return law(name, shots, parameters) * np.exp(
        noise * (rng.standard_normal((questions, 1)) + rng.standard_normal((questions, len(shots))))
    )


def test_the_laws_are_their_equations():
    n = np.array([1.0, 5.0, 40.0])
    assert law("power", n, (0.5, 3.0)) == pytest.approx(3 / np.sqrt(n))
    assert law("exponential", n, (0.3, 2.0, 20.0)) == pytest.approx(0.3 + 2 * np.exp(-n / 20))
    floor, start, prior, speed = 0.2, 4.0, 0.05, 0.02
    a, b = np.exp(-floor), np.exp(-start)
    first, second = prior * a ** (n * speed), (1 - prior) * b ** (n * speed)
    assert law("bayesian", n, (floor, start, prior, speed)) == pytest.approx(-np.log((a * first + b * second) / (first + second)))
    assert law("bayesian", [1e6], (floor, start, prior, speed)) == pytest.approx(floor)
    with pytest.raises(errors.BadInput, match="law 'linear': one of power, exponential, bayesian"):
        law("linear", n, (1, 2))


@pytest.mark.parametrize(
    ("name", "parameters", "kind"),
    [("power", (0.5, 3.0), "power"), ("exponential", (0.3, 3.0, 20.0), "bounded"), ("bayesian", (0.2, 4.0, 0.05, 0.02), "bounded")],
)
def test_the_planted_kind_of_law_is_chosen(name, parameters, kind):
    for seed in range(4):
        found = fit_shot_laws(curves(name, parameters, seed), SHOTS, resamples=40)
        assert found.chosen == kind
        assert found.note == ""
        assert found.held == (1, 4, 12, 32, 96, 256)
        assert not set(found.held) & set(found.fitted)
        chosen = found.table.groupby("law")["chosen"].first()
        assert chosen["power"] == (kind == "power")
        assert chosen["bayesian"] == chosen["exponential"] == (kind == "bounded")


def test_exponent_and_intercept_are_found_and_the_level_of_questions_widens_their_interval():
    table = fit_shot_laws(curves("power", (0.4, 3.0), noise=0.2), SHOTS, resamples=100).table.set_index(["law", "parameter"])
    exponent, intercept = table.loc[("power", "exponent")], table.loc[("power", "intercept")]
    assert exponent["low"] < 0.4 < exponent["high"]
    assert exponent["high"] - exponent["low"] < 0.1
    assert intercept["value"] == pytest.approx(3.0 * np.exp(0.04), rel=0.15)  # the mean of what varies by a factor
    assert exponent["n"] == 64


def test_no_law_is_chosen_where_all_foretell_alike():
    flat = 2.0 * np.exp(0.3 * numpy_rng(1).standard_normal((40, len(SHOTS))))
    found = fit_shot_laws(flat, SHOTS, resamples=60)
    assert found.chosen == ""
    assert "of resamples only" in found.note
    assert sum(found.shares.values()) == pytest.approx(1)
    assert list(found.shares) == list(LAWS)


def test_rows_of_one_cluster_are_drawn_together():
    few = curves("power", (0.4, 3.0), questions=8, noise=0.4)
    alone = fit_shot_laws(few, SHOTS, resamples=100).table
    copies = fit_shot_laws(np.repeat(few, 10, 0), SHOTS, clusters=np.repeat(np.arange(8), 10), resamples=100).table
    one, two = (t[t["law"] == "power"] for t in (alone, copies))
    assert two["value"].tolist() == pytest.approx(one["value"].tolist(), rel=1e-6)
    # were each copy drawn by itself, the interval would be a third as long
    assert np.ptp(two[["low", "high"]].iloc[0]) == pytest.approx(np.ptp(one[["low", "high"]].iloc[0]), rel=0.4)
    one, two = (fit_shot_laws(few, SHOTS, resamples=30, seed=3).table for _ in range(2))
    assert one.equals(two)


def test_errors():
    y = curves("power", (0.4, 3.0), questions=8)
    for change, error, match in (
        ({"nll": y[:, 1:]}, errors.ShapeMismatch, "16 numbers of shots and values of shape"),
        ({"nll": np.where(np.arange(16) == 2, np.nan, y)}, errors.NotFinite, "8 of 128 negative log-likelihoods are NaN"),
        ({"nll": -y}, errors.BadInput, "are 0 or more, and shots rise"),
        ({"shots": [0, *SHOTS[1:]]}, errors.BadInput, "shots rise from 1 or more"),
        ({"every": 1}, errors.BadInput, "every is 2 or more"),
        ({"clusters": [0, 1] * 4}, errors.TooFew, "2 clusters: 5 at least"),
    ):
        with pytest.raises(error, match=match):
            fit_shot_laws(**({"nll": y, "shots": SHOTS} | change))
    with pytest.raises(errors.TooFew, match="5 numbers of shots of which 2 are held out"):
        fit_shot_laws(y[:, :5], SHOTS[:5])
