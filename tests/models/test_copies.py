"""A copy of a model with other weights says what the model says under the change, and the model stays as it is."""

import pytest
import torch

from workbench.core import errors
from workbench.models import changed_copy, info
from workbench.models.digest import weights_digest
from workbench.models.forward import run
from workbench.models.fused import fused
from workbench.models.tokens import encode, pad
from workbench.models.weights import reweighted

NAMES = {"gpt2": "transformer.h.1.mlp.c_fc.weight", "neox": "gpt_neox.layers.1.attention.query_key_value.weight"}


def says(model):
    with torch.no_grad():
        return run(model, pad(model, encode(model, ["Statement: do you agree? Answer: yes"]))).float()


def test_it_says_what_the_changed_model_says(sharp):
    kind, model = sharp
    name = NAMES.get(kind, "model.layers.1.self_attn.q_proj.weight")
    shape = {"gpt2": (128, 32), "neox": (96, 32)}.get(kind, (32, 32))
    change = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = weights_digest(model)
    copy = changed_copy(model, {name: change}, name="changed")
    assert weights_digest(model) == before
    assert info(copy).name == "changed"
    assert info(copy).first == info(model).first
    with reweighted(model, fused(model, name, change, label="test")):
        want = says(model)
    assert not torch.allclose(want, says(model), atol=1e-3), "the test can fail"
    assert torch.allclose(says(copy), want, atol=1e-4)


def test_without_a_change_it_is_the_same_model(calm):
    copy = changed_copy(calm, {}, name="same")
    assert torch.equal(says(copy), says(calm))
    assert copy is not calm


def test_errors(calm):
    with pytest.raises(errors.UnknownName, match=r"no parameter named 'model\.layers\.9"):
        changed_copy(calm, {"model.layers.9.mlp.down_proj.weight": torch.zeros(2, 2)}, name="x")
    with pytest.raises(errors.ShapeMismatch, match="what is added to it"):
        changed_copy(calm, {"model.layers.0.mlp.down_proj.weight": torch.zeros(2, 2)}, name="x")
