"""Toy models of superposition: more features than dimensions, trained hundreds at once.

A toy model squeezes n features through m < n dimensions and gives them back,

    x' = ReLU(W^T W x + b)        (linear: without the ReLU)
    loss = mean over x of sum_i I_i (x_i - x'_i)^2

where feature i is absent (0) with probability S, the sparsity, and uniform on 0 to 1 otherwise, and I_i is its importance. All instances
of a grid are trained as one tensor program. Instances of one seed see the same draws: the one number u of a feature and an example gives
max(0, u - S) / (1 - S) at every sparsity, which is 0 with probability S and uniform otherwise. So an instance's result does not depend
on which others are trained beside it.

References:
    Elhage et al. 2022, arXiv 2209.10652.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from tqdm.auto import tqdm

from ..core.errors import BadInput, ShapeMismatch
from ..core.seeds import torch_rng
from ..core.types import Float, Int, Tensor

ACTIVATIONS = ("relu", "linear")
SETS = ("independent", "correlated", "anticorrelated")
AT_ONCE = 32  # steps whose examples are drawn together
AT_HAND = 250_000  # numbers of a step's examples that stay in a processor's cache: more instances are trained in groups


@dataclass(frozen=True, kw_only=True)
class Toy:
    """One instance: what is to be squeezed, and how.

    Attributes:
        sparsity: Probability that a feature is absent, 0 to below 1.
        importance: Weight of each feature in the loss, one number per feature.
        activation: "relu" or "linear".
        seed: Draws the first weights and the examples.
    """

    sparsity: float
    importance: tuple[float, ...]
    activation: str = "relu"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise BadInput(f"sparsity {self.sparsity}: the probability that a feature is absent, 0 to below 1")
        if not self.importance or not all(0 <= i < float("inf") for i in self.importance):
            raise BadInput(f"importance {self.importance}: one number per feature, 0 or more")
        if self.activation not in ACTIVATIONS:
            raise BadInput(f"activation {self.activation!r}: there are {', '.join(ACTIVATIONS)}")


def crossed(
    sparsities: Sequence[float],
    importances: Sequence[Sequence[float]],
    *,
    activations: Sequence[str] = ("relu",),
    seeds: int = 5,
    seed: int = 0,
) -> list[Toy]:
    """Return every combination of sparsities, importances, activations and seeds.

    Args:
        sparsities: Probabilities that a feature is absent.
        importances: Each of them one number per feature.
        activations: "relu", "linear" or both.
        seeds: Instances of each kind.
        seed: The first of their seeds.

    Returns:
        The instances, seeds varying fastest.
    """
    grid = itertools.product(activations, sparsities, importances, range(seed, seed + seeds))
    return [Toy(activation=a, sparsity=float(s), importance=tuple(map(float, i)), seed=k) for a, s, i, k in grid]


@dataclass(frozen=True, kw_only=True)
class TrainedToys:
    """Toy models after training.

    Attributes:
        toys: What each of them was.
        weights: W.
        bias: b.
        loss: Mean loss of each over fresh examples, in the unit of the training loss.
        sets: How features go together.
        data: How they were trained: steps, batch, learning rate.
    """

    toys: tuple[Toy, ...]
    weights: Float[Tensor, "instance hidden feature"]
    bias: Float[Tensor, "instance feature"]
    loss: Float[Tensor, " instance"]
    sets: str = "independent"
    data: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.toys) != len(self.weights) or self.bias.shape != (len(self.toys), self.weights.shape[2]):
            raise ShapeMismatch(f"{len(self.toys)} toys, weights {tuple(self.weights.shape)} and biases {tuple(self.bias.shape)}")

    def __len__(self) -> int:
        return len(self.toys)

    def hidden(self, k: int, n: int, *, seed: int = 0) -> tuple[Float[Tensor, "example feature"], Float[Tensor, "example hidden"]]:
        """Return fresh examples of one instance and what it squeezes them into: activations whose features are known.

        Args:
            k: Which instance.
            n: Examples.
            seed: Draws them.

        Returns:
            The features of each example, and W x.
        """
        toy = self.toys[k]
        gap = torch.tensor([toy.sparsity])
        draws = torch.rand(1, width_of(self.weights.shape[2], self.sets), n, generator=torch_rng(seed, "toy examples", toy.seed))
        x = features_of(draws, gap, self.weights.shape[2], self.sets)[0].T
        return x, x @ self.weights[k].T


def width_of(features: int, sets: str) -> int:
    """Return how many uniform numbers an example takes: one per feature, and one per pair where features go together.

    Args:
        features: How many features.
        sets: "independent", "correlated" or "anticorrelated".
    """
    return features if sets == "independent" else features + features // 2


def features_of(
    u: Float[Tensor, "instance width example"], sparsity: Float[Tensor, " instance"], features: int, sets: str = "independent"
) -> Float[Tensor, "instance feature example"]:
    """Return features from uniform numbers.

    Args:
        u: Uniform on 0 to 1.
        sparsity: Probability that a feature is absent; where features go together, that a pair of them is.
        features: How many features.
        sets: "independent"; "correlated": features 0 and 1, 2 and 3, … are present or absent together; "anticorrelated": of a pair that is
            present, one feature is.

    Returns:
        0 where a feature is absent, uniform on 0 to 1 where it is present.
    """
    gap = sparsity[:, None, None]
    if sets == "independent":
        return (u - gap).clamp_(min=0).mul_(1 / (1 - gap))
    values, gate = u[:, :features], u[:, features:]
    if sets == "correlated":
        return values * (gate > gap).repeat_interleave(2, 1)
    which = (gate - gap) / (1 - gap)  # uniform on 0 to 1 where the pair is present, negative where it is not
    chosen = torch.stack([(which > 0) & (which <= 0.5), which > 0.5], 2).flatten(1, 2)
    return values * chosen


def train_toys(
    toys: Sequence[Toy],
    hidden: int,
    *,
    sets: str = "independent",
    steps: int = 3000,
    batch: int = 256,
    rate: float = 0.01,
    progress: bool | None = None,
) -> TrainedToys:
    """Train toy models of one shape together, with Adam and a learning rate that falls to 0 along a cosine.

    Args:
        toys: The instances; each has as many features as importances.
        hidden: Dimensions that the features are squeezed into.
        sets: How features go together: "independent", "correlated" or "anticorrelated" (in pairs).
        steps: Of Adam.
        batch: Fresh examples per step and instance; raising it lowers the noise of the gradient.
        rate: Learning rate at the start.
        progress: Show a bar; `None` for in a terminal or a notebook only.

    Returns:
        The trained instances in the order given.

    Raises:
        BadInput: No instance, instances with different numbers of features, or a number that cannot be used.

    References:
        Elhage et al. 2022, arXiv 2209.10652, section "Demonstrating superposition".
    """
    if not toys:
        raise BadInput("no toy to train")
    n = len(toys[0].importance)
    if any(len(t.importance) != n for t in toys):
        raise BadInput(f"toys that are trained together have equally many features, got {sorted({len(t.importance) for t in toys})}")
    if hidden < 1 or steps < 1 or batch < 1 or rate <= 0:
        raise BadInput(f"hidden={hidden}, steps={steps}, batch={batch}, rate={rate}: all above 0")
    if sets not in SETS:
        raise BadInput(f"sets {sets!r}: there are {', '.join(SETS)}")
    if sets != "independent" and n % 2:
        raise BadInput(f"{n} features do not make pairs: {sets} features need an even number")
    size = max(1, AT_HAND // (n * batch))
    order = sorted(range(len(toys)), key=lambda k: toys[k].seed)  # instances of one seed share their draws
    groups = [order[k : k + size] for k in range(0, len(toys), size)]
    weights, bias, loss = torch.empty(len(toys), hidden, n), torch.empty(len(toys), n), torch.empty(len(toys))
    hidden_bar = None if progress is None else not progress
    with tqdm(total=len(groups) * steps, desc=f"train {len(toys)} toys", unit="step", disable=hidden_bar) as bar:
        for group in groups:
            program = _Program([toys[k] for k in group], hidden, sets, batch)
            program.train(steps, rate, bar.update)
            weights[group], bias[group], loss[group] = program.weights, program.bias, program.measure()
    data = {"steps": steps, "batch": batch, "rate": rate}
    return TrainedToys(toys=tuple(toys), weights=weights, bias=bias, loss=loss, sets=sets, data=data)


class _Program:
    """The parameters of all instances, their examples, and the gradient of their losses."""

    def __init__(self, toys: Sequence[Toy], hidden: int, sets: str, batch: int) -> None:
        self.seeds = list(dict.fromkeys(t.seed for t in toys))
        self.of_seed: Int[Tensor, " instance"] = torch.tensor([self.seeds.index(t.seed) for t in toys])
        self.sparsity = torch.tensor([t.sparsity for t in toys])
        self.importance = torch.tensor([t.importance for t in toys])
        self.floor = torch.tensor([-torch.inf if t.activation == "linear" else 0.0 for t in toys])[:, None, None]
        self.sets, self.batch, self.n = sets, batch, len(toys[0].importance)
        first = [torch.randn(hidden, self.n, generator=torch_rng(s, "toy weights")) * (2 / (hidden + self.n)) ** 0.5 for s in self.seeds]
        self.weights = torch.stack(first)[self.of_seed]
        self.bias = torch.zeros(len(toys), self.n)

    def train(self, steps: int, rate: float, done: Callable[[], object]) -> None:
        """Take steps of Adam."""
        adam = torch.optim.Adam([self.weights, self.bias], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for x in self.examples(steps):
            _, self.weights.grad, self.bias.grad = self.gradient(x)
            adam.step()
            schedule.step()
            done()

    def measure(self) -> Float[Tensor, " instance"]:
        """The mean loss of each instance over fresh examples."""
        return torch.stack([self.gradient(x)[0] for x in self.fresh(max(1, 8192 // self.batch))]).mean(0)

    def examples(self, steps: int) -> Iterator[Float[Tensor, "instance feature example"]]:
        """Yield a batch for every instance, `steps` times; instances of one seed share their draws."""
        rngs = [torch_rng(s, "toy data") for s in self.seeds]
        width = width_of(self.n, self.sets)
        for start in range(0, steps, AT_ONCE):
            few = min(AT_ONCE, steps - start)
            draws = torch.stack([torch.rand(AT_ONCE, width, self.batch, generator=g) for g in rngs])
            for k in range(few):
                yield features_of(draws[:, k][self.of_seed], self.sparsity, self.n, self.sets)

    def fresh(self, steps: int) -> Iterator[Float[Tensor, "instance feature example"]]:
        """Yield batches that all instances share, so that losses of several seeds can be compared."""
        rng = torch_rng(0, "fresh toy data")
        for _ in range(steps):
            u = torch.rand(1, width_of(self.n, self.sets), self.batch, generator=rng)
            yield features_of(u.expand(len(self.sparsity), -1, -1), self.sparsity, self.n, self.sets)

    def gradient(self, x: Float[Tensor, "instance feature example"]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each instance, and its gradient by W and b: written out, through W^T W."""
        z = (self.weights.mT @ self.weights @ x).add_(self.bias[:, :, None])
        keep = z > self.floor
        error = torch.maximum(z, self.floor).sub_(x)
        d = error * self.importance[:, :, None]
        loss = torch.linalg.vecdot(error.flatten(1), d.flatten(1)) / x.shape[2]
        d = torch.where(keep, d, 0.0)
        of_gram = x @ d.mT
        return loss, (self.weights @ (of_gram + of_gram.mT)).mul_(2 / x.shape[2]), d.sum(2).mul_(2 / x.shape[2])
