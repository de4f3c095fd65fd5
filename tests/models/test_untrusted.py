"""Files that could run code are not read: pickles, a model's own code, a tokenizer's own code; nor weights elsewhere."""

import io
import json
import os
import pickle
import shutil
import sys

import pytest

from workbench.core import errors
from workbench.models import load_model
from workbench.models.classifier import load_classifier
from workbench.models.outline import outline


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


@pytest.fixture
def folder(gemma_folder, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(gemma_folder, out)
    return out


def every_door(folder):
    for door in (load_model, load_classifier, outline):
        yield lambda door=door: door(str(folder))


@pytest.mark.parametrize("decoy", ["", "decoy.safetensors", "adapter_model.safetensors"])
def test_a_pickle_is_not_read(folder, tmp_path, decoy):
    weights = folder / "model.safetensors"
    if decoy:
        shutil.copy(weights, folder / decoy)
    weights.unlink()
    mark = tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(mark)))
    for load in every_door(folder):
        with pytest.raises(errors.DamagedModel, match=r"pytorch_model\.bin.*use_safetensors=False"):
            load()
    assert not mark.exists()


def test_a_pickle_beside_whole_weights_is_left_alone(folder, tmp_path):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    load_model(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/hostname", "sub/x.safetensors", "weights.bin", 7])
def test_an_index_names_files_of_its_folder(folder, name):
    shutil.move(folder / "model.safetensors", folder.parent / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    for load in every_door(folder):
        with pytest.raises(errors.DamagedModel, match=r"index\.json names"):
            load()


@pytest.mark.parametrize("part", ["config", "tokenizer"])
def test_code_of_a_model_never_runs(folder, tmp_path, monkeypatch, part):
    """Hugging Face asks on standard input whether to run it; a "y" there must not count."""
    mark = tmp_path / "ran"
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Thing:\n    pass\n")
    where = folder / ("config.json" if part == "config" else "tokenizer_config.json")
    record = json.loads(where.read_text())
    if part == "config":
        record |= {"model_type": "a-type-of-its-own", "auto_map": {"AutoConfig": "code.Thing", "AutoModelForCausalLM": "code.Thing"}}
    else:
        record |= {"tokenizer_class": "Thing", "auto_map": {"AutoTokenizer": ["code.Thing", "code.Thing"]}}
        # with a tokenizer.json there is no need of the code, and the tokenizer is read from there
        load_model(folder, device="cpu")
        shutil.move(folder / "tokenizer.json", folder / "vocab.json")
    where.write_text(json.dumps(record))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    for load in every_door(folder):
        with pytest.raises(errors.UntrustedCode if part == "config" else errors.MissingTokenizer):
            load()
    assert not mark.exists()


def test_a_hub_model_with_pickles_only(tmp_path, monkeypatch, gemma_folder):
    """In the hub's cache, as a download leaves it."""
    import huggingface_hub.constants
    import transformers.utils.hub

    commit = "0" * 40
    home = tmp_path / "models--someone--pickled"
    snapshot = home / "snapshots" / commit
    shutil.copytree(gemma_folder, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    for module, name in ((huggingface_hub.constants, "HF_HUB_CACHE"), (transformers.utils.hub, "TRANSFORMERS_CACHE")):
        monkeypatch.setattr(module, name, str(tmp_path), raising=False)
    with pytest.raises(errors.DamagedModel, match=r"no weights in safetensors.*use_safetensors=False"):
        load_model("someone/pickled", device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "meta"}, "holds shapes and no numbers"),
        ({"device_map": {"": "meta"}}, "holds shapes and no numbers"),
        ({"device_map": "meta"}, "holds shapes and no numbers"),
        ({"device_map": {"": "disk"}}, "weights on the disk"),
        ({"device_map": {"model": 99}}, "no device|sees no GPU"),
        ({"device_map": "evenly"}, "no device"),
        ({"device_map": [1]}, "a device for each part"),
        ({"device_map": {1: "cpu"}}, "a device for each part"),
        ({"dtype": "int8"}, "'float32', 'bfloat16'"),
        ({"bos": "<no such token>"}, "no token of its vocabulary"),
        ({"bos": 10**6}, "vocabulary has the ids"),
    ],
)
def test_options_that_cannot_be_used(gemma_folder, options, match):
    with pytest.raises(errors.BadInput, match=match):
        load_model(gemma_folder, **options)
