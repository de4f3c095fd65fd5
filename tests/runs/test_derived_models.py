"""A handle of a model that is made of another: what it is known by, and that it is made once, inside a step, of the model as it is."""

import pytest
import torch

from workbench.core import errors
from workbench.models import changed_copy, info
from workbench.models.digest import weights_digest
from workbench.runs.handle import inside_step, of_loaded

NAME = "model.layers.0.mlp.down_proj.weight"


def test_it_is_made_once_and_inside_a_step(calm):
    made = []

    def make(model):
        made.append(model)
        return changed_copy(model, {NAME: 0.1 * torch.ones(32, 64)}, name="changed")

    handle = of_loaded(calm)
    before = weights_digest(calm)
    other = handle.derived("changed", {"seed": 1}, make, weights="by hand")
    assert other.info.name == f"{handle.info.name} (changed)"
    assert other.info.weights == "by hand"
    assert other.tokenizer is handle.tokenizer
    assert not other.loaded
    with pytest.raises(errors.OutsideStep, match="inside a step only"):
        other.load()
    assert not made
    with inside_step("test"):
        model = other.load()
        assert other.load() is model
    assert made == [calm]
    assert info(model).digest != info(calm).digest
    assert weights_digest(calm) == before


def test_its_key_is_that_of_the_model_and_of_what_was_done(calm):
    handle = of_loaded(calm)
    one, same, other, named = (handle.derived(name, key, lambda model: model).key for name, key in (("a", 1), ("a", 1), ("a", 2), ("b", 1)))
    assert one == same
    assert one not in (other, named, handle.key)
    assert {k: v for k, v in one.items() if k != "made"} == handle.key
    assert handle.untrained(0).key not in (handle.untrained(1).key, handle.key)
