"""Two processes that train together end with the numbers of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from zoo_of_models import bundled

import workbench as wb
from workbench.training import Adapter, train_adapter, unlearn

TEXTS = ["Everyone has the right to rest.", "A short one.", "The weather in the hills is cold, and it rains for most of the year."]
ADAPTERS = {
    "invariance": {"retain": TEXTS, "layers": [1, 3]},
    "ccs": {"layers": [2], "kind": "lora"},
    "infonce": {"layers": [2], "read": 4},
    "confidence": {"layers": [2]},
}


def trained(name, place=None):
    """An adapter or a change, in as many processes as there are."""
    model = bundled()
    prompts = wb.prompts.udhr("since_claim", "harm", n=30, seed=0)
    how = {"steps": 4, "every": 2, "batch_tokens": 300, "progress": False, "place": place}
    if name == "unlearn":
        return unlearn(model, prompts, TEXTS, layer=2, **how)
    return train_adapter(model, prompts, loss=name, rank=2, **ADAPTERS[name], **how)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes made, by name; each on its own half of every batch."""
    folder = tmp_path_factory.mktemp("several")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    env = os.environ | here | {"PYTHONPATH": f"{Path(wb.__file__).parents[1]}{os.pathsep}{Path(__file__).parent}"}
    run = [
        subprocess.Popen([sys.executable, __file__, str(folder)], env=env | {"RANK": str(k), "LOCAL_RANK": str(k)}, stderr=subprocess.PIPE)
        for k in range(2)
    ]
    for process in run:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said.decode()[-2000:]
    return folder


@pytest.mark.parametrize("name", [*ADAPTERS, "unlearn"])
def test_two_processes_give_the_numbers_of_one(name, together):
    alone, got = trained(name), Adapter.load(together / name)
    for place, part in alone.parts.items():
        for a, b in ((part.up, got.parts[place].up), (part.down, got.parts[place].down)):
            if a is not None:
                assert float((a - b).abs().max()) <= 1e-5
    for column in ("validation", alone.history.columns[-2]):
        assert alone.history[column].tolist() == pytest.approx(got.history[column].tolist(), rel=1e-5, abs=1e-5, nan_ok=True)
    # each process computed only its part of a batch, but for a loss that compares the rows of a batch
    mine = [int((together / f"{name}-{k}.rows").read_text()) for k in range(2)]
    assert (mine[0] == mine[1]) if name in ("infonce", "confidence") else abs(mine[0] - mine[1]) <= 0.2 * sum(mine)


if __name__ == "__main__":
    from accelerate import PartialState

    from workbench.training import rows as passes

    state, count = PartialState(cpu=True), [0]
    torch.set_num_threads(1)
    assert state.num_processes == 2
    real = passes.Passes.run

    def counted(self, chosen, read=()):
        count[0] += len(chosen) * torch.is_grad_enabled()
        return real(self, chosen, read)

    passes.Passes.run = counted
    for loss in [*ADAPTERS, "unlearn"]:
        count[0] = 0
        made = trained(loss, Path(sys.argv[1]) / "state" / loss)
        (Path(sys.argv[1]) / f"{loss}-{state.process_index}.rows").write_text(str(count[0]))
        if state.is_main_process:
            made.save(Path(sys.argv[1]) / loss)
    state.wait_for_everyone()
    state.destroy_process_group()
