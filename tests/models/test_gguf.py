"""Gguf files: read as transformers reads them, converted once, and refused in words where they cannot be."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ggufs import TEMPLATE, write_gguf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import workbench as wb
from workbench.core import errors
from workbench.models import check_source, dequantised, gguf_light, info
from workbench.models.gguf_header import read_header
from workbench.models.known import folder_of
from workbench.models.outline import outline
from workbench.models.plain import check_plain
from workbench.models.rope import settle_rope


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plain_hf(file):
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            attn_implementation="eager",
            quantization_config=GgufConfig(dequantize=True),
        )


@pytest.mark.parametrize(
    ("kind", "words_of_it"),
    [
        ("Q4_0", "dequantised 4-bit weights (Q4_0), not the original"),
        ("Q8_0", "dequantised 8-bit weights (Q8_0), not the original"),
        ("F16", "weights in F16 out of a gguf file, not quantised"),
    ],
)
def test_a_file_is_what_transformers_makes_of_it(kind, words_of_it, tmp_path, words, monkeypatch):
    monkeypatch.setattr(gguf_light, "LONG", 10)  # every list is only counted, every matrix made plain row by row
    monkeypatch.setattr(gguf_light, "PIECE", 64)
    file = write_gguf(tmp_path / "tiny.x.gguf", words, kind, bos=True)
    model, hf = wb.load_model(str(file), device="cpu"), plain_hf(file)
    known = info(model)
    assert (known.name, known.weights, known.n_layers, known.context) == ("tiny.x", words_of_it, 2, 256)
    assert words_of_it in model_page(known)
    saved = load_file(folder_of(model) / "model.safetensors")
    mine = hf.state_dict()
    assert {k for k in mine if k != "lm_head.weight"} == set(saved)
    assert all(torch.equal(saved[k], mine[k]) for k in saved)  # exactly
    ids = torch.tensor([words("do you agree? yes")["input_ids"]])
    torch.testing.assert_close(model(ids, return_type="logits"), hf(ids).logits, atol=1e-4, rtol=0)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert (
        model.tokenizer("women have 12 rights", add_special_tokens=False).input_ids
        == theirs("women have 12 rights", add_special_tokens=False).input_ids
    )
    assert model.tokenizer.chat_template == theirs.chat_template == TEMPLATE


def model_page(known):
    return repr(known) + known._repr_html_()


@pytest.mark.parametrize("bos", [True, False])
def test_the_first_token_is_the_file_s(bos, tmp_path, words):
    file = write_gguf(tmp_path / "tiny.gguf", words, bos=bos)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        known = outline(str(file)).info
        wb.load_model(str(file), device="cpu")
    assert known.first == ((0,) if bos else ())
    assert any("declares" in str(w.message) for w in said) is not bos


def test_it_is_converted_once_and_by_its_content(tmp_path, words, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", words, "Q8_0")
    first = outline(str(file))
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    shutil.copy(file, copy / "other.gguf")
    with monkeypatch.context() as now:
        now.setattr(dequantised, "_write", lambda *_: pytest.fail("converted again"))
        assert outline(str(file)).folder == outline(str(copy)).folder == first.folder  # the folder's only one
        assert outline(str(copy)).info.name == "other"
    write_gguf(file, words, "Q4_0")
    assert outline(str(file)).folder != first.folder
    assert "converted" in set(wb.available_models()["state"])


def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path, words, monkeypatch, cache):
    file = write_gguf(tmp_path / "tiny.gguf", words)
    with monkeypatch.context() as now:
        now.setattr(
            "transformers.PreTrainedModel.save_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(errors.DiskFull):
            outline(str(file))
    assert [p for p in (cache / "weights" / "gguf").iterdir() if p.suffix != ".lock"] == []
    (cache / "weights" / "gguf" / f".{outline(str(file)).folder.name}.x.tmp").mkdir()
    shutil.rmtree(outline(str(file)).folder)
    outline(str(file))
    assert list((cache / "weights" / "gguf").glob(".*.tmp")) == []  # of one that was killed


def test_no_room(tmp_path, words, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf", words)
    with monkeypatch.context() as now:
        now.setattr(dequantised, "memory", lambda: (1, 1))
        with pytest.raises(errors.OutOfMemory, match="as plain numbers"):
            outline(str(file))
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1))
    with pytest.raises(errors.DiskFull, match="WORKBENCH_CACHE"):
        outline(str(file))


def test_settings_that_are_nonsense(tmp_path, words):
    for n, settings in enumerate(({"general.alignment": "x"}, {"llama.attention.head_count_kv": 0}, {"split.count": "x"})):
        file = write_gguf(tmp_path / f"{n}.gguf", words, settings=settings)
        if n == 2:
            check_source(str(file))  # of no consequence
            continue
        with pytest.raises(errors.DamagedModel):
            outline(str(file))


def test_other_files_of_the_folder_are_not_its_own(tmp_path, words):
    file = write_gguf(tmp_path / "tiny.gguf", words)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "another", "tokenizer_class": "LlamaTokenizer"}))
    (tmp_path / "generation_config.json").write_text("{}")
    assert outline(str(file)).tokenizer.chat_template == TEMPLATE


def change(path, words, how):
    """A file that is wrong in some way; returns the name to load it by."""
    file = path / "tiny.gguf"
    if how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_text("GGML and not the other")
    elif how == "architecture":
        write_gguf(file, words, architecture="rwkv9")
    elif how == "piece by name":
        write_gguf(path / "tiny-00001-of-00003.gguf", words)
        write_gguf(path / "tiny-00002-of-00003.gguf", words)
        return str(path)
    elif how == "several":
        write_gguf(path / "mmproj.gguf", words)
        write_gguf(file, words)
        return str(path)
    elif how in ("piece", "adapter", "control vector"):
        settings = {"piece": {"split.count": 3}, "adapter": {"general.type": "adapter"}, "control vector": {}}[how]
        write_gguf(file, words, settings=settings, architecture="controlvector" if how == "control vector" else "llama")
    elif how == "missing":
        return str(path / "none.gguf")
    else:
        data = write_gguf(file, words).read_bytes()
        cuts = {"cut in the values": len(data) - 4000, "cut in the settings": 600, "cut in the head": 14}
        version = {"old": (1).to_bytes(4, "little"), "big-endian": (3).to_bytes(4, "big")}
        file.write_bytes(data[: cuts[how]] if how in cuts else data[:4] + version[how] + data[8:])
    return str(file)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("empty", errors.DamagedModel, "no gguf file"),
        ("text", errors.DamagedModel, "does not begin with"),
        ("cut in the values", errors.DamagedModel, "is cut off: .* Copy or download it again"),
        ("cut in the settings", errors.DamagedModel, "damaged or cut off"),
        ("cut in the head", errors.DamagedModel, "damaged or cut off"),
        ("old", errors.DamagedModel, "version 1"),
        ("big-endian", errors.DamagedModel, "little-endian"),
        ("architecture", errors.QuantisedModel, "cannot dequantise the architecture 'rwkv9' .*llama"),
        ("piece", errors.BadInput, "one of 3 pieces .*--merge"),
        ("piece by name", errors.BadInput, "one of 3 pieces .*--merge"),
        ("several", errors.BadInput, "holds 2 gguf files .mmproj.gguf, tiny.gguf.; pass the path"),
        ("adapter", errors.BadInput, "no whole model"),
        ("control vector", errors.BadInput, "VectorSet.from_gguf"),
        ("missing", errors.UnknownModel, "no file"),
    ],
)
def test_what_cannot_be_read_is_told_before_anything_is_converted(how, error, says, tmp_path, words, monkeypatch, cache):
    name = change(tmp_path, words, how)
    monkeypatch.setattr(dequantised, "convert", lambda *a, **k: pytest.fail("it was converted"))
    for door in (wb.load_model, check_source, outline):
        with pytest.raises(error, match=says):
            door(name)
    assert not cache.exists()


@pytest.mark.parametrize("how", ["more", "less", "other"])
def test_values_that_go_nowhere_or_are_missing_are_not_passed_over(how, tmp_path, words):
    ways = {"more": {"tensors": {"blk.0.attn_q.bias": np.ones(32)}}, "less": {"without": ("blk.1.ffn_up.weight",)}, "other": {"hidden": 48}}
    file = write_gguf(tmp_path / "tiny.gguf", words, **ways[how])
    with pytest.raises((errors.QuantisedModel, errors.DamagedModel), match=r"of the .* values|are missing|in other shapes"):
        outline(str(file))


def llama3_divisors(factor):
    rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0}
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, rope_parameters=rope | {"original_max_position_embeddings": 8192})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    return (500000.0 ** (-torch.arange(4) / 4) / scaled).numpy(), dict(config.rope_parameters)


def test_positions_are_stretched_as_the_file_asks(tmp_path, words):
    linear = write_gguf(tmp_path / "a.gguf", words, settings={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0})
    saved = json.loads((outline(str(linear)).folder / "config.json").read_text())["rope_parameters"]
    assert (saved["rope_type"], saved["factor"]) == ("linear", 4.0)
    divisors, wanted = llama3_divisors(32.0)
    config = LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    settle_rope(config, read_header(write_gguf(tmp_path / "b.gguf", words, tensors={"rope_freqs.weight": divisors})))
    assert dict(config.rope_parameters) == wanted
    for name, how in (("c", {"tensors": {"rope_freqs.weight": divisors[::-1]}}), ("d", {"settings": {"llama.rope.scaling.type": "yarn"}})):
        with pytest.raises(errors.QuantisedModel, match="original repository"):
            outline(str(write_gguf(tmp_path / f"{name}.gguf", words, **how)))


QUANTISED = {
    "bitsandbytes": {"load_in_4bit": True, "quant_method": "bitsandbytes"},
    "bitsandbytes of old": {"load_in_8bit": True},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq"},
    "fp8": {"quant_method": "fp8"},
    "compressed-tensors": {"quant_method": "compressed-tensors"},
}


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_checkpoints_have_an_error_of_their_own(kind, gemma_folder, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(gemma_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": QUANTISED[kind]}))
    monkeypatch.setattr("workbench.models.source.safe_open", lambda *_: pytest.fail("weights were opened"))
    for door in (wb.load_model, check_source, outline):
        with pytest.raises(errors.QuantisedModel, match=rf"quantised \({kind.split()[0]}\).*full precision") as told:
            door(str(folder))
        assert not isinstance(told.value, errors.DamagedModel)


def test_packed_weights_are_known_by_their_names(gemma_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(gemma_folder, folder)
    weights = load_file(folder / "model.safetensors")
    check_source(str(folder))
    name = next(n for n in weights if n.endswith("q_proj.weight"))
    weights[name.replace(".weight", ".qweight")] = weights.pop(name).to(torch.int32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(errors.QuantisedModel, match="gptq or awq"):
        check_source(str(folder))


def test_what_transformers_makes_plain_by_itself_is_not_refused():
    check_plain("x", {"quantization_config": {"quant_method": "mxfp4"}})
    check_plain("x", {"quantization_config": None, "text_config": {}})
    with pytest.raises(errors.QuantisedModel):
        check_plain("x", {"text_config": {"quantization_config": {"quant_method": "gptq"}}})


def test_smollm2_is_the_gguf_that_it_was_made_from(smollm2, smollm2_folder):
    told = json.loads((smollm2_folder / "source.json").read_text())
    file = smollm2_folder.parent / "files" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not file.is_file():
        pytest.skip("smollm2 was fetched from the hub")
    assert info(smollm2).weights == told["weights"] == "dequantised 4-bit weights (Q4_1), not the original"
    assert info(smollm2).first == ()
    assert "<|im_start|>" in smollm2.tokenizer.chat_template
    with gguf_light.light():  # as exact, see above, and three times as fast
        hf = plain_hf(Path(file))
    ids = torch.tensor([smollm2.tokenizer("Everyone has the right to rest. Do you agree? Answer:")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(smollm2(ids, return_type="logits"), hf(ids).logits, atol=1e-4, rtol=0)
