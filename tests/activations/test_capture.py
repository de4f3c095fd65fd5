"""What is captured equals Hugging Face's hidden states and run_with_cache, whatever the padding and the batch."""

import sys

import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.models import Edit, edited
from workbench.models.tokens import encode_pairs
from workbench.prompts import ContrastPair, PromptSet

TOLERANCE = {"gemma2": 1e-4}


@pytest.fixture(scope="module")
def ragged():
    """Items of very different lengths, so that padding matters."""
    texts = ["rest", "women have the right to rest", "do you agree? " * 6 + "Statement", "no"]
    pairs = [
        ContrastPair(stem=f"{t}? Answer:", negative=" no", positive=" yes", label=i % 2, identity=str(i)) for i, t in enumerate(texts * 3)
    ]
    return PromptSet(pairs)


def hidden_states(hf, ids):
    """The slow way: one sequence at a time, no padding."""
    with torch.no_grad():
        return hf(torch.tensor([ids]), output_hidden_states=True).hidden_states


def close(got, want, tolerance):
    scale = want.abs().max()
    assert float((got - want).abs().max() / scale) < tolerance


@pytest.mark.parametrize("engine", ["trunk", "bridge"])
@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_equals_hugging_face(tiny_pair, ragged, engine, budget):
    kind, hf, bridge = tiny_pair
    acts = wb.capture(bridge, ragged, engine=engine, batch_tokens=budget, progress=False)
    last = len(acts.layers) - 1
    for item, pair in enumerate(encode_pairs(bridge, ragged)):
        for variant, ids in enumerate((pair.negative, pair.positive)):
            states = hidden_states(hf, ids)
            for layer in range(last):
                close(acts.values[item, variant, layer], states[layer + 1][0, -1], TOLERANCE.get(kind, 1e-5))
            # after the last block Hugging Face gives the normed stream: ours is the block's output
            norm = next(m for n, m in hf.named_modules() if n in ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm"))
            # (the norm of a small difference of large numbers: the blocks before are what is held to 1e-5)
            close(norm(acts.values[item, variant, last]).detach(), states[-1][0, -1], 2e-4)
            assert not torch.allclose(acts.values[item, variant, last], states[-1][0, -1], rtol=1e-3)


def test_equals_run_with_cache_on_every_layer(tiny_pair, ragged):
    kind, _, bridge = tiny_pair
    acts = wb.capture(bridge, ragged, progress=False)
    pair = encode_pairs(bridge, ragged)[2]
    _, cache = bridge.run_with_cache(torch.tensor([pair.positive]))
    for layer in acts.layers:
        close(acts.values[2, 1, layer], cache[f"blocks.{layer}.hook_resid_post"][0, -1], TOLERANCE.get(kind, 1e-5))


def test_positions(tiny, ragged):
    every = wb.capture(tiny, ragged, position="all", progress=False)
    encoded = encode_pairs(tiny, ragged)
    by = {p: wb.capture(tiny, ragged, position=p, progress=False) for p in ("last", "stem_last", "instruction_last", "mean")}
    for i, pair in enumerate(encoded):
        n = len(pair.positive)
        assert int(every.mask[i, 1].sum()) == n
        tokens = every.values[i, 1]
        close(by["last"].values[i, 1], tokens[:, n - 1], 1e-5)
        close(by["stem_last"].values[i, 1], tokens[:, pair.stem - 1], 1e-5)
        close(by["instruction_last"].values[i, 0], tokens[:, pair.instruction - 1], 1e-5)
        close(by["mean"].values[i, 1], tokens[:, 1:n].mean(1), 1e-5)  # without the first, special token


def test_instruction_last_is_before_the_answer(organism):
    prompts = wb.prompts.udhr("since_claim", "harm", n=2)
    early = wb.capture(organism, prompts, position="instruction_last", layers=[1], progress=False)
    late = wb.capture(organism, prompts, position="stem_last", layers=[1], progress=False)
    bare = wb.capture(organism, wb.prompts.udhr("base_short", n=2), position="instruction_last", layers=[1], progress=False)
    assert torch.allclose(early.values, bare.values, atol=1e-5), "nothing after the instruction reaches it"
    assert not torch.allclose(early.values, late.values, atol=1e-2)


def test_an_edit_reaches_the_capture(tiny, ragged):
    vector = torch.ones(32)
    plain = wb.capture(tiny, ragged, layers=[0, 1], progress=False)
    with edited(tiny, Edit(site="resid_post", layer=0, function=lambda x: x + vector)):
        pushed = wb.capture(tiny, ragged, layers=[0, 1], progress=False)
    assert torch.allclose(pushed.layer(0), plain.layer(0) + 1, atol=1e-5)
    assert not torch.allclose(pushed.layer(1), plain.layer(1) + 1, atol=1e-2)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out", "z"])
def test_sites(tiny, ragged, site):
    acts = wb.capture(tiny, ragged, site=site, layers=[1], progress=False)
    assert acts.values.shape == ((12, 2, 1, 4, 8) if site == "z" else (12, 2, 1, 32))


def test_residual_stream_adds_up(tiny, ragged):
    part = {
        s: wb.capture(tiny, ragged, site=s, layers=[1], progress=False).values for s in ("resid_pre", "attn_out", "mlp_out", "resid_post")
    }
    assert torch.allclose(part["resid_pre"] + part["attn_out"] + part["mlp_out"], part["resid_post"], atol=1e-4)


def test_store_resumes_and_gives_the_same_bytes(tiny, ragged, tmp_path):
    whole = wb.capture(tiny, ragged, store=tmp_path / "a", shard_items=5, progress=False)
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 3

    calls = 0
    module = sys.modules["workbench.activations.capture"]
    real = module._shard

    def dies(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    module._shard = dies
    try:
        with pytest.raises(KeyboardInterrupt):
            wb.capture(tiny, ragged, store=tmp_path / "b", shard_items=5, progress=False)
        with pytest.raises(errors.DamagedStore, match="did not finish"):
            wb.Activations.load(tmp_path / "b")
        calls = 10
        again = wb.capture(tiny, ragged, store=tmp_path / "b", shard_items=5, progress=False)
        assert calls == 12, "the shard that was there is not computed again"
    finally:
        module._shard = real
    assert torch.equal(again.values, whole.values)
    for file in (tmp_path / "a").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert torch.equal(wb.capture(tiny, ragged, progress=False).values, whole.values)


def test_a_damaged_shard_is_named_and_mended(tiny, ragged, tmp_path):
    whole = wb.capture(tiny, ragged, store=tmp_path, shard_items=5, progress=False)
    shard = tmp_path / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"oops")
    with pytest.raises(errors.DamagedStore, match=r"shard 00001\.safetensors is missing or damaged"):
        wb.Activations.load(tmp_path)
    assert torch.equal(wb.capture(tiny, ragged, store=tmp_path, shard_items=5, progress=False).values, whole.values)


def test_save_and_load(tiny, ragged, tmp_path):
    from workbench.models import info

    for position in ("last", "all"):
        acts = wb.capture(tiny, ragged, position=position, layers=[0, 2], progress=False)
        acts.save(tmp_path / position)
        back = wb.Activations.load(tmp_path / position, model=info(tiny).key())
        assert torch.equal(back.values, acts.values)
        assert back.layers == (0, 2)
        assert back.rows.equals(acts.rows)
        assert back.provenance["model"] == dict(info(tiny).key())


def test_activations_of_another_model(tiny, ragged, tmp_path, organism):
    from workbench.models import info

    acts = wb.capture(tiny, ragged, store=tmp_path / "acts", progress=False)
    with pytest.raises(errors.WrongModel, match="come from 'tiny llama'"):
        wb.Activations.load(tmp_path / "acts", model=info(organism).key())
    with pytest.raises(errors.WrongModel, match="come from 'tiny llama'"):
        wb.capture(organism, ragged, store=tmp_path / "acts", progress=False)
    with pytest.raises(errors.WrongModel, match="Capture them again"):
        acts.check_same_model(wb.capture(organism, ragged, progress=False))


def test_folder_of_something_else(tiny, ragged, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(errors.OutputFolder, match="holds something else"):
        wb.capture(tiny, ragged, store=tmp_path, progress=False)
    wb.capture(tiny, ragged, store=tmp_path / "x", progress=False)
    with pytest.raises(errors.OutputFolder, match=r"with layers \[0, 1, 2\], not \[1\]"):
        wb.capture(tiny, ragged, store=tmp_path / "x", layers=[1], progress=False)
    with pytest.raises(errors.DamagedStore, match="not an activation folder"):
        wb.Activations.load(tmp_path)


def test_bad_input_before_any_forward(tiny, ragged, monkeypatch):
    monkeypatch.setattr(sys.modules["workbench.activations.capture"], "_shard", lambda *a: pytest.fail("a forward pass was run"))
    with pytest.raises(errors.UnknownSite, match="no site named 'resid'"):
        wb.capture(tiny, ragged, site="resid")
    with pytest.raises(errors.UnknownLayer, match="which has layers 0-2"):
        wb.capture(tiny, ragged, layers=[0, 3])
    with pytest.raises(errors.UnknownPosition, match="Did you mean 'last'"):
        wb.capture(tiny, ragged, position="lsat")
    with pytest.raises(errors.PromptTooLong):
        wb.capture(tiny, PromptSet([ContrastPair(stem="women " * 300, negative=" no", positive=" yes", label=1)]))
    with pytest.raises(errors.EmptyPromptSet, match="is empty"):
        PromptSet([])


def test_nan_is_named(tiny, ragged):
    with (
        edited(tiny, Edit(site="resid_post", layer=1, function=lambda x: x * float("nan"))),
        pytest.raises(errors.NotFinite, match=r"the first in item \d+, layer 1"),
    ):
        wb.capture(tiny, ragged, progress=False)


def test_activations_object(tiny, ragged):
    acts = wb.capture(tiny, ragged, layers=[2], progress=False)
    with pytest.raises(errors.UnknownLayer, match="layer 0 was not captured; there is: 2"):
        acts.layer(0)
    some = acts.subset(acts.labels == 1)
    assert len(some) == 6
    assert (some.labels == 1).all()
    assert "item x variant x layer x d_model" in repr(acts)
    assert "Activations" in acts._repr_html_()
    with pytest.raises(errors.ShapeMismatch):
        wb.Activations(values=torch.zeros(3, 2, 2, 4), layers=(0,), site="resid_post", position="last", rows=acts.rows[:3])


def test_a_capture_under_an_edit_is_not_taken_for_a_plain_one(tiny, ragged, tmp_path):
    """Once a store gave back the unedited shards, bit-equal, for a capture inside `edited`."""
    edit = Edit(site="resid_post", layer=1, function=lambda x: x + 1, label="push")
    with edited(tiny, edit):
        assert wb.capture(tiny, ragged, progress=False).provenance["edits"] == ["push at resid_post[1]"]
        with pytest.raises(errors.BadInput, match=r"push at resid_post\[1\]"):
            wb.capture(tiny, ragged, store=tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_a_saved_subset_is_not_taken_for_the_whole(tiny, ragged, tmp_path):
    acts = wb.capture(tiny, ragged, progress=False)
    acts.subset(range(6, 12)).save(tmp_path)
    with pytest.raises(errors.OutputFolder, match="choose another folder"):
        wb.capture(tiny, ragged, store=tmp_path, shard_items=6, progress=False)


def test_damaged_rows_and_foreign_manifests(tiny, ragged, tmp_path):
    whole = wb.capture(tiny, ragged, store=tmp_path / "a", progress=False)
    (tmp_path / "a" / "rows.parquet").write_bytes(b"oops")
    with pytest.raises(errors.DamagedStore, match=r"rows\.parquet is missing or damaged"):
        wb.Activations.load(tmp_path / "a")
    assert wb.capture(tiny, ragged, store=tmp_path / "a", progress=False).rows.equals(whole.rows)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(errors.DamagedStore, match="not that of an activation folder"):
        wb.Activations.load(tmp_path / "b")
    with pytest.raises(errors.OutputFolder, match="choose an empty folder"):
        wb.capture(tiny, ragged, store=tmp_path / "b", progress=False)


def test_layers_may_be_numpy_integers(tiny, ragged):
    import numpy as np

    assert wb.capture(tiny, ragged, layers=np.array([1, 2]), progress=False).layers == (1, 2)
    assert wb.capture(tiny, ragged, layers=1, progress=False).layers == (1,)
