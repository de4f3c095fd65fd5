"""Two worker processes, one of them killed midway: the same bytes as one process undisturbed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import workbench as wb
from workbench.activations.store import Store
from workbench.core import errors

ray = pytest.importorskip("ray", reason="Ray is an optional extra")


def test_two_workers_one_killed_midway(organism, tmp_path, one_thread):
    prompts = wb.prompts.udhr("since_claim", "harm", n=240, seed=3)
    whole = wb.capture(organism, prompts, store=tmp_path / "one", shard_items=6, progress=False)
    folder = tmp_path / "two"
    killed = []

    def kill():
        """Kill a worker as soon as some shards are there: the one that holds a claim's lock file open."""
        end = time.monotonic() + 120
        while time.monotonic() < end and not killed:
            if len(list(folder.glob("*.safetensors"))) >= 5:
                for entry in Path("/proc").glob("[0-9]*/fd/*"):
                    try:
                        if str(entry.readlink()).startswith(str(folder / ".claims")) and int(entry.parts[2]) != os.getpid():
                            os.kill(int(entry.parts[2]), signal.SIGKILL)
                            killed.append((int(entry.parts[2]), len(list(folder.glob("*.safetensors")))))
                            break
                    except OSError:
                        continue
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    acts = wb.activations.capture_parallel("bundled", prompts, store=folder, workers=2, load={"device": "cpu"}, shard_items=6)
    killer.join()
    assert killed, "no worker was killed: the test shows nothing"
    assert killed[0][1] < 40, "it was killed midway"
    assert len(acts) == 240
    assert {p.name: p.read_bytes() for p in folder.glob("*.safetensors")} == {
        p.name: p.read_bytes() for p in (tmp_path / "one").glob("*.safetensors")
    }
    assert Store.existing(folder).damaged() == []
    assert (acts.values == whole.values).all()


def test_bad_input(organism, tmp_path):
    prompts = wb.prompts.udhr(n=4)
    with pytest.raises(errors.BadInput, match="give its name or folder"):
        wb.activations.capture_parallel(organism, prompts, store=tmp_path)
    with pytest.raises(errors.BadInput, match="workers 0"):
        wb.activations.capture_parallel("bundled", prompts, store=tmp_path, workers=0)
