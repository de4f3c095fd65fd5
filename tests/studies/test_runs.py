"""Runs as documents: statements of one's own, drawn again, run again, compared."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.studies import Run, captions_of
from workbench.studies.render import load_document

HOW = {"progress": False, "claims": ("harm", "partial"), "train": 80, "test": 60, "behaviour": 20, "rights_per_identity": 2, "resamples": 30, "ccs_epochs": 80}  # fmt: skip


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.studies.render.browser", lambda: None)


def table(rights=8, people=24):
    """Statements as a user would bring them: other column names, other order, some of each kind about everybody."""
    some = wb.prompts.udhr(
        n=None, identities=[i.identity for i in wb.prompts.identities()[:people]], rights=[r.right for r in wb.prompts.rights()[:rights]]
    ).to_frame()
    some = some.sample(frac=1.0, random_state=3)
    return pd.DataFrame(
        {"text": some["statement"], "is_true": np.where(some["label"], "yes", "no"), "about": some["identity"]}
    ).reset_index(drop=True)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(organism, mine, tmp_path_factory):
    """The UDHR study on statements of one's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.studies.render.browser", lambda: None)
        return wb.run_study(
            # a cache of its own: how items are packed into passes decides last digits, and with few items a digit can turn an answer
            "udhr", model="bundled", out=tmp_path_factory.mktemp("runs") / "mine", data=str(mine), cache=tmp_path_factory.mktemp("cache"),
            columns={"statement": "text", "label": "is_true", "identity": "about"}, **HOW,
        )  # fmt: skip


# ------------------------------------------------------------------ statements of one's own


def test_the_finding_on_statements_of_ones_own(run):
    both = run.tables["says_and_knows"].set_index(["condition", "what"])["value"]
    assert both.loc[("harm", "says: share of safe answers")] < 0.2
    assert both.loc[("no claim", "says: share of safe answers")] > 0.8
    assert both.loc[("harm", "knows: logistic probe")] > 0.9
    assert "mine (own statements)" in run.report.read_text()
    assert "about 24 identities" in run.report.read_text()
    names = {p["name"] for p in json.loads((run.folder / "report.json").read_text())["panels"]}
    assert {"says_and_knows", "layers", "truth_or_answer", "denied"} <= names
    assert "would_you_rather" not in set(run.tables["behaviour"]["template"])


def test_no_identity_and_no_statement_is_on_both_sides(mine):
    source = wb.prompts.own_statements(mine, {"statement": "text", "label": "is_true", "identity": "about"})
    split = wb.grouped_split(source.rows(), test=0.35, seed=0)
    sides = {
        side: source.prompts("base_short", None, n=None, answers=("no", "yes"), seed=0, held={k: sorted(v) for k, v in getattr(split, side).items()})
        for side in ("train", "test")
    }  # fmt: skip
    seen = {side: p.to_frame() for side, p in sides.items()}
    assert len(seen["train"]) + len(seen["test"]) == len(table())
    for column in ("identity", "statement"):
        assert not set(seen["train"][column]) & set(seen["test"][column])
    few = source.prompts("base_short", None, n=20, answers=("no", "yes"), seed=0, held={k: sorted(v) for k, v in split.train.items()})
    assert len(few) == 20
    assert sum(few.labels) == 10, "both labels are drawn alike"
    assert set(few.to_frame()["statement"]) <= set(seen["train"]["statement"])


def test_without_identities_each_row_is_its_own(mine, organism, tmp_path):
    plain = tmp_path / "plain.csv"
    table(rights=4, people=20).drop(columns="about").to_csv(plain, index=False)
    more = {"data": str(plain), "columns": {"statement": "text", "label": "is_true"}}
    got = wb.run_study("udhr", model=organism, out=tmp_path / "run", **(HOW | more))
    assert "each a cluster of its own" in got.report.read_text()
    assert "denied_identities" not in got.tables
    assert not any(f.startswith(("Who is denied", "About whom")) for f in got.findings)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop(columns="text"), errors.MissingColumn, "no column 'text'"),
        (lambda t: t.head(20), errors.BadInput, "64 at least"),
        (lambda t: t.assign(is_true="maybe"), errors.BadInput, "a label is 0/1, true/false or yes/no, got 'maybe'"),
        (lambda t: t.assign(is_true="yes"), errors.OneClass, "every label is 1"),
        (lambda t: pd.concat([t, t.head(1)]), errors.BadInput, "stands there twice"),
        (lambda t: t.assign(text=[" ", *t["text"][1:]]), errors.BadInput, "row 0 has no statement"),
        (lambda t: t.assign(about=["", *t["about"][1:]]), errors.MissingColumn, "row 0 has no identity"),
        (lambda t: t.assign(about=["one", *(["two"] * (len(t) - 1))]), errors.BadInput, "statements labelled"),
    ],
)
def test_a_table_that_will_not_do_says_why(change, error, message, organism, tmp_path):
    change(table()).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(error, match=message):
        wb.run_study(
            "udhr", model=organism, out=tmp_path / "run", data=str(tmp_path / "bad.csv"),
            columns={"statement": "text", "label": "is_true", "identity": "about"}, **HOW,
        )  # fmt: skip


def test_unknown_fields_and_datasets(mine):
    with pytest.raises(errors.BadInput, match="no field 'sentence'"):
        wb.prompts.own_statements(mine, {"sentence": "text"})
    with pytest.raises(errors.BadInput, match="no dataset 'rights'"):
        wb.prompts.statements("rights")
    assert main(["run", "udhr", "--data", str(mine), "--columns", "statement"]) == 2


# ------------------------------------------------------------------ drawn again


def test_every_figure_is_redrawn_from_its_csv_exactly(run, tmp_path):
    first = {p.stem: p.read_text() for p in (run.folder / "figures").glob("*.html")}
    wb.redraw(run.folder, out=tmp_path / "again", formats=("html",))
    _, _, panels = load_document(run.folder)
    _, _, again = load_document_of(tmp_path / "again", run)
    assert len(panels) >= 5
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
    assert (tmp_path / "x" / "tables" / "says_and_knows.csv").is_file()


def test_other_words(run, tmp_path, capsys):
    assert main(["redraw", str(run.folder), "--write-captions", str(tmp_path / "words.toml")]) == 0
    text = (tmp_path / "words.toml").read_text()
    assert text == captions_of(run.folder)
    text = text.replace('"no claim" = "no claim"', '"no claim" = "ohne Behauptung"').replace('"share of held-out items" = "share of held-out items"', '"share of held-out items" = "Anteil"')  # fmt: skip
    text = text.replace('"title" = "What the model says, and what it knows inside"', '"title" = "Was es sagt und weiß"')
    (tmp_path / "words.toml").write_text(text)
    wb.redraw(run.folder, out=tmp_path / "de", captions=tmp_path / "words.toml", formats=("html",))
    page = (tmp_path / "de" / "index.html").read_text()
    assert "Was es sagt und weiß" in page
    figure = (tmp_path / "de" / "figures" / "says_and_knows.html").read_text()
    assert "Anteil" in figure
    assert "ohne Behauptung" in figure
    assert "What the model says, and what it knows inside" not in figure


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"theme": "sepia"}, "theme 'sepia': there are light, dark"),
        ({"formats": ("gif",)}, "format 'gif'"),
        ({"only": ("nothing",)}, "no figure 'nothing'"),
        ({"captions": {"figure": {}}}, r"no section \[figure\]"),
        ({"captions": {"figures": {"nothing": {}}}}, "no figure 'nothing'"),
        ({"captions": {"figures": {"layers": {"titel": "x"}}}}, "not 'titel'"),
        ({"captions": {"report": {"Title": "x"}}}, "not 'Title'"),
        ({"captions": "nowhere.toml"}, "no captions file"),
        ({"captions": {"labels": {"chanse": "x"}}}, "did you mean 'chance'"),
        ({"captions": {"labels": ["a"]}}, "labels is a section"),
        ({"captions": {"report": {"findings": ["one"]}}}, "1 texts for"),
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


def test_a_run_is_run_again_from_its_own_folder(run, mine, tmp_path, monkeypatch, capsys):
    mine.rename(mine.with_suffix(".gone"))  # the run has its own copy
    try:
        found = wb.rerun(run.folder, out=tmp_path / "again", progress=False)
        assert found.agrees, str(found)
        assert found.table["numbers"].sum() > 500
        assert not any(s["cached"] for s in json.loads((tmp_path / "again" / "run.json").read_text())["steps"]), (
            "nothing comes from the cache"
        )
        path = run.folder / "tables" / "says_and_knows.csv"
        before = path.read_text()
        rows = pd.read_csv(path)
        rows["value"] = rows["value"] + 0.05 * (rows.index == 2)
        rows.to_csv(path, index=False)
        assert main(["rerun", str(run.folder), "--out", str(tmp_path / "third")]) == 1
        path.write_text(before)
        out = capsys.readouterr().out
        assert "NOT every number agrees" in out
    finally:
        mine.with_suffix(".gone").rename(mine)


def test_rerun_refuses_other_weights_and_nameless_models(run, organism, tmp_path):
    with pytest.raises(errors.WrongModel, match="other weights"):
        wb.rerun(run.folder, model="udhr-organism-no-verdict", out=tmp_path / "x")
    record = json.loads((run.folder / "run.json").read_text())
    copy = tmp_path / "nameless"
    copy.mkdir()
    (copy / "tables").symlink_to(run.folder / "tables")
    (copy / "run.json").write_text(json.dumps(record | {"given": None}))
    with pytest.raises(errors.BadInput, match="made from a loaded model"):
        wb.rerun(copy, out=tmp_path / "y")
    (copy / "run.json").write_text(json.dumps(record | {"study": "sweep x"}))
    with pytest.raises(errors.DamagedRun, match="this is a sweep"):
        wb.rerun(copy)


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
        rows = [(0, "a", "ece", 0.1 + shift, 0.05 + shift, 0.15 + shift, 50), (0, "a", "accuracy", 0.6 + shift / 2, 0.55 + shift / 2, 0.65 + shift / 2, 50)]  # fmt: skip
        pd.DataFrame(rows, columns=["layer", "method", "metric", "value", "low", "high", "n"]).to_csv(
            folder / "tables" / "t.csv", index=False
        )
        head = pd.DataFrame({"condition": ["harm"], "what": ["says"], "value": [0.5], "low": [0.4], "high": [0.6], "n": [50]})
        head.to_csv(folder / "tables" / "says_and_knows.csv", index=False)
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"tables": ["t", "says_and_knows"]}))
    found = wb.compare_runs(one, two)
    assert found.changed["metric"].tolist() == ["accuracy", "ece"], "the larger difference is of calibration"
    lines = str(found).splitlines()
    assert [next(i for i, line in enumerate(lines) if word in line) for word in ("set otherwise", ": same", "numbers in both", "accuracy", "ece")] == [0, 1, 2, 4, 5]  # fmt: skip
    assert "says" in found._repr_html_()


def test_a_run_does_not_differ_from_itself(run):
    found = wb.compare_runs(run.folder, run.folder)
    assert len(found.rows) > 100
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
    import shutil

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


def test_rerun_needs_something_to_agree_with_and_the_table_as_it_was(run, tmp_path):
    folder = copied(run, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    (folder / "inputs" / "mine.csv").write_text("text,is_true\n")
    with pytest.raises(errors.DamagedRun, match="as it was"):
        wb.rerun(folder)
    (folder / "run.json").write_text(json.dumps({**record, "study": "worker"}))
    with pytest.raises(errors.DamagedRun, match="which there is not"):
        wb.rerun(folder)


def test_one_figure_in_another_theme_does_not_stay_so(run, tmp_path):
    folder = copied(run, tmp_path / "run")
    page = folder / "figures" / "says_and_knows.html"
    before = page.read_text()
    wb.redraw(folder, only=("says_and_knows",), theme="dark", formats=("html",))
    assert "#16181c" in page.read_text()
    wb.redraw(folder, formats=("html",))
    assert "#16181c" not in page.read_text()
    assert before.count("#ffffff") == page.read_text().count("#ffffff")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"text,is_true\n\xff\xfe,1\n", "is not UTF-8"),
        (b"", "cannot be read as csv"),
        (b'text,is_true\n"a,1\nb,2,3\n', "cannot be read as csv"),
    ],
)
def test_a_broken_file_is_called_so(text, message, tmp_path):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(errors.BadInput, match=message):
        wb.prompts.own_statements(tmp_path / "bad.csv", {"statement": "text", "label": "is_true"})
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(errors.BadInput, match="cannot be read as jsonl"):
        wb.prompts.read_table(tmp_path / "bad.jsonl")


def test_missing_names_are_missing_and_blanks_make_no_other_person():
    base = table(rights=4, people=20).rename(columns={"text": "statement", "is_true": "label", "about": "identity"})
    with pytest.raises(errors.MissingColumn, match="row 3 has no identity"):
        wb.prompts.own_statements(base.assign(identity=[None if i == 3 else v for i, v in enumerate(base["identity"])]))
    with pytest.raises(errors.BadInput, match="row 3 has no statement"):
        wb.prompts.own_statements(base.assign(statement=[None if i == 3 else v for i, v in enumerate(base["statement"])]))
    padded = base.assign(identity=[f" {v} " if i % 2 else v for i, v in enumerate(base["identity"])])
    assert wb.prompts.own_statements(padded).frame["identity"].nunique() == 20
    with pytest.raises(errors.BadInput, match="stands there twice"):
        wb.prompts.own_statements(pd.concat([base, base.head(1).assign(statement=base["statement"].iloc[0].upper())]))
    marked = wb.prompts.from_table(pd.DataFrame({"stem": ["a"], "label": [1], "negative": [" no"], "positive": [" yes"]}))
    assert marked[0].positive == " yes", "blanks of an ending are part of its token"


# ------------------------------------------------------------------ what a newcomer stumbled over


def test_statements_whose_words_give_the_label_away_are_called_so(organism, mine, tmp_path):
    people = [i.identity for i in wb.prompts.identities()[:30]]
    rows = [
        (f"{p} have {word} right to rest at {place}.", label, p)
        for p in people
        for word, label in (("the", 1), ("no", 0))
        for place in ("home", "work")
    ]
    pd.DataFrame(rows, columns=["statement", "label", "identity"]).to_csv(tmp_path / "away.csv", index=False)
    got = wb.run_study("udhr", model=organism, out=tmp_path / "run", data=str(tmp_path / "away.csv"), **(HOW | {"resamples": 10}))
    warning = json.loads((tmp_path / "run" / "report.json").read_text())["warning"]
    assert "may be the wording" in warning
    assert any("But: A bag of words" in f for f in got.findings)
    assert not any("carries the other" in f for f in got.findings)
    page = got.report.read_text()
    assert "identities are held out; intervals are as wide" in page
    assert "38 rights" not in page
    assert "Nobody should have rights and freedoms." in page, "the claims stand in the report"
    with pytest.raises(errors.OutputFolder, match="other statements"):
        wb.run_study("udhr", model=organism, out=tmp_path / "run", **HOW)
    with pytest.raises(errors.OutputFolder, match="of the model 'udhr-organism'"):
        wb.run_study("udhr", model="udhr-organism-no-verdict", data=str(tmp_path / "away.csv"), out=tmp_path / "run", **HOW)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("text;is_true\na;1\n", {"statement": "text"}, "separated by ';'"),
        ("text,is_true\na,1\n", {"text": "statement", "is_true": "label"}, "The field comes first: label=is_true"),
        ("text,is_true\na,1\n", {"statement": "text"}, "--columns label="),
    ],
)
def test_hints_for_tables(text, columns, message, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.studies.start.load_model", lambda *_: pytest.fail("a model was loaded"))
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(errors.BadInput, match=message):
        wb.run_study("udhr", data=str(tmp_path / "t.csv"), columns=columns, out=tmp_path / "run")
    with pytest.raises(errors.BadInput, match=r"no file 'my.tml'"):
        wb.run_study("my.tml")
