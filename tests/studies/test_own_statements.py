"""The UDHR study on statements of one's own: a table, its split, what is wrong with tables, what a newcomer stumbled over."""

import json

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors

HOW = {"progress": False, "claims": ("harm", "partial"), "train": 80, "test": 60, "behaviour": 20, "rights_per_identity": 2, "resamples": 30, "ccs_epochs": 80}  # fmt: skip


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


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
        patch.setattr("workbench.runs.render.browser", lambda: None)
        return wb.run_study(
            "udhr", model=organism, out=tmp_path_factory.mktemp("runs") / "mine", data=str(mine),
            columns={"statement": "text", "label": "is_true", "identity": "about"}, **HOW,
        )  # fmt: skip


# ------------------------------------------------------------------ statements of one's own


def test_the_finding_on_statements_of_ones_own(run):
    both = run.tables["says_and_knows"].query("form == 'since_claim'").set_index(["condition", "what"])["value"]
    assert both.loc[("harm", "says: share of safe answers")] < 0.2
    assert both.loc[("no claim", "says: share of safe answers")] > 0.8
    assert both.loc[("harm", "knows: logistic probe")] > 0.9
    assert "statements (mine)" in run.report.read_text()
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
        (
            lambda t: t.assign(text=[" ", *t["text"][1:]]),
            errors.BadInput,
            r"^bad.csv, row 0: 'text' is ' ', and must be text; .* \(line 2\)",
        ),
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


def test_unknown_fields_and_datasets(mine, capsys):
    with pytest.raises(errors.BadInput, match="no field 'sentence'"):
        wb.prompts.own_statements(mine, {"sentence": "text"})
    with pytest.raises(errors.BadInput, match="no dataset 'rights'"):
        wb.prompts.statements("rights")
    assert main(["run", "udhr", "--data", str(mine), "--columns", "statement"]) == 2
    assert main(["run", "udhr", "--data", str(mine), "--columns", "statement=text", "statement=about"]) == 2
    assert "columns: 'statement' is given twice (statement=text statement=about); keep one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"text,is_true\n\xff\xfe,1\n", "is not UTF-8"),
        (b"", "bad.csv has no rows"),
        (b'text,is_true\n"a,1\nb,2,3\n', "bad.csv, line 2: not csv"),
    ],
)
def test_a_broken_file_is_called_so(text, message, tmp_path):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(errors.BadInput, match=message):
        wb.prompts.own_statements(tmp_path / "bad.csv", {"statement": "text", "label": "is_true"})
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(errors.BadInput, match=r"bad\.jsonl, line 1: not JSON"):
        wb.prompts.read_table(tmp_path / "bad.jsonl")


def test_missing_names_are_missing_and_blanks_make_no_other_person():
    base = table(rights=4, people=20).rename(columns={"text": "statement", "is_true": "label", "about": "identity"})
    with pytest.raises(errors.MissingColumn, match="row 3 has no identity"):
        wb.prompts.own_statements(base.assign(identity=[None if i == 3 else v for i, v in enumerate(base["identity"])]))
    with pytest.raises(errors.BadInput, match="row 3: 'statement' is nan, and must be text; write a text, or leave the row out"):
        wb.prompts.own_statements(base.assign(statement=[None if i == 3 else v for i, v in enumerate(base["statement"])]))
    padded = base.assign(identity=[f" {v} " if i % 2 else v for i, v in enumerate(base["identity"])])
    assert wb.prompts.own_statements(padded).frame["identity"].nunique() == 20
    twice = pd.concat([base, base.head(1).assign(statement=base["statement"].iloc[0].upper())])
    assert len(wb.prompts.own_statements(twice).frame) == len(base)
    with pytest.raises(errors.BadInput, match="it stands there already, in row 0"):
        wb.prompts.own_statements(twice, strict=True)
    marked = wb.prompts.from_table(pd.DataFrame({"stem": ["a"], "label": [1], "negative": [" no"], "positive": [" yes"]}))
    assert marked[0].positive == " yes", "blanks of an ending are part of its token"


# ------------------------------------------------------------------ what a newcomer stumbled over


def test_claims_about_rights_are_off_where_the_statements_are_a_table(organism, tmp_path):
    rows = [{"text": f"Thing {k // 2} is {('hot', 'cold')[k % 2]}.", "is_true": k % 2} for k in range(160)]
    pd.DataFrame([*rows, rows[0]]).to_csv(tmp_path / "facts.csv", index=False)
    how = {k: v for k, v in HOW.items() if k != "claims"} | {"columns": {"statement": "text", "label": "is_true"}}
    got = wb.run_study(
        "udhr", model=organism, out=tmp_path / "run", data=str(tmp_path / "facts.csv"), surfaces=0, says={"asks": "things"}, **how
    )
    assert set(got.tables["says"]["claim"]) == {"none", "neutral"}
    assert "says about things (facts)" in got.report.read_text(encoding="utf-8")
    with pytest.raises(errors.UnknownName, match="word of a data set"):
        wb.run_study("udhr", model=organism, out=tmp_path / "other", data=str(tmp_path / "facts.csv"), says={"ask": "x"}, **how)
    assert got.tables["effects"].empty
    text = " ".join(got.findings)
    assert "right answers under each claim" in text
    assert "harm" not in text
    page = got.report.read_text(encoding="utf-8")
    assert "1 rows were left out" in page
    assert "Nobody should have rights" not in page


def test_statements_whose_words_give_the_label_away_are_called_so(organism, tmp_path):
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
    assert not any("kept and not said" in f for f in got.findings)
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
    monkeypatch.setattr("workbench.runs.handle.load_model", lambda *_: pytest.fail("a model was loaded"))
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(errors.BadInput, match=message):
        wb.run_study("udhr", data=str(tmp_path / "t.csv"), columns=columns, out=tmp_path / "run")
    with pytest.raises(errors.BadInput, match=r"no file 'my.tml'"):
        wb.run_study("my.tml")
