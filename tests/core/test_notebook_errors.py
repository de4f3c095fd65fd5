"""Errors of the workbench are short in a notebook, and whole when asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    """
import sys
sys.path.insert(0, ROOT)
from workbench.core import errors
from workbench.core.direction import Direction
import torch
def mine(length):
    return Direction(unit=torch.ones(length), scale=1.0)
""",
    "x = 1\nmine(4)",
    "%tb",
    "%tb Plain",
    "errors.whole_traceback(True)\n%tb",
    "errors.whole_traceback(False)\n%tb",
    "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise errors.BadInput('one\\n' * 20) from error",
    "class Mine(errors.UnknownLayer):\n    pass\nraise Mine('layer 9 of 6')",
    "try:\n    mine(4)\nexcept errors.WorkbenchError as error:\n    raise RuntimeError('mine alone') from error",
    "Direction(unitt=3)",
    "next(iter(map(mine, [4])))",
    "import dataclasses\ndataclasses.replace(mine(1), unit=torch.ones(4))",
]
DRIVER = """
import io, json, sys
from contextlib import redirect_stdout, redirect_stderr
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
shell.run_line_magic("colors", "nocolor")
out = []
for cell in json.load(sys.stdin):
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        shell.run_cell(cell, store_history=True)
    out.append(said.getvalue())
print(json.dumps(out))
"""
INTERNAL = "direction.py"


@pytest.fixture(scope="module")
def cells():
    return [f"ROOT = {str(ROOT)!r}" + CELLS[0], *CELLS[1:]]


@pytest.fixture(scope="module")
def said(cells, tmp_path_factory):
    """What a terminal shows after each cell; IPython in a process of its own, since its shell is one for all."""
    env = {**os.environ, "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))}
    done = subprocess.run([sys.executable, "-c", DRIVER], input=json.dumps(cells), capture_output=True, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def lines(text):
    return text.strip().splitlines()


def test_only_the_readers_own_line(said):
    assert said[0] == ""
    name, frame, hint = lines(said[1])
    assert name == "ZeroDirection: the unit vector of a direction has length 1, got 2"
    assert "Cell In[1], line 8, in mine: return Direction(unit=torch.ones(length), scale=1.0)" in frame
    assert "%tb Plain" in hint
    assert INTERNAL not in said[1]


def test_the_whole_traceback_when_asked_for(said):
    assert lines(said[2]) == lines(said[1])
    assert INTERNAL in said[3]
    assert "__post_init__" in said[3]
    assert "Traceback (most recent call last)" in said[4]
    assert INTERNAL in said[4]
    assert lines(said[5]) == lines(said[1])


def test_long_messages_and_causes(said):
    shown = lines(said[6])
    assert len(shown) <= 8
    assert shown[0] == "BadInput: one"
    assert "… 16 lines more" in shown
    assert "because of a ZeroDivisionError" in said[6]
    assert "division by zero" not in said[6]


def test_errors_of_ones_own_kind(said):
    assert lines(said[7])[0] == "Mine: layer 9 of 6"
    assert len(lines(said[7])) == 3


def test_other_errors_are_left_as_they_are(said):
    assert "RuntimeError" in said[8]
    assert "Traceback (most recent call last)" in said[8]
    assert "TypeError" in said[9]
    assert "unitt" in said[9]
    assert "Traceback (most recent call last)" in said[9]


def test_frames_of_python_itself_are_not_the_readers(said):
    assert "Cell In[1], line 8, in mine" in said[10]
    # here Python's own frame lies between the reader's and this package's
    assert "line 2: dataclasses.replace(mine(1), unit=torch.ones(4))" in said[11]
    assert "dataclasses.py" not in said[11]


def test_in_a_notebook(cells, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (cells[0], cells[1], cells[9])])
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (error,) = notebook.cells[1].outputs
    assert (error.output_type, error.ename) == ("error", "ZeroDirection")
    shown = "\n".join(error.traceback).splitlines()
    assert len(shown) <= 8
    assert shown[0].startswith("ZeroDirection: the unit vector of a direction has length 1")
    assert "Cell In[1], line 8, in mine" in shown[1]
    (other,) = notebook.cells[2].outputs
    assert other.ename == "TypeError"
    assert len("\n".join(other.traceback).splitlines()) > 3


def test_outside_ipython_nothing_changes():
    code = "from workbench.core.errors import BadInput\nraise BadInput('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.strip().endswith("BadInput: x")


def test_a_text_without_words_or_frames():
    from workbench.core import notebook
    from workbench.core.errors import BadInput

    assert notebook.short_traceback(BadInput()) == ["BadInput: no message", notebook.HINT]
    assert BadInput("x")._render_traceback_()[0] == "BadInput: x"
