"""Toy models: their examples, the gradient that is written out, and that neighbours in a batch change nothing."""

import pytest
import torch

from workbench.core.errors import BadInput
from workbench.features import toys
from workbench.features.toys import Toy, crossed, features_of, train_toys, width_of


def draws(n, sets, features=6):
    return torch.rand(1, width_of(features, sets), n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_features_are_absent_as_often_as_told_and_uniform_otherwise(sparsity):
    x = features_of(draws(20000, "independent"), torch.tensor([sparsity]), 6)[0]
    assert abs(float((x == 0).float().mean()) - sparsity) < 0.01
    present = x[x > 0]
    assert abs(float(present.mean()) - 0.5) < 0.02
    assert abs(float(present.std()) - (1 / 12) ** 0.5) < 0.01


def test_correlated_features_come_together_and_anticorrelated_ones_never_do():
    gap = torch.tensor([0.8])
    together = features_of(draws(20000, "correlated"), gap, 6, "correlated")[0] > 0
    apart = features_of(draws(20000, "anticorrelated"), gap, 6, "anticorrelated")[0] > 0
    assert (together[0] == together[1]).all()
    assert not (apart[0] & apart[1]).any()
    assert abs(float(together[0].float().mean()) - 0.2) < 0.01
    assert abs(float(apart[0].float().mean()) - 0.1) < 0.01
    # features of two pairs have nothing to do with each other
    assert abs(float((together[0] & together[2]).float().mean()) - 0.04) < 0.01


def test_the_gradient_is_that_of_autograd():
    some = [Toy(sparsity=0.5, importance=(1.0, 0.5, 0.2), activation=a, seed=s) for a in ("relu", "linear") for s in (0, 1)]
    program = toys._Program(some, 2, "independent", 16)
    program.bias += 0.1
    x = next(program.examples(1))
    loss, of_weights, of_bias = program.gradient(x)
    w, b = program.weights.clone().requires_grad_(), program.bias.clone().requires_grad_()
    z = w.mT @ (w @ x) + b[:, :, None]
    out = torch.where(torch.tensor([t.activation == "linear" for t in some])[:, None, None], z, z.relu())
    own = (program.importance[:, :, None] * (x - out) ** 2).sum(1).mean(1)
    own.sum().backward()
    torch.testing.assert_close(loss, own.detach())
    torch.testing.assert_close(of_weights, w.grad)
    torch.testing.assert_close(of_bias, b.grad)


def test_an_instance_is_the_same_whatever_is_trained_beside_it():
    some = crossed([0.0, 0.9], [[1.0, 0.5, 0.25]], activations=("relu", "linear"), seeds=3)
    together = train_toys(some, 2, steps=40, batch=32, progress=False)
    for k in (1, 5, 10):
        alone = train_toys([some[k]], 2, steps=40, batch=32, progress=False)
        torch.testing.assert_close(alone.weights[0], together.weights[k], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.loss[0], together.loss[k], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(together.weights[0], together.weights[1], atol=1e-2)  # seeds do differ


def test_hidden_activations_are_those_of_the_features():
    trained = train_toys(crossed([0.8], [[1.0] * 5], seeds=1), 2, steps=5, batch=8, progress=False)
    x, h = trained.hidden(0, 50, seed=3)
    assert x.shape == (50, 5)
    torch.testing.assert_close(h, x @ trained.weights[0].T)
    assert not torch.equal(x, trained.hidden(0, 50, seed=4)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Toy(sparsity=1.0, importance=(1.0,)), "sparsity 1.0"),
        (lambda: Toy(sparsity=0.5, importance=()), "one number per feature"),
        (lambda: Toy(sparsity=0.5, importance=(float("nan"),)), "one number per feature"),
        (lambda: Toy(sparsity=0.5, importance=(1.0,), activation="gelu"), "relu, linear"),
        (lambda: train_toys([], 2), "no toy"),
        (lambda: train_toys([Toy(sparsity=0, importance=(1.0,)), Toy(sparsity=0, importance=(1.0, 1.0))], 1), "equally many"),
        (lambda: train_toys(crossed([0.5], [[1.0] * 3]), 0), "all above 0"),
        (lambda: train_toys(crossed([0.5], [[1.0] * 3]), 1, sets="pairs"), "independent, correlated"),
        (lambda: train_toys(crossed([0.5], [[1.0] * 3]), 1, sets="correlated"), "even number"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
