"""Attention sinks are found by their norm, are left out of averages and of scopes, and are counted; models without any have none."""

import numpy as np
import pytest
import torch
from conftest import tiny_model

import workbench as wb
from workbench.evaluation.pushed import Pushed
from workbench.interventions import gate, mean_norm, project_tokens
from workbench.models import Edit, Read, Scope, edited, info, wrap
from workbench.models.forward import run
from workbench.models.generate import generate_texts
from workbench.models.sinks import TIMES, first_is_sink, outliers
from workbench.models.tokens import encode, pad
from workbench.prompts import ContrastPair, PromptSet

LAYER = 1  # the MLP of this block writes the sink


@torch.no_grad()
def planted(kind, words, token=None, size=40.0):
    """A tiny model whose second block writes a huge vector at one token: one id, or for GPT-2 the first position.

    Dimension 0 of the stream is empty but for that token, and one neuron reads it.
    """
    hf = tiny_model(kind, len(words), std=None)
    draw = torch.Generator().manual_seed(5)
    huge = torch.randn(32, generator=draw)
    huge[0] = 0
    if kind == "gpt2":
        hf.transformer.wte.weight[:, 0] = 0
        hf.transformer.wpe.weight[:, 0] = 0
        (hf.transformer.wpe.weight if token is None else hf.transformer.wte.weight)[token or 0, 0] = 1
        for block in hf.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight[:, 0] = part.bias[0] = 0
        mlp = hf.transformer.h[LAYER].mlp
        mlp.c_fc.weight[:, 7] = 0
        mlp.c_fc.weight[0, 7], mlp.c_fc.bias[7] = 10, -10
        mlp.c_proj.weight[7] = huge / huge.norm() * size
    else:
        hf.model.embed_tokens.weight[:, 0] = 0
        hf.model.embed_tokens.weight[token, 0] = 1
        for block in hf.model.layers:
            block.self_attn.o_proj.weight[0] = block.mlp.down_proj.weight[0] = 0
        mlp = hf.model.layers[LAYER].mlp
        mlp.gate_proj.weight[7] = mlp.up_proj.weight[7] = 0
        mlp.gate_proj.weight[7, 0] = mlp.up_proj.weight[7, 0] = 2
        mlp.down_proj.weight[:, 7] = huge / huge.norm() * size
    return wrap(hf, words, name=f"sink in {kind}", bos=None, device="cpu")


@pytest.fixture(scope="module")
def prompts():
    texts = ["true: women have the right", "true: do you agree to rest", "true: rest", "true: women have the right to rest? do you agree?"]
    return PromptSet(ContrastPair(stem=t + " Answer:", negative=" no", positive=" yes", label=i % 2) for i, t in enumerate(texts))


@pytest.fixture(scope="module")
def first(words):
    """GPT-2: whatever the text, its first token becomes a sink."""
    return planted("gpt2", words)


@pytest.fixture(scope="module")
def delimiter(words):
    """Qwen-2: the token that every prompt here begins with becomes a sink, wherever it stands."""
    return planted("qwen2", words, token=words("true", add_special_tokens=False)["input_ids"][0])


@pytest.fixture(params=["first", "delimiter"])
def sunk(request):
    return request.getfixturevalue(request.param)


def everything(model, prompts, layers=(0, 1, 2), **how):
    """Values of every token, `item x variant x layer x position x d_model`, and which are tokens."""
    acts = wb.capture(model, prompts, layers=list(layers), position="all", progress=False, **how)
    return acts, acts.values, acts.mask


def apart(a, b):
    return float((a - b).abs().max() / b.abs().max())


# ------------------------------------------------------------------ the rule


def test_the_rule():
    norms = torch.tensor([[1.0, 1.1, TIMES * 1.2, 0.9, 1.3], [1.0, TIMES + 1, 1.0, 500.0, 500.0], [9.0, 3.0, 1.0, 1.0, 1.0]])
    among = torch.ones(3, 5, dtype=torch.bool)
    among[1, 3:] = False
    assert outliers(norms, among).tolist() == [[False, False, True, False, False], [False, True, False, False, False], [False] * 5]
    assert outliers(torch.tensor([[200.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)).tolist() == [[True, False]], "one of two"
    assert not outliers(torch.tensor([[200.0]]), torch.ones(1, 1, dtype=torch.bool)).any(), "one alone has nothing to be compared with"
    assert not outliers(torch.tensor([[200.0, 1.0]]), torch.zeros(1, 2, dtype=torch.bool)).any()
    ill = torch.tensor([[float("inf"), float("nan"), 1.0, 1.0, 1.0, 50.0]])
    assert outliers(ill, torch.ones(1, 6, dtype=torch.bool)).tolist() == [[False] * 5 + [True]], "a fault is not hidden"


def test_growth_over_layers_and_spread_within_one_are_no_sinks():
    draw = np.random.default_rng(0)
    norms = torch.tensor(np.exp(draw.normal(0, 0.4, (30, 40))) * 3.0 ** np.arange(30)[:, None])
    assert not outliers(norms, torch.ones(30, 40, dtype=torch.bool)).any()


def test_models_without_sinks_have_none(organism, tiny_pair, branching):
    for model, what in ((organism, wb.prompts.udhr("base_short", n=12, seed=0)), (tiny_pair[2], branching)):
        acts = wb.capture(model, what, position="all", progress=False)
        assert sum(acts.provenance["sinks"]["tokens"].values()) == 0
        assert len(acts.provenance["sinks"]["tokens"]) == model.cfg.n_layers
        assert not first_is_sink(model)
        assert acts.provenance["sinks"]["first"] is False


# ------------------------------------------------------------------ averages


def test_means_leave_sinks_out(sunk, prompts):
    acts, x, mask = everything(sunk, prompts)
    norms = x.norm(dim=-1)
    for layer in (LAYER, 2):
        assert float(norms[:, :, layer, 0].min()) > 30 * float(norms[:, :, layer, 1:][mask[:, :, 1:]].median()), "it is planted"
    assert float(norms[:, :, 0, 0].max()) < 10 * float(norms[:, :, 0][mask].median()), "and is not there before"
    mean = wb.capture(sunk, prompts, layers=[0, 1, 2], position="mean", progress=False)
    always = first_is_sink(sunk)
    assert always is (info(sunk).name == "sink in gpt2")
    for layer in (0, 1, 2):
        begin = 1 if always or layer >= LAYER else 0
        rest = mask[..., None].float()
        rest[:, :, :begin] = 0
        want = (x[:, :, layer] * rest).sum(2) / rest.sum(2)
        assert apart(mean.layer(layer), want) < 1e-5
        assert (mean.sinks(layer) == begin).all()
        found = acts.sinks(layer)
        assert bool(found[:, :, 0].all()) is bool(begin)
        assert not found[:, :, 1:].any()
    cosine = torch.nn.functional.cosine_similarity(mean.layer(2), x[:, :, 2, 0], dim=-1)
    assert float(cosine.abs().max()) < 0.7
    assert mean.provenance["sinks"]["tokens"] == {"0": 8 * always, "1": 8, "2": 8}
    assert mean.provenance["sinks"]["first"] is always
    assert "8 tokens at most in a layer, left out" in mean._repr_html_()
    assert wb.capture(sunk, prompts, layers=[1], position="last", progress=False).sinks(1) is None
    assert f"above {TIMES:g} times the median" in mean.provenance["sinks"]["rule"]


def test_the_decision_needs_no_other_layer_and_no_other_row(sunk, prompts):
    whole = wb.capture(sunk, prompts, layers=[0, 1, 2], position="mean", progress=False)
    for layer in (0, 1, 2):
        alone = wb.capture(sunk, prompts, layers=[layer], position="mean", progress=False)
        assert torch.equal(alone.sinks(layer), whole.sinks(layer))
        assert apart(alone.layer(layer), whole.layer(layer)) < 1e-6
    ways = {
        "one": wb.capture(sunk, prompts.subset([2]), layers=[0, 1, 2], position="mean", progress=False),
        "small passes": wb.capture(sunk, prompts, layers=[0, 1, 2], position="mean", batch_tokens=4, progress=False).subset([2]),
        "bridge": wb.capture(sunk, prompts, layers=[0, 1, 2], position="mean", engine="bridge", progress=False).subset([2]),
    }
    for name, acts in ways.items():
        for layer in (0, 1, 2):
            assert torch.equal(acts.sinks(layer), whole.sinks(layer)[[2]]), name
            assert apart(acts.layer(layer), whole.layer(layer)[[2]]) < 1e-5, name


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out", "z"])
def test_at_every_site(delimiter, prompts, site):
    """What a head or an MLP writes is judged by the stream that it reads, so that outputs near 0 make no sinks of the others."""
    x, mask = (t for t in everything(delimiter, prompts, site=site)[1:])
    mean = wb.capture(delimiter, prompts, site=site, layers=[0, 1, 2], position="mean", progress=False)
    starts = {"resid_pre": 2, "resid_mid": 2, "attn_out": 2, "mlp_out": LAYER, "z": 2}[site]
    for layer in (0, 1, 2):
        begin = int(layer >= starts)
        rest = mask.reshape(*mask.shape, *[1] * (x.ndim - 4)).float()
        rest[:, :, :begin] = 0
        want = (x[:, :, layer] * rest).sum(2) / rest.sum(2)
        assert apart(mean.layer(layer), want) < 1e-5, layer
        assert (mean.sinks(layer) == begin).all(), layer


def test_stores_keep_the_counts(sunk, prompts, tmp_path):
    fresh = wb.capture(sunk, prompts, layers=[2], position="mean", progress=False)
    for layers in ([2], [1, 2]):
        acts = wb.capture(sunk, prompts, layers=layers, position="mean", store=tmp_path / "s", progress=False)
        assert acts.provenance["sinks"]["tokens"]["2"] == fresh.provenance["sinks"]["tokens"]["2"] == 8
        assert torch.equal(acts.layer(2), fresh.layer(2))
    assert (wb.Activations.load(tmp_path / "s").sinks(1) == 1).all()
    fresh.save(tmp_path / "saved")
    assert (wb.Activations.load(tmp_path / "saved").sinks(2) == 1).all()
    ragged = wb.capture(sunk, prompts, layers=[2], position="all", store=tmp_path / "all", shard_items=2, progress=False)
    assert int(ragged.sinks(2).sum()) == ragged.provenance["sinks"]["tokens"]["2"] == 8


def test_statistics_leave_sinks_out(sunk, prompts):
    _, x, mask = everything(sunk, prompts, layers=(0, 2))
    stats = wb.stream_statistics(sunk, prompts, layers=[0, 2], position="all", block_items=3, progress=False)
    for k, layer in enumerate((0, 2)):
        rest = mask.clone()
        rest[:, :, : 1 if first_is_sink(sunk) or layer == 2 else 0] = False
        for g, group in enumerate(("negative", "positive")):
            rows = x[:, g, k][rest[:, g]].double().numpy()
            assert int(stats.used[g, k]) == len(rows)
            np.testing.assert_allclose(stats.mean[g, k], rows.mean(0), atol=1e-5)
            np.testing.assert_allclose(stats.covariance(layer, group), np.cov(rows.T), atol=1e-5 * float(np.abs(rows).max()))
            np.testing.assert_allclose(stats.gram(layer, group), rows.T @ rows, rtol=1e-4, atol=1e-4)
    assert int(stats.count[0]) == int(mask[:, 0].sum())
    assert stats.provenance["sinks"]["tokens"]["2"] == 8


def test_patterns_name_their_sinks(first, organism, prompts):
    pattern = wb.attention_patterns(first, prompts, [3], layers=[0, 2])[0]
    assert pattern.sinks[:, 0].all()
    assert not pattern.sinks[:, 1:].any()
    rest = pattern.without_sinks()
    assert float(rest[..., 0].abs().max()) == 0
    assert torch.allclose(rest[:, :, 1:].sum(-1), torch.ones(2, 4, len(pattern.tokens) - 1))
    assert torch.allclose(rest[:, :, 5] * pattern.values[:, :, 5, 1:].sum(-1, keepdim=True), pattern.values[:, :, 5] * (rest[:, :, 5] > 0))
    known = wb.attention_patterns(organism, wb.prompts.udhr(n=2), [0], layers=[2])[0]
    assert known.sinks.nonzero().tolist() == [[0, 0]], "the beginning-of-text token"


# ------------------------------------------------------------------ steering


def place(layer, site="resid_post"):
    return wb.Direction.of(torch.ones(32), provenance={"site": site, "layer": layer})


def test_the_mean_norm_leaves_sinks_out(sunk, prompts):
    stems = PromptSet(ContrastPair(stem=p.stem, negative=" no", positive=" yes", label=0) for p in prompts)
    _, x, _ = everything(sunk, stems)
    ends = [len(row) for row in encode(sunk, [p.stem for p in stems])]
    for layer in (LAYER, 2):
        norms = torch.cat([x[i, 0, layer, 1:end].norm(dim=-1) for i, end in enumerate(ends)])
        assert np.isclose(mean_norm(sunk, stems, place(layer)), float(norms.mean()), rtol=1e-4)
        pushed = Pushed(sunk, stems, "stem", 2)
        assert np.isclose(pushed.norms(layer, torch.ones(32) / 32**0.5)[0], float(norms.mean()), rtol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("site", ["resid_post", "resid_pre", "mlp_out", "attn_out"])
def test_the_scope_prompt_leaves_sinks_alone(sunk, prompts, side, site):
    rows = encode(sunk, [p.stem for p in prompts])
    batch = pad(sunk, rows, side)
    seen = {}

    def change(x):
        seen["before"] = x
        return x + 1.0

    edit = Edit(site=site, layer=2, function=change, scope=Scope("prompt"))
    with edited(sunk, [edit, Read(site=site, layer=2, function=lambda x: seen.update(after=x))]) as fired, torch.no_grad():
        run(sunk, batch)
    moved = ((seen["after"] - seen["before"]).abs().amax(-1) > 0.5).int()
    for i, row in enumerate(rows):
        start = int(batch.starts[i])
        assert moved[i, start : start + len(row)].tolist() == [0] + [1] * (len(row) - 1)
    assert fired.sinks[0] == (0 if first_is_sink(sunk) else 4), "a first token that is always a sink belongs to no scope"


def test_before_the_sink_appears(first, delimiter, prompts):
    """In the blocks before, a token like others is steered; a first token that the model always makes a sink is not."""
    for model, left in ((first, 1), (delimiter, 0)):
        (row,) = encode(model, [prompts[0].stem])
        kept = []
        edit = Edit(site="resid_post", layer=0, function=lambda x: x + 1.0, scope=Scope("prompt"))
        with torch.no_grad():
            with edited(model, Read(site="resid_post", layer=0, function=kept.append)):
                run(model, pad(model, [row]))
            with edited(model, [edit, Read(site="resid_post", layer=0, function=kept.append)]):
                run(model, pad(model, [row]))
        assert ((kept[1] - kept[0])[0].abs().amax(-1) > 0.5).tolist() == [False] * left + [True] * (len(row) - left)


def test_a_prompt_of_one_token_is_steered(first):
    edit = Edit(site="resid_post", layer=2, function=lambda x: x + 1.0, scope=Scope("prompt"))
    with edited(first, edit) as fired, torch.no_grad():
        run(first, pad(first, [[5]]))
    assert fired.entries[0].touched == 1


def test_a_push_on_many_tokens_makes_no_sinks_of_them(delimiter, prompts):
    """However strong: what a scope selects is compared with itself, at the later layers too."""
    rows = encode(delimiter, [p.stem for p in prompts])
    how = {"layer": [0, 1, 2], "unit": "unit", "transfer": True}
    for scope, tokens in (("last", 1), (("last", 3), 3)):
        with edited(delimiter, wb.add(place(0), 1e4, scope=scope, **how)) as fired, torch.no_grad():
            run(delimiter, pad(delimiter, rows))
        assert [e.touched for e in fired.entries] == [4 * tokens] * 3
        assert fired.sinks == (0, 0, 0)


def test_steered_generation_is_the_same_with_and_without_a_cache(delimiter, prompts):
    texts = [p.stem for p in prompts]
    edits = wb.add(place(2), 3.0, unit="unit", scope="prompt") | wb.add(place(1), 2.0, unit="unit", scope="generated")
    with edited(delimiter, edits):
        cached = generate_texts(delimiter, texts, max_new_tokens=5, progress=False)
        (ids,) = encode(delimiter, texts[:1])
        for _ in range(5):
            with torch.no_grad():
                ids = [*ids, int(delimiter(torch.tensor([ids]))[0, -1].argmax())]
    assert list(cached[0].ids) == ids[-5:]


def test_a_gate_pools_over_other_tokens(sunk, prompts):
    _, x, _ = everything(sunk, prompts, layers=(2,))
    (row,) = encode(sunk, [prompts[3].stem])
    x = x[3, 0, 0, : len(row)]
    d = wb.Direction.of(x[0], provenance={"site": "resid_post", "layer": 2})  # along the sink
    rest = float((x[1:] @ d.unit).mean())
    assert rest + 1.0 < float((x @ d.unit).mean())
    when = gate(d, rest + 0.5, similarity="projection")
    with edited(sunk, wb.add(d, 1.0, when=when)) as fired, torch.no_grad():
        run(sunk, pad(sunk, [row]))
    assert fired.open[0].tolist() == [False]


def test_projected_tokens_say_which_are_sinks(sunk, prompts):
    d = wb.Direction.of(torch.ones(32), provenance={"site": "resid_post", "layer": 2, "position": "mean"})
    table = project_tokens(sunk, prompts[0].stem, d, scope="prompt")
    others = [True] * (len(table) - 1)
    assert table["sink"].tolist() == [True, *(not o for o in others)]
    assert table["steered"].tolist() == table["read"].tolist() == [False, *others]
