"""What the paper states of toy models (Elhage et al. 2022, arXiv 2209.10652), and the measures on weights whose geometry is known."""

import math

import pytest
import torch

from workbench.core.errors import BadInput
from workbench.core.tables import pick
from workbench.features import superposition as s
from workbench.features.toys import Toy, TrainedToys, crossed, train_toys

FALLING = [0.7**k for k in range(12)]


def polygon(n):
    angles = torch.arange(n) * 2 * math.pi / n
    return torch.stack([angles.cos(), angles.sin()])


def placed(*weights, activation="relu"):
    """Toys with given weights."""
    w = torch.stack(weights)
    n = w.shape[2]
    some = tuple(Toy(sparsity=0.5, importance=(1.0,) * n, seed=k, activation=activation) for k in range(len(w)))
    return TrainedToys(toys=some, weights=w, bias=torch.zeros(len(w), n), loss=torch.arange(len(w)).float())


@pytest.fixture(scope="module")
def falling():
    """12 features of falling importance in 3 dimensions, without and with sparsity, linear and ReLU."""
    return train_toys(crossed([0.0, 0.99], [FALLING], activations=("relu", "linear"), seeds=4), 3, steps=1200, batch=256, progress=False)


def test_linear_models_keep_the_most_important_features_only(falling):
    table = s.feature_table(falling)
    for sparsity in (0.0, 0.99):
        norm = pick(table, activation="linear", sparsity=sparsity, metric="norm")["value"].to_numpy()
        assert (norm[:3] > 0.9).all()
        assert (norm[3:] < 0.2).all()
    assert pick(s.count_table(falling), activation="linear", metric="superposed")["value"].max() == 0


def test_without_sparsity_a_relu_changes_nothing(falling):
    norm = pick(s.feature_table(falling), activation="relu", sparsity=0.0, metric="norm")["value"].to_numpy()
    assert (norm[:3] > 0.8).all()
    assert (norm[3:] < 0.35).all()


def test_sparse_features_are_superposed(falling):
    counts = s.count_table(falling)
    sparse = next(pick(counts, activation="relu", sparsity=0.99, metric="represented").itertuples())
    assert sparse.low > 3
    assert pick(counts, activation="relu", sparsity=0.99, metric="superposed")["value"].iloc[0] > 3
    # and it pays: the loss is lower than that of the linear model on the same examples
    relu, linear = (pick(counts, activation=a, sparsity=0.99, metric="loss")["value"].iloc[0] for a in ("relu", "linear"))
    assert relu < 0.8 * linear


def test_phases_of_two_features_in_one_dimension():
    trained = train_toys(crossed([0.0, 0.9], [[1.0, 0.1], [1.0, 10.0]], seeds=8), 1, steps=600, batch=128, progress=False)
    table = s.phase_table(trained, 4)

    def share(density, importance, state):
        return pick(table, density=density, importance=importance, state=state)["value"].iloc[0]

    assert share(1.0, 0.1, "absent") == 1
    assert share(1.0, 10.0, "own dimension") == 1
    assert share(0.1, 0.1, "superposed") == share(0.1, 10.0, "superposed") == 1
    assert (table.groupby(["density", "importance"])["value"].sum() == 1).all()


def test_digons_then_a_pentagon():
    trained = train_toys(
        crossed([0.6, 0.9], [[1.0] * 5], activations=("relu", "linear"), seeds=12), 2, steps=1000, batch=128, progress=False
    )
    table = s.arrangement_table(trained, 4)
    assert pick(table, activation="relu", sparsity=0.6, arrangement="digon")["value"].iloc[0] == 1
    assert pick(table, activation="relu", sparsity=0.9, arrangement="pentagon")["value"].iloc[0] == 1
    assert pick(table, activation="linear", arrangement="pentagon")["value"].max() == 0  # any plane is as good


def test_dimensions_per_feature_stay_at_one_half():
    trained = train_toys(crossed([0.6, 0.65], [[1.0] * 24], seeds=3), 5, steps=800, batch=128, progress=False)
    value = pick(s.count_table(trained), metric="per feature")["value"]
    assert ((value - 0.5).abs() < 0.02).all()


@pytest.mark.parametrize(
    ("sets", "sparsity", "within", "across"),
    [("correlated", 0.9, (-0.1, 0.1), (-0.7, -0.4)), ("anticorrelated", 0.8, (-1.01, -0.95), (-0.1, 0.1))],
)
def test_correlated_features_are_orthogonal_and_anticorrelated_ones_antipodal(sets, sparsity, within, across):
    trained = train_toys(crossed([sparsity], [[1.0] * 4], seeds=12), 2, sets=sets, steps=800, batch=128, progress=False)
    table = pick(s.pair_table(trained, 4), metric="cosine").set_index("pair")["value"]
    assert within[0] < table["within"] < within[1]
    assert across[0] < table["across"] < across[1]


@pytest.mark.parametrize(
    ("weights", "shape", "share"),
    [
        (polygon(3), "triangle", 2 / 3),
        (polygon(5), "pentagon", 2 / 5),
        (torch.tensor([[1.0, -1.0]]), "digon", 1 / 2),
        (torch.eye(1), "own dimension", 1.0),
        (torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 3**0.5, "tetrahedron", 3 / 4),
        (polygon(7), "7 in 2", 2 / 7),  # no name for it here
        (torch.tensor([[1.0, 0.9], [0.0, 0.3]]), "2 in 2", None),  # two features that lie askew
    ],
)
def test_shapes_have_their_names(weights, shape, share):
    assert [name for name, _ in s.shapes(weights)] == [shape]
    if share is not None:
        torch.testing.assert_close(s.dimensionality(weights[None])[0], torch.full((weights.shape[1],), share))
        torch.testing.assert_close(s.per_feature(weights[None])[0], torch.tensor(share))


def test_shapes_are_told_apart_and_absent_features_belong_to_none():
    w = torch.zeros(3, 6)
    w[0, 0], w[0, 3] = 1.0, -1.0
    w[1, 1] = 1.0
    w[2, 5] = 0.3
    assert s.shapes(w) == [("digon", (0, 3)), ("own dimension", (1,))]
    assert s.arrangement(w) == "digon, own dimension"
    assert s.states(w[None])[0].tolist() == [1, 2, 0, 1, 0, 0]
    assert s.arrangement(torch.zeros(2, 3)) == "other"
    assert s.arrangement(polygon(7)) == "other"


def test_interference_and_dimensionality_are_their_sums():
    w = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(1))
    units = w[0] / w[0].norm(dim=0)
    for i in range(5):
        parts = [float(units[:, i] @ w[0][:, j]) ** 2 for j in range(5)]
        assert float(s.interference(w)[0, i]) == pytest.approx(sum(parts) - parts[i], rel=1e-4)
        assert float(s.dimensionality(w)[0, i]) == pytest.approx(float(w[0][:, i].norm()) ** 2 / sum(parts), rel=1e-4)


def test_the_best_start_counts_and_starts_of_other_toys_are_refused():
    trained = placed(torch.eye(2), torch.zeros(2, 2))
    assert s.best_of(trained, 2).tolist() == [0]
    assert s.best_of(trained, 1).tolist() == [0, 1]
    with pytest.raises(BadInput, match="do not divide"):
        s.best_of(trained, 3)
    mixed = train_toys(crossed([0.0, 0.5], [[1.0, 1.0]], seeds=1), 1, steps=1, batch=8, progress=False)
    with pytest.raises(BadInput, match="more than their seed"):
        s.best_of(mixed, 2)


def test_where_no_seed_differs_there_is_no_interval_and_the_table_says_so():
    table = s.count_table(placed(torch.eye(2), torch.eye(2)))
    row = next(pick(table, metric="represented").itertuples())
    assert (row.value, row.n) == (2, 2)
    assert math.isnan(row.low)
    assert row.note == "the same in all 2 seeds"
