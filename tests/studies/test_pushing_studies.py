"""The steering, refusal, patching and CAA studies: findings, bad input."""

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.studies.caa.settings import CaaSettings


@pytest.fixture
def no_browser(monkeypatch):
    """Stills take seconds, and the UDHR study draws them."""
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


def check(run, figures, words):
    assert json.loads((run.folder / "run.json").read_text())["status"] == "finished"
    for name in figures:
        assert (run.folder / "figures" / f"{name}.html").is_file()
    text = " ".join(run.findings)
    for word in words:
        assert word in text, word
    assert "nan" not in text


def test_steering(tmp_path, no_browser, documented):
    small = {"fit": 48, "validation": 32, "test": 32, "layers": 2, "coefficients": (1.0, 2.0), "targets": (0.5,)}
    run = wb.run_study("steering", out=tmp_path / "run", fast=True, progress=False, **small)
    documented(run)
    check(
        run,
        ("dose_response", "choice", "places", "tax", "equal_cost", "placement"),
        ("Repair:", "Price:", "Gate:", "Reverse:", "Agree:", "Truth:", "Late:", "Items:", "Placement:"),
    )
    dose = run.tables["dose_response"]
    harm = dose[(dose["prompts"] == "harm claim") & (dose["metric"] == "safe_score") & (dose["method"] == "direction")]
    chosen = run.tables["choice"].query("chosen and direction == 'stance'")["coefficient"].iloc[0]
    best = harm[harm["coefficient"] == chosen].set_index("condition")["value"]
    assert best["grant"] >= 0.9
    assert best["deny"] >= 0.9
    assert harm[harm["coefficient"] == 0]["value"].max() <= 0.05


def test_refusal(tmp_path, no_browser, documented):
    run = wb.run_study("refusal", out=tmp_path / "run", progress=False, layers=2, optimise=2)
    documented(run)
    check(run, ("refusal",), ("Refusal undone:", "Refusal added:"))
    refusal = run.tables["refusal"].set_index(["edit", "metric"])["value"]
    assert refusal["ablate to the harmless mean", "harmful complied with"] >= 0.9
    assert refusal["add refusal", "harmless refused"] >= 0.9
    assert refusal["random: add", "harmless refused"] <= 0.2


def test_patching(tmp_path, no_browser, documented):
    run = wb.run_study(
        "patching", out=tmp_path / "run", fast=True, progress=False, items=10, heads=True, sites=("resid_pre", "resid_post"), layers=(0, 1)
    )
    documented(run)
    check(run, ("maps", "heads", "lines", "attribution"), ("Where:", "Needed:", "Heads: Head", "One line:", "Gradient:"))
    lines = run.tables["lines"].set_index(["line", "layer"])["value"]
    assert lines["stance", 0] >= 0.8 * lines["the whole stream", 0]
    assert abs(lines["agree", 0]) < 0.2
    assert "alignment" in run.tables
    assert run.tables["alignment"]["same"].mean() < 1


@pytest.fixture
def folder(tmp_path):
    """A folder in the CAA layout, written here: the trait is to grant, the options differ in that alone."""
    for split, file, count in (("generate", "generate_dataset.json", 14), ("test", "test_dataset_ab.json", 6)):
        rows = []
        for k in range(count):
            who = wb.prompts.identities()[k + (20 if split == "test" else 0)].identity
            yes, no = f"(A) {who} may rest.", f"(B) {who} may not rest."
            if k % 2:
                yes, no = no.replace("may not", "may"), yes.replace("may", "may not")
            rows.append(
                {
                    "question": f"Which do you choose about {who}?\n\nChoices:\n" + "\n".join(sorted((yes, no))),
                    "answer_matching_behavior": yes[:3],
                    "answer_not_matching_behavior": no[:3],
                }
            )
        place = tmp_path / "data" / split / "granting"
        place.mkdir(parents=True)
        (place / file).write_text(json.dumps(rows))
    (tmp_path / "data" / "test" / "granting" / "test_dataset_open_ended.json").write_text(
        json.dumps([{"question": "May people rest?"}, {"question": "May <b>they</b>?"}])
    )
    return tmp_path / "data"


def test_caa(organism, tmp_path, folder, no_browser, capsys, documented, monkeypatch):
    how = {
        "behaviours": ["granting"],
        "layers": [1, 3],
        "coefficients": [-1.0, 1.0],
        "open_ended": 2,
        "new_tokens": 4,
        "random": 2,
        "orders": "both",
        "system_positive": "Grant rights: {behaviour}.",
        "system_negative": "Deny rights.",
    }
    run = wb.check_study("caa", out=tmp_path / "check", data=str(folder), **how).run
    documented(run)
    check(
        run,
        ("test", "layers", "systems", "decoded", "components", "across_layers"),
        ("granting: ", "P(matching) at layer", "random directions", "backfires"),
    )
    test = run.tables["test"]
    assert set(test["system"]) == {"none", "positive", "negative"}
    assert set(test[test["system"] == "none"]["layer"]) == {1, 3}
    drawn = run.tables["random"].set_index("coefficient")
    same = test[(test["system"] == "none") & (test["layer"] == drawn["layer"].iloc[0])].groupby("coefficient")["norm_share"].first()
    assert drawn["norm_share"][1.0] == pytest.approx(same[1.0]), "random directions are as long as the vector"
    assert same[1.0] > 0
    decoded = run.tables["decoded"]
    assert set(decoded["coefficient"]) == {-1.0, 0.0, 1.0}
    assert set(decoded["metric"]) == {"matching", "agrees"}
    assert set(decoded["layer"]) == set(range(6))
    chosen = run.tables["validation"]
    assert {"slope", "slope, all layers at once"} <= set(chosen["metric"])
    assert set(chosen["layer"]) == {1, 3}
    counts = run.tables["data"].set_index("split")
    assert counts.loc["generate", "in_file"] == 14
    assert counts.loc["test", "prompts"] == 12, "both letter orders"
    vectors = wb.VectorSet.load(run.folder / "vectors", model=organism)
    assert vectors.layers == [1, 3]
    assert set(run.tables["open_ended"]["coefficient"]) == {"unsteered", "-1", "+1"}
    monkeypatch.chdir(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert main(["run", "caa", "--data", str(folder), "--behaviours", "granting", "--fast", "--plan"]) == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before, "a plan captures nothing and writes nothing"
    page = run.report.read_text(encoding="utf-8")
    assert "May <b>they</b>" not in page
    assert main(["run", "caa", "--data", str(folder), "--behaviours", "grantin", "--out", str(tmp_path / "other"), "--quiet"]) == 2
    assert "Did you mean 'granting'" in capsys.readouterr().err
    assert main(["run", "caa", "--out", str(tmp_path / "other")]) == 2
    assert "needs data: --data FOLDER" in capsys.readouterr().err


def personas(folder, name, n=60, agrees=lambda i: i % 2):
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "question": f'Is the following statement something you would say?\n"I like thing {i}"',
            "statement": f"I like thing {i}",
            "answer_matching_behavior": " yes" if agrees(i) else " no",
            "answer_not_matching_behavior": " no" if agrees(i) else " yes",
        }
        for i in range(n)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / f"{name}.jsonl"


CAA = {"layers": [1, 3], "coefficients": [-1.0, 1.0], "random": 0, "decoded": 0, "open_ended": 0, "tasks": 0, "tuned": 0}


def test_caa_on_a_file_of_model_written_evals_that_nothing_moves(organism, tmp_path, no_browser):
    """A balanced persona set about nothing: no vector moves it, and the report says so; halves have as many of each answer."""
    run = wb.run_study(
        "caa", model="bundled", out=tmp_path / "run", data=str(personas(tmp_path / "evals", "likes-things")), progress=False, **CAA
    )
    assert set(run.tables["data"]["split"]) == {"generate", "test"}
    assert set(run.tables["test"]["system"]) == {"none"}
    said = " ".join(run.findings)
    assert "no layer moves the answers beyond noise" in said
    assert "backfires for" not in said
    assert (run.tables["vectors"]["reliability"] > -0.4).all(), run.tables["vectors"]


def test_what_is_taught_is_said_and_what_is_taught_by_coin_is_not(organism, tmp_path, no_browser):
    """The trait is to say yes: fine-tuning on it is found on other questions, its reverse is, and coins teach neither."""
    from workbench.studies.caa.tuning import taught

    data = personas(tmp_path / "evals", "agrees", agrees=lambda i: True)
    run = wb.run_study("caa", model="bundled", out=tmp_path / "run", data=str(data), progress=False, **CAA | {"tuned": 40})
    table = run.tables["tuned"].query("metric == 'p_matching' and coefficient == 0").set_index("taught")
    assert table.loc["matching", "low"] > 0.8
    assert table.loc["opposite", "high"] < 0.2
    assert table.loc["opposite", "high"] < table.loc["coin", "value"] < table.loc["matching", "low"]
    assert any(text.startswith("Fine-tuning, agrees") for text in run.findings)
    assert set(run.tables["tuned"]["coefficient"]) == {-1.0, 0.0, 1.0}
    asked = wb.prompts.udhr("base_short", n=40)
    coins = taught(asked, "coin", 0)
    assert set(taught(asked, "matching", 0).labels) == {1}
    assert set(taught(asked, "opposite", 0).labels) == {0}
    assert all(len({p.label for p in coins if p.identity == q}) == 1 for q in {p.identity for p in coins}), "a coin per question"
    assert set(coins.labels) == {0, 1}


def test_open_answers_are_judged_by_the_behaviours_own_rubric(organism, tmp_path, folder, no_browser, monkeypatch):
    from workbench.studies.caa import more

    asked = []

    class Judge:
        def __init__(self, url, model, *, rubric="", key_variable=None, **_):
            asked.append((url, model, rubric, key_variable))

        def judge(self, questions, answers):
            return pd.DataFrame({"score": [0.5] * len(answers), "verdict": True})

    monkeypatch.setattr(more, "EndpointJudge", Judge)
    (tmp_path / "rubrics.json").write_text(json.dumps({"granting": "Rate how far it grants."}))
    how = CAA | {"open_ended": 2, "new_tokens": 2, "judge": "http://127.0.0.1:9/v1", "judge_model": "m", "behaviours": ["granting"]}
    run = wb.run_study(
        "caa", model="bundled", out=tmp_path / "run", data=str(folder), rubrics=str(tmp_path / "rubrics.json"), progress=False, **how
    )
    assert asked == [("http://127.0.0.1:9/v1", "m", "Rate how far it grants.", None)]
    judged = run.tables["judged"].set_index("coefficient")
    assert set(judged.index) == {"unsteered", "-1", "+1"}
    assert (judged["value"] == 0.5).all()
    assert (judged["rubric"] == "own").all()


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"judge": "http://127.0.0.1:9"}, "the name of a model"),
        ({"systems": '{"grantin": {"positive": "x"}}'}, "Did you mean 'granting'"),
        ({"systems": '{"granting": {"positiv": "x"}}'}, "Did you mean 'positive'"),
        ({"systems": "{"}, "cannot be read as JSON"),
        ({"rubrics": '{"granting": ""}', "judge": "http://127.0.0.1:9", "judge_model": "m"}, "must be text"),
    ],
)
def test_texts_about_behaviours_are_checked_first(tmp_path, folder, how, match):
    for name in ("systems", "rubrics"):
        if name in how:
            (tmp_path / f"{name}.json").write_text(how[name])
            how = how | {name: str(tmp_path / f"{name}.json")}
    with pytest.raises(errors.BadInput, match=match):
        CaaSettings(data=str(folder), **how)


def test_bad_settings(organism, tmp_path):
    for name, how, message in (
        ("steering", {"test": 5}, "32 items at least"), ("steering", {"random": 3}, "20 directions"), ("steering", {"coefficients": (-1.0,)}, "above 0"),
        ("patching", {"items": 2}, "8 at least"), ("patching", {"claims": ("harm",)}, "two of them"), ("steering", {"colour": 1}, "has no setting colour"),
        ("caa", {"data": "x", "orders": "some"}, "'both' or 'given'"), ("refusal", {"random": 3}, "20 directions"), ("refusal", {"layers": 0}, "1 at least"),
    ):  # fmt: skip
        with pytest.raises(errors.BadInput, match=message):
            wb.run_study(name, model=organism, out=tmp_path / "bad", **how)
    with pytest.raises(errors.UnknownSite):
        wb.run_study("steering", model=organism, out=tmp_path / "bad", sites=("resid",))
