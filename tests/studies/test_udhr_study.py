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
    both = run.tables["says_and_knows"].query("metric == 'auroc' and condition == 'harm'")
    assert set(both["form"]) == {"since_claim", "consider_claim"}
    for _, harm in both.set_index("what").groupby("form"):
        assert harm.filter(like="says", axis=0)["high"].iloc[0] < 0.5
        assert harm.filter(like="CCS", axis=0)["low"].iloc[0] > 0.75
    words = run.tables["verdicts"].query("method == 'logistic'").set_index("claim")["verdict"]
    assert set(words["harm"]) == {"kept and not said"}
    assert set(words["good"]) == {"kept and said"}
    assert "Harm claim: kept and not said." in " ".join(run.findings)
    assert not run.findings[0].startswith("Mind")
    table = run.tables["probes"]
    blank = table[(table["control"] == "untrained_model") & (table["metric"] == "accuracy") & (table["against"] == "label")]
    assert (blank["low"] < 0.6).all()


def test_words_and_figure_follow_what_random_directions_read(run):
    layer = run.tables["says_and_knows"]["layer"].max()
    null = run.tables["readings"].query("control == 'random_directions' and fit == form and claim == 'harm'")
    null = null[null["layer"] == layer].set_index("form")
    drawn = pd.read_csv(run.folder / "figures" / "says_and_knows-null.csv").set_index(["form", "condition"])
    for form in null.index:
        assert drawn.loc[(form, "harm"), "high"] == pytest.approx(null.loc[form, "high"], rel=1e-4)
    assert "random directions" in (run.folder / "figures" / "says_and_knows.txt").read_text()
    blind = run.tables["unsupervised"].query("metric == 'accuracy' and against == 'label'")
    blind = blind[blind["layer"] == layer]
    assert {"ccs", "drc", "rrc", "polarity_ccs", "crc"} <= set(blind["method"])
    text = next(f for f in run.findings if f.startswith("Without labels:"))
    assert "CCS in closed form, ratio" in text
    no_more = 0
    for setting, rows in blind.groupby("setting"):
        top = rows.loc[rows["control"] == "random_directions", "high"].iloc[0]
        no_more += int(((rows["control"] == "") & ~((rows["value"] > top) & (rows["low"] > 0.5))).sum())
        assert setting in text
    assert text.count("no more than random directions read") == no_more


def test_where_truth_and_answer_hardly_part_it_is_said():
    from types import SimpleNamespace

    from workbench.studies.udhr.findings import parted

    for value, said in ((0.94, True), (0.5, False), (0.03, True)):
        assert ("hardly part" in parted(SimpleNamespace(value=value, low=value, high=value, n=9))) == said


def test_bias_and_discrimination_are_two_findings(run):
    table = run.tables["effects"].query("template == 'since_claim' and claim == 'harm'").set_index("metric")
    assert table.loc["auroc", "high"] < -0.5
    assert table.loc["yes", "low"] < 0 < table.loc["yes", "high"]
    text = " ".join(run.findings)
    assert "Discrimination: against the neutral sentence in the same place, the AUROC of the answers falls under" in text
    assert "Bias: the share of “yes” is not shown to change under" in text


def test_a_model_that_gives_one_word_is_told_so(tmp_path):
    """The numbers of a model that always says no, and orders nothing."""
    from types import SimpleNamespace

    from workbench.studies.udhr.findings import quiet

    rows = [
        {"template": t, "claim": c, "metric": m, "value": v, "low": v - 0.06, "high": v + 0.06, "n": 60}
        for t, c in (("base_short", "none"), ("since_claim", "neutral"), ("consider_claim", "neutral"))
        for m, v in (("auroc", 0.52), ("answered", 0.9), ("yes", 0.0))
    ]
    told = quiet(SimpleNamespace(tables={"says": pd.DataFrame(rows)}))
    assert told.startswith(
        "The model does not answer the question, as it is asked here: in base_short (no claim) the answers do not follow"
    )
    rows[0]["value"] = rows[3]["value"] = rows[6]["value"] = 0.9
    for row in (rows[0], rows[3], rows[6]):
        row["low"], row["high"] = 0.85, 0.95
    assert quiet(SimpleNamespace(tables={"says": pd.DataFrame(rows)})) == ""


def test_the_denied_are_found(run):
    table = run.tables["denied_recovery"].set_index("metric")
    assert table.loc["precision", "value"] >= 0.9
    assert table.loc["recall", "value"] >= 0.9


def test_on_real_foreign_weights_that_cannot_answer(stories, tmp_path):
    run = wb.run_study("udhr", model=stories, out=tmp_path / "run", progress=False, **SMALL)
    assert run.findings[0].startswith("Mind: The model does not answer the question, as it is asked here")
    assert "kept and not said" not in " ".join(run.findings)
    assert "The model does not answer" in run.report.read_text()
    assert set(run.tables["verdicts"]["verdict"]) <= {"model does not answer", "cannot be told"}


def test_on_a_tiny_random_gemma(gemma_folder, tmp_path):
    run = wb.run_study("udhr", model=str(gemma_folder), out=tmp_path / "run", progress=False, **SMALL)
    assert not set(run.tables["verdicts"]["verdict"]) & {"kept and not said", "kept and said", "erased"}
    assert run.report.is_file()
    assert run.tables["elicitation"]["form"].nunique() >= 3
    assert run.findings[0].startswith("Mind") or run.findings[1].startswith("Asked:")
    assert "denied_recovery" not in run.tables, "nothing was planted"


def test_each_form_shows_the_same_statements_and_sentences_of_its_own(organism, tmp_path):
    from workbench.runs import Cache, Run, Steps, find
    from workbench.runs.handle import handles
    from workbench.studies.udhr.study import Udhr, UdhrSettings

    models, settings = handles({"model": organism}, Cache(tmp_path)), UdhrSettings()
    study = Udhr(models, settings, Steps(Run(tmp_path, {"steps": []}), find("udhr"), settings, models))
    one, two = (study._under(form, "harm").to_frame() for form in ("since_claim", "consider_claim"))
    assert (one["statement"] == two["statement"]).all()
    assert set(one["template"]) == {"since_claim"}
    assert one["phrasing"].nunique() == 5
    held = study.split.side(one)
    assert set(held) == {"test"}


def test_bad_input_before_any_forward(organism, tmp_path, monkeypatch):
    from workbench.models import forward

    monkeypatch.setattr(forward, "run", lambda *a, **k: pytest.fail("a forward pass was run"))
    with pytest.raises(errors.UnknownStudy, match="Did you mean 'udhr'"):
        wb.run_study("udhrr")
    with pytest.raises(errors.UnknownClaim, match="Did you mean 'harm'"):
        wb.run_study("udhr", model=organism, out=tmp_path / "a", claims=("harmm",))
    with pytest.raises(errors.BadInput, match=r"has no setting epochs; it has: chat, system, .*behaviour"):
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


def test_the_answer_by_layer_is_that_of_the_lens_that_was_asked_for_and_stands_beside_the_truth():
    from workbench.studies.udhr.answer_layers import answer_and_truth, by_lens

    cell = {"form": "since_claim", "condition": "harm", "layer": 1, "low": 0.1, "high": 0.9, "n": 9, "metric": "auroc"}
    lens = pd.DataFrame(
        [
            cell | {"lens": "tuned lens", "control": "", "value": 0.2},
            cell | {"lens": "tuned lens", "control": "shuffled labels", "value": 0.5},
            cell | {"lens": "logit lens", "control": "", "value": 0.6},
            cell | {"lens": "tuned lens", "control": "", "value": 0.3, "form": "base_short", "condition": "no claim"},
        ]
    )
    assert by_lens(lens, metric="auroc")["value"].tolist() == [0.2, 0.3]
    read = {
        "form": "since_claim",
        "claim": "harm",
        "layer": 1,
        "metric": "auroc",
        "low": 0.8,
        "high": 1.0,
        "n": 9,
        "minus": "",
        "control": "",
    }
    readings = pd.DataFrame(
        [
            read | {"reading": "same form", "method": "logistic", "value": 0.95},
            read | {"reading": "other form", "method": "logistic", "value": 0.4},
            read | {"reading": "same form", "method": "ccs", "value": 0.7},
        ]
    )
    both = answer_and_truth(lens, readings).set_index("line")["value"].to_dict()
    assert both == {"truth, read by a probe": 0.95, "answer, tuned lens": 0.2, "answer, logit lens": 0.6, "shuffled labels": 0.5}
