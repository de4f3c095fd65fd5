"""The gap that a student closes and the errors that it repeats: simulated teachers and students whose truth is known."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.evaluation import gap_recovered, imitation

FILE = Path(__file__).parents[2] / "benchmarks" / "weak_to_strong.py"


@pytest.fixture(scope="module")
def simulate():
    spec = importlib.util.spec_from_file_location("weak_to_strong_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.simulate


@pytest.mark.parametrize(("recovered", "copied"), [(0.0, 0.9), (0.5, 0.6), (1.0, 0.0)])
def test_the_interval_holds_the_true_share(simulate, recovered, copied):
    hits = 0
    for k in range(80):
        w, s, c, units = simulate(numpy_rng(k, "test", recovered), (40, 5, 0), 0.7, 0.95, recovered, copied)
        e = gap_recovered(s, w, c, units)
        hits += e.low <= recovered <= e.high
    assert hits >= 0.93 * 80 - 2  # two of the 80 for the Monte-Carlo error


def test_it_is_refused_where_ceiling_and_teacher_are_alike(simulate):
    notes = []
    for k in range(60):
        w, s, c, units = simulate(numpy_rng(k, "alike"), (40, 5, 0), 0.85, 0.85, 0.0, 0.0)
        e = gap_recovered(s, w, c, units)
        notes.append(e.note if math.isnan(e.value) else "")
    assert sum(map(bool, notes)) >= 56
    assert "not told to be above 0" in next(filter(None, notes))
    # a ceiling below the teacher is no gap to be closed, however sure
    w, s, c, units = simulate(numpy_rng(0, "below"), (40, 5, 0), 0.9, 0.6, 0.0, 0.0)
    assert "ceiling - teacher = -0." in gap_recovered(s, w, c, units).note


def test_a_student_that_is_the_teacher_or_the_ceiling_still_has_a_width(simulate):
    w, _, c, units = simulate(numpy_rng(0, "same"), (40, 5, 0), 0.7, 0.95, 0.0, 0.0)
    same, best = gap_recovered(w, w, c, units), gap_recovered(c, w, c, units)
    assert (same.value, best.value) == (0, 1)
    assert same.low < -0.02 < 0.02 < same.high
    assert best.low < 0.98 < 1.02 < best.high


def test_imitation_is_found_where_it_was_planted_and_only_there():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(50), 8)
    weak = (rng.random(400) > 0.25).astype(float)
    alone = (rng.random(400) > 0.25).astype(float)
    copies = np.where(rng.random(400) < 0.8, weak, alone)
    planted, twin = imitation(copies, weak, who), imitation(alone, weak, who)
    assert planted.excess.low > 0.4
    assert twin.excess.low < 0 < twin.excess.high
    assert twin.agrees.value == pytest.approx(1 - alone[weak == 0].mean())
    assert twin.expected.value == pytest.approx(1 - alone.mean())
    assert planted.excess.value == pytest.approx(planted.agrees.value - planted.expected.value)
    never = imitation(np.maximum(alone, 1 - weak), weak, who)  # right wherever the teacher is wrong
    assert never.excess.high < 0
    assert imitation(np.ones(400), weak, who).excess.high > 0  # a student without errors repeats none, and not fewer than expected


def test_the_excess_of_independent_errors_is_covered():
    hits = 0
    for k in range(200):
        rng = np.random.default_rng(k)
        who = np.repeat(np.arange(40), 5)
        weak, student = ((rng.random(200) > p).astype(float) for p in (0.3, 0.2))
        e = imitation(student, weak, who).excess
        hits += e.low <= 0 <= e.high
    assert hits >= 184


def test_few_errors_say_nothing():
    weak = np.ones(100)
    weak[:9] = 0
    found = imitation(weak, weak)
    assert math.isnan(found.excess.value)
    assert "wrong on 9 rows: 10 at least" in found.excess.note


def test_what_is_refused():
    with pytest.raises(errors.ShapeMismatch, match=r"weak \(2,\)"):
        gap_recovered([1, 0, 1], [1, 0], [1, 1, 1])
    with pytest.raises(errors.BadInput, match="ceiling: whether each row is right"):
        gap_recovered([1, 0], [1, 0], [0.5, 1])
    assert gap_recovered([], [], []).note == "no rows"
