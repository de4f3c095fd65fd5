"""The findings of the superposition study follow their rules on planted tables."""

import pandas as pd
import pytest

from workbench.core.errors import BadInput
from workbench.features.toys import crossed, train_toys
from workbench.studies.superposition.bridge import COSINE, F1, Toys, planted_table, recovery_table
from workbench.studies.superposition.report import holds
from workbench.studies.superposition.study import SuperpositionSettings


def planted(linear=(5, 5), relu=(5, 11), superposed=(0, 9), lost=None):
    counts, features = [], []
    for activation, kept in (("linear", linear), ("relu", relu)):
        for k, sparsity in enumerate((0.0, 0.99)):
            shared = superposed[k] if activation == "relu" else 0
            for metric, value in (("represented", kept[k]), ("superposed", shared)):
                counts.append(
                    {
                        "activation": activation,
                        "sparsity": sparsity,
                        "metric": metric,
                        "value": value,
                        "low": value - 0.4,
                        "high": value + 0.4,
                    }
                )
            for f in range(20):
                there = f < kept[k] and (activation, k, f) != lost
                features.append({"activation": activation, "sparsity": sparsity, "feature": f, "metric": "norm", "value": float(there)})
    return pd.DataFrame(counts), pd.DataFrame(features)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (planted(), {"linear": True, "dense": True, "sparse": True}),
        (planted(linear=(5, 6)), {"linear": False, "dense": True, "sparse": True}),
        (planted(lost=("linear", 0, 2)), {"linear": False, "dense": True, "sparse": True}),
        (planted(relu=(7, 11)), {"linear": True, "dense": False, "sparse": True}),
        (planted(superposed=(3, 9)), {"linear": True, "dense": False, "sparse": True}),
        (planted(relu=(5, 5)), {"linear": True, "dense": True, "sparse": False}),
    ],
)
def test_statements_hold_where_they_were_planted(tables, expected):
    assert holds(*tables) == expected


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(BadInput, match="replicates: 3 at least"):
        SuperpositionSettings(replicates=2)
    with pytest.raises(BadInput, match="points: 3 at least"):
        SuperpositionSettings(points=2)


def test_dictionaries_find_the_features_of_toys_and_planted_directions_exactly():
    pytest.importorskip("sae_lens")
    trained = train_toys(crossed([0.97], [[1.0] * 12], seeds=2), 6, steps=1200, progress=False)
    toys = Toys(trained=trained, steps=1000, progress=False)
    made = toys.dictionaries(["jumprelu"])
    found = recovery_table(toys, made).set_index(["control", "metric"])["value"]
    assert found["", COSINE] >= 0.95
    assert found["permuted", COSINE] < 0.8
    assert found["", F1] > found["permuted", F1] + 0.3
    exact = planted_table(toys, made).set_index(["method", "control"])["value"]
    assert exact["nnls", ""] >= 0.95
    assert exact["nnls", "permuted"] < 0.5
