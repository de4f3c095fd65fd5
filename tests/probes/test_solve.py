"""The batched solver against scikit-learn, path, folds and all; and what is refused before it runs."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.probes import fit_lda, fit_logistic, fit_multiclass, fit_multilabel, fit_ridge, fit_svm
from workbench.probes.linear import shrinkage_of
from workbench.probes.solve import Axes, solve
from workbench.prompts import grouped_folds


def rows(n=150, d=20, seed=0, gap=0.4):
    rng = numpy_rng(seed)
    spread = np.linspace(3, 0.1, d)
    return rng.standard_normal((n, d)) * spread + gap, rng.standard_normal((n - 30, d)) * spread


def stack(a, b):
    return np.r_[a, b], np.r_[np.ones(len(a)), np.zeros(len(b))]


def apart(ours, theirs):
    return float(np.linalg.norm(np.ravel(ours) - np.ravel(theirs)) / np.linalg.norm(theirs))


@pytest.mark.parametrize("c", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("d", [20, 400])
def test_logistic_is_sklearns_converged(c, d):
    a, b = rows(d=d)
    probe = fit_logistic(a, b, normalise="none", c=c)
    oracle = LogisticRegression(C=c, tol=1e-10, max_iter=10_000, solver="newton-cholesky").fit(*stack(a, b))
    assert apart(probe.weight, oracle.coef_) < 1e-3
    assert probe.bias == pytest.approx(oracle.intercept_[0], rel=1e-3, abs=1e-4)


def test_a_batch_of_folds_and_strengths_is_what_each_fit_is_alone():
    a, b = rows(d=30)
    x, y = stack(a, b)
    t, rng = torch.as_tensor(2 * y - 1)[:, None], numpy_rng(1)
    weights = torch.as_tensor(rng.integers(0, 2, (len(x), 6)).astype(float))
    penalties = torch.tensor([1e4, 1.0, 1e-3, 1e-4, 0.1, 10.0])
    axes = Axes.of(torch.as_tensor(x).float())
    w, bias = solve(axes, t, weights, penalties, intercept=True)
    for k in range(6):
        keep = weights[:, k].numpy() > 0
        oracle = LogisticRegression(C=1 / float(penalties[k]), tol=1e-10, max_iter=10_000, solver="newton-cholesky").fit(x[keep], y[keep])
        assert apart(w[:, k], oracle.coef_) < 1e-3
        assert float(bias[k]) == pytest.approx(oracle.intercept_[0], rel=1e-2, abs=1e-3)


def test_svm_ridge_and_lda_are_sklearns():
    a, b = rows()
    x, y = stack(a, b)
    # pairs: no intercept, and a mirror image of each row
    labels = y.astype(int)
    svm = fit_svm(x, np.zeros_like(x), labels, normalise="none", c=0.3)
    oracle = LinearSVC(C=0.3, fit_intercept=False, dual=False, tol=1e-8, max_iter=100_000, random_state=0).fit(x, y)
    assert apart(svm.weight, oracle.coef_) < 1e-3
    ridge = fit_ridge(a, b, normalise="none", c=0.05)
    oracle = Ridge(alpha=20.0).fit(x, 2 * y - 1)
    assert apart(ridge.weight, oracle.coef_) < 1e-3
    assert ridge.bias == pytest.approx(oracle.intercept_, abs=1e-3)
    lda = fit_lda(a, b, normalise="none", shrinkage=0.2)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(x, y)
    assert apart(lda.weight, oracle.coef_) < 1e-3
    assert lda.bias == pytest.approx(oracle.intercept_[0], abs=1e-2)


@pytest.mark.parametrize("shape", [(60, 15), (15, 60)])
def test_shrinkage_is_sklearns(shape):
    x = numpy_rng(2).standard_normal(shape) * np.linspace(1, 4, shape[1])
    x -= x.mean(0)
    assert shrinkage_of(torch.as_tensor(x)) == pytest.approx(LedoitWolf(assume_centered=True).fit(x).shrinkage_, rel=1e-3)


def test_strength_is_chosen_on_folds():
    rng = numpy_rng(3)
    x = rng.standard_normal((300, 60))
    y = (x[:, 0] + 2 * rng.standard_normal(300) > 0).astype(int)  # weak: a strong penalty is better
    part = np.arange(300) % 5 == np.arange(5)[:, None]
    probe = fit_logistic(x, np.zeros_like(x), y, c=[1e-4, 1e-2, 1e4], folds=(~part, part))
    assert list(probe.path) == [1e-4, 1e-2, 1e4]
    assert probe.strength == min(probe.path, key=probe.path.get)
    assert probe.strength < 1
    oracle = []
    for c in probe.path:
        losses = []
        z = (x - x.mean(0)) / x.std(0)
        for k in range(5):
            m = LogisticRegression(C=c, fit_intercept=False, tol=1e-8, max_iter=10_000).fit(z[~part[k]], y[~part[k]])
            losses.append(np.logaddexp(0, -(2 * y[part[k]] - 1) * m.decision_function(z[part[k]])))
        oracle.append(np.concatenate(losses).mean())
    assert list(probe.path.values()) == pytest.approx(oracle, rel=1e-2)


def test_grouped_folds_share_nothing():
    frame = wb.prompts.udhr(n=400).to_frame()
    fit, held = grouped_folds(frame, 4, seed=1)
    for a, b in zip(fit, held, strict=True):
        for column in ("identity", "right"):
            assert not set(frame[column][a]) & set(frame[column][b])
    with pytest.raises(errors.BadInput, match="two rows a fold at least"):
        grouped_folds(frame.head(5), 4)
    with pytest.raises(errors.BadInput, match="5 folds need 5 groups, and there are 2 values of identity"):
        grouped_folds(frame.assign(identity=["a", "b"] * 200), 5, by=("identity",))


def test_several_classes():
    rng = numpy_rng(4)
    middle = 3 * rng.standard_normal((3, 12))
    y = rng.integers(0, 3, 240)
    x = middle[y] + rng.standard_normal((240, 12))
    probe = fit_multiclass(x, np.array(["a", "b", "c"])[y], normalise="none")
    oracle = LogisticRegression(tol=1e-8, max_iter=10_000).fit(x, y)
    assert probe.probability(x) == pytest.approx(oracle.predict_proba(x), abs=1e-2)
    assert (probe.predict(x) == np.array(["a", "b", "c"])[y]).mean() > 0.9
    two = fit_multiclass(x[y < 2], y[y < 2], normalise="none")
    oracle = LogisticRegression(tol=1e-8, max_iter=10_000).fit(x[y < 2], y[y < 2])
    assert two.probability(x)[:, 1] == pytest.approx(oracle.predict_proba(x)[:, 1], abs=1e-2)
    with pytest.raises(errors.OneClass, match="two classes at least"):
        fit_multiclass(x, np.zeros(240, int))


def test_several_labels():
    rng = numpy_rng(5)
    x = rng.standard_normal((200, 8))
    labels = (x[:, :3] + rng.standard_normal((200, 3)) > 0).astype(int)
    probe = fit_multilabel(x, labels, ("p", "q", "r"), normalise="none")
    for k in range(3):
        oracle = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x, labels[:, k])
        assert apart(probe.weight[k], oracle.coef_) < 1e-3
    assert probe.predict(x).shape == (200, 3)
    labels[:, 1] = 1
    with pytest.raises(errors.OneClass, match="all 200 rows have q = 1"):
        fit_multilabel(x, labels, ("p", "q", "r"))


def test_bad_input():
    a, b = rows(n=40, d=100)
    with pytest.raises(errors.BadInput, match="several strengths need folds"):
        fit_logistic(a, b, c=[1.0, 2.0])
    with pytest.raises(errors.BadInput, match="without a penalty the fit is not determined"):
        fit_logistic(a, b, c=float("inf"))
    with pytest.raises(errors.BadInput, match="both variants are the same in every pair"):
        fit_logistic(a, a, np.arange(40) % 2)
    with pytest.raises(errors.BadInput, match="no feature varies"):
        fit_logistic(np.ones((5, 3)), np.ones((6, 3)))
    with pytest.raises(errors.BadInput, match="without shrinkage the covariance has no inverse"):
        fit_lda(a, b, shrinkage=0.0)
    with pytest.raises(errors.BadInput, match="shrinkage is between 0 and 1"):
        fit_lda(a, b, shrinkage=1.5)
    with pytest.raises(errors.BadInput, match="needs the form of each item"):
        fit_logistic(a, a + 1 + b.mean(), np.arange(40) % 2, per="template")
