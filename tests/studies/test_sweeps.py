"""Sweeps: documents, plans, workers that die, cells that fail."""

import json
import os
import signal
import threading
import time
import tomllib

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.studies import load_sweep
from workbench.studies.grid import run_sweep
from workbench.studies.worker import _try, status_of, work

SMALL = {"train": 60, "test": 48, "resamples": 20}
TOML = """
name = "small"
models = ["udhr-organism", "udhr-organism-no-verdict"]
seeds = [0, 1]
layers = [3]
methods = ["logistic"]
claims = ["harm"]

[settings]
train = 60
test = 48
resamples = 20
"""


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.studies.render.browser", lambda: None)


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """A cache with nothing in it."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(**more):
    given = {"name": "small", "layers": (3,), "methods": ("logistic",), "claims": ("harm",), "settings": SMALL}
    return wb.Sweep(**(given | more))


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
        patch.setattr("workbench.studies.render.browser", lambda: None)
        run = wb.run_study(folder / "small.toml", out=folder / "out", progress=False)
    return folder, run


# ------------------------------------------------------------------ the document


def test_a_file_a_dataclass_and_the_command_line_give_the_same_rows(swept, tmp_path, capsys):
    folder, run = swept
    assert len(run.cells) == 4
    assert (run.cells["status"] == "finished").all()
    made = small(models=("udhr-organism", "udhr-organism-no-verdict"), seeds=(0, 1))
    same(run.tables, wb.run_study(made, out=tmp_path / "notebook", progress=False).tables)
    assert main(["run", str(folder / "small.toml"), "--out", str(tmp_path / "line"), "--quiet"]) == 0
    written = {p.stem: pd.read_csv(p, keep_default_na=False, na_values=[""]) for p in (tmp_path / "line" / "tables").glob("*.csv")}
    first = {p.stem: pd.read_csv(p, keep_default_na=False, na_values=[""]) for p in (run.folder / "tables").glob("*.csv")}
    same(first, written)
    assert "4 of 4 finished" in capsys.readouterr().out


def test_tables_have_the_axes_in_front_and_differ_where_they_should(swept):
    table = swept[1].tables["probes"]
    assert table.columns[:3].tolist() == ["cell", "model", "seed"]
    rows = table[(table["control"] == "") & (table["metric"] == "accuracy") & (table["condition"] == "harm")]
    by_model = rows.groupby("model")["value"].mean()
    assert by_model["udhr-organism"] > 0.9
    assert by_model["udhr-organism-no-verdict"] < by_model["udhr-organism"]


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
        ('datasets = ["nothing.csv"]', errors.BadInput, "no file nothing.csv"),
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
    monkeypatch.setattr("workbench.studies.worker.load_model", lambda *_: pytest.fail("a model was loaded"))
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


def test_a_cell_that_fails_is_listed_and_tried_again(tmp_path, organism, capsys):
    (tmp_path / "s.toml").write_text(TOML.replace("layers = [3]", "").replace('["udhr-organism", "udhr-organism-no-verdict"]', '["bundled"]')
                                     .replace("[settings]", "[grid]\nlayers = [[3], [99]]\n[settings]"))  # fmt: skip
    assert main(["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "2 of 4 finished" in said
    assert "UnknownLayer" in said
    run = wb.run_study(tmp_path / "s.toml", out=tmp_path / "out", progress=False, resume=True)
    assert len(run.failed) == 2
    assert set(run.tables["probes"]["layer"]) <= {-1, 3}
    assert "layer 99" in (tmp_path / "out" / "cells" / run.failed["cell"].iloc[0] / "error.txt").read_text()
    assert "Some cells failed" in run.report.read_text()


def test_finished_cells_are_not_run_again(swept, monkeypatch):
    folder, run = swept
    monkeypatch.setattr("workbench.studies.worker.load_model", lambda *_: pytest.fail("a model was loaded"))
    again = wb.run_study(folder / "small.toml", out=run.folder, progress=False)
    same(run.tables, again.tables)


# ------------------------------------------------------------------ plans and the cache


def test_plan_says_what_is_finished_cached_and_to_run(swept, tmp_path, capsys):
    folder, run = swept
    done = wb.plan(folder / "small.toml", out=run.folder)
    assert set(done["status"]) == {"finished"}
    cached = wb.plan(small(), out=tmp_path / "elsewhere")
    assert set(cached["status"]) == {"cached"}
    more = wb.plan(small(methods=("mass_mean",)), out=tmp_path / "elsewhere")
    assert more["status"].tolist().count("cached") == 2
    assert "to run" in set(more["status"])
    fresh = wb.plan(small(seeds=(7,)), out=tmp_path / "elsewhere")
    timed = fresh[fresh["status"] == "to run"]
    assert len(timed) == 3
    assert (timed["seconds"] > 0).all(), "an earlier run or a trial says how long"
    assert not (tmp_path / "elsewhere").exists()
    assert main(["run", "reading", "--fast", "--layers", "3", "--plan"]) == 0
    assert "about" in capsys.readouterr().out


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
    out, killed, said = tmp_path / "out", [], []
    over = threading.Event()
    thread = threading.Thread(target=kill_one, args=(out, killed, over))
    thread.start()
    again = run_sweep(folder / "small.toml", out=out, workers=2, address="local" if how == "ray" else None, progress=False, say=said.append)
    over.set()
    thread.join()
    assert len(killed) == 1, "no worker was caught at work"
    assert (again.cells["status"] == "finished").all()
    same(run.tables, again.tables)
    assert how == "ray" or any("a worker died" in line for line in said)


def test_a_cell_that_kills_its_workers_is_given_up(tmp_path, organism):
    from workbench.studies.sweep import Sweep

    sweep = Sweep(**{**small().__dict__, "name": "deadly"}).resolved()
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
    sweep = small(layers=(), grid={"layers": [(3,), (2, 4)]})
    run = wb.run_study(sweep, out=tmp_path / "out", progress=False)
    assert set(run.tables["probes"]["cell_layers" if "cell_layers" in run.tables["probes"] else "layers"]) == {"3", "2 4"}
    place = tmp_path / "out" / "cells" / run.cells["cell"].iloc[0] / "run" / "tables"
    (place / "answers.csv").write_text("")
    assert wb.plan(sweep, out=tmp_path / "out")["status"].tolist().count("finished") == 1
    again = wb.run_study(sweep, out=tmp_path / "out", progress=False)
    same(run.tables, again.tables)


def test_requests_are_a_dataset(tmp_path, organism):
    run = wb.run_study(
        "reading", model=organism, data="requests", out=tmp_path / "run", fast=True, layers=(4,), methods=("mass_mean",), progress=False
    )
    assert set(run.tables["answers"]["condition"]) == {"no claim", "jailbreak", "protect"}
    at = run.tables["probes"].query("metric == 'accuracy' and control == '' and condition == 'jailbreak'")
    assert at["n"].iloc[0] >= 60
    assert len(run.findings) >= 3


def test_two_runs_of_one_sweep_share_the_work(tmp_path):
    sweep, runs = small(seeds=(5, 6)), []
    threads = [threading.Thread(target=lambda: runs.append(wb.run_sweep(sweep, out=tmp_path / "out", progress=False))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(run.failed) for run in runs] == [0, 0]
    same(runs[0].tables, runs[1].tables)
