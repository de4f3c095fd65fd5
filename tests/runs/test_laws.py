"""The laws of the engine, on a toy study that needs milliseconds; what breaks the contract is told."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench.core import errors
from workbench.runs import Cache, Main, Run, Study, find
from workbench.runs.handle import handles
from workbench.runs.rehearsal import Later, NotYet, rehearse

TOY = Path(__file__).parent / "toy" / "study.py"


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """A cache with nothing in it."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(cold, monkeypatch):
    """The toy, with an empty list of the steps that it computed."""
    study = find(TOY)
    calls: list[str] = []
    monkeypatch.setitem(study.compute.__globals__, "CALLS", calls)
    return study, calls


def ran(study, out, **how):
    return wb.run_study(study, out=out, progress=False, formats=("html",), **how)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ------------------------------------------------------------------ the contract


def test_the_toy_keeps_the_contract(cold, tmp_path):
    said = []
    checked = wb.check_study(TOY, out=tmp_path / "check", say=said.append)
    assert checked.steps == 3
    assert checked.again.agrees
    assert len(said) == 6


def simple(compute, **more):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Settings:
        n: int = 4

    how = {"name": "broken", "asks": "does it hold?", "settings": Settings, "models": (), "tables": {"t": "k | value low high n"}} | more
    return Study(compute=compute, **how)


ROW = pd.DataFrame({"k": ["a"], "value": [0.5], "low": [0.4], "high": [0.6], "n": [4]})
counter = iter(range(1000))


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda m, s, run: None, "it has no steps"),
        (lambda m, s, run: run.table("u", make=lambda: ROW), "made the table 'u', which tables= does not declare"),
        (lambda m, s, run: run.table("t", make=lambda: ROW.drop(columns="n")), "lacks the column 'n'"),
        (lambda m, s, run: run.table("t", make=lambda: ROW.assign(odd=1)), "has the column 'odd'"),
        (lambda m, s, run: run.table("t", make=lambda: 3), "its make returned a int"),
        (lambda m, s, run: run.table(("t", "u"), make=lambda: {"t": ROW}), "make the tables t, u; its make returned a mapping with t"),
        (lambda m, s, run: run.table("t", key=next(counter), make=lambda: ROW), "a second run computes the step 't' again"),
        (lambda m, s, run: run.table("t", make=lambda: run.table("u", make=lambda: ROW)), "begins inside another step"),
        (lambda m, s, run: (run.table("t", make=lambda: ROW), run.table("t", make=lambda: ROW)), "'t' is taken"),
        (lambda m, s, run: run.table("../t", make=lambda: ROW), "cannot be the name of a result"),
        (lambda m, s, run: run.folder("tables", make=lambda place: None), "'tables' is taken"),
        (lambda m, s, run: len(run.table("t", key=1, make=lambda: ROW)) and run.table("u", make=lambda: ROW), "its plan ends after the step 't'"),
        (lambda m, s, run: run.table("t", make=lambda: 1 / 0), "division by zero"),
        (lambda m, s, run: run.table("t"), "the step 't' has no make="),
        (lambda m, s, run: run.folder("f", key=3), "the step 'f' has no make="),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_told(compute, message, cold, tmp_path):
    with pytest.raises((errors.WorkbenchError, ZeroDivisionError), match=message):
        wb.check_study(simple(compute), out=tmp_path / "check")


def test_numbers_that_differ_from_run_to_run_are_told(cold, tmp_path):
    study = simple(lambda m, s, run: run.table("t", make=lambda: ROW.assign(value=0.1 * next(counter))))
    with pytest.raises(errors.BrokenStudy, match="numbers differ"):
        wb.check_study(study, out=tmp_path / "check")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Up"}, "lower-case letters"),
        ({"asks": "two\nlines"}, "in one line"),
        ({"settings": dataclasses.make_dataclass("Open", [("n", int)], frozen=True)}, "n has none"),
        ({"settings": dataclasses.make_dataclass("Soft", [("n", int, 3)])}, "a frozen dataclass"),
        ({"fast": {"m": 3}}, "fast= names m"),
        ({"inside": ("m",)}, "inside= names m"),
        ({"models": ("a", "a")}, "roles with different names"),
        ({"models": ("n",)}, "is a role of a model and a setting"),
        ({"main": Main(table="u", labels=(), axis="x")}, "main table 'u' is not among"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(change, message):
    with pytest.raises(errors.BrokenStudy, match=message):
        simple(lambda m, s, run: None, **change)


def test_columns_without_a_bar_are_refused():
    with pytest.raises(errors.BadInput, match="a bar"):
        simple(lambda m, s, run: None, tables={"t": "k value"})


# ------------------------------------------------------------------ plans


def test_a_plan_knows_every_step_and_touches_nothing(toy, tmp_path, monkeypatch):
    _, calls = toy
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    table = wb.plan(wb.Sweep(name="toy", study=str(TOY)))
    assert table["step"].tolist() == ["draw", "write", "tell"]
    assert set(table["status"]) == {"to run"}
    assert calls == []
    assert files(tmp_path) == before


def test_a_plan_sees_what_is_cached(toy, tmp_path):
    study, _ = toy
    ran(study, tmp_path / "run")
    assert wb.plan(wb.Sweep(name="toy", study=str(TOY)))["status"].tolist() == ["cached"] * 3
    assert wb.plan(wb.Sweep(name="toy", study=str(TOY), settings={"n": 41}))["status"].tolist() == ["to run"] * 3


def test_an_error_of_the_study_is_its_own_whatever_is_cached(cold):
    def compute(models, settings, run):
        run.table("t", make=lambda: ROW)
        raise KeyError("a bug of mine")

    study = simple(compute)
    with pytest.raises(KeyError, match="a bug of mine"):
        rehearse(study, {}, study.settings(), Cache(cold))


def test_a_study_that_looks_outside_of_a_step_is_planned_as_far_as_it_goes(cold):
    def compute(models, settings, run):
        table = run.table("t", make=lambda: ROW)
        try:
            more = len(table)
        except Exception:  # nothing of a study catches what ends a rehearsal
            more = 3
        run.table("u", key=more, make=lambda: ROW)

    study = simple(compute)
    steps, whole = rehearse(study, {}, study.settings(), Cache(cold))
    assert [s.name for s in steps] == ["t"]
    assert not whole


@pytest.mark.parametrize(
    "touch",
    [len, list, bool, str, float, hash, lambda x: x.value, lambda x: x[0], lambda x: x == 1, lambda x: x + 1, lambda x: 1 - x, lambda x: f"{x:.2f}", lambda x: x()],
)  # fmt: skip
def test_a_stand_in_gives_nothing_away(touch):
    with pytest.raises(NotYet):
        touch(Later())


# ------------------------------------------------------------------ steps and their keys


def test_a_second_run_computes_nothing(toy, tmp_path):
    study, calls = toy
    first = ran(study, tmp_path / "one")
    assert calls == ["draw", "write", "tell"]
    second = ran(study, tmp_path / "two")
    assert calls == ["draw", "write", "tell"]
    assert all(step["cached"] for step in second.record["steps"])
    one, two = (files(r.folder) for r in (first, second))
    drawn = ("index.html", "run.json", "figures/means.html", "figures/.seal.json")  # with times, or ids that plotly draws at random
    assert {k: v for k, v in one.items() if k not in drawn} == {k: v for k, v in two.items() if k not in drawn}
    assert "numbers/seal.json" not in one, "the seal of a cached folder stays in the cache"


def test_a_file_counts_by_what_it_holds_and_not_by_where_it_lies(toy, tmp_path):
    study, calls = toy
    one, two = tmp_path / "one.txt", tmp_path / "sub" / "two.txt"
    two.parent.mkdir()
    one.write_text("1.5")
    two.write_text("1.5")
    first = ran(study, tmp_path / "a", data=str(one))
    ran(study, tmp_path / "b", data=str(two))
    assert calls == ["draw", "write", "tell"]
    one.write_text("2.5")
    with pytest.raises(errors.OutputFolder, match="on other statements"):
        ran(study, tmp_path / "a", data=str(one))
    third = ran(study, tmp_path / "c", data=str(one))
    assert calls == ["draw", "write", "tell"] * 2
    assert third.tables["means"]["value"].mean() - first.tables["means"]["value"].mean() == pytest.approx(1.0, abs=1e-5)


def test_a_path_in_a_key_counts_by_what_it_holds(cold, tmp_path):
    made = []

    def compute(models, settings, run):
        return run.table("t", key=[tmp_path / "checkpoints"], make=lambda: made.append(1) or ROW)

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-1").write_text("weights")
    ran(simple(compute), tmp_path / "one")
    ran(simple(compute), tmp_path / "two")
    assert len(made) == 1
    (tmp_path / "checkpoints" / "step-1").write_text("trained again")
    ran(simple(compute), tmp_path / "three")
    assert len(made) == 2


def copied(tmp_path):
    shutil.copytree(TOY.parent, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "mine" / "study.py"


def test_a_changed_line_recomputes_and_one_of_a_report_does_not(cold, tmp_path):
    path = copied(tmp_path)
    ran(path, tmp_path / "one")
    assert all(s["cached"] for s in ran(path, tmp_path / "two").record["steps"])
    (path.parent / "report.py").write_text("# how it looks\n")
    assert all(s["cached"] for s in ran(path, tmp_path / "three").record["steps"])
    (path.parent / "helper.py").write_text("# what it computes with\n")
    assert not any(s["cached"] for s in ran(path, tmp_path / "four").record["steps"])
    path.write_text(path.read_text().replace("rng.normal(", "1.0 + rng.normal("))
    again = ran(path, tmp_path / "five")
    assert not any(s["cached"] for s in again.record["steps"])
    assert again.tables["means"]["value"].min() > 0.3, "the changed file is what runs"


def test_another_study_s_code_recomputes_nothing(cold, tmp_path, monkeypatch):
    from workbench.runs import registry

    home = tmp_path / "studies"
    shutil.copytree(registry.HOME, home)
    monkeypatch.setattr(registry, "HOME", home)
    before = registry.source_of(find(TOY))
    (home / "geometry" / "study.py").write_text("# another study")
    assert registry.source_of(find(TOY)) == before
    (home / "statements.py").write_text("# what all share")
    assert registry.source_of(find(TOY)) != before


@pytest.mark.parametrize("damage", [b"", b"PAR1 not a table", None])
def test_a_damaged_table_is_computed_anew(toy, cold, tmp_path, damage):
    study, calls = toy
    first = ran(study, tmp_path / "one")
    for path in (cold / "tables").glob("*.parquet"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # one flipped bit
        path.write_bytes(bytes(data) if damage is None else damage)
    said = []
    second = wb.run_study(study, out=tmp_path / "two", progress=False, formats=(), say=said.append)
    assert calls == ["draw", "write", "tell", "draw", "tell"]
    assert sum("computed anew" in line for line in said) == 2
    pd.testing.assert_frame_equal(first.tables["means"], second.tables["means"])


def test_a_damaged_folder_is_computed_anew(toy, cold, tmp_path):
    study, calls = toy
    ran(study, tmp_path / "one")
    (file,) = (cold / "folders").glob("*/numbers.json")
    file.write_text(file.read_text().replace("0", "1", 1))
    ran(study, tmp_path / "two")
    assert calls == ["draw", "write", "tell", "write"], "the table is there; what it was made of is made again"


def test_a_step_that_fails_leaves_nothing_half_made(toy, cold, tmp_path):
    def compute(models, settings, run):
        def make(place):
            (place / "half").write_text("x")
            raise RuntimeError("in the middle")

        run.folder("numbers", make=make)

    with pytest.raises(RuntimeError, match="in the middle"):
        ran(simple(compute), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"] == "RuntimeError: in the middle"
    assert not list((cold / "folders").rglob("half"))


def test_a_kept_folder_does_not_follow_a_link(toy, tmp_path):
    study, _ = toy
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("precious")
    ran(study, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "numbers")
    (tmp_path / "run" / "numbers").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.DamagedRun, match="is a link"):
        ran(study, tmp_path / "run")
    assert files(tmp_path / "precious") == {"thesis.txt": b"precious"}


def test_two_threads_in_one_folder(cold, tmp_path):
    runs, wrong = [], []

    def work():
        try:
            for seed in range(6):
                runs.append(ran(TOY, tmp_path / "run", seed=seed))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert Run.load(tmp_path / "run").record["status"] == "finished"
    assert not list((tmp_path / "run").rglob("*.tmp"))


# ------------------------------------------------------------------ models by role


def reading(models, settings, run):
    """Two models, each asked for its first parameter inside a step."""

    def make():
        rows = [
            {"k": role, "value": float(next(m.load().parameters()).flatten()[0]), "low": 0.0, "high": 1.0, "n": 1}
            for role, m in models.items()
        ]
        return pd.DataFrame(rows)

    return run.table("t", make=make)


TWO = {"weak": "udhr-organism-no-verdict", "strong": "udhr-organism"}


def test_a_study_of_two_models(cold, tmp_path):
    study = simple(reading, models=("weak", "strong"))
    checked = wb.check_study(study, models=TWO, out=tmp_path / "check")
    record = checked.run.record["models"]
    assert {role: m["name"] for role, m in record.items()} == TWO
    assert record["weak"]["digest"] != record["strong"]["digest"]
    with pytest.raises(errors.WrongModel, match=r"other weights .* than the weak of the run"):
        wb.rerun(checked.run.folder, study=study, models={"weak": "udhr-organism"}, out=tmp_path / "x")
    with pytest.raises(errors.BadInput, match="which is not installed: give its file"):
        wb.rerun(checked.run.folder, out=tmp_path / "x")
    with pytest.raises(errors.BadInput, match="has no role big for a model; its roles: weak, strong"):
        ran(study, tmp_path / "y", models={"big": "bundled"})
    for how in ({"model": "udhr-organism"}, {"models": {"weak": "udhr-organism"}}, {}):  # a default would compare a model with itself
        with pytest.raises(errors.BadInput, match="takes 2 models; name one for each role: weak=…, strong=…"):
            ran(study, tmp_path / "y", **how)


def test_a_handle_is_no_model_and_a_role_must_be_there(cold, tmp_path):
    def compute(models, settings, run):
        return run.table(
            "t", make=lambda: models["modle"] if settings.n == 4 else wb.answers(models["model"], wb.prompts.udhr(n=4), progress=False)
        )

    study = simple(compute, models=("model",))
    with pytest.raises(errors.UnknownName, match="Did you mean 'model'"):
        ran(study, tmp_path / "one")
    with pytest.raises(AttributeError, match=r"a handle of a model and not the model; use handle.load\(\)|is described and not loaded"):
        ran(study, tmp_path / "two", n=5)


def test_an_error_in_a_step_names_the_step(cold, tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        ran(simple(lambda m, s, run: run.table("t", make=lambda: 1 / 0, doing="divide")), tmp_path / "run")
    assert caught.value.__notes__ == ["in the step 'divide'; the steps before it are cached: run the study again when it is mended"]


def test_columns_that_were_not_declared_are_said_when_it_runs(cold, tmp_path):
    said = []
    study = simple(lambda m, s, run: run.table("t", make=lambda: ROW.assign(odd=1)))
    wb.run_study(study, out=tmp_path / "run", formats=(), progress=False, say=said.append)
    assert any("note: the table 't' has the column 'odd', which tables= does not declare: add it there" in line for line in said)


def test_a_value_without_an_interval_is_said_to_have_none(cold, tmp_path):
    bare = ROW.assign(low=float("nan"), high=float("nan"), note="one cluster")
    main = Main(table="t", labels=("k",), axis="share")
    study = simple(lambda m, s, run: run.table("t", make=lambda: bare), main=main, tables={"t": "k | value low high n note"})
    assert ran(study, tmp_path / "run").findings == ["A: share 0.5 without an interval: one cluster, n=4."]
    lost = simple(
        lambda m, s, run: run.table("u", make=lambda: ROW), main=main, tables={"t": "k | value low high n", "u": "k | value low high n"}
    )
    assert "'t' was not made" in ran(lost, tmp_path / "two").findings[0]


def test_a_model_outside_a_step_is_refused(cold, tmp_path):
    def compute(models, settings, run):
        models["model"].load()

    with pytest.raises(errors.OutsideStep, match="loads a model inside a step only"):
        ran(simple(compute, models=("model",)), tmp_path / "run")


def test_a_model_is_loaded_once_and_known_again_without_being_loaded(cold, tmp_path, monkeypatch):
    loads = []
    from workbench.runs import handle

    original = handle.load_model
    monkeypatch.setattr(handle, "load_model", lambda name: loads.append(name) or original(name))
    study = simple(reading, models=("model",))
    ran(study, tmp_path / "one")
    assert loads == ["bundled"]
    again = ran(study, tmp_path / "two")
    assert loads == ["bundled"]
    assert again.record["models"]["model"]["digest"] == Run.load(tmp_path / "one").record["models"]["model"]["digest"]
    (handle_,) = handles({"model": "bundled"}, Cache(cold)).values()
    assert not handle_.loaded


def test_files_that_are_replaced_under_a_run_are_noticed(cold, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(wb.bundled_models()["udhr-organism"], folder)
    ran(simple(reading, models=("model",)), tmp_path / "one", model=str(folder))

    def compute(models, settings, run):
        shutil.copytree(wb.bundled_models()["udhr-organism-no-verdict"], folder, dirs_exist_ok=True)
        return run.table("t", key="another", make=lambda: models["model"].load())

    with pytest.raises(errors.WrongModel, match="not what it was when the run began"):
        ran(simple(compute, models=("model",)), tmp_path / "two", model=str(folder))


def test_edits_on_a_loaded_model_are_refused(cold, tmp_path, organism):
    with wb.edited(organism, [wb.Edit(site="resid_post", layer=0, function=lambda x: x, label="none")]):
        with pytest.raises(errors.BadInput, match="does not know edits"):
            ran(simple(reading, models=("model",)), tmp_path / "run", model=organism)
        wb.answers(organism, wb.prompts.udhr(n=2), progress=False)  # an edit that never fires is an error of its own


# ------------------------------------------------------------------ a step that decides


DECIDES = """
from dataclasses import dataclass
import pandas as pd
from workbench.runs import Study

ROW = pd.DataFrame({"k": ["a"], "value": [0.5], "low": [0.4], "high": [0.6], "n": [4]})


@dataclass(frozen=True, kw_only=True)
class Settings:
    n: int = 4


def compute(models, settings, run):
    chosen = run.choose("t", [settings.n], lambda: ROW, lambda table: table["k"].iloc[0], "assumed")
    run.table("u", key=[chosen], make=lambda: ROW.assign(k=chosen), doing=f"go on with {chosen}")


TABLES = {"t": "k | value low high n", "u": "k | value low high n"}
STUDY = Study(name="decides", asks="does it go on?", settings=Settings, models=(), compute=compute, tables=TABLES)
"""


def test_a_step_may_decide_how_a_study_goes_on_and_a_plan_says_what_it_assumes(cold, tmp_path):
    (tmp_path / "decides.py").write_text(DECIDES)
    study = find(tmp_path / "decides.py")
    steps, whole = rehearse(study, {}, study.settings(), Cache(cold))
    assert whole
    assert [s.name for s in steps] == ["t", "go on with assumed"]
    run = ran(study, tmp_path / "run")
    assert run.tables["u"]["k"].tolist() == ["a"]
    steps, _ = rehearse(study, {}, study.settings(), Cache(cold))
    assert [s.name for s in steps] == ["t", "go on with a"]
    assert all(s.cached for s in steps)
    assert wb.check_study(study, out=tmp_path / "check").again.agrees


# ------------------------------------------------------------------ a folder that is made in many steps


COUNTS = """
from dataclasses import dataclass
import pandas as pd
from workbench.runs import Study

DIES, FOUND = [], []


@dataclass(frozen=True, kw_only=True)
class Settings:
    n: int = 5


def compute(models, settings, run):
    def make(place, state):
        log = state / "done.txt"
        done = len(log.read_text()) if log.is_file() else 0
        FOUND.append(done)
        while done < settings.n:
            if done == 3 and DIES:
                raise KeyboardInterrupt
            done += 1
            log.write_text("x" * done)
        (place / "whole.txt").write_text(str(done))

    path = run.folder("count", [settings.n], make, resumes=True)
    run.table("t", [settings.n], lambda: pd.DataFrame({"k": ["a"], "value": [float((path / "whole.txt").read_text())], "n": [1]}))


STUDY = Study(name="counts", asks="how far?", settings=Settings, models=(), compute=compute, tables={"t": "k | value n"})
"""


def test_a_killed_folder_goes_on_where_it_was_and_leaves_no_state(cold, tmp_path):
    (tmp_path / "counts.py").write_text(COUNTS)
    study = find(tmp_path / "counts.py")
    dies, found = (study.compute.__globals__[k] for k in ("DIES", "FOUND"))
    dies.append(1)
    with pytest.raises(KeyboardInterrupt):
        ran(study, tmp_path / "run")
    dies.clear()
    run = ran(study, tmp_path / "run")
    assert found == [0, 3]
    assert run.tables["t"]["value"].tolist() == [5.0]
    assert not list((cold / "folders").glob("*.state"))
    assert (tmp_path / "run" / "count" / "whole.txt").read_text() == "5"
    assert not (tmp_path / "run" / "count" / "done.txt").exists()


def test_two_processes_at_one_folder_do_not_share_its_state(cold):
    cache = Cache(cold)
    path = cache.folder("x", [1])
    with cache.state(path) as one, cache.state(path) as two:
        assert one != two
        (one / "here").write_text("1")
        assert not list(two.iterdir())
    assert not one.exists()
    assert not two.exists()
