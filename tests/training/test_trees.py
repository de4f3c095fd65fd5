"""Passes with gradients: the model's own numbers, from any block on, through changes at every site; on every kind of attention."""

import pytest
import torch
from zoo_of_models import tiny

import workbench as wb
from workbench.core import errors
from workbench.models import Edit
from workbench.models.differentiable import SITES, Learner
from workbench.models.forward import run
from workbench.models.tokens import pad
from workbench.models.trees import plant

ROWS = [[0, 9, 14, 33, 7, 21, 5, 30, 11, 40, 12, 8], [0, 9, 14, 33, 7, 21, 5, 31], [0, 9, 14, 33, 8], [0, 50, 51, 52, 53, 54, 55], [0, 9]]


def says(model, rows):
    batch = pad(model, rows)
    return run(model, batch, at=batch.mask.sum(1, keepdim=True) - 1)[:, 0].float()


def ends(rows):
    return [(i, len(r) - 1) for i, r in enumerate(rows)]


def test_rows_that_begin_alike_share_their_tokens():
    trees = plant(ROWS)
    assert int((trees.positions > 0).sum()) < sum(len(r) - 1 for r in ROWS)
    for (tree, places), row in zip(trees.at, ROWS, strict=True):
        assert trees.ids[tree, list(places)].tolist() == row
        assert trees.positions[tree, list(places)].tolist() == list(range(len(row)))
        seen = trees.sees[tree, places[-1]].nonzero()[:, 0].tolist()
        assert seen == sorted(places)


def test_no_row_joins_a_tree_that_would_grow_too_large():
    rows = [[1, *([2] * 60), k, *([3] * 30)] for k in range(10, 20)]
    trees = plant(rows, size=130)
    assert trees.ids.shape[1] <= 130
    assert trees.ids.shape[0] > 1
    with pytest.raises(errors.BadInput, match="one token at least"):
        plant([[1], []])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "qwen2", "gpt_neox", "phi3", "olmo2", "granite"])
def test_the_pass_gives_the_models_own_logits(name):
    model = tiny(name)
    learner = Learner(model)
    with torch.no_grad():
        got, streams = learner.run(plant(ROWS), ask=ends(ROWS), read=(0, 1))
    want = says(model, ROWS)
    assert float((got - want).abs().max() / want.abs().max()) < 1e-4
    with torch.no_grad():
        again, _ = learner.run(plant(ROWS), start=2, entering=streams[1], ask=ends(ROWS))
    assert float((again - got).abs().max() / got.abs().max()) < 1e-5


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_change_does_what_an_edit_at_the_same_site_does(name, site):
    model = tiny(name)
    learner = Learner(model)
    push = torch.randn(32, generator=torch.Generator().manual_seed(3))
    learner.change(site, 1, lambda x, _: x + push)
    with torch.no_grad():
        got, _ = learner.run(plant(ROWS), ask=ends(ROWS))
    with wb.edited(model, Edit(site=site, layer=1, function=lambda x: x + push)):
        want = says(model, ROWS)
    assert float((got - want).abs().max() / want.abs().max()) < 1e-4
    assert float((says(model, ROWS) - want).abs().max()) > 1e-3  # and it does something


def test_gradients_are_those_of_plain_autograd_through_the_bridge():
    model = tiny("llama")
    push = torch.zeros(32, requires_grad=True)
    learner = Learner(model)
    learner.change("resid_post", 0, lambda x, _: x + push)
    got, _ = learner.run(plant(ROWS), ask=ends(ROWS))
    (mine,) = torch.autograd.grad(got[:, 5].sum(), push)
    other = torch.zeros(32, requires_grad=True)
    with torch.enable_grad(), wb.edited(model, Edit(site="resid_post", layer=0, function=lambda x: x + other)):
        want = says(model, ROWS)
    (theirs,) = torch.autograd.grad(want[:, 5].sum(), other)
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-4


def test_gradients_reach_the_embeddings():
    model = tiny("gemma2")
    learner = Learner(model)
    trees = plant(ROWS)
    embeds = learner.embed(trees.ids).detach().requires_grad_()
    got, _ = learner.run(trees, embeds=embeds, ask=ends(ROWS))
    (gradient,) = torch.autograd.grad(got[0, 3], embeds)
    tree, places = trees.at[0]
    assert bool((gradient[tree, list(places)].abs().sum(1) > 0).all())
    assert float((got.detach() - says(model, ROWS)).abs().max() / got.detach().abs().max()) < 1e-4


def test_what_cannot_be_run_is_refused():
    model = tiny("llama")
    with wb.edited(model, Edit(site="resid_post", layer=0, function=torch.neg)):
        with pytest.raises(errors.BadInput, match="edits are active"):
            Learner(model)
        says(model, ROWS)
    learner = Learner(model)
    with pytest.raises(errors.BadInput, match="needs the stream that enters"):
        learner.run(plant(ROWS), start=1, ask=ends(ROWS))
    with pytest.raises(errors.BadInput, match="something to return"):
        learner.run(plant(ROWS))
    with pytest.raises(errors.UnknownSite, match="site"):
        learner.change("z", 0, lambda x, _: x)
    with pytest.raises(errors.Disagrees, match="away from the model's own"):
        Learner(tiny("bloom"))
