"""Runs as documents, on the toy study: drawn again, run again, compared; a stranger's folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.runs import Run, captions_of
from workbench.runs.render import load_document

TOY = Path(__file__).parent / "toy" / "study.py"


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The user's own file."""
    path = tmp_path_factory.mktemp("data") / "mine.txt"
    path.write_text("0.5")
    return path


@pytest.fixture(scope="module")
def run(mine, tmp_path_factory):
    """The toy on a file of one's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.runs.render.browser", lambda: None)
        return wb.run_study(TOY, out=tmp_path_factory.mktemp("runs") / "mine", data=str(mine), groups=("a", "b", "c"), progress=False)


# ------------------------------------------------------------------ drawn again


def test_every_figure_is_redrawn_from_its_csv_exactly(run, tmp_path):
    first = {p.stem: p.read_text() for p in (run.folder / "figures").glob("*.html")}
    wb.redraw(run.folder, out=tmp_path / "again", formats=("html",))
    _, _, panels = load_document(run.folder)
    _, _, again = load_document_of(tmp_path / "again", run)
    assert len(panels) >= 1
    for one, two in zip(panels, again, strict=True):
        assert one.figure.to_json() == two.figure.to_json()
    assert set(first) == {p.stem for p in (tmp_path / "again" / "figures").glob("*.html")}
    for panel in panels:  # the csv beside a figure is what it shows: change it, and the figure changes
        path = run.folder / "figures" / f"{panel.name}.csv"
        before = path.read_text()
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
        rows.assign(value=rows["value"] / 2).to_csv(path, index=False)
        _, _, changed = load_document(run.folder)
        path.write_text(before)
        assert next(p for p in changed if p.name == panel.name).figure.to_json() != panel.figure.to_json()


def load_document_of(folder, run):
    """A redrawn folder has figures and tables, but is not a run: read its csv with the run's document."""
    for name in ("run.json", "report.json"):
        (folder / name).write_text((run.folder / name).read_text())
    return load_document(folder)


def test_redraw_needs_neither_torch_nor_a_model(run, tmp_path):
    code = (
        "import sys; from workbench.cli import main; "
        f"rc = main(['redraw', {str(run.folder)!r}, '--out', {str(tmp_path / 'x')!r}, '--formats', 'html', '--theme', 'dark']); "
        "print(rc, [m for m in ('torch', 'transformer_lens', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("0 []")
    page = (tmp_path / "x" / "index.html").read_text()
    assert 'data-theme="dark"' in page
    assert (tmp_path / "x" / "tables" / "means.csv").is_file()


def test_other_words(run, tmp_path, capsys):
    assert main(["redraw", str(run.folder), "--write-captions", str(tmp_path / "words.toml")]) == 0
    text = (tmp_path / "words.toml").read_text()
    assert text == captions_of(run.folder)
    title = "What is the mean of numbers that were drawn?"
    text = text.replace('"a" = "a"', '"a" = "erste Gruppe"').replace('"mean" = "mean"', '"mean" = "Mittelwert"')
    text = text.replace(f'"title" = "{title}"', '"title" = "Mittelwerte gezogener Zahlen"')
    (tmp_path / "words.toml").write_text(text)
    wb.redraw(run.folder, out=tmp_path / "de", captions=tmp_path / "words.toml", formats=("html",))
    page = (tmp_path / "de" / "index.html").read_text()
    assert "Mittelwerte gezogener Zahlen" in page
    figure = (tmp_path / "de" / "figures" / "means.html").read_text()
    assert "Mittelwert" in figure
    assert "erste Gruppe" in figure
    assert title not in figure


def test_figures_share_one_copy_of_the_library_or_carry_their_own(run, tmp_path):
    folder = copied(run, tmp_path / "run")
    page, library = folder / "figures" / "means.html", folder / "figures" / "plotly.min.js"
    assert library.stat().st_size > 1e6
    assert page.stat().st_size < 1e5
    assert 'src="plotly.min.js"' in page.read_text()
    wb.redraw(folder, single_file=True, formats=("html",))
    assert page.stat().st_size > 1e6
    library.unlink()
    wb.redraw(folder, formats=("html",))
    assert page.stat().st_size < 1e5
    assert library.is_file(), "a page without its library is blank"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"theme": "sepia"}, "theme 'sepia': there are light, dark"),
        ({"formats": ("gif",)}, "format 'gif'"),
        ({"only": ("nothing",)}, "no figure 'nothing'"),
        ({"captions": {"figure": {}}}, r"no section \[figure\]"),
        ({"captions": {"figures": {"nothing": {}}}}, "no figure 'nothing'"),
        ({"captions": {"figures": {"means": {"titel": "x"}}}}, "not 'titel'"),
        ({"captions": {"report": {"Title": "x"}}}, "not 'Title'"),
        ({"captions": "nowhere.toml"}, "no captions file"),
        ({"captions": {"labels": {"meen": "x"}}}, "did you mean 'mean'"),
        ({"captions": {"labels": ["a"]}}, "labels is a section"),
        ({"captions": {"report": {"findings": ["one"]}}}, "1 texts for 3"),
        ({"captions": {"report": {"title": 5}}}, "title = 5: a text"),
    ],
)
def test_redraw_says_what_is_wrong(how, message, run):
    with pytest.raises(errors.BadInput, match=message):
        wb.redraw(run.folder, **how)


def test_a_folder_that_is_no_run(tmp_path, run, capsys):
    with pytest.raises(errors.DamagedRun, match=r"no readable run.json"):
        wb.redraw(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(errors.DamagedRun, match="newer version"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"status": "stopped", "study": "udhr"}))
    with pytest.raises(errors.DamagedRun, match="is stopped"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text((run.folder / "run.json").read_text())
    with pytest.raises(errors.DamagedRun, match=r"\.csv is missing"):
        Run.load(tmp_path)
    assert main(["compare", str(tmp_path), str(run.folder)]) == 2
    assert "is missing" in capsys.readouterr().err


# ------------------------------------------------------------------ run again


def test_a_run_is_run_again_from_its_own_folder(run, mine, tmp_path, capsys):
    folder = copied(run, tmp_path / "run")
    mine.rename(mine.with_suffix(".gone"))  # the run has its own copy
    try:
        again = wb.rerun(folder, study=TOY, out=tmp_path / "again", progress=False)
    finally:
        mine.with_suffix(".gone").rename(mine)
    assert again.agrees, str(again)
    assert again.table["numbers"].sum() == 18
    steps = json.loads((tmp_path / "again" / "run.json").read_text())["steps"]
    assert not any(s["cached"] for s in steps), "nothing comes from the cache"
    path = folder / "tables" / "means.csv"
    rows = pd.read_csv(path)
    rows.assign(value=rows["value"] + 0.05 * (rows.index == 2)).to_csv(path, index=False)
    assert main(["rerun", str(folder), "--study", str(TOY), "--out", str(tmp_path / "third")]) == 1
    assert "NOT every number agrees" in capsys.readouterr().out


def test_rerun_refuses_what_it_cannot_trust(run, tmp_path):
    folder = copied(run, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    with pytest.raises(errors.BadInput, match="'toy', which is not installed: give its file, with --study"):
        wb.rerun(folder, out=tmp_path / "x")
    with pytest.raises(errors.BadInput, match="not of 'reading'"):
        wb.rerun(folder, study="reading", out=tmp_path / "x")
    (folder / "run.json").write_text(json.dumps(record | {"study": "sweep x"}))
    with pytest.raises(errors.DamagedRun, match="this is a sweep"):
        wb.rerun(folder)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "inputs" / "mine.txt").write_text("0.6")
    with pytest.raises(errors.DamagedRun, match="as it was"):
        wb.rerun(folder, study=TOY)


def test_rerun_needs_a_model_s_name_and_its_weights(tmp_path, organism):
    how = {"layers": (3,), "methods": ("mass_mean",), "claims": ("harm",), "train": 40, "test": 32, "resamples": 10, "progress": False}
    run = wb.run_study("reading", model=organism, out=tmp_path / "run", **how)
    assert run.record["models"]["model"]["given"] is None
    assert run.record["settings"]["model"]["name"] == "udhr-organism"
    with pytest.raises(errors.BadInput, match="made from a loaded model"):
        wb.rerun(run.folder, out=tmp_path / "y")
    with pytest.raises(errors.WrongModel, match="other weights"):
        wb.rerun(run.folder, model="udhr-organism-no-verdict", out=tmp_path / "x")
    assert wb.rerun(run.folder, model="bundled", out=tmp_path / "z", progress=False).agrees


# ------------------------------------------------------------------ compared


def planted(folder, values, **record):
    (folder / "tables").mkdir(parents=True)
    frame = pd.DataFrame(values, columns=["layer", "method", "metric", "value", "low", "high", "n"])
    frame.to_csv(folder / "tables" / "t.csv", index=False)
    facts = {"schema": 2, "study": "planted", "status": "finished", "tables": ["t"], "findings": [], "settings": {"train": 10}} | record
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_compare_lists_what_changed_beyond_the_intervals(tmp_path, capsys):
    one = planted(tmp_path / "one", [(0, "a", "accuracy", 0.9, 0.8, 0.95, 50), (1, "a", "accuracy", 0.9, 0.8, 0.95, 50), (2, "a", "cosine", 0.5, None, None, 50)])  # fmt: skip
    two = planted(tmp_path / "two", [(0, "a", "accuracy", 0.6, 0.5, 0.7, 50), (1, "a", "accuracy", 0.85, 0.75, 0.92, 50), (2, "a", "cosine", 0.1, None, None, 50), (3, "a", "accuracy", 0.5, 0.4, 0.6, 50)], settings={"train": 20})  # fmt: skip
    found = wb.compare_runs(one, two)
    assert found.rows["verdict"].tolist() == ["changed", "same", "no interval"]
    # by hand: -.3 -+ sqrt(.1^2 + .05^2) and sqrt(.1^2 + .1^2)
    first = found.rows.iloc[0]
    assert first["low"] == pytest.approx(-0.3 - np.hypot(0.1, 0.05))
    assert first["high"] == pytest.approx(-0.3 + np.hypot(0.1, 0.1))
    assert found.only["run"].tolist() == ["two"]
    assert found.settings.to_dict("records") == [{"what": "train", "first": 10, "second": 20}]
    assert main(["compare", str(one), str(two), "--out", str(tmp_path / "all.csv")]) == 0
    said = capsys.readouterr().out
    assert "1 changed beyond their intervals" in said
    assert "set otherwise: train: 10 -> 20" in said
    assert len(pd.read_csv(tmp_path / "all.csv")) == 3


def test_compare_begins_with_the_main_table_and_leaves_calibration_for_last(tmp_path):
    one, two = planted(tmp_path / "one", []), planted(tmp_path / "two", [], settings={"train": 20})
    for folder, shift in ((one, 0.0), (two, 0.3)):
        rows = [(0, "a", "calibration_error", 0.1 + shift, 0.05 + shift, 0.15 + shift, 50), (0, "a", "accuracy", 0.6 + shift / 2, 0.55 + shift / 2, 0.65 + shift / 2, 50)]  # fmt: skip
        pd.DataFrame(rows, columns=["layer", "method", "metric", "value", "low", "high", "n"]).to_csv(
            folder / "tables" / "t.csv", index=False
        )
        head = pd.DataFrame({"condition": ["harm"], "what": ["says"], "value": [0.5], "low": [0.4], "high": [0.6], "n": [50]})
        head.to_csv(folder / "tables" / "says_and_knows.csv", index=False)
        record = json.loads((folder / "run.json").read_text())
        more = {"tables": ["t", "says_and_knows"], "main": {"table": "says_and_knows"}}
        (folder / "run.json").write_text(json.dumps(record | more))
    found = wb.compare_runs(one, two)
    assert found.changed["metric"].tolist() == ["accuracy", "calibration_error"], "the larger difference is of calibration"
    lines = str(found).splitlines()
    assert [next(i for i, line in enumerate(lines) if word in line) for word in ("set otherwise", ": same", "numbers in both", "accuracy", "calibration_error")] == [0, 1, 2, 4, 5]  # fmt: skip
    assert "says" in found._repr_html_()


def test_a_run_does_not_differ_from_itself(run):
    found = wb.compare_runs(run.folder, run.folder)
    assert len(found.rows) == 3
    assert len(found.changed) == 0
    assert len(found.only) == 0


def test_runs_of_equal_worlds_seldom_differ_and_of_others_often(tmp_path):
    from workbench.core.seeds import numpy_rng
    from workbench.core.stats import wilson

    rng = numpy_rng(0, "compare")

    def rows(p, n=200, count=400):
        hits = rng.binomial(n, p, count)
        return [(i, "a", "accuracy", k / n, *wilson(int(k), n), n) for i, k in enumerate(hits)]

    null = wb.compare_runs(planted(tmp_path / "a", rows(0.7)), planted(tmp_path / "b", rows(0.7)))
    assert 0.02 < (null.rows["verdict"] == "changed").mean() < 0.09
    other = wb.compare_runs(tmp_path / "a", planted(tmp_path / "c", rows(0.85)))
    assert (other.rows["verdict"] == "changed").mean() > 0.85


def test_runs_without_a_common_table(run, tmp_path):
    with pytest.raises(errors.BadInput, match="no table in common"):
        wb.compare_runs(run.folder, planted(tmp_path / "one", []))


# ------------------------------------------------------------------ what a review found


def test_compare_sees_a_verdict_that_turned(tmp_path):
    frame = pd.DataFrame({"layer": [0, 1], "verdict": ["refused", "opposite"], "value": [0.66, -0.9], "low": [0.5, -1.0], "high": [0.8, -0.8], "n": [9, 9]})  # fmt: skip
    runs = []
    for name, change in (
        ("one", {}),
        ("two", {"verdict": ["opposite", "opposite"], "value": [-0.9, -0.9], "low": [-0.95, -1.0], "high": [-0.8, -0.8]}),
    ):
        folder = planted(tmp_path / name, [])
        frame.assign(**change).to_csv(folder / "tables" / "t.csv", index=False)
        runs.append(folder)
    found = wb.compare_runs(*runs)
    assert len(found.changed) == 1
    assert found.words[["column", "first", "second"]].to_numpy().tolist() == [["verdict", "refused", "opposite"]]
    assert "verdict: refused -> opposite" in str(found)
    assert len(found.only) == 0


def copied(run, folder):
    shutil.copytree(run.folder, folder)
    return folder


@pytest.mark.parametrize("name", ["../../evil", "/etc/x", "..", "a/b", ".hidden", ""])
def test_a_strangers_run_reads_and_writes_nothing_elsewhere(run, tmp_path, name):
    folder = copied(run, tmp_path / "theirs" / "run")
    document, record = (json.loads((folder / f).read_text()) for f in ("report.json", "run.json"))
    for change in ({"name": name}, {"table": name}, {"rows": [name]}):
        panels = [{**document["panels"][0], **change}]
        (folder / "report.json").write_text(json.dumps({**document, "panels": panels}))
        with pytest.raises(errors.DamagedRun, match="is not a name"):
            wb.redraw(folder, out=tmp_path / "out", formats=("html",))
    (folder / "report.json").write_text(json.dumps(document))
    (folder / "run.json").write_text(json.dumps({**record, "tables": [*record["tables"], name]}))
    with pytest.raises(errors.DamagedRun, match="is not a name"):
        wb.redraw(folder, out=tmp_path / "out", formats=("html",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("run.json", {"schema": "x"}), ("run.json", {"settings": []}), ("run.json", {"tables": "all"}), ("run.json", {"findings": [1]}),
        ("report.json", {"panels": [{}]}), ("report.json", {"panels": 3}), ("report.json", {"findings": [1]}), ("report.json", {"limits": [1]}),
    ],
)  # fmt: skip
def test_a_damaged_document_is_called_so(run, tmp_path, file, change):
    folder = copied(run, tmp_path / "run")
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **change}))
    with pytest.raises(errors.DamagedRun):
        wb.redraw(folder, formats=("html",))


def test_one_figure_in_another_theme_does_not_stay_so(run, tmp_path):
    folder = copied(run, tmp_path / "run")
    page = folder / "figures" / "means.html"
    before = page.read_text()
    wb.redraw(folder, only=("means",), theme="dark", formats=("html",))
    assert "#16181c" in page.read_text()
    wb.redraw(folder, formats=("html",))
    assert "#16181c" not in page.read_text()
    assert before.count("#ffffff") == page.read_text().count("#ffffff")


def test_what_a_row_is_about_is_declared(tmp_path):
    """A coefficient that validation chose is a result, where the study says so; else it names the row."""
    frame = pd.DataFrame({"direction": ["stance"], "coefficient": [1.0], "value": [0.5], "low": [0.4], "high": [0.6], "n": [50]})
    runs = []
    for name, change in (("one", {}), ("two", {"coefficient": 2.0, "value": 0.9, "low": 0.8, "high": 0.95})):
        folder = planted(tmp_path / name, [], columns={"t": {"about": ["direction"], "says": ["coefficient", "value", "low", "high", "n"]}})
        frame.assign(**change).to_csv(folder / "tables" / "t.csv", index=False)
        runs.append(folder)
    declared = wb.compare_runs(*runs)
    assert declared.rows["verdict"].tolist() == ["changed"]
    for folder in runs:
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "columns"}))
    assert len(wb.compare_runs(*runs).only) == 2


def test_a_figure_is_exported_by_name(run, tmp_path):
    _, _, panels = load_document(run.folder)
    with pytest.raises(errors.BadInput, match="figures go by name"):
        wb.figures.export(panels[0].figure, tmp_path)
    assert wb.figures.export({"one": panels[0].figure}, tmp_path, formats=("html",)) == [tmp_path / "one.html"]


def test_rows_about_different_things_are_not_compared(tmp_path):
    frame = pd.DataFrame({"group": ["a"], "kind": ["x"], "value": [0.5], "low": [0.4], "high": [0.6], "n": [50]})
    runs = []
    for name, about in (("one", ["group", "kind"]), ("two", ["group"])):
        folder = planted(tmp_path / name, [], columns={"t": {"about": about, "says": ["value", "low", "high", "n"]}})
        frame.to_csv(folder / "tables" / "t.csv", index=False)
        runs.append(folder)
    compared = wb.compare_runs(*runs)
    assert len(compared.rows) == 0
    assert "t (its rows are about other columns)" in str(compared)


def test_a_run_of_an_older_version_is_still_read(tmp_path):
    old = planted(tmp_path / "old", [(0, "a", "accuracy", 0.9, 0.8, 0.95, 50)], settings={"model": {"name": "m", "digest": "d"}}, given="m")
    assert Run.load(old).record["models"] == {"model": {"given": "m", "name": "m", "digest": "d"}}


@pytest.mark.parametrize("change", [{"columns": {"../x": {"about": [], "says": []}}}, {"folders": ["../x"]}])
def test_names_of_columns_and_folders_stay_inside(run, tmp_path, change):
    folder = copied(run, tmp_path / "run")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | change))
    with pytest.raises(errors.DamagedRun, match="is not a name"):
        Run.load(folder)


@pytest.mark.parametrize(
    "change",
    [{"models": []}, {"models": {"model": "x"}}, {"columns": {"means": []}}, {"columns": {"means": {"about": "x", "says": []}}}, {"steps": [1]}, {"study": 3}],
)  # fmt: skip
def test_a_record_that_is_none_is_called_so(run, tmp_path, change):
    folder = copied(run, tmp_path / "run")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | change))
    with pytest.raises(errors.DamagedRun, match="is not a record"):
        Run.load(folder)
