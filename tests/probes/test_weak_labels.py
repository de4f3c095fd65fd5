"""A probe taught by probabilities: the truth behind a noisy teacher is found, a teacher's learnable error is repeated, and oracles."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import workbench as wb
from workbench.core import errors
from workbench.probes import STUDENT_LOSSES, fit_weak_labels
from workbench.probes.weak_labels import own_answers, soft_targets


def planted(n, seed, width=12, feature=0.0):
    """Pairs that hold the truth along one axis, and something else along another that a teacher may confuse with it."""
    rng = np.random.default_rng(seed)
    truth, other = rng.integers(0, 2, n), (rng.random(n) < 0.3).astype(int)
    x = rng.standard_normal((n, width))
    x[:, 0] += 3 * (2 * truth - 1)
    x[:, 1] += feature * (2 * other - 1)
    return torch.tensor(x / 2).float(), truth, other


def right(probe, x, truth):
    return float((probe.predict(x, -x) == truth).mean())


@pytest.mark.parametrize("loss", STUDENT_LOSSES)
def test_a_student_sees_through_random_errors(loss):
    x, truth, _ = planted(400, 0)
    held, held_truth, _ = planted(400, 1)
    wrong = np.random.default_rng(2).random(400) < 0.3
    weak = np.where(truth ^ wrong, 0.8, 0.2)
    assert right(fit_weak_labels(x, -x, weak, loss=loss, c=0.1), held, held_truth) > 0.9  # the teacher: .7
    # the twin: the same labels over streams in which there is no truth
    nothing = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
    twin = fit_weak_labels(nothing, -nothing, weak, loss=loss, c=0.1)
    assert abs(right(twin, torch.randn(400, 12, generator=torch.Generator().manual_seed(1)), held_truth) - 0.5) < 0.1


def test_an_error_that_can_be_learnt_is_repeated_and_confidence_repeats_less():
    x, truth, other = planted(600, 0, feature=3.0)
    held, held_truth, held_other = planted(600, 1, feature=3.0)
    weak = np.where(other == 1, 0.1, np.where(truth == 1, 0.9, 0.1))  # calls everything with the feature false
    found = {loss: fit_weak_labels(x, -x, weak, loss=loss, weight=0.75, c=1.0) for loss in STUDENT_LOSSES}
    wrong = (held_other == 1) & (held_truth == 1)
    repeated = {loss: float((p.predict(held, -held)[wrong] == 0).mean()) for loss, p in found.items()}
    assert repeated["plain"] > 0.7
    assert repeated["confidence"] < repeated["plain"]  # half must be positive, the teacher has a third


def test_hard_targets_under_the_plain_loss_are_the_logistic_probe():
    x, truth, _ = planted(150, 4)
    ours, theirs = fit_weak_labels(x, -x, truth, c=0.3), wb.fit_logistic(x, -x, truth, c=0.3)
    assert torch.allclose(ours.weight, theirs.weight, rtol=1e-3, atol=1e-4)


def test_soft_targets_are_weighted_rows():
    x, _, _ = planted(80, 5)
    weak = np.random.default_rng(0).random(80)
    probe = fit_weak_labels(x, -x, weak, c=0.5, normalise="none")
    features = 2 * x.numpy()
    oracle = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=5000)
    oracle.fit(np.r_[features, features], np.r_[np.ones(80), np.zeros(80)], np.r_[weak, 1 - weak])
    assert np.allclose(probe.weight.numpy(), oracle.coef_[0], rtol=2e-3, atol=2e-4)


def test_own_answers_are_as_many_as_the_loss_says():
    scores, weak = torch.tensor([3.0, 2.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert own_answers(scores, weak, "confidence").tolist() == [1, 1, 0, 0]
    assert own_answers(scores, weak, "log_confidence").tolist() == [1, 1, 1, 0]
    assert soft_targets(scores, weak, "confidence", 0.5).tolist() == [1, 1, 0.5, 0]
    assert soft_targets(scores, weak, "plain", 0.5) is weak
    assert not own_answers(scores.requires_grad_(), weak, "confidence").requires_grad


def test_the_strength_is_chosen_without_the_truth():
    x, truth, _ = planted(200, 6)
    weak = np.where(np.random.default_rng(0).random(200) < 0.5, 0.9, 0.1)
    folds = np.arange(200) % 4 != np.arange(4)[:, None], np.arange(200) % 4 == np.arange(4)[:, None]
    probe = fit_weak_labels(x, -x, weak, c=(1e-4, 1.0, 1e4), folds=folds)
    assert probe.strength == 1e-4  # what cannot be learnt is best not tried
    assert fit_weak_labels(x, -x, truth, c=(1e-4, 1.0), folds=folds).strength == 1.0
    assert set(probe.path) == {1e-4, 1.0, 1e4}


def test_what_is_refused():
    x, truth, _ = planted(20, 7)
    for kind, text, targets, more in (
        (errors.UnknownName, "Did you mean 'confidence'", truth, {"loss": "confident"}),
        (errors.ShapeMismatch, "20 items and targets", truth[:5], {}),
        (errors.BadInput, "probabilities", truth * 2, {}),
        (errors.BadInput, "own answers", truth, {"weight": 1.5}),
        (errors.OneClass, "every target is 0.500", np.full(20, 0.5), {}),
        (errors.BadInput, "need folds", truth, {"c": (0.1, 1.0)}),
    ):
        with pytest.raises(kind, match=text):
            fit_weak_labels(x, -x, targets, **more)
    with pytest.raises(errors.BadInput, match="the same in every pair"):
        fit_weak_labels(x, x, truth, normalise="none")
