"""The one door: unknown places raise, edits act and count, everything is restored."""

import pytest
import torch

from workbench.core import errors
from workbench.models import Edit, Read, edited
from workbench.models.forward import run
from workbench.models.hooks import SITES, attached_hooks, check_layers, hook_point
from workbench.models.tokens import encode, pad


@pytest.fixture
def batch(tiny):
    return pad(tiny, encode(tiny, ["women have the right to rest", "do you agree?"]))


def logits(model, batch):
    with torch.no_grad():
        return run(model, batch)


def test_adding_a_vector_adds_it_from_its_layer_on(tiny, batch):
    seen = {}
    vector = torch.linspace(-1, 1, 32)
    reads = [Read(site="resid_post", layer=k, function=lambda x, k=k: seen.setdefault(k, []).append(x.clone())) for k in range(3)]
    with edited(tiny, reads):
        logits(tiny, batch)
        with edited(tiny, Edit(site="resid_post", layer=1, function=lambda x: x + vector)):
            logits(tiny, batch)
    assert torch.equal(seen[0][0], seen[0][1])
    assert torch.equal(seen[1][0] + vector, seen[1][1]), "a reading fires after the edits at its place, also inner ones"
    assert not torch.allclose(seen[2][0] + vector, seen[2][1])


def test_laws(tiny, batch):
    a, b = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    plain = logits(tiny, batch)

    def under(*functions):
        with edited(tiny, [Edit(site="resid_post", layer=1, function=f) for f in functions]):
            return logits(tiny, batch)

    assert torch.equal(under(lambda x: x + 0 * a), plain)
    assert torch.allclose(under(lambda x: x + a, lambda x: x + b), under(lambda x: x + (a + b)), atol=1e-5)
    assert torch.allclose(under(lambda x: x + a, lambda x: x - a), plain, atol=1e-4)
    assert not torch.allclose(under(lambda x: x + a), plain, atol=1e-2)


def test_positions(tiny, batch):
    seen = []
    edit = Edit(site="resid_pre", layer=0, function=lambda x: x * 0, positions=torch.tensor([[1], [2]]))
    with edited(tiny, [edit, Read(site="resid_pre", layer=0, function=lambda x: seen.append(x.clone()))], times=1):
        logits(tiny, batch)
    assert (seen[0][0, 1] == 0).all()
    assert (seen[0][1, 2] == 0).all()
    assert (seen[0][0, 2] != 0).any()
    with (
        pytest.raises(errors.ShapeMismatch, match="one row of columns per row"),
        edited(tiny, Edit(site="resid_pre", layer=0, function=lambda x: x, positions=torch.tensor([[99], [0]]))),
    ):
        logits(tiny, batch)


def test_restored_after_an_exception(tiny, batch):
    plain = logits(tiny, batch)

    def broken(x):
        raise RuntimeError("half-way")

    with (
        pytest.raises(RuntimeError, match="half-way"),
        edited(tiny, [Edit(site="resid_post", layer=0, function=lambda x: x + 1), Edit(site="resid_post", layer=2, function=broken)]),
    ):
        logits(tiny, batch)
    assert attached_hooks() == 0
    assert torch.equal(logits(tiny, batch), plain)


def test_nothing_is_attached_when_a_later_edit_is_wrong(tiny):
    with (
        pytest.raises(errors.UnknownLayer),
        edited(tiny, [Edit(site="resid_post", layer=0, function=lambda x: x), Edit(site="resid_post", layer=7, function=lambda x: x)]),
    ):
        pass
    assert attached_hooks() == 0


def test_gradients_pass_through(tiny, batch):
    vector = torch.zeros(32, requires_grad=True)
    with edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x + vector)):
        run(tiny, batch)[0, -1, 5].backward()
    assert vector.grad is not None
    assert float(vector.grad.abs().sum()) > 0


def test_fires_in_generation(tiny):
    with edited(tiny, Read(site="resid_post", layer=0, function=lambda x: None)) as fired:
        tiny.generate(torch.tensor([[0, 5, 6]]), max_new_tokens=4, do_sample=False, stop_at_eos=False, verbose=False)
        assert list(fired) == [4]


def test_an_edit_that_never_fires_raises(tiny, batch):
    with (
        pytest.raises(errors.HookNotFired, match=r"resid_post\[0\] fired 0 times"),
        edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x)),
    ):
        pass
    with (
        pytest.raises(errors.HookNotFired, match="fired 2 times; it should have fired 1 times"),
        edited(tiny, Read(site="resid_post", layer=0, function=lambda x: None), times=1),
    ):
        logits(tiny, batch), logits(tiny, batch)


@pytest.mark.parametrize("layer", [3, -4, 99])
def test_unknown_layer(tiny, layer):
    with pytest.raises(errors.UnknownLayer, match=r"layer -?\d+ of 'tiny llama', which has layers 0-2"):
        hook_point(tiny, "resid_post", layer)


def test_unknown_site(tiny):
    with pytest.raises(errors.UnknownSite, match="Did you mean 'resid_post'"):
        hook_point(tiny, "resid_pst", 0)
    with pytest.raises(errors.UnknownLayer, match="no layer was asked for"):
        check_layers(tiny, [])


def test_parallel_blocks_have_no_middle(tiny_pair):
    kind, _, bridge = tiny_pair
    there = [s for s in SITES if f"blocks.0.{SITES[s]}" in bridge.hook_dict]
    if kind == "neox":
        assert "resid_mid" not in there
        with pytest.raises(errors.UnknownSite, match="has no 'resid_mid' at layer 0; it has"):
            hook_point(bridge, "resid_mid", 0)
    else:
        assert set(there) == set(SITES)


def test_wrong_shape_from_an_edit(tiny, batch):
    with (
        pytest.raises(errors.ShapeMismatch, match=r"edit at resid_post\[0\] turned"),
        edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x[:, :1])),
    ):
        logits(tiny, batch)
