"""Edits of the user's own: laws that tie them to the house's edits, and what they refuse."""

import pytest
import torch
from test_steering import direction, stream

import workbench as wb
from workbench.core import errors
from workbench.interventions import custom_edit
from workbench.interventions.custom import edits_of


def test_a_function_of_ones_own_does_what_the_house_does_with_the_same_function(tiny):
    d = direction(0)
    x, plain = stream(tiny, [])
    mine = custom_edit(lambda x: x + 1.5 * d.vector, layer=1)
    assert torch.allclose(stream(tiny, mine)[0], stream(tiny, wb.add(d, 1.5))[0], atol=1e-5)
    assert torch.equal(stream(tiny, custom_edit(lambda x: x, layer=[0, 1, 2]))[1], plain), "the function that changes nothing"
    flipped, _ = stream(tiny, custom_edit(torch.neg, layer=1, scope="last") | custom_edit(torch.neg, layer=1, scope="last"))
    assert torch.equal(flipped, x), "twice the sign is none"
    last, _ = stream(tiny, custom_edit(torch.neg, layer=1, scope="last"))
    changed = (last != x).any(-1)
    assert changed.sum(1).tolist() == [1, 1], "the function sees every token and changes those of its scope"
    assert [e.place for e in custom_edit(torch.neg, layer=range(2), site="mlp_out")] == ["neg at mlp_out[0]", "neg at mlp_out[1]"]
    heads = custom_edit(lambda z: z * 0, layer=0, site="z", label="no heads")
    assert not torch.equal(stream(tiny, heads)[1], plain)
    assert not torch.equal(stream(tiny, custom_edit(lambda p: p.roll(1, 1), layer=0, site="pattern"))[1], plain)


def test_a_key_makes_what_is_captured_under_it_worth_keeping():
    assert custom_edit(torch.neg, layer=1).key is None
    assert custom_edit(torch.neg, layer=1, key="minus").key is not None


def test_wrong_functions_are_refused(tiny):
    with pytest.raises(errors.BadInput, match="no layer to act at"):
        custom_edit(torch.neg, layer=[])
    with pytest.raises(errors.ShapeMismatch, match=r"half at resid_post\[1\] turned \(2, \d+, 32\) into \(2, \d+, 16\)"):
        stream(tiny, custom_edit(lambda x: x[..., :16], layer=1, label="half"))
    with pytest.raises(errors.UnknownLayer):
        stream(tiny, custom_edit(torch.neg, layer=9))


def test_a_way_to_push_returns_edits():
    d = direction(0)
    assert edits_of(wb.add, d, 2.0).key == wb.add(d, 2.0).key
    assert len(edits_of(lambda d, c: wb.add(d, c)[0], d, 2.0)) == 1, "one edit will do"
    for bad, match in (
        (lambda d, c: d.vector * c, "to edits, such as wb.add.*got Tensor"),
        (lambda d, c: [], "got list without an edit in it"),
        (lambda d, c: None, "got NoneType"),
        (lambda d, c: [1], "got list"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            edits_of(bad, d, 1.0)
