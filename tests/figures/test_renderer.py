"""The browser that draws: what happens when it hangs, breaks, or is not one; nothing of it is left."""

import importlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import plotly.graph_objects as go
import pytest
from test_report import in_browser

import workbench as wb
import workbench.figures
from workbench.core import errors
from workbench.figures import export, renderer, style

EXPORT = importlib.import_module("workbench.figures.export")  # the room's `export` is the function of that name


def simple(k):
    return style(go.Figure(go.Scatter(x=[1, 2], y=[3, k])), f"Title {k}")


FIGURES = {f"f{k}": simple(k) for k in range(4)}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make a program that stands for the browser, which notes its number and that of its group; see that nothing of it is left."""
    path, numbers = tmp_path / "chrome", tmp_path / "numbers"

    def make(body):
        path.write_text(f"#!/bin/sh\necho $$ $(ps -o pgid= -p $$) > {numbers}\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("BROWSER_PATH", str(path))
        return lambda: map(int, numbers.read_text().split())

    before = set(threading.enumerate())
    yield make
    _, group = map(int, numbers.read_text().split())
    assert members(group) == {}
    assert set(threading.enumerate()) <= before


def members(group):
    """The processes of a group by number, but for those that only wait to be noticed."""
    out = subprocess.run(["ps", "-eo", "pgid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 3) for line in out.splitlines()]
    return {int(pid): "".join(args) for own, pid, stat, *args in lines if int(own) == group and stat[0] != "Z"}


def test_members_of_a_group_are_seen():
    own = members(os.getpgid(0))
    assert os.getpid() in own


@pytest.mark.parametrize("body", ["sleep 600", "sleep 600 & sleep 600", "echo nonsense; sleep 600", "trap '' TERM; sleep 600"])
def test_a_browser_that_hangs_from_the_beginning_is_ended_and_html_is_kept(body, program, tmp_path, monkeypatch):
    monkeypatch.setattr(renderer, "START", 1.0)
    program(body)
    with pytest.raises(
        errors.MissingTool, match=r"did not start in 1 s and was ended; 0 of 8 pictures are written, html pages are whole\. Try"
    ):
        export(FIGURES, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*(f"{name}.html" for name in FIGURES), "plotly.min.js"]


def test_a_program_that_is_no_browser(program, tmp_path):
    program("exit 3")
    with pytest.raises(errors.MissingTool, match="did not start: BrowserFailedError"):
        export(FIGURES, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.html"))) == 4


@in_browser
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("all its processes stop", "did not draw f0.svg in 2 s and was ended; 1 of 8 pictures are written"),
        ("its page breaks", "did not draw f0.svg in 2 s and was ended; 1 of 8 pictures are written"),
        ("it is killed", "did not draw f0.svg(: .*| in 2 s and was ended); 1 of 8 pictures are written"),
    ],
)
def test_a_browser_that_stops_in_the_middle_is_ended_and_what_was_drawn_is_kept(what, message, program, tmp_path, monkeypatch):
    numbers = program(f'exec {workbench.figures.browser()} "$@"')
    # what is drawn next is not drawn before this has happened
    write, go_on = EXPORT.write_whole, threading.Event()
    within = renderer._within

    async def waiting(work, seconds):
        if seconds == 2.0 and (tmp_path / "drawn").exists():
            while not go_on.is_set():
                time.sleep(0.01)
        out = await within(work, 60.0 if not go_on.is_set() else seconds)
        (tmp_path / "drawn").touch() if seconds == 2.0 else None
        return out

    def stop(path, content):
        write(path, content)
        if path.suffix == ".png":
            leader, group = numbers()
            if what == "all its processes stop":
                os.killpg(group, signal.SIGSTOP)
            elif what == "it is killed":
                os.kill(leader, signal.SIGKILL)
            else:
                for pid in [pid for pid, args in members(group).items() if "--type=renderer" in args]:
                    os.kill(pid, signal.SIGKILL)
            go_on.set()

    monkeypatch.setattr(EXPORT, "write_whole", stop)
    monkeypatch.setattr(renderer, "_within", waiting)
    with pytest.raises(errors.MissingTool, match=message):
        export(FIGURES, tmp_path / "out", seconds=2.0)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.*")) == [
        "f0.html", "f0.png", "f1.html", "f2.html", "f3.html", "plotly.min.js"
    ]  # fmt: skip


@in_browser
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupt_and_a_full_disk_end_the_browser_too(error, program, tmp_path, monkeypatch):
    program(f'exec {workbench.figures.browser()} "$@"')
    write = EXPORT.write_whole

    def stop(path, content):
        if path.suffix == ".svg":
            raise error
        write(path, content)

    monkeypatch.setattr(EXPORT, "write_whole", stop)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        export(FIGURES, tmp_path / "out")
    assert (tmp_path / "out" / "f0.png").is_file()


@in_browser
def test_a_figure_that_plotly_cannot_draw_is_named(tmp_path):
    jobs = [
        renderer.Still(path=tmp_path / "odd.png", figure={"data": [{"type": "no such"}], "layout": {"width": -5}}, kind="nothing", scale=1)
    ]
    with pytest.raises(renderer.Ended, match=r"did not draw odd\.png: "):
        list(renderer.draw(jobs, workbench.figures.browser(), 30))


def test_in_a_loop_that_runs_already_as_in_a_notebook(tmp_path):
    if workbench.figures.browser() is None:
        pytest.skip("no Chrome or Chromium here")
    import asyncio

    async def cell():
        return export({"one": simple(1)}, tmp_path, formats=("svg",))

    assert asyncio.run(cell()) == [tmp_path / "one.svg"]


def test_a_run_whose_browser_hangs_warns_and_goes_on_with_html(program, tmp_path, monkeypatch):
    monkeypatch.setattr(renderer, "START", 1.0)
    program("sleep 600")
    (tmp_path / "mine.txt").write_text("0.5")
    toy = Path(__file__).parents[1] / "runs" / "toy" / "study.py"
    with pytest.warns(UserWarning, match="figures: html only: .* did not start in 1 s and was ended.*leave png and svg out of `formats`"):
        run = wb.run_study(toy, out=tmp_path / "run", data=str(tmp_path / "mine.txt"), groups=("a", "b"), progress=False)
    assert run.record["status"] == "finished"
    assert run.record["figures"].startswith("html only: the browser")
    kinds = {p.suffix for p in (run.folder / "figures").iterdir() if not p.name.startswith(".")}
    assert kinds == {".html", ".csv", ".txt", ".js"}
    assert ".png" not in run.report.read_text(encoding="utf-8").replace("<script>", "\n<script>").split("\n<script>")[0]
