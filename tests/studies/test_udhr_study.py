"""The study end to end: its finding on the organism, on real foreign weights, on random weights; bad input."""

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.core import errors

SMALL = {
    "behaviour": 16,
    "train": 40,
    "test": 32,
    "rights_per_identity": 2,
    "resamples": 20,
    "ccs_epochs": 60,
    "claims": ("harm", "partial"),
}
LARGER = {
    "behaviour": 32,
    "train": 120,
    "test": 80,
    "rights_per_identity": 4,
    "resamples": 50,
    "claims": ("good", "neutral", "partial", "harm"),
}


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The study on the organism."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.runs.render.browser", lambda: None)
        return wb.run_study("udhr", out=tmp_path_factory.mktemp("runs") / "udhr", fast=True, progress=False, **LARGER)


def test_run_folder(run, documented):
    documented(run)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["models"]["model"]["name"] == "udhr-organism"
    assert record["versions"]["torch"]
    page = run.report.read_text()
    assert "What was found" in page
    assert 'src="http' not in page
    for name in ("says_and_knows", "behaviour", "layers", "denied"):
        assert (run.folder / "figures" / f"{name}.html").is_file()
        assert (run.folder / "figures" / f"{name}.csv").is_file()
    for name in record["tables"]:
        table = pd.read_csv(run.folder / "tables" / f"{name}.csv")
        assert {"value", "low", "high", "n"} <= set(table.columns)


def test_the_finding(run):
    both = run.tables["says_and_knows"]
    harm = both[both["condition"] == "harm"].set_index("what")
    assert harm.filter(like="says", axis=0)["high"].iloc[0] < 0.5
    assert harm.filter(like="CCS", axis=0)["low"].iloc[0] > 0.75
    assert "answers one way and carries the other" in " ".join(run.findings)
    table = run.tables["probes"]
    blank = table[(table["control"] == "untrained_model") & (table["metric"] == "accuracy") & (table["against"] == "label")]
    assert (blank["low"] < 0.6).all()


def test_words_and_figure_follow_what_random_directions_read(run):
    null = run.tables["probes"].query("control == 'random_directions' and metric == 'accuracy' and against == 'label'")
    layer = run.tables["says_and_knows"]["layer"].max()
    null = null[(null["layer"] == layer) & (null["condition"] == "harm")].iloc[0]
    ccs = run.tables["says_and_knows"].query("condition == 'harm' and what.str.startswith('knows: CCS')")["value"].iloc[0]
    knows = next(f for f in run.findings if f.startswith("Knows:"))
    assert ("CCS stands inside that range" in knows) == (null["low"] <= ccs <= null["high"])
    drawn = pd.read_csv(run.folder / "figures" / "says_and_knows-null.csv").set_index("condition")
    assert drawn.loc["harm", "high"] == pytest.approx(null["high"], rel=1e-4)
    assert "random directions" in (run.folder / "figures" / "says_and_knows.txt").read_text()


def test_where_truth_and_answer_hardly_part_it_is_said(run):
    from workbench.studies.udhr.report import _parted

    table = run.tables["says_and_knows"].copy()
    partial = (table["condition"] == "partial") & table["what"].str.startswith("says")
    for value, said in ((0.94, True), (0.5, False), (0.03, True)):
        table.loc[partial, "value"] = value
        assert ("hardly part" in _parted(table)) == said


def test_the_denied_are_found(run):
    table = run.tables["denied_recovery"].set_index("metric")
    assert table.loc["precision", "value"] >= 0.9
    assert table.loc["recall", "value"] >= 0.9


def test_on_real_foreign_weights_says_chance(stories, tmp_path):
    run = wb.run_study("udhr", model=stories, out=tmp_path / "run", progress=False, **SMALL)
    text = " ".join(run.findings)
    assert "chance" in text
    assert "carries the other" not in text
    assert "no single tokens for yes and no" in run.report.read_text()


def test_on_a_tiny_random_gemma(gemma_folder, tmp_path):
    run = wb.run_study("udhr", model=str(gemma_folder), out=tmp_path / "run", progress=False, **SMALL)
    assert "chance" in " ".join(run.findings)
    assert run.report.is_file()
    assert "denied_recovery" not in run.tables, "nothing was planted"


def test_the_form_of_the_prompt_does_not_go_with_the_identity(organism, tmp_path):
    from workbench.runs import Cache, Run, Steps, find
    from workbench.runs.handle import handles
    from workbench.studies.udhr.study import Udhr, UdhrSettings

    models, settings = handles({"model": organism}, Cache(tmp_path)), UdhrSettings()
    study = Udhr(models, settings, Steps(Run(tmp_path, {"steps": []}), find("udhr"), settings, models))
    frame = study._pushed("harm", 400, "test").to_frame()
    assert frame["template"].value_counts().min() > 150
    forms = frame.groupby("identity")["template"].nunique()
    assert (forms == 2).mean() > 0.6


def test_bad_input_before_any_forward(organism, tmp_path, monkeypatch):
    from workbench.models import forward

    monkeypatch.setattr(forward, "run", lambda *a, **k: pytest.fail("a forward pass was run"))
    with pytest.raises(errors.UnknownStudy, match="Did you mean 'udhr'"):
        wb.run_study("udhrr")
    with pytest.raises(errors.UnknownClaim, match="Did you mean 'harm'"):
        wb.run_study("udhr", model=organism, out=tmp_path / "a", claims=("harmm",))
    with pytest.raises(errors.BadInput, match="has no setting epochs; it has: behaviour"):
        wb.run_study("udhr", model=organism, out=tmp_path / "a", epochs=3)
    with pytest.raises(errors.BadInput, match="train: 16 items at least, got 2"):
        wb.run_study("udhr", model=organism, out=tmp_path / "a", train=2)
    with pytest.raises(errors.BadInput, match="rights_per_identity: 1 at least"):
        wb.run_study("udhr", model=organism, out=tmp_path / "a", rights_per_identity=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(errors.OutputFolder, match="mine holds something else"):
        wb.run_study("udhr", model=organism, out=tmp_path / "mine")
    (tmp_path / "mine" / "run.json").write_text('{"study": "geometry"}')
    with pytest.raises(errors.OutputFolder, match="not a record: status is missing"):
        wb.run_study("udhr", model=organism, out=tmp_path / "mine")
    (tmp_path / "mine" / "run.json").write_text('{"study": "geometry", "status": "done"}')
    with pytest.raises(errors.OutputFolder, match="a run of the study 'geometry'"):
        wb.run_study("udhr", model=organism, out=tmp_path / "mine")
    assert not (tmp_path / "a").exists()
