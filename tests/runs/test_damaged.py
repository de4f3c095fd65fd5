"""Files that are damaged or were changed: what is cached is computed again, what is published is told by name; disks that are full."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.runs import Cache, Run, find
from workbench.runs.handle import handles

TOY = Path(__file__).parent / "toy" / "study.py"


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """A cache with nothing in it; no browser."""
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def calls(monkeypatch):
    """Which steps of the toy are computed."""
    out: list[str] = []
    monkeypatch.setitem(find(TOY).compute.__globals__, "CALLS", out)
    return out


def ran(out, **how):
    said: list[str] = []
    return wb.run_study(TOY, out=out, progress=False, **({"formats": ()} | how), say=said.append), said


def remade(path):
    """The digest that a well-meaning hand would write beside a changed file."""
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


# ------------------------------------------------------------------ what is cached


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path):
    table = pd.read_parquet(path)
    table.loc[0, "value"] = 0.123
    table.to_parquet(path)


def edited_with_a_new_digest(path):
    edited(path)
    remade(path)


def edited_without_a_digest(path):
    edited(path)
    path.with_suffix(".sha256").unlink()


def swapped(path):
    """Another step's table, whole, with its own digest."""
    other = next(p for p in path.parent.glob("*.parquet") if p != path)
    shutil.copy(other, path)
    shutil.copy(other.with_suffix(".sha256"), path.with_suffix(".sha256"))


def a_folder(path):
    path.unlink()
    (path / "x").mkdir(parents=True)


def a_link(path):
    """To a file that somebody else writes."""
    shutil.copy(path, path.parent.parent / "elsewhere.parquet")
    edited(path.parent.parent / "elsewhere.parquet")
    path.unlink()
    path.symlink_to(path.parent.parent / "elsewhere.parquet")


DAMAGE = {
    "cut off": half,
    "empty": lambda p: p.write_bytes(b""),
    "one byte more": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
    "no table": lambda p: p.write_bytes(b"PAR1 no table PAR1"),
    "another value": edited,
    "another value, its digest made anew": edited_with_a_new_digest,
    "another value, no digest": edited_without_a_digest,
    "another step's table": swapped,
    "a link": a_link,
    "digest emptied": lambda p: p.with_suffix(".sha256").write_text(""),
    "digest cut off": lambda p: half(p.with_suffix(".sha256")),
    "digest no text": lambda p: p.with_suffix(".sha256").write_bytes(b"\xff\xfe\0"),
    "digest a folder": lambda p: a_folder(p.with_suffix(".sha256")),
}


def last_table(cold):
    """The cached table of the last step."""
    (path,) = [p for p in (cold / "tables").glob("*.parquet") if "value" in pd.read_parquet(p)]
    return path


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_is_computed_again_and_that_is_said(damage, cold, calls, tmp_path):
    first, _ = ran(tmp_path / "one")
    calls.clear()
    damage(last_table(cold))
    second, said = ran(tmp_path / "two")
    assert calls == ["tell"]
    assert sum("tell: the cached table" in line and "computed anew" in line for line in said) == 1
    pd.testing.assert_frame_equal(first.tables["means"], second.tables["means"])
    calls.clear()
    assert all(s["cached"] for s in ran(tmp_path / "three")[0].record["steps"]), "it is mended"


@pytest.mark.parametrize("suffix", [".parquet", ".sha256"])
def test_a_single_flipped_bit_is_noticed_wherever_it_is(suffix, cold, tmp_path):
    first, _ = ran(tmp_path / "one")
    path, cache, rng = last_table(cold), Cache(cold), numpy_rng(0, "bits")
    data = path.with_suffix(suffix).read_bytes()
    for place in sorted({0, len(data) - 1, *rng.integers(0, len(data), 300).tolist()}):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(0, 8))
        path.with_suffix(suffix).write_bytes(bytes(flipped))
        with pytest.raises(errors.DamagedStore):
            cache.read(path)
    path.with_suffix(suffix).write_bytes(data)
    assert cache.read(path).round(5).equals(first.tables["means"].round(5))


def test_a_folder_in_the_place_of_a_table_gives_way(cold, calls, tmp_path):
    ran(tmp_path / "one")
    a_folder(last_table(cold))
    calls.clear()
    ran(tmp_path / "two")
    assert calls == ["tell"]


def reseal(change):
    def damage(folder):
        path = folder / "seal.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()), folder)))

    return damage


def another_number(folder):
    path = folder / "numbers.json"
    path.write_text(path.read_text().replace("0", "1", 1))


def with_its_own_digest(seal, folder):
    another_number(folder)
    seal["files"]["numbers.json"] = hashlib.sha256((folder / "numbers.json").read_bytes()).hexdigest()
    return seal


FOLDERS = {
    "another number": another_number,
    "another number, its digest made anew": reseal(with_its_own_digest),
    "a file more": lambda f: (f / "more.txt").write_text("x"),
    "a file less": lambda f: (f / "numbers.json").unlink(),
    "no seal": lambda f: (f / "seal.json").unlink(),
    "seal cut off": lambda f: half(f / "seal.json"),
    "seal a list": reseal(lambda seal, f: [seal]),
    "seal nothing": reseal(lambda seal, f: None),
    "seal without its digest": reseal(lambda seal, f: {"files": seal["files"]}),
    "seal of files only": reseal(lambda seal, f: seal["files"]),
    "seal nested without end": lambda f: (f / "seal.json").write_text("[" * 100_000),
    "seal a folder": lambda f: a_folder(f / "seal.json"),
    "seal no text": lambda f: (f / "seal.json").write_bytes(b"\xff\xfe\0"),
    "a file in its place": lambda f: (shutil.rmtree(f), f.write_text("x")),
    "a link in its place": lambda f: (f.rename(f.parent.parent / "elsewhere"), another_number(f.parent.parent / "elsewhere"), f.symlink_to(f.parent.parent / "elsewhere")),
}  # fmt: skip


@pytest.mark.parametrize("damage", FOLDERS.values(), ids=FOLDERS)
def test_a_damaged_folder_is_computed_again_and_that_is_said(damage, cold, calls, tmp_path):
    first, _ = ran(tmp_path / "one")
    calls.clear()
    (folder,) = (p for p in (cold / "folders").iterdir() if p.is_dir())
    damage(folder)
    second, said = ran(tmp_path / "two")
    assert calls == ["write"]
    if damage is not FOLDERS["a file in its place"]:  # then there is no folder
        assert sum("write: the cached folder" in line and "computed anew" in line for line in said) == 1
    assert (first.folder / "numbers" / "numbers.json").read_bytes() == (second.folder / "numbers" / "numbers.json").read_bytes()
    assert all(s["cached"] for s in ran(tmp_path / "three")[0].record["steps"])


def test_another_step_s_folder_is_not_taken_for_this_one(cold, calls, tmp_path):
    ran(tmp_path / "one")
    ran(tmp_path / "two", seed=1)
    one, two = sorted((p for p in (cold / "folders").iterdir() if p.is_dir()), key=lambda p: p.stat().st_ctime_ns)
    shutil.rmtree(one)
    shutil.copytree(two, one)
    calls.clear()
    again, said = ran(tmp_path / "three")
    assert calls == ["write"]
    assert any("computed anew" in line for line in said)
    assert json.loads((again.folder / "numbers" / "numbers.json").read_text()) == json.loads((tmp_path / "one" / "numbers" / "numbers.json").read_text())  # fmt: skip


@pytest.mark.parametrize("change", ["digest", "cut off", "list", "deep"])
def test_what_is_remembered_of_a_model_is_believed_only_as_it_was_written(change, cold):
    (first,) = handles({"model": "bundled"}, Cache(cold)).values()
    (path,) = (cold / "models").glob("*.json")
    text = path.read_text()
    assert first.info.digest in text
    path.write_text({"digest": text.replace(first.info.digest, "0" * len(first.info.digest)), "cut off": text[:50], "list": "[]", "deep": "[" * 100_000}[change])  # fmt: skip
    (again,) = handles({"model": "bundled"}, Cache(cold)).values()
    assert again.info == first.info
    assert again.loaded, "the model itself is asked"


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"[]\n", b'{"study": "toy"}\n', b'{"study": "toy", "step": ["draw"], "seconds": 1}\n', b'{"study": "toy", "step": "draw", "seconds": "x"}\n', b'{"study": "toy", "step": "draw", "seconds": 1, "size": []}\n', b'{"study": "toy", "step": "draw", "seconds": 1, "tokens": "many"}\n'],
)  # fmt: skip
def test_a_damaged_journal_ends_no_plan(line, cold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran(tmp_path / "one")
    with (cold / "journal.jsonl").open("ab") as handle:
        handle.write(line)
    plan = wb.plan(wb.Sweep(name="toy", study=str(TOY), settings={"n": 41}))
    assert plan["seconds"].notna().all()


# ------------------------------------------------------------------ what is published


@pytest.fixture
def published(cold, tmp_path):
    """A finished run of the toy, with its page."""
    return ran(tmp_path / "run", formats=("html",), groups=("a", "b", "c"))[0].folder


def changed_csv(path):
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[2] = "0.123"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


EDITS = {
    "a value": changed_csv,
    "a row less": lambda p: p.write_text("\n".join(p.read_text().splitlines()[:-1]) + "\n"),
    "a row twice": lambda p: p.write_text(p.read_text() + p.read_text().splitlines()[-1] + "\n"),
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:-12]),
    "header only": lambda p: p.write_text(p.read_text().splitlines()[0] + "\n"),
    "a space": lambda p: p.write_bytes(p.read_bytes() + b" \n"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_changed_table_is_told_by_name(edit, published, tmp_path, capsys):
    shutil.copytree(published, tmp_path / "theirs")
    edit(tmp_path / "theirs" / "tables" / "means.csv")
    assert Run.load(tmp_path / "theirs").altered == ("tables/means.csv",)
    sentence = "tables/means.csv in theirs: changed after the run wrote it"
    assert sentence in str(wb.compare_runs(published, tmp_path / "theirs")).splitlines()[0]
    assert sentence in wb.compare_runs(tmp_path / "theirs", published)._repr_html_()
    assert main(["compare", str(published), str(tmp_path / "theirs")]) == 0
    assert sentence in capsys.readouterr().out
    with pytest.warns(errors.AlteredRun, match=sentence):
        wb.redraw(tmp_path / "theirs", out=tmp_path / "drawn", formats=("html",))
    assert sentence in (tmp_path / "drawn" / "index.html").read_text()
    assert main(["redraw", str(tmp_path / "theirs"), "--formats", "html"]) == 0
    assert sentence in capsys.readouterr().err
    assert sentence in (tmp_path / "theirs" / "index.html").read_text()
    assert main(["rerun", str(tmp_path / "theirs"), "--study", str(TOY), "--out", str(tmp_path / "again")]) in (0, 1)
    assert sentence in capsys.readouterr().out
    assert Run.load(tmp_path / "drawn").altered == ("tables/means.csv",), "a copy that is drawn does not whitewash it"


@pytest.mark.parametrize("data", [None, b"", b"\n\n", b"\xff\xfe\0\0", b'a,"b\n1,2\n'])
def test_a_table_that_is_none_any_more_is_refused_by_name(data, published, tmp_path, capsys):
    path = published / "tables" / "means.csv"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    for words in (["redraw", str(published)], ["compare", str(published), str(published)], ["rerun", str(published), "--study", str(TOY)]):
        assert main(words) == 2
        assert "DamagedRun: means.csv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["figures/means.csv", "report.json"])
def test_changed_rows_or_words_of_a_figure_are_told_when_it_is_drawn_again(name, published, tmp_path):
    path = published / name
    path.write_text(path.read_text().replace("0.", "0.9", 1) if name.endswith("csv") else path.read_text().replace("drawn", "thrown"))
    with pytest.warns(errors.AlteredRun, match=f"{name} in run: changed after"):
        wb.redraw(published, out=tmp_path / "drawn", formats=("html",))


def test_a_digest_that_was_taken_away_or_made_anew(published):
    record = json.loads((published / "run.json").read_text())
    assert set(record["digests"]) == {"tables/means.csv", "figures/means.csv", "report.json"}
    for digests in ({}, {"tables/means.csv": ""}, record["digests"] | {"tables/means.csv": "0" * 64}):
        (published / "run.json").write_text(json.dumps(record | {"digests": digests}))
        assert "tables/means.csv" in Run.load(published).altered
    (published / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "digests"}))
    assert Run.load(published).altered == ("tables/means.csv",)


def test_what_was_not_changed_is_not_said_to_be(published, tmp_path):
    assert Run.load(published).altered == ()
    wb.redraw(published, out=tmp_path / "drawn", formats=("html",), theme="dark")
    assert Run.load(tmp_path / "drawn").altered == ()
    wb.redraw(published, formats=("html",), only=("means",))
    wb.redraw(published, formats=("html",))
    assert Run.load(published).altered == ()
    assert "changed after" not in str(wb.compare_runs(published, tmp_path / "drawn"))


def test_a_finished_cell_whose_table_was_changed_is_run_again(cold, tmp_path):
    said: list[str] = []
    sweep = wb.Sweep(name="toy", study=str(TOY), seeds=(0, 1), fast=True)
    first = wb.run_sweep(sweep, out=tmp_path / "sweep", progress=False, formats=())
    changed_csv(tmp_path / "sweep" / "cells" / "seed-1" / "run" / "tables" / "means.csv")
    second = wb.run_sweep(sweep, out=tmp_path / "sweep", progress=False, formats=(), say=said.append)
    pd.testing.assert_frame_equal(first.tables["means"], second.tables["means"])
    assert any("tables/means.csv in seed-1: changed after the run wrote it" in line and "run again" in line for line in said)


# ------------------------------------------------------------------ full and read-only disks


@pytest.fixture
def full(monkeypatch):
    """A disk without room for new files from a step on, as the system tells it."""

    def fill(step):
        globals_ = find(TOY).compute.__globals__
        pause = globals_["pause"]

        def no_room(self, *_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

        def then(settings, name):
            pause(settings, name)
            if name == step:
                monkeypatch.setattr(Path, "write_bytes", no_room)

        monkeypatch.setitem(globals_, "pause", then)

    return fill


@pytest.mark.parametrize("step", ["draw", "write", "tell"])
def test_a_full_disk_is_told_and_the_record_does_not_say_running(step, cold, full, tmp_path):
    full(step)
    with pytest.raises(errors.DiskFull, match=r"no room left to write in .*What was written before is whole.*--out and WORKBENCH_CACHE"):
        ran(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_what_was_written_before_a_disk_was_full_is_used_again(cold, calls, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        globals_ = find(TOY).compute.__globals__
        pause = globals_["pause"]

        def then(settings, name):
            pause(settings, name)
            if name == "tell":
                patch.setattr(pd.DataFrame, "to_parquet", no_room)

        patch.setitem(globals_, "pause", then)
        with pytest.raises(errors.DiskFull):
            ran(tmp_path / "run")
    assert calls == ["draw", "write", "tell"]
    assert ran(tmp_path / "run")[0].record["status"] == "finished"
    assert calls == ["draw", "write", "tell", "tell"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


LIMITED = """
import resource, sys
import workbench as wb
from workbench.core.errors import WorkbenchError
from workbench.runs import find
study = find(sys.argv[1])
pause = study.compute.__globals__["pause"]
def then(settings, step):
    pause(settings, step)
    if step == "write":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
study.compute.__globals__["pause"] = then
try:
    wb.run_study(study, out=sys.argv[2], progress=False, formats=(), n=4000)
except WorkbenchError as error:
    print(type(error).__name__, error)
"""


def test_a_limit_that_the_system_sets_itself(cold, tmp_path):
    """No patches: the kernel refuses to write beyond a size."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(TOY), str(tmp_path / "run")], capture_output=True, text=True)
    assert "DiskFull no room left to write in" in done.stdout, done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_record_with_a_second_name_is_not_written_over(cold, full, tmp_path):
    """Where it lies, a record is written over only if it is nobody else's file."""
    full("draw")
    globals_ = find(TOY).compute.__globals__
    inner = globals_["pause"]

    def linked(settings, name):
        os.link(tmp_path / "run" / "run.json", tmp_path / "elsewhere.json")
        inner(settings, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals_, "pause", linked)
        with pytest.raises(errors.DiskFull):
            ran(tmp_path / "run")
    assert json.loads((tmp_path / "elsewhere.json").read_text())["status"] == "running"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_cache_that_cannot_be_written_is_told(code, cold, tmp_path, monkeypatch):
    def refused(self, *_, **__):
        if str(cold) in str(self):
            raise OSError(code, os.strerror(code), str(self))
        return kept(self, *_, **__)

    kept = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(errors.OutputFolder, match=r"cache cannot be written .*WORKBENCH_CACHE"):
        ran(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("where", ["run", "run/deeper/still"])
def test_an_output_folder_without_rights_is_told_before_anything_is_computed(where, cold, calls, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "run")  # rights do not bind the administrator
    assert main(["run", str(TOY), "--out", str(tmp_path / where), "--quiet"]) == 2
    assert re.search(r"OutputFolder: .*run\S* cannot be written \(no right to write there.*--out", capsys.readouterr().err)
    assert calls == []


@pytest.mark.parametrize("where", ["file/run", "file", "x" * 300])
def test_an_output_folder_that_cannot_be_one(where, cold, calls, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for words in (["run", str(TOY), "--quiet"], ["run", str(sweep_file(tmp_path)), "--quiet"]):
        assert main([*words, "--out", str(tmp_path / where)]) == 2
        assert "OutputFolder" in capsys.readouterr().err
    assert calls == []
    assert (tmp_path / "file").read_text() == "mine"


def sweep_file(folder):
    path = folder / "sweep-of-toys.toml"
    path.write_text(f'name = "toys"\nstudy = "{TOY}"\nseeds = [0, 1]\nfast = true\n')
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_on_a_full_disk_stops_with_one_error(workers, cold, tmp_path):
    """The system's own limit again, for the workers as well."""
    code = (
        "import resource, sys; from workbench.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", str(sweep_file(tmp_path)), "--out", str(tmp_path / "sweep"), "--quiet", "--workers", str(workers)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("workbench: DiskFull: no room left to write in")
    assert "Traceback" not in done.stderr


def test_redraw_on_a_full_disk(published, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Path, "write_bytes", no_room)
    assert main(["redraw", str(published), "--out", str(tmp_path / "drawn")]) == 2
    assert "workbench: DiskFull: no room left to write" in capsys.readouterr().err
