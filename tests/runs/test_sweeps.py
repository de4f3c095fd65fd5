"""Sweeps: documents, plans, workers that die, cells that fail. The laws on the toy study, axes of real studies on `reading`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.runs import find, load_sweep, run_sweep
from workbench.runs.sweep.worker import _try, status_of, work

TOY = Path(__file__).parent / "toy" / "study.py"
SMALL = {"train": 60, "test": 48, "resamples": 20}
TOML = f"""
name = "small"
study = "{TOY}"
seeds = [0, 1]
groups = ["a", "b"]

[grid]
shift = [0.0, 1.0]

[settings]
n = 20
"""


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """A cache with nothing in it."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(**more):
    """A sweep over the study `reading` on the bundled model."""
    return wb.Sweep(**({"name": "small", "layers": (3,), "methods": ("logistic",), "claims": ("harm",), "settings": SMALL} | more))


def toys(**more):
    """A sweep over the toy."""
    return wb.Sweep(**({"name": "toys", "study": str(TOY), "settings": {"n": 20}} | more))


def same(one, two):
    assert set(one) == set(two)
    for name, table in one.items():
        keep = [c for c in table.columns if c != "seconds"]
        pd.testing.assert_frame_equal(
            table[keep].reset_index(drop=True), two[name][keep].reset_index(drop=True), check_dtype=False, rtol=1e-4
        )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The four cells of TOML, run in this process."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.toml").write_text(TOML)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.runs.render.browser", lambda: None)
        run = wb.run_study(folder / "small.toml", out=folder / "out", progress=False)
    return folder, run


# ------------------------------------------------------------------ the document


def test_a_file_a_dataclass_and_the_command_line_give_the_same_rows(swept, tmp_path, capsys):
    folder, run = swept
    assert len(run.cells) == 4
    assert (run.cells["status"] == "finished").all()
    made = toys(name="small", seeds=(0, 1), grid={"shift": (0.0, 1.0)}, settings={"n": 20, "groups": ("a", "b")})
    same(run.tables, wb.run_study(made, out=tmp_path / "notebook", progress=False).tables)
    assert main(["run", str(folder / "small.toml"), "--out", str(tmp_path / "line"), "--quiet"]) == 0
    written = {p.stem: pd.read_csv(p, keep_default_na=False, na_values=[""]) for p in (tmp_path / "line" / "tables").glob("*.csv")}
    first = {p.stem: pd.read_csv(p, keep_default_na=False, na_values=[""]) for p in (run.folder / "tables").glob("*.csv")}
    same(first, written)
    assert "4 of 4 finished" in capsys.readouterr().out


def test_tables_have_the_axes_in_front_and_differ_where_they_should(swept):
    table = swept[1].tables["means"]
    assert table.columns[:3].tolist() == ["cell", "shift", "seed"]
    by_shift = table.groupby("shift")["value"].mean()
    assert by_shift["1.0"] - by_shift["0.0"] == pytest.approx(1.0, abs=1e-4)
    assert table.groupby("seed")["value"].mean().nunique() == 2


def test_models_and_sites_are_axes(tmp_path):
    sweep = small(models=("udhr-organism", "udhr-organism-no-verdict"), sites=("resid_post", "attn_out"))
    run = wb.run_study(sweep, out=tmp_path / "out", progress=False)
    table = run.tables["probes"]
    assert table.columns[:2].tolist() == ["cell", "model"]
    rows = table[(table["control"] == "") & (table["metric"] == "accuracy") & (table["condition"] == "harm")]
    by_model = rows[rows["cell_site" if "cell_site" in rows else "site"] == "resid_post"].groupby("model")["value"].mean()
    assert by_model["udhr-organism"] > 0.9
    assert by_model["udhr-organism-no-verdict"] < by_model["udhr-organism"]
    assert (run.folder / "figures" / "layers_harm.html").is_file(), "the study's own figure across cells"


def test_toml_there_and_back():
    made = small(
        models=("bundled",), seeds=(3, 1), datasets=("udhr",), grid={"train": (60, 80)}, settings={"test": 48}, fast=True,
        description='says "what"\nand why \\ not',
    )  # fmt: skip
    again = wb.Sweep(**tomllib.loads(made.to_toml()))
    assert again.cells() == made.cells()
    assert again.description == made.description


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('study = "redaing"', errors.UnknownStudy, "Did you mean 'reading'"),
        ("model = ['bundled']", errors.BadInput, "Did you mean 'models'"),
        ("train = 60", errors.BadInput, r"goes under \[settings\]"),
        ('models = "bundled"', errors.BadInput, "a list, even of one"),
        ('models = ["./nowhere"]', errors.UnknownModel, "no folder './nowhere'"),
        ('models = ["udhr-orgnism"]', errors.UnknownModel, "Did you mean 'udhr-organism'"),
        ("seeds = [0, 0]", errors.BadInput, "names something twice"),
        ("seeds = [0.5]", errors.BadInput, "whole numbers"),
        ('sites = ["resid_pots"]', errors.UnknownSite, "resid_pots"),
        ('methods = ["logistik"]', errors.UnknownName, "logistik"),
        ('datasets = ["nothing.csv"]', errors.BadInput, "no file 'nothing.csv'"),
        ('datasets = ["udrh"]', errors.BadInput, "no dataset 'udrh'"),
        ('claims = ["evil"]', errors.UnknownClaim, "evil"),
        ('templates = ["base_short"]', errors.UnknownTemplate, "base_short"),
        ("[grid]\ntrain = 5", errors.BadInput, r"single values go under \[settings\]"),
        ("[grid]\ntrain = [5]", errors.BadInput, "16 items at least"),
        ("[grid]\nlocation = [5]", errors.BadInput, "has no setting location"),
        ('study = "steering"\ndatasets = ["udhr"]', errors.BadInput, "takes no datasets"),
        ("name = '../x'", errors.BadInput, "names a folder"),
        ("name = ", errors.BadInput, "is not a toml file"),
    ],
)
def test_a_wrong_document_is_refused_before_anything_runs(text, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.runs.handle.load_model", lambda *_: pytest.fail("a model was loaded"))
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(error, match=message):
        run_sweep(tmp_path / "s.toml", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_beside_a_sweep_are_refused(tmp_path, capsys):
    (tmp_path / "s.toml").write_text(TOML)
    assert main(["run", str(tmp_path / "s.toml"), "--fast"]) == 2
    assert "stand in its toml file" in capsys.readouterr().err
    assert main(["run", "udhr", "--workers", "2"]) == 2
    assert "are for sweeps" in capsys.readouterr().err
    with pytest.raises(errors.BadInput, match="stand in it"):
        wb.run_study(small(), seed=2)
    with pytest.raises(errors.BadInput, match="nothing to resume"):
        run_sweep(small(), out=tmp_path / "none", resume=True)


# ------------------------------------------------------------------ cells that fail


def test_a_cell_that_fails_is_listed_and_tried_again(cold, tmp_path, capsys):
    path = tmp_path / "mine" / "study.py"
    shutil.copytree(TOY.parent, path.parent)
    path.write_text(path.read_text().replace("CALLS.append(step)", 'CALLS.append(step)\n    assert settings.shift != 9, "nine cannot be"'))
    (tmp_path / "s.toml").write_text(TOML.replace(str(TOY), "mine/study.py").replace("[0.0, 1.0]", "[0.0, 9.0]"))
    assert main(["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "2 of 4 finished" in said
    assert "AssertionError: nine cannot be" in said
    run = wb.run_study(tmp_path / "s.toml", out=tmp_path / "out", progress=False, resume=True)
    assert len(run.failed) == 2
    assert set(run.tables["means"]["shift"]) == {"0.0"}
    assert "nine cannot be" in (tmp_path / "out" / "cells" / run.failed["cell"].iloc[0] / "error.txt").read_text()
    assert "Some cells failed" in run.report.read_text()


def test_finished_cells_are_not_run_again(swept, monkeypatch):
    folder, run = swept
    monkeypatch.setattr("workbench.runs.sweep.worker.execute", lambda *_, **__: pytest.fail("a cell was run"))
    again = wb.run_study(folder / "small.toml", out=run.folder, progress=False)
    same(run.tables, again.tables)


# ------------------------------------------------------------------ plans and the cache


def test_plan_says_what_is_finished_cached_shared_and_to_run(swept, tmp_path):
    folder, run = swept
    done = wb.plan(folder / "small.toml", out=run.folder)
    assert set(done["status"]) == {"finished"}
    cached = wb.plan(folder / "small.toml", out=tmp_path / "elsewhere")
    assert set(cached["status"]) == {"cached"}
    assert len(cached) == 12
    fresh = wb.plan(toys(seeds=(7,), settings={"n": 21}), out=tmp_path / "elsewhere")
    assert set(fresh["status"]) == {"to run"}
    assert (fresh["seconds"] >= 0).all(), "an earlier run says how long"
    assert set(fresh["from"]) == {"earlier runs"}
    assert not (tmp_path / "elsewhere").exists()


def test_a_plan_of_readings_shares_what_cells_share_and_loads_nothing(cold, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("workbench.runs.handle.load_model", lambda *_: pytest.fail("a model was loaded"))
    table = wb.plan(small(seeds=(0,), grid={"resamples": (20, 30)}, settings={"train": 60, "test": 48}))
    assert table["status"].value_counts().to_dict() == {"to run": 8, "shared": 2}, "two readings, three tables, twice"
    monkeypatch.chdir(tmp_path)
    assert main(["run", "reading", "--fast", "--layers", "3", "--plan"]) == 0
    assert "about" in capsys.readouterr().out
    assert not cold.exists()
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_capture_is_never_repeated_by_another_study(cold, tmp_path, organism, monkeypatch):
    import importlib

    counted = []
    module = importlib.import_module("workbench.activations.capture")
    original = module.read_items

    def count(reader, items, *args, **kwargs):
        counted.append(len(items))
        return original(reader, items, *args, **kwargs)

    monkeypatch.setattr(module, "read_items", count)
    how = {"out": tmp_path / "one", "progress": False, "claims": ("harm",), "train": 60, "test": 48}
    wb.run_study("reading", model=organism, **how)
    assert sum(counted) == 60 + 48 + 48
    counted.clear()
    wb.run_study("reading", model=organism, **(how | {"out": tmp_path / "two", "methods": ("mass_mean",), "resamples": 10}))
    assert counted == []
    # the UDHR study asks for the same items without a claim and draws its own under one
    wb.run_study(
        "udhr", model=organism, out=tmp_path / "three", progress=False, claims=("harm",), train=60, test=48, behaviour=16, rights_per_identity=2,
        resamples=20, ccs_epochs=50,
    )  # fmt: skip
    steps = {s["step"]: s["cached"] for s in json.loads((tmp_path / "three" / "run.json").read_text())["steps"]}
    assert steps["read no claim"]


# ------------------------------------------------------------------ workers


def kill_one(folder, killed, over):
    """Kill the first worker that is in the middle of a cell."""
    while not over.is_set():
        for path in folder.glob("cells/*/cell.json"):
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if record["status"] == "running" and record["pid"] != os.getpid():
                os.kill(record["pid"], signal.SIGKILL)
                killed.append(record["cell"])
                return
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["processes", "ray"])
def test_a_killed_worker_is_replaced_and_the_rows_are_the_same(how, swept, cold, tmp_path):
    if how == "ray":
        pytest.importorskip("ray")
    folder, run = swept
    (folder / "slow.toml").write_text(TOML.replace("n = 20", "n = 20\nwait = 0.3"))
    out, killed, said = tmp_path / "out", [], []
    over = threading.Event()
    thread = threading.Thread(target=kill_one, args=(out, killed, over))
    thread.start()
    again = run_sweep(folder / "slow.toml", out=out, workers=2, address="local" if how == "ray" else None, progress=False, say=said.append)
    over.set()
    thread.join()
    assert len(killed) == 1, "no worker was caught at work"
    assert (again.cells["status"] == "finished").all()
    same(run.tables, again.tables)
    assert how == "ray" or any("a worker died" in line for line in said)


def test_a_cell_that_kills_its_workers_is_given_up(tmp_path):
    sweep = toys(name="deadly").resolved()
    out = tmp_path / "out"
    out.mkdir()
    (out / "sweep.toml").write_text(sweep.to_toml())
    (out / "run.json").write_text(json.dumps({"study": "sweep deadly", "started": "now"}))
    (place := out / "cells" / "all").mkdir(parents=True)
    for _ in range(3):
        assert _try(place)
    work(out, tmp_path / "cache")
    (cell,) = load_sweep(out / "sweep.toml").cells()
    ended = status_of(place, cell)
    assert ended["status"] == "failed now"
    assert "died 3 times" in ended["error"]


# ------------------------------------------------------------------ what a review found


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """Two models whose folders go by names that differ after a dot only."""
    import shutil

    folder = tmp_path_factory.mktemp("models")
    for name, source in (("m-0.5", "udhr-organism"), ("m-0.6", "udhr-organism-no-verdict")):
        shutil.copytree(wb.bundled_models()[source], folder / name)
    return folder


def test_models_whose_names_are_alike_stay_apart(two_models):
    both = small(models=(str(two_models / "m-0.5"), str(two_models / "m-0.6")))
    assert [c.axes["model"] for c in both.cells()] == ["m-0.5", "m-0.6"]
    twice = small(models=(str(two_models / "m-0.5"), str(two_models / ".." / two_models.name / "m-0.5")))
    assert len({c.axes["model"] for c in twice.cells()}) == 2, "where last parts are the same, whole names"


def test_another_model_in_the_same_folder_is_another_cell(two_models, tmp_path):
    import shutil

    shutil.copytree(two_models / "m-0.5", tmp_path / "m")
    before = small(models=(str(tmp_path / "m"),)).cells()[0].key
    assert small(models=(str(tmp_path / "m"),)).cells()[0].key == before
    shutil.rmtree(tmp_path / "m")
    shutil.copytree(two_models / "m-0.6", tmp_path / "m")
    assert small(models=(str(tmp_path / "m"),)).cells()[0].key != before


@pytest.mark.parametrize("name", ["seed", "model", "fast", "layers"])
def test_keys_of_the_sweep_are_refused_under_grid_and_settings(name):
    with pytest.raises(errors.BadInput, match=f"{name} stands under"):
        small(grid={name: (1, 2)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "a"}, "train = 'a': a whole number"),
        ({"site": 3}, "site = 3: a text"),
        ({"columns": 3}, "columns = 3: names with their values"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(settings, message):
    with pytest.raises(errors.BadInput, match=message):
        small(settings=settings)
    with pytest.raises(errors.BadInput, match="a list of values"):
        wb.run_study("reading", methods="ccs")


def test_a_list_can_be_an_axis_and_a_damaged_cell_is_made_anew(tmp_path):
    sweep = toys(grid={"groups": [("a",), ("b", "c")]})
    run = wb.run_study(sweep, out=tmp_path / "out", progress=False)
    assert set(run.tables["means"]["groups"]) == {"a", "b c"}
    place = tmp_path / "out" / "cells" / run.cells["cell"].iloc[0] / "run" / "tables"
    (place / "means.csv").write_text("")
    assert wb.plan(sweep, out=tmp_path / "out")["status"].tolist().count("finished") == 1
    again = wb.run_study(sweep, out=tmp_path / "out", progress=False)
    same(run.tables, again.tables)


def test_files_of_equal_size_and_time_that_hold_something_else_are_another_model(two_models, tmp_path):
    shutil.copytree(two_models / "m-0.5", tmp_path / "m")
    before = small(models=(str(tmp_path / "m"),)).cells()[0].key
    file = tmp_path / "m" / "model.safetensors"
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert small(models=(str(tmp_path / "m"),)).cells()[0].key != before


def test_a_sweep_of_a_study_of_two_models(tmp_path, cold):
    code = TOY.read_text().replace("models=()", 'models=("weak", "strong")').replace('name="toy"', 'name="pairs"')
    (tmp_path / "pairs.py").write_text(code)
    (tmp_path / "s.toml").write_text(
        'study = "pairs.py"\nmodels = [{weak = "udhr-organism-no-verdict", strong = "udhr-organism"}, {weak = "udhr-organism", strong = "udhr-organism"}]\n[settings]\nn = 5\n'
    )
    run = wb.run_study(tmp_path / "s.toml", out=tmp_path / "out", progress=False)
    assert (run.cells["status"] == "finished").all()
    assert run.cells["model"].tolist() == ["udhr-organism-no-verdict udhr-organism", "udhr-organism udhr-organism"]
    (tmp_path / "bad.toml").write_text('study = "pairs.py"\nmodels = [{big = "udhr-organism"}]\n')
    with pytest.raises(errors.BadInput, match="has no role big"):
        load_sweep(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text('study = "pairs.py"\nmodels = [{weak = "udhr-organism"}]\n')
    with pytest.raises(errors.BadInput, match="name one for each role"):
        load_sweep(tmp_path / "bad.toml")


def test_requests_are_a_dataset(tmp_path, organism):
    run = wb.run_study(
        "reading", model=organism, data="requests", out=tmp_path / "run", fast=True, layers=(4,), methods=("mass_mean",), progress=False
    )
    assert set(run.tables["answers"]["condition"]) == {"no claim", "jailbreak", "protect"}
    at = run.tables["probes"].query("metric == 'accuracy' and control == '' and condition == 'jailbreak'")
    assert at["n"].iloc[0] >= 60
    assert len(run.findings) >= 3


@pytest.mark.parametrize("kind", ["toy", "reading"])
def test_two_runs_of_one_sweep_share_the_work(kind, cold, tmp_path):
    """Both at once in one process, from the first file on: each file is whole whenever the other looks."""
    sweep = toys(seeds=tuple(range(8))) if kind == "toy" else small(seeds=(5, 6))
    runs, wrong = [], []

    def begin():
        try:
            runs.append(wb.run_sweep(sweep, out=tmp_path / "out", progress=False))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [len(run.failed) for run in runs] == [0, 0]
    same(runs[0].tables, runs[1].tables)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_a_study_of_one_s_own_is_found_from_where_the_file_lies(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    shutil.copy(TOY, tmp_path / "sub" / "mine.py")
    (tmp_path / "sub" / "s.toml").write_text('study = "mine.py"\ngroups = ["x"]\n[settings]\nn = 5\n')
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep("sub/s.toml")
    assert find(sweep.study).name == "toy"
    assert sweep.settings == {"groups": ["x"], "n": 5}
    (tmp_path / "sub" / "t.toml").write_text('study = "mine.py"\ncolour = ["x"]\n')
    with pytest.raises(errors.BadInput, match="a sweep has no 'colour'"):
        load_sweep("sub/t.toml")


# ------------------------------------------------------------------ workers and the process that started them


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid):
    """The processes that a process has started."""
    out = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                out.append(int(path.parent.name))
    return out


def until(true, seconds=60):
    for _ in range(seconds * 20):
        if got := true():
            return got
        time.sleep(0.05)
    return true()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_workers_end_with_the_process_that_started_them(how, tmp_path):
    (tmp_path / "s.toml").write_text(f'name = "toys"\nstudy = "{TOY}"\nseeds = [0, 1, 2, 3]\n[settings]\nwait = 600.0\n')
    words = [sys.executable, "-m", "workbench.cli", "run", "s.toml", "--out", "sweep", "--workers", "2", "--cache", "cache", "--quiet"]
    workers = []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # under nohup SIGHUP is ignored, and a child inherits that
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        parent = subprocess.Popen(words, cwd=tmp_path, **quiet)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        records = until(lambda: [p for p in (tmp_path / "sweep" / "cells").glob("*/cell.json") if '"running"' in p.read_text()][1:])
        workers = children(parent.pid)
        assert len(records) == 1
        assert len(workers) == 2
        parent.send_signal(getattr(signal, how))
        parent.wait(60)
        assert until(lambda: not any(map(alive, workers))), "a worker lives on"
    finally:
        parent.kill()
        parent.wait()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
