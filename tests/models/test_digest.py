"""Weights that change behind torch's back are noticed: by the state, by the digest, by stores and by the engine."""

import pytest
import torch
from conftest import tiny_model
from torch import nn

import workbench as wb
from workbench.core import errors
from workbench.models import digest, info, wrap
from workbench.models.digest import settled, weights_digest, weights_state
from workbench.models.known import trunk_of
from workbench.models.weights import parameters


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def spoilt(request, words):
    """A model of its own, whose weights a test may change."""
    return wrap(tiny_model(request.param, len(words)), words, name=f"spoilt {request.param}", bos=0, device="cpu")


def rows(w):
    w[[0, -1]] = w[[-1, 0]]


def columns(w):
    w[..., [0, 5]] = w[..., [5, 0]]


def signs(w):
    w[0, 0] *= -1
    w[3, 7] *= -1


def one(w):
    w[-1, -1] = torch.nextafter(w[-1, -1], torch.tensor(9.0))


def noise(w):
    w[..., 3] += torch.linspace(-1e-6, 1e-6, len(w))


CHANGES = (rows, columns, signs, one, noise)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_change_through_data_is_noticed_in_every_matrix(spoilt, change):
    before, state = weights_digest(spoilt), weights_state(spoilt)
    matrices = [p for p in parameters(spoilt).values() if p.ndim == 2]
    assert len(matrices) > 20
    for matrix in matrices:
        kept = matrix.detach().clone()
        change(matrix.data)
        assert weights_state(spoilt) != state
        assert weights_digest(spoilt) != before
        matrix.data.copy_(kept)
        assert weights_digest(spoilt) == before
        assert weights_state(spoilt) == state


def test_two_equal_shapes_that_change_places_are_noticed(spoilt):
    before, state = weights_digest(spoilt), weights_state(spoilt)
    matrices = [p for p in parameters(spoilt).values() if p.ndim == 2]
    a, b = next((a, b) for a in matrices for b in matrices if a is not b and a.shape == b.shape and not torch.equal(a, b))
    for back in (False, True):
        first, second = a.detach().clone(), b.detach().clone()
        a.data.copy_(second)
        b.data.copy_(first)
        assert (weights_digest(spoilt) == before, weights_state(spoilt) == state) == (back, back)


def test_a_buffer_counts(spoilt):
    before, state = weights_digest(spoilt), weights_state(spoilt)
    buffer = torch.ones(3)
    spoilt.original_model.register_buffer("offset", buffer)
    try:
        added = weights_digest(spoilt)
        assert added != before
        buffer.data[1] = 2
        assert weights_digest(spoilt) not in (before, added)
    finally:
        del spoilt.original_model.offset
    assert weights_digest(spoilt) == before
    assert weights_state(spoilt) == state


def test_an_unseen_change_reaches_neither_a_store_nor_the_engine(spoilt, ragged, tmp_path):
    matrix = next(p for n, p in parameters(spoilt).items() if n.endswith(("down_proj.weight", "c_proj.weight")))
    old = wb.capture(spoilt, ragged, store=tmp_path / "a", progress=False).values[:]
    kept = matrix.detach().clone()
    try:
        one(matrix.data)
        matrix.data[0, 0] += 3
        with pytest.raises(errors.WrongModel):
            wb.capture(spoilt, ragged, store=tmp_path / "a", progress=False)
        new = wb.capture(spoilt, ragged, progress=False)
        assert "weights have changed" in new.provenance["reader"]
        assert not torch.equal(new.values[:], old)
        assert "weights have changed" in trunk_of(spoilt)
    finally:
        matrix.data.copy_(kept)
    assert torch.equal(wb.capture(spoilt, ragged, store=tmp_path / "a", progress=False).values[:], old)
    assert not isinstance(trunk_of(spoilt), str)


class Large(nn.Module):
    def __init__(self, rows, columns, dtype):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(rows, columns, generator=draw).to(dtype), requires_grad=False)
        self.other = nn.Parameter(torch.randn(rows, columns, generator=draw).to(dtype), requires_grad=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(701, 523), (300, 1024), (8, 70_001), (90_000, 3)])
def test_the_cheap_state_sees_every_row_and_column_of_a_large_matrix(shape, dtype):
    model = Large(*shape, dtype)
    assert model.matrix.numel() * model.matrix.element_size() > digest.WHOLE
    before, draw = weights_state(model), torch.Generator().manual_seed(1)
    for axis, size in enumerate(shape):
        for _ in range(20):
            a, b = torch.randperm(size, generator=draw)[:2].tolist()
            order = torch.arange(size)
            order[[a, b]] = order[[b, a]]
            kept = model.matrix.detach().clone()
            model.matrix.data.copy_(kept.index_select(axis, order))
            if not torch.equal(model.matrix, kept):  # bfloat16 has few values: two short rows may be equal
                assert weights_state(model) != before, (axis, a, b)
            model.matrix.data.copy_(kept)
    model.matrix.data, model.other.data = model.other.data, model.matrix.data
    assert weights_state(model) != before


def test_the_whole_content_counts_in_a_large_matrix_seen_through_views():
    model = Large(701, 523, torch.float32)
    model.turned = nn.Parameter(model.matrix.data.T[:100], requires_grad=False)  # as TransformerLens shows queries, keys and values
    state, before = weights_state(model), weights_digest(model)
    for where in ((0, 0), (300, 400), (700, 522)):
        for matrix in (model.matrix, model.other):
            kept = float(matrix[where])
            matrix.data[where] += 1
            assert weights_digest(model) != before
            assert weights_state(model) != state, "the state knows what the digest found"
            matrix.data[where] = kept
    assert weights_digest(model) == before


def test_the_digest_is_that_of_the_bytes():
    """One view that covers only a part does not hide the rest."""
    whole = torch.arange(24.0).reshape(4, 6)

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Parameter(whole[:2], requires_grad=False)
            self.whole = nn.Parameter(whole, requires_grad=False)

    model = Parts()
    before = weights_digest(model)
    whole[3, 5] = -1
    assert weights_digest(model) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_on_a_device_see_every_change(dtype):
    def folded(w):
        return [int(x) for x in digest._folded(w)]

    w = torch.randn(37, 61, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = folded(w)
    assert folded(w.clone()) == before
    for change in (rows, columns, signs, noise):
        changed = w.clone()
        change(changed)
        assert torch.equal(changed, w) or folded(changed) != before, change.__name__
    draw = torch.Generator().manual_seed(1)
    for _ in range(300):
        two = torch.randperm(w.numel(), generator=draw)[:2]
        flipped, other = w.clone().reshape(-1), w.clone().reshape(-1)
        flipped[two] *= -1
        other[two[0]] += 1
        assert folded(flipped) != before, "the highest bit of two words"
        assert folded(other) != before


def test_inside_settled_content_is_read_once(spoilt):
    before, name = weights_digest(spoilt), next(iter(parameters(spoilt)))
    parameter = parameters(spoilt)[name]
    kept = parameter.detach().clone()
    with settled():
        assert weights_digest(spoilt) == before
        parameter.data[0, 0] += 1
        assert weights_digest(spoilt) == before, "what torch does not count is not looked for"
        with torch.no_grad():
            parameter[0, 1] += 1
        assert weights_digest(spoilt) != before
    parameter.data.copy_(kept)
    assert weights_digest(spoilt) == before
    assert info(spoilt).digest == before
