"""A supervised method of one's own: found where truth is planted, not where it is not, and refused in words."""

import functools

import numpy as np
import pytest
import torch
from made import activations, cosine
from sklearn.linear_model import LogisticRegression

import workbench as wb
from workbench.core import errors
from workbench.probes import fit_layers, fit_mass_mean, sample_efficiency, selectivity, transfer_matrix


def a_vector(x_positive, x_negative, seed):
    return x_positive.mean(0) - x_negative.mean(0)


def a_numpy_vector(x_positive, x_negative, seed):
    return np.asarray(x_positive).mean(0) - np.asarray(x_negative).mean(0)


def a_function(x_positive, x_negative, seed):
    weight = x_positive.mean(0) - x_negative.mean(0)
    return lambda rows: rows @ weight


def a_probe(x_positive, x_negative, seed):
    return wb.fit_logistic(x_positive, x_negative)


def a_classifier(x_positive, x_negative, seed):
    rows, labels = np.r_[x_positive, x_negative], np.r_[np.ones(len(x_positive)), np.zeros(len(x_negative))]
    return LogisticRegression(random_state=seed).fit(rows, labels)


def a_direction(x_positive, x_negative, seed):
    return wb.extract_direction(x_positive, x_negative)


OWN = [a_vector, a_numpy_vector, a_function, a_probe, a_classifier, a_direction]


@pytest.mark.parametrize("method", OWN, ids=lambda m: m.__name__)
def test_planted_truth_is_found_and_a_null_twin_is_not(method):
    table = wb.probe_layers(activations(signal=6.0), methods=[method], controls=(), resamples=50)
    read = table[(table["layer"] == 1) & (table["metric"] == "accuracy")].iloc[0]
    assert read["method"] == method.__name__
    assert read["value"] > 0.9
    assert read["low"] > 0.6
    assert set(table["metric"]) == {
        "accuracy",
        "auroc",
        "calibration_error",
        "brier",
    }  # scaled on validation rows, as other supervised methods
    null = wb.probe_layers(activations(signal=0.0), methods=[method], controls=(), resamples=50)
    read = null[null["metric"] == "accuracy"]
    assert (read["low"] < 0.5).all()
    assert (read["high"] > 0.5).all()


def test_a_method_of_ones_own_equals_the_built_in_one():
    acts = activations(signal=2.0)
    ours, theirs = fit_layers(acts, a_vector), fit_layers(acts, "mass_mean")
    assert ours.supervised
    for layer in acts.layers:
        assert cosine(ours.probes[layer].vector, theirs.probes[layer].vector) == pytest.approx(1, abs=1e-6)
        assert (np.sign(ours.scores(acts, layer)) == np.sign(theirs.scores(acts, layer))).all()


def test_it_sees_the_true_variant_first_normalised_and_the_seed():
    seen = {}

    def watching(x_positive, x_negative, seed):
        seen.update(positive=x_positive, negative=x_negative, seed=seed)
        return x_positive.mean(0) - x_negative.mean(0)

    acts = activations(signal=3.0).where(layers=[1])
    fit = fit_layers(acts, watching, seed=7)
    a, b = fit.probes[1].scaler(acts.layer(1)[:, 1], acts.layer(1)[:, 0])
    is_true = torch.as_tensor(acts.labels == 1)[:, None]
    assert torch.equal(seen["positive"], torch.where(is_true, a, b))
    assert torch.equal(seen["negative"], torch.where(is_true, b, a))
    assert seen["seed"] == 7
    x = acts.layer(1)
    assert (fit.probes[1].predict(x[:, 1], x[:, 0]) == (fit.scores(acts, 1) > 0)).all()
    assert "watching" in repr(fit.probes[1])


def test_the_seed_may_be_a_keyword_and_the_method_a_partial_or_an_object():
    acts = activations(signal=6.0).where(layers=[1])

    def by_keyword(x_positive, x_negative, *, seed):
        return x_positive.mean(0) - x_negative.mean(0)

    class Method:
        __name__ = "an object"

        def __call__(self, x_positive, x_negative, seed=0):
            return x_positive.mean(0) - x_negative.mean(0)

    expected = fit_layers(acts, a_vector).scores(acts, 1)
    for method in (by_keyword, Method(), functools.partial(a_vector)):
        assert (fit_layers(acts, method).scores(acts, 1) == expected).all()


def test_transfer_selectivity_and_sample_efficiency_take_it():
    a, b = activations(signal=5.0), activations(signal=5.0, seed=1)
    moved = transfer_matrix({"a": a, "b": b}, method=a_vector, layers=[1])
    same = moved[moved["fit_condition"] == moved["condition"]]
    assert set(moved["method"]) == {"a_vector"}
    assert (same["value"] > 0.85).all()
    assert selectivity(a.where(layers=[1]), a_vector)[1][0].value > 0.2
    few = sample_efficiency(a, layer=1, methods=[a_vector, a_function], sizes=[32], repeats=3, perfect_world=False, resamples=200)
    got = few.set_index(["method", "metric"])["value"]
    assert got["a_vector", "accuracy"] > 0.75
    assert got["a_function", "accuracy"] == got["a_vector", "accuracy"]
    assert got["a_vector", "stability"] > 0.5
    assert ("a_function", "stability") not in got.index  # a function has no direction


def test_beside_nonlinear_methods_it_gets_a_selectivity():
    table = wb.probe_layers(activations(signal=5.0).where(layers=[1]), methods=[a_vector, "mass_mean", "knn"], controls=(), resamples=50)
    assert set(table[table["metric"] == "selectivity"]["method"]) == {"a_vector", "mass_mean", "knn"}


def test_a_function_of_two_arguments_stays_a_loss_that_sees_no_label():
    def apart(p_negative, p_positive):
        return ((p_positive + p_negative - 1) ** 2 + p_positive * p_negative).mean(-1)

    assert not fit_layers(activations(signal=6.0).where(layers=[1]), apart, restarts=2, epochs=20).supervised


def returns(value):
    def mine(x_positive, x_negative, seed):
        return value

    return mine


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (None, errors.BadInput, r"'mine' returned NoneType, which cannot be read: a supervised method returns a vector of length 16"),
        (torch.zeros(3), errors.ShapeMismatch, r"returned an array of shape \(3,\): a supervised method returns"),
        (torch.zeros(16), errors.NotFinite, "returned a vector of zeros"),
        (torch.full((16,), torch.nan), errors.NotFinite, "returned a vector of NaN or infinity"),
        (["a"] * 16, errors.BadInput, "that is no vector of numbers"),
        (lambda rows: rows, errors.ShapeMismatch, r"gives scores of shape \(\d+, 16\) for \d+ rows"),
        (lambda rows: rows[:, 0] / 0, errors.NotFinite, "scores that are NaN or infinite"),
        (lambda: 0, errors.BadInput, "cannot score rows"),
        (LogisticRegression, errors.BadInput, "returned the class LogisticRegression, not an object of it"),
    ],
)
def test_what_cannot_be_read_is_refused(value, error, match):
    with pytest.raises(error, match=match):
        fit_layers(activations().where(layers=[1]), returns(value))


def test_a_probe_of_pairs_cannot_score_rows():
    def pairs(x_positive, x_negative, seed):
        return fit_mass_mean(x_positive, x_negative, np.arange(len(x_positive)) % 2)

    with pytest.raises(errors.BadInput, match=r"cannot score rows \(this probe reads pairs"):
        fit_layers(activations().where(layers=[1]), pairs)


def test_names_must_tell_methods_apart():
    acts = activations()

    def logistic(x_positive, x_negative, seed):
        return x_positive.mean(0)

    with pytest.raises(errors.BadInput, match="named 'logistic', which is the name of a built-in method"):
        wb.probe_layers(acts, methods=[logistic])
    with pytest.raises(errors.BadInput, match="several methods are named 'mine'"):
        wb.probe_layers(acts, methods=[returns(0), returns(1)])
    with pytest.raises(errors.BadInput, match="several methods are named 'mine'"):
        sample_efficiency(acts, layer=1, methods=[returns(0), returns(1)])


def test_only_what_gave_a_direction_has_one():
    acts = activations(signal=6.0).where(layers=[1])
    with pytest.raises(errors.BadInput, match="no one direction"):
        _ = fit_layers(acts, a_function).probes[1].vector
    for method in (a_vector, a_probe, a_classifier, a_direction):
        assert cosine(fit_layers(acts, method).probes[1].vector, fit_layers(acts, "mass_mean").probes[1].vector) > 0.7
