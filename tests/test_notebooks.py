"""Every notebook runs, and is the same as its script."""

from pathlib import Path

import jupytext
import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path):
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(c.get("outputs") for c in notebook.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00_tour", "06_your_own_model_and_data"])
def test_runs_unchanged_on_another_model(name, tmp_path, words, monkeypatch):
    """A GPT-2 of twelve layers with weights drawn at random: it knows nothing, and no cell falls over that."""
    from conftest import tiny_model
    from nbclient import NotebookClient

    tiny_model("gpt2", len(words), layers=12, std=None).save_pretrained(tmp_path / "drawn-at-random")
    words.save_pretrained(tmp_path / "drawn-at-random")
    monkeypatch.setenv("WORKBENCH_MODEL", str(tmp_path / "drawn-at-random"))
    notebook = jupytext.read(ROOT / "notebooks" / f"{name}.ipynb")
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = str([c.get("outputs") for c in notebook.cells])
    assert "drawn-at-random" in shown
    assert "udhr-organism" not in shown
