"""A stranger's run folder: nothing outside of it is read or written, nothing in it is run, whatever its documents say."""

import copy
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.figures import Drawing
from workbench.runs import Main, Run, Study, captions_of
from workbench.runs.render import load_document

TOY = Path(__file__).parent / "toy" / "study.py"
SECRET = "precious: 0.25"
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\u2066\x08\r\x7f"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache with nothing in it, no browser, a folder of one's own."""
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run of the toy on a file of its owner's, and a sweep of two."""
    place = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.runs.render.browser", lambda: None)
        patch.setenv("WORKBENCH_CACHE", str(place / "cache"))
        (place / "mine.txt").write_text("0.5")
        wb.run_study(TOY, out=place / "run", data=str(place / "mine.txt"), n=10, progress=False, formats=("html",))
        wb.run_sweep(wb.Sweep(name="toy", study=str(TOY), seeds=(0, 1), fast=True), out=place / "sweep", progress=False, formats=("html",))
    return place


@pytest.fixture
def theirs(original, tmp_path):
    """What came in an archive: the run and the sweep, the reader's precious file not far from them."""
    for name in ("run", "sweep"):
        shutil.copytree(original / name, tmp_path / "theirs" / name)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text(SECRET)
    return tmp_path / "theirs"


def precious(theirs):
    return theirs.parent / "home" / "precious"


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()}


def doors(folder):
    """Every way to use a run folder."""
    return {
        "redraw": lambda: wb.redraw(folder, formats=("html",)),
        "redraw one figure": lambda: wb.redraw(folder, only=("means",), formats=("html",)),
        "redraw elsewhere": lambda: wb.redraw(folder, out=folder.parent / "drawn", formats=("html",)),
        "captions": lambda: captions_of(folder),
        "compare": lambda: str(wb.compare_runs(folder, folder)),
        "rerun": lambda: wb.rerun(folder, study=TOY, out=folder.parent / "again", progress=False),
        "run": lambda: wb.run_study(TOY, out=folder, n=10, progress=False, formats=("html",)),
        "load": lambda: Run.load(folder),
    }


# ------------------------------------------------------------------ links

FILES = ("run.json", "report.json", "index.html", "tables/means.csv", "figures/means.csv", "figures/means.txt", "figures/means.html", "figures/plotly.min.js", "figures/.seal.json", "figures/new.txt", "inputs/mine.txt")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_link_is_refused_by_every_door(name, theirs):
    folder = theirs / "run"
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(precious(theirs))
    for door in doors(folder).values():
        with pytest.raises((errors.DamagedRun, errors.OutputFolder)):
            door()
    assert precious(theirs).read_text() == SECRET
    assert not any(SECRET.encode() in data for data in everything(theirs).values())


@pytest.mark.parametrize("name", ["tables", "figures", "inputs"])
@pytest.mark.parametrize("full", [True, False])
def test_a_folder_that_is_a_link_is_refused_by_every_door(name, full, theirs):
    folder, outside = theirs / "run", theirs.parent / "home" / name
    if full:
        shutil.copytree(folder / name, outside)
    else:
        outside.mkdir()
    shutil.rmtree(folder / name)
    (folder / name).symlink_to(outside)
    before = everything(outside)
    for door in doors(folder).values():
        with pytest.raises(errors.DamagedRun, match=f"{name} in run is a link; .*Delete the link"):
            door()
    assert everything(outside) == before


def test_a_dangling_link_and_one_to_a_file_inside_are_links(theirs):
    for target in (theirs / "nowhere", theirs / "run" / "figures" / "means.csv"):
        (theirs / "run" / "figures" / "x.csv").symlink_to(target)
        with pytest.raises(errors.DamagedRun, match=r"figures/x\.csv in run is a link"):
            wb.redraw(theirs / "run", formats=("html",))
        (theirs / "run" / "figures" / "x.csv").unlink()
    assert not (theirs / "nowhere").exists()


@pytest.mark.parametrize("name", ["run.json", "report.json", "tables/means.csv", "figures/means.csv", "inputs/mine.txt", "index.html"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(name, kind, theirs):
    path = theirs / "run" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    doors_ = doors(theirs / "run")
    for door in ("rerun", "redraw"):
        if (door, kind, name) not in (("rerun", "folder", "figures/means.csv"), ("redraw", "folder", "inputs/mine.txt")):  # not read there
            with pytest.raises((errors.DamagedRun, errors.OutputFolder)):
                doors_[door]()


@pytest.mark.parametrize("name", ["index.html", "figures/means.html", "figures/means.txt", "figures/.seal.json", "figures/plotly.min.js"])
def test_a_second_name_of_another_file_is_replaced_and_not_written_through(name, theirs):
    path = theirs / "run" / name
    path.unlink()
    os.link(precious(theirs), path)
    wb.redraw(theirs / "run", formats=("html",))
    assert precious(theirs).read_text() == SECRET
    assert path.stat().st_nlink == 1


@pytest.mark.parametrize("name", ["run.json", "report.json", "tables/means.csv", "figures/means.csv", "index.html", "numbers/numbers.json", "inputs/mine.txt"])  # fmt: skip
def test_a_run_into_a_folder_writes_through_no_second_name(name, theirs):
    path = theirs / "run" / name
    held = path.read_bytes()
    outside = theirs.parent / "home" / "other"
    outside.write_bytes(held)
    path.unlink()
    os.link(outside, path)
    (theirs / "again.txt").write_text("0.5")
    wb.run_study(TOY, out=theirs / "run", data=str(theirs / "again.txt"), n=12, progress=False, formats=("html",))
    assert outside.read_bytes() == held


def test_a_folder_of_a_step_that_is_a_link_is_refused(theirs):
    outside = theirs.parent / "home"
    shutil.rmtree(theirs / "run" / "numbers")
    (theirs / "run" / "numbers").symlink_to(outside)
    with pytest.raises(errors.DamagedRun, match="numbers in run is a link"):
        wb.run_study(TOY, out=theirs / "run", data=str(theirs / "run" / "inputs" / "mine.txt"), n=10, progress=False, formats=())
    assert everything(outside) == {"precious": SECRET.encode()}


SWEEPS = ("cells", "cells/seed-0", "cells/seed-0/run", "cells/seed-0/cell.json", "cells/seed-0/.lock", "cells/seed-0/error.txt", "cells/seed-0/.tries", "cells/seed-1/run/tables", "sweep.toml", "workers.log", "tables", "figures", "index.html")  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_link_in_a_sweep_is_refused(name, workers, theirs):
    folder, outside = theirs / "sweep", theirs.parent / "home" / "place"
    path = folder / name
    if path.is_dir():
        path.rename(outside)
        (outside / "run").mkdir(exist_ok=True)  # what a worker would delete
        (outside / ".tries").mkdir(exist_ok=True)
        (outside / ".tries" / "0").touch()
    else:
        path.unlink(missing_ok=True)
        outside.write_text(SECRET)
    path.symlink_to(outside)
    before = everything(theirs.parent / "home")
    sweep = wb.Sweep(name="toy", study=str(TOY), seeds=(0, 1, 2), fast=True)
    for how in ({"sweep": sweep, "out": folder}, {"sweep": folder}):
        with pytest.raises((errors.DamagedRun, errors.BadInput)):
            wb.run_sweep(**how, workers=workers, progress=False, formats=())
    with pytest.raises((errors.DamagedRun, errors.BadInput)):
        wb.redraw(folder, formats=("html",))
    assert everything(theirs.parent / "home") == before


@pytest.mark.parametrize("name", ["cells/seed-0/.lock", "workers.log"])
def test_a_lock_or_a_log_with_a_second_name_is_refused(name, theirs):
    (theirs / "sweep" / name).unlink(missing_ok=True)
    os.link(precious(theirs), theirs / "sweep" / name)
    with pytest.raises(errors.DamagedRun, match="has a second name elsewhere"):
        wb.run_sweep(theirs / "sweep", workers=2, progress=False, formats=())
    assert precious(theirs).read_text() == SECRET


def test_a_folder_that_is_reached_by_a_link_is_a_folder(theirs):
    (theirs.parent / "short").symlink_to(theirs)
    wb.redraw(theirs.parent / "short" / "run", formats=("html",))
    (theirs / "run" / "notes").symlink_to(theirs.parent / "home")  # of the reader's own, which no door looks at
    wb.redraw(theirs / "run", formats=("html",))


def test_the_new_folder_of_a_rerun_is_no_link_of_theirs(theirs):
    (theirs / "run-rerun").symlink_to(theirs.parent / "home")
    with pytest.raises(errors.OutputFolder, match="run-rerun, where the new run would go, is a link"):
        wb.rerun(theirs / "run", study=TOY, progress=False)


# ------------------------------------------------------------------ files that a record names


def recorded(folder, **change):
    path = folder / "run.json"
    record = json.loads(path.read_text())
    for key, value in change.items():
        record = {k: v for k, v in record.items() if k != key} if value is None else record | {key: value}
    path.write_text(json.dumps(record))
    return record


@pytest.mark.parametrize("how", ["absolute", "from home", "relative", "up", "in the folder"])
@pytest.mark.parametrize("noted", [{}, None], ids=["none is noted", "nothing is noted"])
def test_a_rerun_reads_no_file_that_only_the_record_names(how, noted, theirs, monkeypatch):
    monkeypatch.setenv("HOME", str(theirs.parent / "home"))
    (Path.cwd() / "beside").write_text("0.25")
    precious(theirs).write_text("0.25")
    (theirs / "run" / "tables" / "x").write_text("0.25")
    data = {"absolute": str(precious(theirs)), "from home": "~/precious", "relative": "beside", "up": "../home/precious", "in the folder": str(theirs / "run" / "tables" / "x")}[how]  # fmt: skip
    settings = json.loads((theirs / "run" / "run.json").read_text())["settings"] | {"data": data}
    recorded(theirs / "run", settings=settings, inputs=noted, input=None)
    with pytest.raises(errors.BadInput, match=r"names data=.*outside of the run's folder: nothing is read there.*--input data="):
        wb.rerun(theirs / "run", study=TOY, out=theirs / "again", progress=False)
    assert not (theirs / "again").exists()


@pytest.mark.parametrize("name", ["../../home/precious", "/etc/hostname", "..", "a/b", ".hidden", ""])
def test_a_noted_copy_lies_in_the_folder(name, theirs):
    record = json.loads((theirs / "run" / "run.json").read_text())
    recorded(theirs / "run", inputs={"data": record["inputs"]["data"] | {"name": name}})
    with pytest.raises(errors.DamagedRun, match="is not a name"):
        wb.rerun(theirs / "run", study=TOY, out=theirs / "again", progress=False)


def test_a_copy_must_be_what_the_run_was_made_from(theirs):
    (theirs / "run" / "inputs" / "mine.txt").write_text("0.75")
    with pytest.raises(errors.DamagedRun, match=r"does not hold mine\.txt, which the run was made from, as it was"):
        wb.rerun(theirs / "run", study=TOY, out=theirs / "again", progress=False)


def test_who_names_the_file_may_run_from_it(theirs, capsys):
    precious(theirs).write_text("0.5")
    shutil.rmtree(theirs / "run" / "inputs")
    with pytest.raises(errors.DamagedRun, match="does not hold"):
        wb.rerun(theirs / "run", study=TOY, out=theirs / "again", progress=False)
    words = ["rerun", str(theirs / "run"), "--study", str(TOY), "--out", str(theirs / "again"), "--input"]
    assert main([*words, f"data={precious(theirs)}"]) == 0
    assert "every number agrees" in capsys.readouterr().out
    precious(theirs).write_text("0.6")
    for word, message in ((f"data={precious(theirs)}", "is not what run was made from"), ("n=3", "has no file or folder 'n'"), ("data", "SETTING=PATH")):  # fmt: skip
        assert main([*words, word]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_a_run_was_made_from_must_be_named(tmp_path):
    place = tmp_path / "checkpoints"
    place.mkdir()
    (place / "step").write_text("0.5")
    study = folders_study()
    run = wb.run_study(study, out=tmp_path / "run", progress=False, formats=(), place=str(place))
    assert run.record["inputs"]["place"]["kept"] is False
    with pytest.raises(errors.BadInput, match="--input place="):
        wb.rerun(run.folder, study=study, out=tmp_path / "again", progress=False)
    assert wb.rerun(run.folder, study=study, out=tmp_path / "again", progress=False, inputs={"place": place}).agrees
    (place / "step").write_text("0.6")
    with pytest.raises(errors.BadInput, match="is not what run was made from"):
        wb.rerun(run.folder, study=study, out=tmp_path / "third", progress=False, inputs={"place": place})


def folders_study(default=""):
    import dataclasses

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Settings:
        place: str = default

    def compute(models, settings, run):
        def make():
            path = Path(settings.place, "step")
            return pd.DataFrame([{"k": "a", "value": float(path.read_text()) if path.is_file() else 0.5, "low": 0.0, "high": 1.0, "n": 4}])

        return run.table("t", make=make)

    how = {
        "settings": Settings,
        "compute": compute,
        "models": (),
        "inputs": ("place",),
        "main": Main(table="t", labels=("k",), axis="share"),
    }
    return Study(name="folders", asks="does it read a folder?", **how)


@pytest.mark.parametrize("name", ["udhr", "requests"])
def test_names_of_data_sets_are_no_files(name, tmp_path):
    """One by default, even beside a file of that name; another one, as long as there is no such file."""
    study = folders_study("udhr")
    run = wb.run_study(study, out=tmp_path / "run", progress=False, formats=(), place=name)
    if name == "udhr":
        (Path.cwd() / name).write_text("a file of that name")
    assert wb.rerun(run.folder, study=study, out=tmp_path / "again", progress=False).agrees


def test_what_the_record_lacks_or_has_too_much_is_said(theirs):
    settings = json.loads((theirs / "run" / "run.json").read_text())["settings"]
    del settings["shift"]
    recorded(theirs / "run", settings=settings | {"colour": "red"})
    again = wb.rerun(theirs / "run", study=TOY, out=theirs / "again", progress=False)
    assert "run.json does not say shift; it is 0.0, as by default" in again.warnings
    assert "run.json has a setting colour, which the study has not: left out" in again.warnings


@pytest.mark.parametrize("link", [["cell", "../../home/precious"], ["cell", "/etc/hostname"], ["cell", "https://example.org"], ["cell"], ["a", "b", "c"]])  # fmt: skip
def test_links_of_a_report_stay_inside(link, theirs):
    path = theirs / "run" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"links": [link]}))
    with pytest.raises(errors.DamagedRun, match="does not lead to a page inside the folder"):
        wb.redraw(theirs / "run", formats=("html",))


# ------------------------------------------------------------------ documents of every kind

WRONG = (None, True, 10**400, "", f"../x{ESCAPES}\ud800", [None], {"x": None})
LOST = object()


def places(value, at=()):
    """Every place in a document, the whole of it too."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def put(document, at, value):
    """The document with another value at a place, or without the place."""
    if not at:
        return value
    out = copy.deepcopy(document)
    inner = out
    for key in at[:-1]:
        inner = inner[key]
    if value is LOST:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return out


def spoiled(document):
    for at in places(document):
        for wrong in (*WRONG, *((LOST,) if at else ())):
            yield at, put(document, at, wrong)


@pytest.fixture
def quick(theirs, monkeypatch):
    """No pages are exported, and each figure is drawn once, unless what decides it is changed: the same hundreds of times."""
    drawing = load_document(theirs / "run")[2][0].drawing
    figure, draw = drawing.figure(), Drawing.figure

    def drawn(self, *how):
        same = self.name == drawing.name and self.options == drawing.options and self.rows.keys() == drawing.rows.keys()
        return figure if same else draw(self, *how)

    monkeypatch.setattr("workbench.runs.render.export", lambda *_, **__: [])
    monkeypatch.setattr(Drawing, "figure", drawn)


RAW = {"nothing": b"", "no text": b"\xff\xfe\0", "cut off": b'{"schema": 4, "study": "to', "deep": b"[" * 200_000, "digits": b"1" * 10_000, "NaN": b"NaN", "two": b"{}{}"}  # fmt: skip


def tried(door, at, value, capsys):
    """Only typed errors come out of a door."""
    said = ""
    try:
        door()
    except errors.WorkbenchError as error:
        said = str(error)
    except Exception as error:
        pytest.fail(f"{'.'.join(map(str, at))} = {value!r:.60}: {type(error).__name__}: {error}")
    for text in (said, *capsys.readouterr()):
        assert not any(sign in text for sign in "\x1b\x9b\u202e\u2066\x07\x08")


@pytest.mark.parametrize("door", ["redraw", "compare", "rerun", "run"])
def test_a_record_of_any_kind_is_read_or_refused(door, theirs, capsys, quick):
    """Wrong types and missing names at every depth of run.json."""
    folder, path = theirs / "run", theirs / "run" / "run.json"
    document = json.loads(path.read_text())
    whole = everything(folder)
    for at, wrong in spoiled({k: v for k, v in document.items() if k not in ("machine", "code", "asks", "source")}):
        if at == ("settings", "wait") or (at == ("settings", "n") and wrong["settings"].get("n") == 10**400):
            continue  # numbers of the right kind: so long is waited, so many are drawn
        path.write_text(json.dumps(wrong))
        tried(doors(folder)[door], at, wrong, capsys)
        for name in ("tables/means.csv", "report.json", "figures/means.csv"):
            if door == "run":
                (folder / name).write_bytes(whole[name])
        shutil.rmtree(theirs / "again", ignore_errors=True)
    for data in RAW.values():
        path.write_bytes(data)
        with pytest.raises((errors.DamagedRun, errors.OutputFolder)):
            doors(folder)[door]()


@pytest.mark.parametrize("door", ["redraw", "captions"])
def test_a_report_s_document_of_any_kind_is_read_or_refused(door, theirs, capsys, quick):
    folder, path = theirs / "run", theirs / "run" / "report.json"
    recorded(folder, digests=None, schema=3)  # else every change is told as one
    for at, wrong in spoiled(json.loads(path.read_text())):
        path.write_text(json.dumps(wrong))
        tried(doors(folder)[door], at, wrong, capsys)
        shutil.rmtree(theirs / "drawn", ignore_errors=True)
    for data in RAW.values():
        path.write_bytes(data)
        with pytest.raises(errors.DamagedRun):
            doors(folder)[door]()


def test_a_cell_s_record_of_any_kind_is_read_or_the_cell_is_run(theirs, capsys, monkeypatch):
    from workbench.runs.sweep.load import load_sweep
    from workbench.runs.sweep.worker import finished_cells, open_cells

    folder = theirs / "sweep"
    path = folder / "cells" / "seed-0" / "cell.json"
    sweep = load_sweep(folder / "sweep.toml")
    for at, wrong in spoiled(json.loads(path.read_text())):
        path.write_text(json.dumps(wrong))
        tried(lambda: (finished_cells(folder, sweep), open_cells(folder, sweep.cells()), wb.plan(folder)), at, wrong, capsys)
    for data in RAW.values():
        path.write_bytes(data)
        assert finished_cells(folder, sweep) == {"seed-1"}
    first = pd.read_csv(folder / "tables" / "means.csv")
    again = wb.run_sweep(folder, progress=False, formats=())
    assert again.tables["means"]["value"].tolist() == pytest.approx(first["value"].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    "text",
    ['name = "x\\u001b[2J"', "name = 3", "seeds = [[0]]", "seeds = [1e999]", "seeds = [true]", "models = [1]", "models = [{a = 1}]", 'datasets = ["\\u0000"]', 'study = "\\u0000.py"', "study = []", 'study = "/"', "[grid]\nn = [[1]]", '[grid]\nn = ["x"]', "[grid]\ngroups = [[[]]]", "[settings]\nn = {}", '[settings]\ndata = "\\u0000"', '[settings]\ndata = "/"', "[settings.settings]\nn = 1", "[columns]\na = 1", "grid = 1", "fast = 1", "layers = 3", "description = []", "settings = []", "\x00", "a = [" + "[" * 5000],
)  # fmt: skip
def test_a_sweep_s_file_of_any_kind_is_read_or_refused(text, theirs, capsys):
    for folder, head in ((theirs / "sweep", f'study = "{TOY}"\n'), (theirs, "")):
        path = folder / "sweep.toml"
        path.write_text((head if "study" not in text else "") + text)
        assert main(["run", str(path), "--plan", "--quiet"]) == 2
        assert "\x1b" not in capsys.readouterr().err
        assert main(["run", str(folder), "--quiet"]) == 2


# ------------------------------------------------------------------ what is printed


def marked(name, theirs):
    """The run with escapes in everything that its documents say."""
    folder = theirs / name
    record = json.loads((folder / "run.json").read_text())
    record["findings"] = [f + ESCAPES for f in record["findings"]]
    record["versions"] = {k + ESCAPES: v + ESCAPES for k, v in record["versions"].items()}
    record["settings"]["groups"] = ["a" + ESCAPES, "b"]
    (folder / "run.json").write_text(json.dumps(record | {"digests": {**record["digests"], ESCAPES: ESCAPES}}))
    table = pd.read_csv(folder / "tables" / "means.csv")
    table["group"] = [g + ESCAPES for g in table["group"]]
    wb.core.tables.write_csv(folder / "tables" / "means.csv", table)
    (folder / "figures" / "means.csv").write_bytes((folder / "tables" / "means.csv").read_bytes())
    return folder


def test_nothing_of_a_stranger_s_steers_the_terminal(theirs, original, capsys):
    folder = marked("run", theirs)
    commands = [
        ["redraw", str(folder), "--formats", "html"],
        ["redraw", str(folder), "--only", ESCAPES],
        ["compare", str(folder), str(original / "run")],
        ["compare", str(original / "run"), str(folder)],
        ["rerun", str(folder), "--study", str(TOY), "--out", str(theirs / "again")],
        ["run", ESCAPES],
        ["run", str(TOY), "--set", f"{ESCAPES}=3"],
        ["run", str(TOY), "--set", f"groups={ESCAPES}", "--out", str(theirs / "new"), "--formats", "html"],
        ["run", "udhr", "--model", f"./{ESCAPES}"],
    ]
    for words in commands:
        main(words)
        for text in capsys.readouterr():
            assert not any(sign in text for sign in "\x1b\x9b\u202e\u2066\x07\x08\r\x7f"), words
            assert "owned" not in text or "⟪U+001B⟫" in text or "\\x1b" in text
    assert "⟪U+001B⟫" in str(wb.compare_runs(folder, original / "run"))
    with pytest.raises(errors.BadInput) as caught:
        wb.redraw(folder, only=(ESCAPES,), say=lambda _: None)
    assert "\x1b" not in str(caught.value)


def test_lines_of_a_run_are_passed_on_without_escapes(tmp_path):
    said = []
    wb.run_study(TOY, out=tmp_path / f"x{ESCAPES}y".replace("\r", ""), n=10, progress=False, formats=(), say=said.append)
    assert said
    assert not any("\x1b" in line for line in said)


def test_a_live_cell_of_a_table_is_inert_in_the_csv_and_itself_again(tmp_path):
    groups = ("=cmd|'/c calc'!A1", "@SUM(1)", "-0.5", "+x", "'=x", "plain")
    run = wb.run_study(TOY, out=tmp_path / "run", n=10, groups=groups, progress=False, formats=("html",))
    for name in ("tables/means.csv", "figures/means.csv"):
        seen = pd.read_csv(run.folder / name, keep_default_na=False)
        assert seen["group"].tolist() == ["'=cmd|'/c calc'!A1", "'@SUM(1)", "-0.5", "'+x", "''=x", "plain"]
        assert pd.api.types.is_float_dtype(seen["value"])
    assert Run.load(run.folder).tables["means"]["group"].tolist() == list(groups)
    again = wb.rerun(run.folder, study=TOY, out=tmp_path / "again", progress=False)
    assert again.agrees, str(again)
    found = wb.compare_runs(run.folder, tmp_path / "again")
    assert found.rows["row"].tolist() == [f"{g} · mean" for g in groups]
    wb.redraw(run.folder, out=tmp_path / "drawn", formats=("html",))
    assert (tmp_path / "drawn" / "tables" / "means.csv").read_bytes() == (run.folder / "tables" / "means.csv").read_bytes()
    assert main(["compare", str(run.folder), str(tmp_path / "again"), "--out", str(tmp_path / "new" / "all.csv")]) == 0
    assert not any(str(v).startswith("=") for v in pd.read_csv(tmp_path / "new" / "all.csv")["row"])
