"""Adapters as values: exact restoration, nesting, peft's own numbers, saved and loaded, and every way to be refused."""

import json
import warnings

import numpy as np
import pytest
import torch
from zoo_of_models import bundled, tiny

import workbench as wb
from workbench.core import errors
from workbench.models import Edit, info
from workbench.models.digest import weights_digest
from workbench.models.forward import run
from workbench.models.fused import fused
from workbench.models.known import trunk_of
from workbench.models.lora import matrices
from workbench.models.tokens import pad
from workbench.training import Adapter, Part, adapted

ROWS = [[0, 9, 14, 33, 7, 21, 5, 30], [0, 50, 51, 52, 53]]


def says(model, rows=ROWS):
    batch = pad(model, rows)
    return run(model, batch, at=batch.mask.sum(1, keepdim=True) - 1)[:, 0].float()


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def residual(model, layer=1, site="resid_post", rank=2, seed=0):
    width = int(model.cfg.d_model)
    part = Part(down=numbers(rank, width, seed=seed), up=numbers(width, rank, seed=seed + 1))
    return Adapter(kind="residual", parts={f"{site}[{layer}]": part}, rank=rank, alpha=rank, provenance={"model": info(model).key()})


def lora(model, parts="attention", layers=(0, 1), rank=2, seed=0):
    shell = trunk_of(model).shell
    blocks = {k: next(n for n, m in shell.named_modules() if n.endswith(f".{k}") and "." not in n.split(f".{k}")[-1]) for k in layers}
    out = {}
    for k, path in enumerate(matrices(shell, parts, blocks, layers)):
        module = shell.get_submodule(path)
        wide, high = (module.weight.shape[1], module.weight.shape[0])
        if type(module).__name__ == "Conv1D":
            wide, high = high, wide
        out[f"{path}.weight"] = Part(down=numbers(rank, wide, seed=seed + k), up=numbers(high, rank, seed=seed + 50 + k))
    return Adapter(kind="lora", parts=out, rank=rank, alpha=2.0 * rank, provenance={"model": info(model).key()})


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3", "gemma2"])
def test_lora_gives_what_peft_gives_also_on_fused_matrices(name, tmp_path):
    import copy

    from peft import PeftModel

    model = tiny(name)
    adapter = lora(model)
    adapter.save(tmp_path / "lora")
    before, digest = says(model), weights_digest(model)
    with adapted(model, adapter):
        got = says(model)
    assert float((got - before).abs().max()) > 0.05
    assert torch.equal(says(model), before)
    assert weights_digest(model) == digest
    from zoo import hugging_face

    hf = hugging_face(name, len(model.tokenizer))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # which peft draws from
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        theirs = PeftModel.from_pretrained(copy.deepcopy(hf), str(tmp_path / "lora"))
    want = torch.stack([theirs(input_ids=torch.tensor([r])).logits[0, -1] for r in ROWS]).detach().float()
    assert float((got - want).abs().max() / want.abs().max()) < 1e-4


def test_a_residual_adapter_is_what_its_equation_says_and_leaves_the_first_token_alone():
    model = tiny("llama")
    adapter = residual(model)
    part = adapter.parts["resid_post[1]"]

    def by_hand(x):
        out = x + (x @ part.down.T) @ part.up.T
        out[:, 0] = x[:, 0]
        return out

    with wb.edited(model, Edit(site="resid_post", layer=1, function=by_hand)):
        want = says(model)
    with adapted(model, adapter):
        got = says(model)
    assert float((got - want).abs().max()) < 1e-4


def test_adapters_nest_and_factors_scale():
    model = tiny("llama")
    first, second = residual(model), lora(model)
    before = says(model)
    with adapted(model, [first, second]):
        together = says(model)
    with adapted(model, second), adapted(model, first):
        assert torch.equal(says(model), together)
    with adapted(model, second), adapted(model, second.scaled(-1.0)):
        assert float((says(model) - before).abs().max()) < 1e-4
    with pytest.raises(errors.BadInput, match="two adapters change"), adapted(model, [second, second]):
        pass
    with pytest.raises(RuntimeError, match="half-way"), adapted(model, [first, second]):
        raise RuntimeError("half-way")
    assert torch.equal(says(model), before)


def test_the_canary_sees_an_adapter_without_effect():
    model = tiny("llama")
    for adapter in (residual(model).scaled(0.0), lora(model).scaled(0.0)):
        with pytest.raises(errors.NoEffect, match="does not change"), adapted(model, adapter):
            pass
        before = says(model)
        with adapted(model, adapter, canary=False):
            assert torch.equal(says(model), before)


@pytest.mark.parametrize("make", [residual, lora])
def test_a_store_knows_under_which_adapter_it_was_read(make, tmp_path):
    model, store = bundled(), tmp_path / "store"
    prompts, adapter = wb.prompts.udhr("base_short", n=8), make(model)
    plain = wb.capture(model, prompts, layers=[3])
    with adapted(model, adapter):
        pushed = wb.capture(model, prompts, layers=[3], store=store)
        again = wb.capture(model, prompts, layers=[3], store=store)
    assert torch.equal(pushed.layer(3), again.layer(3))
    assert float((plain.layer(3) - pushed.layer(3)).abs().max()) > 0.1
    with pytest.raises((errors.OutputFolder, errors.WrongModel)):
        wb.capture(model, prompts, layers=[3], store=store)


@pytest.mark.parametrize("make", [residual, lora])
def test_what_is_saved_is_loaded(make, tmp_path):
    model = tiny("llama")
    adapter = make(model)
    again = Adapter.load(adapter.save(tmp_path / "a"))
    assert again.key == adapter.key
    assert again.provenance["model"] == adapter.provenance["model"]
    with adapted(model, adapter):
        want = says(model)
    with adapted(model, again):
        assert torch.equal(says(model), want)
    weights = tmp_path / "a" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(errors.DamagedStore, match="changed or damaged"):
        Adapter.load(tmp_path / "a")
    weights.write_bytes(b"nonsense")
    with pytest.raises(errors.DamagedStore, match="cannot be read"):
        Adapter.load(tmp_path / "a")
    with pytest.raises(errors.BadInput, match="holds no adapter"):
        Adapter.load(tmp_path)


def test_a_lora_folder_of_peft_is_read_and_other_kinds_are_named(tmp_path):
    model = tiny("llama")
    folder = lora(model).save(tmp_path / "a")
    (folder / "workbench.json").unlink()
    theirs = Adapter.load(folder)
    assert theirs.kind == "lora"
    with adapted(model, theirs):
        says(model)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    with pytest.raises(errors.BadInput, match="another kind"):
        Adapter.load(folder)


def test_a_model_is_loaded_with_somebodys_adapter(tmp_path):
    model, folder = bundled(), tmp_path / "theirs"
    adapter = lora(model, layers=(2, 3))
    adapter.save(folder)
    (folder / "workbench.json").unlink()
    with adapted(model, adapter):
        want = says(model)
    merged = wb.load_model("bundled", device="cpu", adapter=str(folder))
    assert float((says(merged) - want).abs().max()) < 1e-3
    assert info(merged).name != info(model).name
    assert info(merged).digest != info(model).digest
    residual(model).save(tmp_path / "stream")
    with pytest.raises(errors.BadInput, match=r"wb\.adapted"):
        wb.load_model("bundled", device="cpu", adapter=str(tmp_path / "stream"))
    with pytest.raises(errors.BadInput, match=r"no adapter|cannot be merged"):
        wb.load_model("bundled", device="cpu", adapter=str(tmp_path / "nowhere"))


def test_wrong_models_and_shapes_are_refused():
    model, other = tiny("llama"), tiny("qwen2")
    adapter = residual(model)
    with pytest.raises(errors.WrongModel, match="was made from"), adapted(other, adapter):
        pass
    with adapted(other, adapter, transfer=True):
        says(other)
    with pytest.raises(errors.ShapeMismatch, match="d_model is 128"), adapted(bundled(), adapter, transfer=True):
        pass
    with pytest.raises(errors.UnknownName, match="weight"):
        fused(model, "model.layers.9.q.weight", torch.zeros(2, 2), label="x")
    with pytest.raises(errors.ShapeMismatch, match="no change of the kind"):
        Adapter(kind="full", parts={"w": Part(down=torch.ones(1, 2), up=torch.ones(2, 1))})
    with pytest.raises(errors.NotFinite, match="NaN"):
        Adapter(kind="full", parts={"w": Part(down=None, up=torch.full((2, 2), float("nan")))})
    with pytest.raises(errors.BadInput, match="nothing to merge"):
        adapter.changes(model)
    assert np.isfinite(adapter.factor)
