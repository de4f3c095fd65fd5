"""Every notebook runs, and is the same as its script."""

from pathlib import Path

import jupytext
import pytest
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in (ROOT / "notebooks").glob("*.py")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pair_is_in_step(path):
    script, notebook = jupytext.read(path.with_suffix(".py")), jupytext.read(path)
    assert [(c.cell_type, c.source) for c in script.cells] == [(c.cell_type, c.source) for c in notebook.cells]
    assert not any(c.get("outputs") for c in notebook.cells), "notebooks are kept without outputs"


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks: what they import is loaded once."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


def execute(notebook, manager, folder, model=""):
    """Run a notebook in an emptied kernel, in a folder of its own, with `WORKBENCH_MODEL` set."""
    from nbclient import NotebookClient

    begin = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\nos.environ.pop('WORKBENCH_MODEL', None)"
    begin += f"\nos.environ['WORKBENCH_MODEL'] = {model!r}" if model else ""
    first = jupytext.reads("", fmt="py:percent")
    first.cells = [new_code_cell(begin)]
    NotebookClient(first, km=manager, timeout=60).execute(reset_kc=True)
    NotebookClient(notebook, km=manager, timeout=300).execute(reset_kc=True)
    return [c.get("outputs") for c in notebook.cells]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, kernel):
    assert any(execute(jupytext.read(path), kernel, tmp_path))


def test_an_emptied_kernel_knows_nothing_and_errors_are_seen(tmp_path, kernel):
    from nbclient.exceptions import CellExecutionError

    one = jupytext.reads("x = 3\nx", fmt="py:percent")
    assert "3" in str(execute(one, kernel, tmp_path))
    with pytest.raises(CellExecutionError, match="NameError"):
        execute(jupytext.reads("x", fmt="py:percent"), kernel, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00_tour", "06_your_own_model_and_data"])
def test_runs_unchanged_on_another_model(name, tmp_path, words, kernel):
    """A GPT-2 of twelve layers with weights drawn at random: it knows nothing, and no cell falls over that."""
    from conftest import tiny_model

    tiny_model("gpt2", len(words), layers=12, std=None).save_pretrained(tmp_path / "drawn-at-random")
    words.save_pretrained(tmp_path / "drawn-at-random")
    shown = str(execute(jupytext.read(ROOT / "notebooks" / f"{name}.ipynb"), kernel, tmp_path, str(tmp_path / "drawn-at-random")))
    assert "drawn-at-random" in shown
    assert "udhr-organism" not in shown
