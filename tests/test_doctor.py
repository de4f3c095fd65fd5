"""What the doctor says of a machine that lacks something; each check on its own."""

import importlib
import sys
from importlib import metadata
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest

from workbench import doctor
from workbench.core import machine
from workbench.doctor import Check, checkup, main, report
from workbench.verify import USES

EXPORT = importlib.import_module("workbench.figures.export")  # the room's `export` is the function of that name


@pytest.fixture
def quick(monkeypatch):
    """Nothing is drawn and nothing is asked of a network."""
    monkeypatch.setattr(machine, "draws", lambda path: True)
    monkeypatch.setattr(EXPORT, "browser", lambda: "/bin/chrome")


def only(found, name):
    (check,) = [c for c in found if c.name == name]
    return check


def test_a_healthy_machine(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "memory", lambda: (32 * 10**9, 20 * 10**9))
    found = checkup()
    assert {c.name for c in found if c.state == "bad"} == set()
    assert {"python", "packages", "torch", "device", "memory", "disk", "data", "browser", "hub", "jupyter"} <= {c.name for c in found}
    assert "4.0B parameters in float32, 8.0B in bfloat16" in only(found, "memory").found
    assert "udhr-organism" in only(found, "data").found
    assert not (tmp_path / "cache").exists(), "looking leaves nothing behind"
    assert main() == 0
    assert "0 bad" in capsys.readouterr().out


@pytest.mark.parametrize("path", [None, "/bin/false", "/nowhere/chrome", "/bin/true"])
def test_no_browser_that_draws(path, monkeypatch):
    monkeypatch.setattr(EXPORT, "browser", lambda: path)
    check = doctor._browser()
    assert check.state == "note"
    assert "html only" in check.found
    assert "Chrome" in check.todo


def test_a_browser_that_hangs_is_ended(tmp_path):
    mark = tmp_path / "ran"
    hangs = tmp_path / "chrome"
    hangs.write_text(f"#!/bin/sh\ntouch {mark}\nsleep 60\n")
    hangs.chmod(0o755)
    assert not machine.draws(str(hangs), seconds=0.5)
    assert mark.exists()


def test_a_browser_that_draws(tmp_path):
    draws = tmp_path / "chrome"
    draws.write_text('#!/bin/sh\nfor word; do case "$word" in --screenshot=*) echo x > "${word#--screenshot=}";; esac; done\n')
    draws.chmod(0o755)
    assert machine.draws(str(draws), seconds=5)


def test_memory_that_is_short_or_unknown(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (8 * 10**9, 10**9))
    assert doctor._memory().state == "note"
    assert "close other programs" in doctor._memory().todo
    monkeypatch.setattr(machine, "memory", lambda: (0, 0))
    assert "not known" in doctor._memory().found


def test_memory_of_a_container(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n",
        "/sys/fs/cgroup/memory.max": "500000000\n",
        "/sys/fs/cgroup/memory.current": "450000000\n",
        "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 50000000\n",
    }
    monkeypatch.setattr("pathlib.Path.read_text", lambda self, **_: files[str(self)])
    assert machine.memory() == (500_000_000, 100_000_000)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.memory() == (1_024_000_000, 921_600_000)


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_cache_that_cannot_be_written(below, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file" / below))
    check = doctor._disk()
    assert check.state == "bad"
    assert "cannot be written" in check.found
    assert "WORKBENCH_CACHE" in check.todo


def test_a_disk_that_is_full(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert (doctor._disk().state, doctor._disk().found[:6]) == ("note", "1.0 GB")


def test_the_cache_is_the_one_that_studies_use(monkeypatch, tmp_path):
    from workbench.runs.cache import cache_root

    for name, value in (("WORKBENCH_CACHE", str(tmp_path)), ("WORKBENCH_CACHE", "~/x"), ("XDG_CACHE_HOME", str(tmp_path / "xdg"))):
        with monkeypatch.context() as now:
            now.delenv("WORKBENCH_CACHE", raising=False)
            now.setenv(name, value)
            assert str(cache_root()) in doctor._disk().found


def test_offline_by_wish(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(machine, "reachable", lambda _: pytest.fail("asked the hub all the same"))
    check = doctor._hub()
    assert check.state == "note"
    assert "HF_HUB_OFFLINE is set" in check.found


def test_offline_without_wishing_it(monkeypatch):
    asked = []

    def head(address, **kwargs):
        asked.append(kwargs)
        raise httpx.ConnectError("no route to https://user:hunter2@proxy")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_" + "a" * 30)
    monkeypatch.setattr(httpx, "head", head)
    check = doctor._hub()
    assert [a["timeout"] for a in asked] == [3.0]
    assert check.state == "note"
    assert "cannot be reached" in check.found
    assert "; logged in" in check.found
    assert "hf_" not in repr(check)
    assert "hunter2" not in repr(check)
    monkeypatch.setattr(httpx, "head", lambda address, **_: SimpleNamespace(status_code=200))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert (doctor._hub().state, "not logged in" in doctor._hub().found) == ("good", True)


def test_packages_that_are_missing_or_old(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return {"numpy": "1.26.0"}.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = doctor._packages()
    assert only(found, "packages").state == "bad"
    assert "numpy 1.26.0 (>=2 is needed)" in only(found, "packages").found
    extra = only(found, "extra ray")
    assert (extra.state, extra.found) == ("note", "ray is missing")
    assert "workbench-interp[ray]" in extra.todo
    assert "extra gguf" not in {c.name for c in found}


def test_an_installation_of_another_copy(monkeypatch, tmp_path):
    def install(url):
        text = f'{{"dir_info": {{"editable": true}}, "url": "{url}"}}'
        monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(version="1", read_text=lambda _: text))

    install((tmp_path / "gone").as_uri())
    assert "a folder that is gone" in doctor._installation().found
    install(doctor.Path(doctor.__file__).parent.parent.as_uri())
    assert doctor._installation().state == "good"


def test_torch_that_does_not_load_or_has_too_many_threads(monkeypatch):
    import torch

    monkeypatch.setattr(machine, "cores", lambda: 0)
    assert "OMP_NUM_THREADS" in doctor._torch()[0].todo
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert doctor._device(torch).found == "a GPU (and 1 more), 60.0 of 80.0 GB free; bfloat16 for large models, else float32"
    monkeypatch.setitem(sys.modules, "torch", None)
    (check,) = doctor._torch()
    assert check.state == "bad"
    assert "cannot be imported" in check.found


def test_a_gpu_that_this_torch_cannot_use(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    check = doctor._device(torch)
    assert check.state == "note"
    assert "CUDA build" in check.todo


def test_data_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "data_path", lambda *parts: tmp_path.joinpath(*parts))
    assert (doctor._bundled().state, "there are: none" in doctor._bundled().found) == ("bad", True)


def test_no_jupyter_or_no_kernel_of_this_python(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    monkeypatch.setattr(KernelSpecManager, "get_all_specs", lambda self: {"julia": {"spec": {"argv": ["/bin/julia"]}}})
    assert "no kernel runs this Python (kernels: julia)" in doctor._jupyter().found
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    assert (doctor._jupyter().state, doctor._jupyter().found) == ("note", "not installed")


def test_a_check_that_breaks_is_a_line(quick, monkeypatch, capsys):
    def broken():
        raise RuntimeError("no such thing, token hf_abcdefghijklmnop")

    monkeypatch.setattr(doctor, "_disk", broken)
    monkeypatch.setattr(doctor, "_jupyter", broken)
    found = checkup()
    assert only(found, "disk").state == "bad"
    assert only(found, "jupyter").state == "note"
    assert only(found, "data").state == "good"
    assert "RuntimeError: no such thing" in only(found, "disk").found
    assert "hf_abc" not in report(found)
    assert main() == 1
    assert "could not be looked at" in capsys.readouterr().out


def test_a_model_of_ones_own(gemma_folder, tmp_path, monkeypatch):
    found = doctor._model(str(gemma_folder))
    uses = [c.name.strip() for c in found[3:]]
    assert uses == ["first token", *USES]
    states = {c.name.strip(): c.state for c in found}
    assert states.pop("orthogonalisation") == "note", "Gemma-2 has a norm behind its parts, and is refused"
    assert set(states.values()) == {"good"}
    assert "2 layers, d_model 32, context 256 tokens" in found[0].found
    assert "no/yes are single tokens" in found[2].found
    monkeypatch.setattr("workbench.models.source._free_memory", lambda: 10)
    assert doctor._model(str(gemma_folder))[1].state == "bad"
    half = sum(f.stat().st_size for f in gemma_folder.glob("*.safetensors")) * 0.75
    monkeypatch.setattr("workbench.models.source._free_memory", lambda: half)
    found = doctor._model(str(gemma_folder))
    assert (found[1].state, "bfloat16" in found[1].todo) == ("note", True)
    twice = sum(f.stat().st_size for f in gemma_folder.glob("*.safetensors")) * 0.4
    monkeypatch.setattr("workbench.models.source._free_memory", lambda: twice)
    found = doctor._model(str(gemma_folder))
    assert (found[1].state, len(found)) == ("bad", 3), "nothing is loaded that does not fit"


def test_a_model_that_is_not_whole(gemma_folder, tmp_path):
    (check,) = doctor._model(str(tmp_path))
    assert check.state == "bad"
    assert "no config.json" in check.found
    for file in gemma_folder.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).symlink_to(file)
    assert doctor._model(str(tmp_path))[2].state == "bad"
    assert "UnknownModel" in doctor._model("udhr-organsm")[0].found
    (check,) = doctor._model("somebody/some-model")
    assert (check.state, "downloads it" in check.todo) == ("note", True)


def test_the_report_is_aligned_and_plain():
    text = report([Check("a", "good", "fine"), Check("longer", "bad", "broken\nover lines", "repair it")])
    assert text.splitlines()[:3] == ["good  a       fine", "bad   longer  broken over lines", "              -> repair it"]
    assert "\033" not in text
    assert "\033[31mbad \033[0m" in report([Check("a", "bad", "x")], colour=True)
    assert text.endswith("1 good, 0 to note, 1 bad")
