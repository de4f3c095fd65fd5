"""Loading, and every way in which it can fail, before any weight is read where that is possible."""

import json
import shutil
import threading

import pytest
import torch
from conftest import tiny_model
from transformers import AutoTokenizer

import workbench as wb
from workbench.core import errors
from workbench.models import info, load_model, planted, untrained_copy, wrap


def test_bundled_by_both_names(organism):
    known = info(organism)
    assert known.name == "udhr-organism"
    assert known.dtype == "float32"
    assert known.processing == "none"
    assert load_model("udhr-organism", device="cpu").cfg.n_layers == known.n_layers
    assert planted(organism)["denied"]


def test_ready_models_come_back_as_they_are(tiny):
    assert load_model(tiny) is tiny


def test_hooked_transformer_is_accepted(words, tmp_path):
    hooked = pytest.importorskip("transformer_lens").HookedTransformer
    from transformer_lens import HookedTransformerConfig

    config = HookedTransformerConfig(n_layers=2, d_model=16, n_ctx=256, d_head=8, n_heads=2, d_mlp=32, d_vocab=len(words), act_fn="relu")
    words.save_pretrained(tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)
    with torch.random.fork_rng(devices=[]):
        model = hooked(config, tokenizer=words)
    model.eval()
    assert load_model(model) is model
    assert info(model).processing == "compatibility"
    with pytest.warns(UserWarning, match="through the Bridge, without sharing prefixes: it was booted elsewhere"):
        acts = wb.capture(model, wb.prompts.udhr(n=4), layers=[1], progress=False)
    assert acts.values.shape == (4, 2, 1, 16)


def test_folder_revision_dtype(gemma_folder):
    model = load_model(gemma_folder, device="cpu", dtype="bfloat16")
    assert info(model).name == "tiny-gemma"
    assert info(model).dtype == "bfloat16"
    assert planted(model) is None


def test_digest_sees_weights_and_not_names(tiny_pair, words):
    kind, _, bridge = tiny_pair
    again = wrap(tiny_model(kind, len(words)), words, name="other name", bos=0, device="cpu")
    assert info(again).digest == info(bridge).digest
    with torch.no_grad():
        next(again.parameters()).add_(1e-3)
    assert info(again).digest != info(bridge).digest
    before = info(again).digest
    next(again.parameters()).data.mul_(3)  # torch does not count this change
    assert info(again).digest != before


def test_untrained_copy_differs_and_is_seeded(organism):
    one, two = untrained_copy(organism, seed=1), untrained_copy(organism, seed=1)
    assert info(one).digest == info(two).digest != info(organism).digest
    assert info(untrained_copy(organism, seed=2)).digest != info(one).digest


def test_bos_is_what_the_tokenizer_declares(tiny_pair, organism):
    kind, _, bridge = tiny_pair
    assert info(bridge).bos == (None if kind == "qwen2" else 0)
    assert info(organism).bos == organism.tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("gpt2-that-is-not-here", errors.NetworkNeeded, "the hub cannot be reached"),
        ("someone/no-such-model", errors.NetworkNeeded, "pass its folder"),
        ("./no/such/folder", errors.UnknownModel, "no folder"),
        ("udhr-organsim", errors.UnknownModel, "Did you mean 'udhr-organism'"),
        ("", errors.UnknownModel, "a model is a name"),
        (42, errors.UnknownModel, "got 42"),
    ],
)
def test_unknown(name, error, match):
    with pytest.raises(error, match=match):
        load_model(name)


def _without(folder, tmp_path, *names):
    out = tmp_path / "model"
    shutil.copytree(folder, out)
    for name in names:
        (out / name).unlink()
    return out


def test_damaged_folders(gemma_folder, tmp_path):
    with pytest.raises(errors.DamagedModel, match=r"no config\.json"):
        load_model(_without(gemma_folder, tmp_path / "a", "config.json"))
    with pytest.raises(errors.DamagedModel, match="no weights"):
        load_model(_without(gemma_folder, tmp_path / "b", "model.safetensors"))
    with pytest.raises(errors.MissingTokenizer, match="no tokenizer in the folder"):
        load_model(_without(gemma_folder, tmp_path / "c", "tokenizer.json", "tokenizer_config.json"))
    folder = _without(gemma_folder, tmp_path / "d")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(errors.DamagedModel, match=r"model\.safetensors is damaged"):
        load_model(folder)
    folder = _without(gemma_folder, tmp_path / "e")
    (folder / "config.json").write_text("{ not json")
    with pytest.raises(errors.DamagedModel, match=r"config\.json cannot be read"):
        load_model(folder)
    folder = _without(gemma_folder, tmp_path / "f")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "gone.safetensors"}}))
    with pytest.raises(errors.DamagedModel, match=r"1 of 1 weight files are missing, the first gone\.safetensors"):
        load_model(folder)


def test_missing_weights_are_not_made_up(gemma_folder, tmp_path):
    """The loader draws missing weights at random and says so in a log only."""
    from safetensors.torch import load_file, save_file

    folder = _without(gemma_folder, tmp_path / "a")
    weights = load_file(folder / "model.safetensors")
    gone = next(k for k in weights if "down_proj" in k)
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.DamagedModel, match="1 weights are missing or misshapen"):
        load_model(folder)
    (folder / "model.safetensors.index.json").write_text("[")
    with pytest.raises(errors.DamagedModel, match=r"index\.json cannot be read"):
        load_model(folder)


def test_loads_do_not_overlap(gemma_folder, monkeypatch):
    # transformers swaps methods of its classes while it loads; of two loads that overlap one puts the other's stand-ins back
    from transformers import AutoModelForCausalLM, PreTrainedModel

    real, tie, inside, most = AutoModelForCausalLM.from_pretrained, PreTrainedModel.tie_weights, [], []
    second = threading.Thread(target=lambda: load_model(gemma_folder, device="cpu"))

    def watched(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        if not second.ident:
            second.start()
            second.join(0.5)  # time enough to come in, were it let in
        try:
            return real(*args, **kwargs)
        finally:
            inside.pop()

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", watched)
    load_model(gemma_folder, device="cpu")
    second.join()
    assert most == [1, 1]
    assert PreTrainedModel.tie_weights is tie


def test_ground_truth_goes_with_the_folder_and_not_with_its_name(gemma_folder, tmp_path):
    folder = tmp_path / "udhr-organism"
    shutil.copytree(gemma_folder, folder)
    assert planted(load_model(folder, device="cpu")) is None
    (folder / "planted.json").write_text('{"denied": ["x"]}')
    assert planted(load_model(folder, device="cpu")) == {"denied": ["x"]}


def test_not_enough_memory(gemma_folder, monkeypatch):
    from workbench.models import source

    monkeypatch.setattr(source, "_free_memory", lambda: 1000)
    with pytest.raises(errors.OutOfMemory, match="GB free"):
        load_model(gemma_folder, device="cpu")


def test_bad_device_and_dtype(gemma_folder):
    with pytest.raises(errors.BadInput, match="no device 'gpu'"):
        load_model(gemma_folder, device="gpu")
    with pytest.raises(errors.BadInput, match="dtype 'int8'"):
        load_model(gemma_folder, dtype="int8")


def test_hub_errors_are_told_apart():
    from workbench.models.source import explain

    class GatedRepoError(Exception):
        pass

    assert isinstance(explain(GatedRepoError("403"), "google/gemma-2-2b", local=False), errors.GatedModel)
    assert isinstance(explain(OSError("weird"), "x/y", local=False), errors.UnknownModel)


def test_not_a_model():
    with pytest.raises(errors.BadInput, match="got Identity"):
        info(torch.nn.Identity())


def test_a_name_may_hold_the_dtype(gemma_folder, tmp_path):
    from workbench.models.outline import outline

    for dtype in ("bfloat16", "float16", "float32"):
        model = wb.load_model(f"{gemma_folder}:{dtype}", device="cpu")
        assert info(model).dtype == dtype
        assert outline(f"{gemma_folder}:{dtype}").info.dtype == dtype
        assert info(model).name == gemma_folder.name
    assert outline(f"{gemma_folder}:bfloat16").content != outline(str(gemma_folder)).content
    with pytest.raises(errors.BadInput, match="names a dtype, and dtype='float16' another"):
        wb.load_model(f"{gemma_folder}:bfloat16", dtype="float16")
    with pytest.raises(errors.UnknownModel):
        wb.load_model(f"{tmp_path}/nothing:bfloat16")
    with pytest.raises(errors.UnknownModel, match="bundeld"):
        wb.load_model("bundeld:bfloat16")
