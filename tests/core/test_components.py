"""Variance components: planted ones are found, uneven crossings too, and intervals hold them."""

import numpy as np
import pytest

from workbench.core.components import variance_components
from workbench.core.errors import BadInput, ShapeMismatch
from workbench.core.seeds import numpy_rng

SIZES = {"identity": 30, "right": 12, "form": 8}
PLANTED = {"identity": 0.04, "right": 0.09, "form": 0.25}


def rows(seed, keep=1.0, planted=PLANTED, rest=1.0):
    rng = numpy_rng(seed, "components")
    grid = np.stack(np.meshgrid(*(np.arange(m) for m in SIZES.values()), indexing="ij"), -1).reshape(-1, 3)
    if keep < 1:
        grid = grid[rng.random(len(grid)) < keep * (0.3 + 0.7 * (grid[:, 1] % 2))]  # uneven: every second right is rare
    y = rng.standard_normal(len(grid)) * np.sqrt(rest)
    for k, (name, m) in enumerate(SIZES.items()):
        y += (rng.standard_normal(m) * np.sqrt(planted[name]))[grid[:, k]]
    return y, dict(zip(SIZES, grid.T, strict=True))


def test_planted_parts_are_found_on_average_and_their_intervals_hold_them():
    found, held = [], []
    for k in range(200):
        table = variance_components(*rows(k, 0.8)).set_index("factor")
        found.append(table["value"])
        held.append([table.low[f] <= v <= table.high[f] for f, v in PLANTED.items()])
    mean = np.mean([f[[*PLANTED, "rest"]] for f in found], axis=0)
    error = np.std([f[[*PLANTED, "rest"]] for f in found], axis=0) / np.sqrt(200)
    np.testing.assert_array_less(np.abs(mean - [*PLANTED.values(), 1.0]), 4 * error)
    assert (np.mean(held, axis=0) > 0.9).all()


def test_what_does_not_vary_is_not_seen():
    table = variance_components(*rows(0, planted=dict.fromkeys(SIZES, 0.0))).set_index("factor")
    assert (table.low[list(SIZES)] == 0).all()
    assert table.share["rest"] > 0.95


def test_a_sum_of_effects_leaves_no_rest():
    table = variance_components(*rows(1, rest=0.0)).set_index("factor")
    assert table.share["rest"] < 1e-9
    assert table.share.sum() == pytest.approx(1)


def test_a_factor_with_one_level_is_undefined_and_bad_input_is_told():
    y, factors = rows(2)
    table = variance_components(y, factors | {"seed": np.zeros(len(y))}).set_index("factor")
    assert np.isnan(table.value["seed"])
    assert list(table.index) == [*SIZES, "seed", "rest"]
    with pytest.raises(BadInput, match="factors"):
        variance_components(y, {})
    with pytest.raises(ShapeMismatch, match="levels of 'a'"):
        variance_components(y, {"a": [1, 2]})
