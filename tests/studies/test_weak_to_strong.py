"""The weak-to-strong study: who is shown what, what is counted, its findings on planted tables, and a planted truth with its twin."""

import math

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.core import errors
from workbench.runs.handle import inside_step, of_loaded
from workbench.studies.weak_to_strong.counted import EMPTY, HELD, RANDOM, TEACHER, TRUTH, UNTAUGHT, accuracies, repeated
from workbench.studies.weak_to_strong.report import closed, confidence, controls, imitated, recovered, repeats, taught
from workbench.studies.weak_to_strong.settings import WeakToStrongSettings
from workbench.studies.weak_to_strong.study import STUDY, WeakToStrong

SMALL = {"teach": 60, "train": 80, "test": 100, "students": ("probe",), "claims": ("harm",)}


class Steps:
    """Captures at once."""

    progress = False

    def read(self, name, handle, prompts, *, layers, answers):
        return wb.capture(handle.load(), prompts, layers=layers, logits="answers" if answers else None, progress=False)


def made(weak, strong, **settings):
    study = WeakToStrong({"weak": of_loaded(weak), "strong": of_loaded(strong)}, WeakToStrongSettings(**(SMALL | settings)), Steps())
    with inside_step():
        study.read()
    return study


@pytest.fixture(scope="module")
def planted(organism):
    """The twin organism, in which a probe reads less, teaches the one in which the truth was planted."""
    return made(wb.load_model("udhr-organism-no-verdict"), organism)


def test_who_is_shown_what(planted):
    who = {"teach": planted.teach, "train": planted.train["strong"], "test": planted.tests["strong"][HELD]}
    for column in ("identity", "right"):
        seen = {name: {getattr(p, column) for p in prompts} for name, prompts in who.items()}
        assert not seen["teach"] & seen["train"]
        assert not seen["teach"] & seen["test"]
        assert not seen["train"] & seen["test"]
    # both models meet the same statements, in the same order, also under a claim
    for one, other in (
        (planted.train["weak"], planted.train["strong"]),
        (planted.tests["weak"][HELD], planted.tests["strong"]["harm claim"]),
    ):
        assert [p.meta["statement"] for p in one] == [p.meta["statement"] for p in other]
        assert one.labels == other.labels


def test_what_students_are_given(planted):
    with inside_step():
        targets, truth = planted.targets, np.array(planted.seen.labels)
    weak = targets["plain"]
    assert targets["confidence"] is weak
    wrong = (weak > 0.5) != truth
    assert 0.02 < wrong.mean() < 0.4
    assert ((targets[RANDOM] > 0.5) != truth).sum() == wrong.sum()
    assert np.allclose(np.sort(np.abs(targets[RANDOM] - 0.5)), np.sort(np.abs(weak - 0.5)))
    empty = targets[EMPTY] > 0.5
    assert [abs(int((empty == truth)[truth == v].sum()) - (truth == v).sum() / 2) <= 0.5 for v in (0, 1)] == [True, True]
    assert targets[TRUTH].tolist() == truth.tolist()


def test_planted_truth_is_recovered_and_in_an_untrained_copy_there_is_no_gap(planted):
    from workbench.core.tables import units_of

    with inside_step():
        right = planted._right(HELD)
    table = pd.DataFrame(accuracies(HELD, right, units_of(planted.asked[HELD].rows)))
    gap = table[(table["student"] == "probe") & (table["trained"] == "plain") & (table["metric"] == "gap recovered")].iloc[0]
    assert gap["low"] > 0
    assert gap["value"] > 0.9
    twin = table[(table["student"] == "probe, untrained copy") & (table["metric"] == "gap recovered")].iloc[0]
    assert math.isnan(twin["value"])
    assert "not told to be above 0" in twin["note"]


def test_a_teacher_that_is_never_wrong_leaves_no_gap(organism):
    study = made(organism, organism, weak_layer=4, claims=())
    with inside_step():
        right = study._right(HELD)
    rows = accuracies(HELD, right, None)
    assert all(math.isnan(r["value"]) for r in rows if r["metric"] == "gap recovered")
    assert all("the teacher is wrong on" in r["note"] for r in repeated(HELD, right, None))


def test_answers_teach_too(organism):
    study = made(organism, organism, teacher="answers", claims=(), train=40, test=40, teach=40)
    with inside_step():
        weak = study.marks(study.marked[HELD])
        asked = wb.answers(organism, study.tests["weak"][HELD], progress=False)
    assert ((weak > 0.5) == asked["answer"]).all()


def counted(**more):
    """Right or wrong on 200 rows: a teacher, a ceiling, students that copy the teacher, or that do not."""
    rng = np.random.default_rng(0)
    weak = (rng.random(200) > 0.3).astype(float)
    best = (rng.random(200) > 0.03).astype(float)
    copy, own = np.where(rng.random(200) < 0.9, weak, best), (rng.random(200) > 0.15).astype(float)
    return {
        (TEACHER, ""): weak, (UNTAUGHT, "nothing"): best, ("probe", TRUTH): best, ("probe", "plain"): copy, ("probe", "confidence"): own,
        ("probe", RANDOM): best, ("probe", EMPTY): 1 - best, **more,
    }  # fmt: skip


def test_findings_follow_the_intervals():
    table, errors_ = pd.DataFrame(accuracies(HELD, counted(), None)), pd.DataFrame(repeated(HELD, counted(), None))
    said = recovered(table, HELD)[0]
    assert "plain: " in said
    assert "not told from the teacher" in said
    assert "a part of the gap" in said
    assert "confidence" in confidence(table)[0]
    assert "better" in confidence(table)[0]
    copied, own = imitated(errors_)[0].split("confidence: ")
    assert "repeats the teacher's errors" in copied
    assert "no imitation is told" in own
    told = controls(table)[0]
    assert "errors at random places" in told
    assert "not told from the ceiling" in told
    assert "the truth, or its opposite" in told
    labels = pd.DataFrame([{"metric": "accuracy", "value": 0.7, "low": 0.6, "high": 0.8, "n": 90}])
    assert "probe 0.9" in taught(table, labels)[0]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (math.nan, math.nan, "refused"), (-0.5, -0.1, "below"), (-0.1, 0.3, "none"), (0.2, 0.8, "part"), (0.2, 1.3, "all"), (1.1, 1.5, "above"),
        (-0.2, 1.2, "unknown"),
    ],
)  # fmt: skip
def test_verdicts(low, high, verdict):
    assert closed(low, high) == verdict


def test_hard_statements_are_no_imitation():
    row = wb.core.estimate.Estimate(value=0.3, low=0.2, high=0.4, n=100, clusters=50)
    alike, apart = (wb.core.estimate.Estimate(value=v, low=v - 0.1, high=v + 0.1, n=100, clusters=50) for v in (0.25, 0.0))
    assert "so does the ceiling" in repeats(row, alike)
    assert repeats(row, apart) == "repeats the teacher's errors"
    assert "errs where the teacher is right" in repeats(wb.core.estimate.Estimate(value=-0.3, low=-0.4, high=-0.2, n=9, clusters=9), None)


def test_bad_settings_are_refused(tmp_path):
    for change, text in (
        ({"teacher": "prob"}, "Did you mean 'probe'"),
        ({"students": ("probe", "probe")}, "each once"),
        ({"losses": ("confident",)}, "Did you mean 'confidence'"),
        ({"train": 10}, "train: 40 at least"),
        ({"own": 1.0}, "from 0 to below 1"),
        ({"full_lr": 0.0}, "above 0"),
        ({"other": str(tmp_path / "none.csv")}, "no file or folder"),
        ({"claims": ("harmm",)}, "Did you mean 'harm'"),
    ):
        with pytest.raises(errors.BadInput, match=text):
            WeakToStrongSettings(**change)
    assert STUDY.models == ("weak", "strong")
    two = of_loaded(wb.load_model("bundled"))
    file = tmp_path / "requests.csv"
    file.write_text("statement,label\nIce is cold.,1\n")
    with pytest.raises(errors.UnknownLayer):
        WeakToStrong({"weak": two, "strong": two}, WeakToStrongSettings(**SMALL, weak_layer=9), Steps())
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.BadInput, match=r"holds no \.csv"):
        WeakToStrong({"weak": two, "strong": two}, WeakToStrongSettings(**SMALL, other=str(tmp_path / "empty")), Steps())
