import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

import workbench as wb
from workbench.core import errors
from workbench.core.direction import Direction
from workbench.core.seeds import numpy_rng, torch_rng
from workbench.core.stats import wilson
from workbench.evaluation.judges import (
    PHRASES,
    BadVerdicts,
    ClassifierJudge,
    Judge,
    PeopleJudge,
    ProbeJudge,
    RefusalPhrases,
    UnknownLabel,
    agreement_between,
    judge_all,
    known_errors,
    labelled_refusals,
)
from workbench.evaluation.judges.base import table
from workbench.models.classifier import classify, load_classifier
from workbench.models.forward import residuals
from workbench.models.tokens import encode, pad

# many passes of tiny models: two threads would wait for each other
pytestmark = pytest.mark.usefixtures("one_thread")

# ---- the common form


class Fixed:
    """A judge that says what it was made to say."""

    def __init__(self, name, verdicts):
        self.name, self.verdicts = name, verdicts

    def judge(self, questions, answers):
        return table(self.name, [math.nan if v is None else float(v) for v in self.verdicts], self.verdicts, [""] * len(self.verdicts))


def test_judge_all_stacks():
    got = judge_all([Fixed("a", [True, None]), Fixed("b", [False, False])], ["q0", "q1"], ["a0", "a1"])
    assert list(got.columns) == ["judge", "item", "questions", "answers", "score", "verdict", "note"]
    assert got["judge"].tolist() == ["a", "a", "b", "b"]
    assert got["item"].tolist() == [0, 1, 0, 1]
    assert got["answers"].tolist() == ["a0", "a1", "a0", "a1"]
    assert got["verdict"].dtype == "boolean"
    assert got["verdict"].isna().tolist() == [False, True, False, False]
    assert [j["name"] for j in got.attrs["provenance"]["judges"]] == ["a", "b"]
    assert len(judge_all([RefusalPhrases()], [], [])) == 0


def test_judge_all_refuses():
    one = Fixed("a", [True])
    with pytest.raises(errors.ShapeMismatch, match="2 questions and 1 answers"):
        judge_all([one], ["q", "q"], ["a"])
    with pytest.raises(errors.BadInput, match="got one text"):
        judge_all([one], "q", "a")
    with pytest.raises(errors.BadInput, match="several judges are named 'a'"):
        judge_all([one, one], ["q"], ["a"])
    with pytest.raises(errors.TooFew, match="no judge"):
        judge_all([], ["q"], ["a"])
    with pytest.raises(errors.ShapeMismatch, match="returned 1 rows for 2 answers"):
        judge_all([one], ["q", "q"], ["a", "b"])
    assert judge_all([one], ["q"], ["a\ud800"])["answers"].tolist() == ["a\ufffd"]
    strange = Fixed("strange", [True])
    strange.judge = lambda q, a: one.judge(q, a).assign(judge="strange", score=7.0)
    with pytest.raises(errors.BadInput, match=r"a score of 7\.0"):
        judge_all([strange], ["q"], ["a"])
    strange.judge = one.judge
    with pytest.raises(errors.BadInput, match="signed its rows as 'a'"):
        judge_all([strange], ["q"], ["a"])
    strange.judge = lambda q, a: pd.DataFrame({"judge": ["strange"]})
    with pytest.raises(errors.MissingColumn, match="no column 'score'"):
        judge_all([strange], ["q"], ["a"])
    assert not isinstance(object(), Judge)


# ---- stock phrases


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("I can't do that.", True),
        ("I can’t do that.", True),
        ("I  CAN´T\ndo that.", True),
        ("'I can't,' she said.", True),
        ("\n\n  Sorry, but no.", True),
        ("Wi-Fi can't do that.", False),  # "i can't" begins inside a word
        ("I can'tankerously agree.", False),
        ("Sure, here it is.", False),
        ("x" * 118 + " I can't.", True),
        ("x" * 119 + " I can't.", False),
    ],
)
def test_phrases(answer, refusal):
    got = RefusalPhrases().judge(["q"], [answer])
    assert got["verdict"].tolist() == [refusal]
    assert got["score"].tolist() == [float(refusal)]
    assert (got["note"][0] != "") == refusal


def test_phrases_of_ones_own():
    got = RefusalPhrases((r"no+\b", "never"), regular=True, name="mine").judge(["q"] * 3, ["Nooo!", "nothing", ""])
    assert got["verdict"].fillna(False).tolist() == [True, False, False]
    assert got["verdict"].isna().tolist() == [False, False, True]
    assert got["note"].tolist() == [r"holds: no+\b", "", "blank answer"]
    assert set(got["judge"]) == {"mine"}
    assert not RefusalPhrases(("a.c",)).judge(["q"], ["abc"])["verdict"][0]
    with pytest.raises(errors.BadInput, match="an empty phrase is in every answer"):
        RefusalPhrases(("no", " "))
    with pytest.raises(errors.BadInput, match="no regular expression"):
        RefusalPhrases(("(",), regular=True)
    with pytest.raises(errors.BadInput, match="within=0"):
        RefusalPhrases(within=0)


def test_the_labelled_sample():
    sample = labelled_refusals()
    assert list(sample.columns) == ["question", "answer", "refusal", "kind"]
    assert len(sample) >= 100
    assert set(sample["refusal"]) == {0, 1}
    assert not sample.duplicated(["question", "answer"]).any()
    assert (sample.groupby("kind")["refusal"].nunique() == 1).all()
    assert sample["kind"].value_counts().min() >= 6
    assert (sample.loc[sample["answer"].str.strip() == "", "kind"] == "empty or garbage").all()


def test_known_errors_are_those_of_a_slow_count():
    sample = labelled_refusals()
    got = known_errors(RefusalPhrases()).set_index(["kind", "metric"])
    wrong, n = {0: 0, 1: 0}, {0: 0, 1: 0}
    for answer, label in zip(sample["answer"], sample["refusal"], strict=True):
        if not answer.strip():
            continue
        text = f" {' '.join(answer.lower().split())} "
        called = False
        for phrase in PHRASES:
            for k in range(1, min(121, len(text) - len(phrase))):
                alone = not text[k - 1].isalnum() and not text[k + len(phrase)].isalnum()
                called |= alone and text[k:].startswith(phrase)
        n[label] += 1
        wrong[label] += called != label
    for label, metric in ((0, "false_positive_rate"), (1, "false_negative_rate")):
        row = got.loc[("all", metric)]
        assert row["n"] == n[label]
        assert row["value"] == pytest.approx(wrong[label] / n[label])
        assert row["low"] < row["value"] < row["high"]
    # what is known of this judge: sure of stock phrases, blind to other words, misled by apologies
    assert got.loc[("plain refusal", "false_negative_rate"), "value"] <= 0.1
    assert got.loc[("refusal without stock phrases", "false_negative_rate"), "value"] >= 0.9
    assert got.loc[("compliance with refusal words", "false_positive_rate"), "value"] >= 0.5
    assert got.loc[("compliance", "false_positive_rate"), "value"] <= 0.1
    assert got.loc[("empty or garbage", "no_verdict"), "value"] == pytest.approx(2 / 6)
    assert ("plain refusal", "false_positive_rate") not in got.index


def test_known_errors_of_a_small_sample():
    rows = [("q", f"a{i}", label, "x") for i, label in enumerate([0] * 10 + [1] * 5)]
    sample = pd.DataFrame([(f"q{i}", *row[1:]) for i, row in enumerate(rows)], columns=["question", "answer", "refusal", "kind"])
    judge = Fixed("f", [True] * 3 + [False] * 7 + [None, True, True, True, False])
    got = known_errors(judge, sample).set_index(["kind", "metric"])
    for kind in ("all", "x"):
        row = got.loc[(kind, "false_positive_rate")]
        assert (row["value"], row["n"]) == (0.3, 10)
        assert (row["low"], row["high"]) == pytest.approx(wilson(3, 10))
        row = got.loc[(kind, "false_negative_rate")]
        assert (row["value"], row["n"]) == (0.25, 4)
        assert got.loc[(kind, "no_verdict"), "value"] == pytest.approx(1 / 15)
    only = known_errors(Fixed("f", [True] * 10), sample[:10]).set_index(["kind", "metric"])
    assert np.isnan(only.loc[("all", "false_negative_rate"), "value"])
    assert "no answer of this class" in only.loc[("all", "false_negative_rate"), "note"]
    with pytest.raises(errors.TooFew, match="no rows"):
        known_errors(judge, sample[:0])


# ---- probes and directions

ANSWERS = ["no", "women have the right to rest", "Sorry no no no no do you agree", "yes the right", "Sure Sure"]
QUESTIONS = ["do you agree?", "", "women", "true or false? " * 4, "no"]


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_probe_judge_equals_the_slow_way(tiny_pair, words, pool):
    _, hf, bridge = tiny_pair
    layer = 1
    direction = Direction.of(torch.randn(32, generator=torch_rng(0)) * 0.3)
    rows = torch.randn(40, 32, generator=torch_rng(1)) * 3
    probe = wb.fit_logistic(rows[:20] + 1, rows[20:])
    along = ProbeJudge(bridge, direction, layer, pool=pool, threshold=0.2, batch_size=2).judge(QUESTIONS, ANSWERS)
    probed = ProbeJudge(bridge, probe, layer, pool=pool, batch_size=3, name="p").judge(QUESTIONS, ANSWERS)
    for i, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        ids = encode(bridge, [f"{question}\n{answer}"])[0]
        start = (
            len(words(f"{question}\n", add_special_tokens=False)["input_ids"])
            + len(ids)
            - len(words(f"{question}\n{answer}", add_special_tokens=False)["input_ids"])
        )
        with torch.no_grad():
            states = hf(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0]
        x = states[start:].mean(0) if pool == "mean" else states[-1]
        value = float(direction.project(x))
        assert along["score"][i] == pytest.approx(1 / (1 + math.exp(-(value - 0.2) / direction.scale)), abs=2e-3)
        if abs(value - 0.2) > 1e-2:
            assert along["verdict"][i] == (value > 0.2)
        logit = float(probe.score(x[None])[0])
        assert probed["score"][i] == pytest.approx(1 / (1 + math.exp(-logit)), abs=5e-3)
        assert float(probed["note"][i]) == pytest.approx(logit, abs=1e-2, rel=1e-2)
    assert set(along["judge"]) == {"direction layer 1"}
    assert along["score"].nunique() == len(ANSWERS)


def test_the_batch_changes_nothing(calm):
    direction = Direction.of(torch.randn(32, generator=torch_rng(0)))
    scores = [ProbeJudge(calm, direction, 2, scale=0.01, batch_size=b).judge(QUESTIONS, ANSWERS)["score"].to_numpy() for b in (1, 4)]
    assert np.ptp(scores[0]) > 0.05  # there is something to lose
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def vectors(model, answers):
    """The mean activation of each answer, read at every column and cut by hand."""
    ids = encode(model, [f"q\n{answer}" for answer in answers])
    start, width = len(encode(model, ["q\n"])[0]), max(map(len, ids))
    columns = torch.arange(width).expand(len(ids), -1)
    values, _ = residuals(model, pad(model, ids), columns, site="resid_post", layers=[1])
    return torch.stack([values[i, start : len(row), 0].mean(0) for i, row in enumerate(ids)])


def test_a_probe_fitted_on_answers_finds_the_planted_class(calm):
    rng = numpy_rng(0)
    pool = ["women", "have", "the", "right", "to", "rest", "you", "agree"]
    answers = [" ".join([*rng.choice(pool, 5), "Sorry" if i % 2 else "Sure", *rng.choice(pool, 2)]) for i in range(120)]
    x, y = vectors(calm, answers[:80]), np.arange(80) % 2
    judge = ProbeJudge(calm, wb.fit_logistic(x[y == 1], x[y == 0]), 1)
    got = judge.judge(["q"] * 40, answers[80:])
    truth = np.arange(80, 120) % 2 == 1
    assert (got["verdict"].to_numpy(dtype=bool) == truth).mean() >= 0.9
    assert ((got["score"] > 0.5) == got["verdict"]).all()
    shuffled = numpy_rng(1).permutation(y)
    null = ProbeJudge(calm, wb.fit_logistic(x[shuffled == 1], x[shuffled == 0]), 1).judge(["q"] * 40, answers[80:])
    hits = int((null["verdict"].to_numpy(dtype=bool) == truth).sum())
    low, high = wilson(hits, 40, 0.999)
    assert low <= 0.5 <= high


def test_probe_judge_without_a_verdict(calm):
    direction = Direction.of(torch.ones(32))
    judge = ProbeJudge(calm, direction, 0)
    alone = judge.judge(["q"], ["yes"])
    got = judge.judge(["q", "q", "q"], ["  ", "yes", "rest " * 300])
    assert got["verdict"].isna().tolist() == [True, False, True]
    assert got["note"][0] == "blank answer"
    assert "longer than the model's context of 256 tokens" in got["note"][2]
    assert got["score"][1] == pytest.approx(alone["score"][0])
    assert len(judge.judge([], [])) == 0


def test_probe_judge_refuses(calm, tiny):
    good = Direction.of(torch.ones(32))
    x = torch.randn(20, 32, generator=torch_rng(0))
    pairs = wb.fit_logistic(x + 1, x - 1, np.arange(20) % 2)
    elsewhere = Direction.of(torch.ones(32), provenance={"model": wb.models.info(tiny).key(), "site": "resid_post", "layer": 1})
    for arguments, error, match in (
        ({"layer": 9}, errors.UnknownLayer, "layer 9"),
        ({"site": "resid_pots"}, errors.UnknownSite, "Did you mean"),
        ({"site": "z"}, errors.BadInput, "no vector of d_model"),
        ({"pool": "max"}, errors.BadInput, "pool='max'"),
        ({"probe": pairs}, errors.BadInput, "reads contrast pairs"),
        ({"probe": Direction.of(torch.ones(16))}, errors.ShapeMismatch, "direction of width 16 and a model of width 32"),
        ({"probe": elsewhere}, errors.WrongModel, "tiny llama"),
        ({"probe": wb.fit_logistic(x + 1, x - 1), "scale": 2.0}, errors.BadInput, "log-odds already"),
        ({"scale": 0.0}, errors.BadInput, "a positive number"),
        ({"template": "{answer} {question}"}, errors.TemplateField, "must end with"),
        ({"template": "{question} {reply}"}, errors.TemplateField, "the field 'reply'"),
        ({"template": "{question}"}, errors.TemplateField, "must hold {answer} once"),
        ({"template": "{question {answer}"}, errors.TemplateField, "Double a literal brace"),
        ({"batch_size": 0}, errors.BadInput, "batch_size=0"),
    ):
        with pytest.raises(error, match=match):
            ProbeJudge(calm, **{"probe": good, "layer": 1, **arguments})
    edit = wb.Edit(site="resid_post", layer=0, function=lambda x: x * float("nan"))
    with wb.edited(calm, edit), pytest.raises(errors.NotFinite, match=r"resid_post\[1\]"):
        ProbeJudge(calm, good, 1).judge(["q"], ["a"])


# ---- classifiers

LABELS = {0: "comply", 1: "refuse", 2: "other"}


def make_classifier(kind, folder, words, *, labels=LABELS, seed=0, **how):
    import transformers as tf

    names = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}, "num_labels": len(labels), "pad_token_id": 2, **how}
    sizes = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"bert": tf.BertConfig, "llama": tf.LlamaConfig}[kind](**sizes, **{"max_position_embeddings": 40, **names})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = tf.AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("several", [False, True])
def test_classifier_equals_the_slow_way(tmp_path, words, kind, several):
    model = make_classifier(kind, tmp_path, words, **({"problem_type": "multi_label_classification"} if several else {}))
    judge = ClassifierJudge(tmp_path, label="refuse", device="cpu", template="{question} {answer}", batch_size=3)
    got = judge.judge(QUESTIONS, ANSWERS)
    for i, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        ids = torch.tensor([words(f"{question} {answer}")["input_ids"]])
        with torch.no_grad():
            logits = model(ids).logits[0]
        want = float((logits.sigmoid() if several else logits.softmax(-1))[1])
        assert got["score"][i] == pytest.approx(want, abs=1e-5)
        assert got["verdict"][i] == (want > 0.5)
    assert got["score"].nunique() == len(ANSWERS)
    threshold = float(got["score"].nlargest(3).iloc[1:].mean())  # between the second and the third
    low = ClassifierJudge(str(tmp_path), label="refuse", device="cpu", template="{question} {answer}", threshold=threshold)
    assert low.judge(QUESTIONS, ANSWERS)["verdict"].sum() == 2
    assert low.judge([], []).empty


def test_classifier_notes(tmp_path, words):
    make_classifier("bert", tmp_path, words)
    judge = ClassifierJudge(tmp_path, label="other", device="cpu")
    got = judge.judge(["q"] * 3, ["yes", "", "rest " * 100])
    assert got["note"].tolist()[:2] == ["", "blank answer"]
    cut = len(words("rest " * 100)["input_ids"])
    assert got["note"][2] == f"cut: only the first 40 of {cut} tokens were read"
    assert got["verdict"].isna().tolist() == [False, True, False]
    assert got.attrs["provenance"]["judge"]["label"] == "other"


def test_classifier_without_padding(tmp_path, words):
    """A tokenizer without a padding token: rows go one by one, and the numbers are the same."""
    from copy import deepcopy

    make_classifier("llama", tmp_path, words)
    want, _ = classify(load_classifier(tmp_path, device="cpu"), ANSWERS)
    bare = load_classifier(tmp_path, device="cpu")
    tokenizer = deepcopy(bare.tokenizer)
    tokenizer.pad_token = None
    object.__setattr__(bare, "tokenizer", tokenizer)
    assert classify(bare, ANSWERS)[0] == pytest.approx(want, abs=1e-6)


def test_classifier_refuses(tmp_path, words, gemma_folder):
    make_classifier("bert", tmp_path / "c", words)
    with pytest.raises(UnknownLabel, match=r"There are: comply, other, refuse\. Did you mean 'refuse'"):
        ClassifierJudge(tmp_path / "c", label="refused", device="cpu")
    with pytest.raises(errors.DamagedModel, match="weights are missing"):  # a language model: its head would be drawn at random
        ClassifierJudge(gemma_folder, label="LABEL_0", device="cpu")
    with pytest.raises(errors.UnknownModel, match="no folder"):
        ClassifierJudge(tmp_path / "none", label="refuse")
    with pytest.raises(errors.BadInput, match="threshold=1"):
        ClassifierJudge(tmp_path / "c", label="refuse", threshold=1.0)
    make_classifier("bert", tmp_path / "r", words, labels={0: "score"}, problem_type="regression")
    with pytest.raises(errors.BadInput, match="is a regression"):
        ClassifierJudge(tmp_path / "r", label="score", device="cpu")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    (tmp_path / "c" / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "a", "2": "b"}}))
    with pytest.raises(errors.BadInput, match="several classes named 'a'"):
        ClassifierJudge(tmp_path / "c", label="a", device="cpu")


# ---- people

HARD = ["=1+1", "+49", "-no", "@here", "'quoted'", "'=x", " \t=2", 'two\nlines, and "quotes"', "", "naïve — 你好", "plain", "a;b"]


def fill(path, change, delimiter=","):
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_people_there_and_back(tmp_path, delimiter):
    judge = PeopleJudge(tmp_path / "v.csv", name="Ana")
    questions = [f"{text}?" for text in HARD]
    path = judge.write(questions, HARD, seed=3)
    said = {"=1+1": "Yes", "+49": "0", "-no": "TRUE", "@here": " no ", "'quoted'": "1", "'=x": "false"}

    def write(rows):
        for row in rows:
            assert not row["answer"].lstrip().startswith(("=", "+", "-", "@"))  # no spreadsheet runs it
            assert row["verdict"] == row["comment"] == ""
            text = next(t for t in HARD if row["question"] in (f"{t}?", f"'{t}?"))
            row["verdict"] = said.get(text, "")
            row["comment"] = f"'={text}" if text == "=1+1" else ""

    fill(path, write, delimiter)
    got = judge.judge(questions, HARD)
    assert got["verdict"].tolist()[:6] == [True, False, True, False, True, False]
    assert got["verdict"].isna().tolist() == [False] * 6 + [True] * 6
    assert got["score"].tolist()[:6] == [1, 0, 1, 0, 1, 0]
    assert got["note"].tolist()[0] == "==1+1"
    assert got["note"].tolist()[7] == "left blank"
    some = judge.judge([questions[4], questions[1], questions[4]], [HARD[4], HARD[1], HARD[4]])
    assert some["verdict"].tolist() == [True, False, True]


def test_the_file_is_blind_and_shuffled(tmp_path):
    answers = [f"answer {i}" for i in range(40)] + ["answer 0"]
    orders = []
    for seed in (0, 0, 1):
        path = PeopleJudge(tmp_path / "v.csv").write(["q"] * 41, answers, seed=seed, overwrite=True)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["id", "question", "answer", "verdict", "comment"]
        assert sorted(r["answer"] for r in rows) == sorted(set(answers))
        orders.append([r["answer"] for r in rows])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != answers[:40]
    with pytest.raises(errors.OutputFolder, match=r"v\.csv is there already"):
        PeopleJudge(tmp_path / "v.csv").write(["q"], ["a"])


def test_people_files_that_are_wrong(tmp_path):
    q, a = ["q0\nmore", "q1", "q2"], ["a0", "a1", "a2"]
    judge = PeopleJudge(tmp_path / "v.csv")
    with pytest.raises(BadVerdicts, match=r"no file v\.csv; make it with \.write"):
        judge.judge(q, a)

    def broken(change, match):
        path = judge.write(q, a, overwrite=True)
        fill(path, lambda rows: change(rows.sort(key=lambda r: r["answer"]) or rows))  # line 2-3, line 4, line 5
        with pytest.raises(BadVerdicts, match=match):
            judge.judge(q, a)

    def put(row, column, value):
        return lambda rows: rows[row].update({column: value})

    broken(put(1, "verdict", "maybe"), "line 4: the verdict 'maybe'; it is yes or no")
    broken(put(0, "verdict", "y"), "line 2: the verdict 'y'")
    broken(put(2, "id", " "), "line 5: the id is missing")
    broken(lambda rows: rows[2].update(rows[1]), "line 5: the id a[0-9a-f]{16} was in line 4 already")
    broken(lambda rows: rows.pop(1), r"no row for answer 1 \('a1'\)")
    broken(put(2, "answer", "a1"), "line 5: question and answer are not those of the id")
    broken(lambda rows: [row.pop("comment") for row in rows], "no column 'comment' in line 1")
    (tmp_path / "v.csv").write_text('id,question,answer,verdict,comment\na,"b')
    with pytest.raises(BadVerdicts, match="cannot be read as csv"):
        judge.judge(q, a)
    (tmp_path / "v.csv").write_text("id,question,answer,verdict,comment\na,b\n")
    with pytest.raises(BadVerdicts, match="line 2: 2 cells"):
        judge.judge(q, a)
    (tmp_path / "v.csv").write_text("")
    with pytest.raises(BadVerdicts, match="no column 'id'"):
        judge.judge(q, a)
    with pytest.raises(errors.BadInput, match="no answers to write"):
        PeopleJudge(tmp_path / "w.csv").write([], [])


# ---- agreement between judges


def stacked(**verdicts):
    return pd.concat(
        [pd.DataFrame({"judge": k, "item": range(len(v)), "verdict": pd.array(v, dtype="boolean")}) for k, v in verdicts.items()]
    )


def noisy(n, flip, seed, share=0.4):
    rng = numpy_rng(seed)
    one = rng.random(n) < share
    return one.tolist(), (one ^ (rng.random(n) < flip)).tolist()


@pytest.mark.parametrize("flip", [0.05, 0.3, 0.9])
def test_kappa_is_that_of_sklearn(flip):
    a, b = noisy(150, flip, seed=0)
    c = [None if i % 3 == 0 else v for i, v in enumerate(noisy(150, flip, seed=1)[1])]
    got = agreement_between(stacked(a=a, b=b, c=c), resamples=400).set_index(["first", "second", "metric"])
    assert list(got.index[:2]) == [("a", "b", "kappa"), ("a", "b", "agreement")]
    row = got.loc[("a", "b", "kappa")]
    assert row["value"] == pytest.approx(cohen_kappa_score(a, b))
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 150
    raw = got.loc[("a", "b", "agreement")]
    same = sum(x == y for x, y in zip(a, b, strict=True))
    assert (raw["value"], raw["low"], raw["high"]) == pytest.approx((same / 150, *wilson(same, 150)))
    kept = [i for i in range(150) if c[i] is not None]
    row = got.loc[("a", "c", "kappa")]
    assert row["value"] == pytest.approx(cohen_kappa_score([a[i] for i in kept], [c[i] for i in kept]))
    assert row["n"] == 100


def test_the_interval_is_that_of_a_slow_bootstrap():
    a, b = (np.array(v) for v in noisy(80, 0.2, seed=2))
    got = agreement_between(stacked(a=a.tolist(), b=b.tolist()), resamples=4000).iloc[0]
    rng = numpy_rng(7)
    draws = [cohen_kappa_score(a[i], b[i]) for i in (rng.integers(0, 80, 80) for _ in range(400))]
    assert (got["low"], got["high"]) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.06)
    again = agreement_between(stacked(a=a.tolist(), b=b.tolist()), resamples=4000).iloc[0]
    assert again.equals(got)
    assert agreement_between(stacked(a=a.tolist(), b=b.tolist()), resamples=4000, seed=1).iloc[0]["low"] != got["low"]


def test_judges_that_know_nothing_of_each_other():
    covered = 0
    for seed in range(20):
        a, b = noisy(100, 0.0, seed=seed)[0], noisy(100, 0.0, seed=1000 + seed)[0]
        row = agreement_between(stacked(a=a, b=b), resamples=300).iloc[0]
        covered += row["low"] <= 0 <= row["high"]
    assert covered >= 17


def test_alpha():
    """The worked example of Krippendorff 2011 for two values; and with missing verdicts, the definition by counting pairs."""
    a = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    b = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    row = agreement_between(stacked(a=map_bool(a), b=map_bool(b)), resamples=200).iloc[-1]
    assert (row["first"], row["metric"], row["n"]) == ("all", "alpha", 10)
    assert row["value"] == pytest.approx(0.095, abs=5e-4)
    rng = numpy_rng(5)
    rows = [[None if rng.random() < 0.3 else bool((rng.random() < 0.2) ^ (i % 2)) for i in range(30)] for _ in range(3)]
    got = agreement_between(stacked(a=rows[0], b=rows[1], c=rows[2]), resamples=200).iloc[-1]
    units = [[r[i] for r in rows if r[i] is not None] for i in range(30)]
    units = [u for u in units if len(u) > 1]
    values = [v for u in units for v in u]
    observed = sum(sum(x != y for k, x in enumerate(u) for m, y in enumerate(u) if k != m) / (len(u) - 1) for u in units)
    expected = sum(x != y for k, x in enumerate(values) for m, y in enumerate(values) if k != m) / (len(values) - 1)
    assert got["value"] == pytest.approx(1 - observed / expected)
    assert got["n"] == len(units) < 30


def map_bool(values):
    return [bool(v) for v in values]


def test_clusters_widen_the_interval():
    """Twenty copies of each of ten answers tell no more than the ten."""
    a, b = noisy(10, 0.3, seed=6, share=0.5)
    many = stacked(a=a * 20, b=b * 20)
    many["questions"] = [f"q{i % 10}" for i in many["item"]]
    wide = agreement_between(many, clusters="questions", resamples=500).iloc[0]
    narrow = agreement_between(many, resamples=500).iloc[0]
    assert wide["value"] == pytest.approx(narrow["value"])
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])
    with pytest.raises(errors.MissingColumn, match="no column 'prompt'"):
        agreement_between(many, clusters="prompt")
    many["half"] = range(len(many))
    with pytest.raises(errors.BadInput, match="an item has several values of 'half'"):
        agreement_between(many, clusters="half")


def test_agreement_that_is_undefined():
    got = agreement_between(stacked(a=[True] * 5, b=[True] * 5, c=[None] * 5, d=[True, False] * 2 + [None]), resamples=100)
    got = got.set_index(["first", "second", "metric"])
    row = got.loc[("a", "b", "kappa")]
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    assert "both judges say yes to every answer" in row["note"]
    assert got.loc[("a", "b", "agreement"), "value"] == 1
    for metric in ("kappa", "agreement"):
        assert np.isnan(got.loc[("a", "c", metric), "value"])
        assert got.loc[("a", "c", metric), "note"] == "no answer has a verdict of both"
        assert got.loc[("a", "c", metric), "n"] == 0
    constant = got.loc[("a", "d", "kappa")]  # one judge says one thing only: kappa is 0 whatever the other says
    assert constant["value"] == 0
    assert np.isnan(constant["low"])
    assert constant["note"] == "no resample changes it"
    assert "all verdicts are the same" in agreement_between(stacked(a=[True], b=[True])).iloc[-1]["note"]


def test_agreement_refuses():
    two = stacked(a=[True], b=[True])
    with pytest.raises(errors.MissingColumn, match="no column 'verdict'"):
        agreement_between(two.drop(columns="verdict"))
    with pytest.raises(errors.TooFew, match="two judges, the table has 1"):
        agreement_between(stacked(a=[True]))
    with pytest.raises(errors.BadInput, match="'a' has several verdicts on item 0"):
        agreement_between(pd.concat([two, two]))


def test_agreement_of_real_judges():
    sample = labelled_refusals().query("answer.str.strip() != ''")
    questions, answers = sample["question"].tolist(), sample["answer"].tolist()
    labels = Fixed("labels", [bool(v) for v in sample["refusal"]])
    short = RefusalPhrases(("i can't", "i cannot"), name="two phrases")
    got = agreement_between(judge_all([RefusalPhrases(), short, labels], questions, answers), resamples=300, clusters="questions")
    pairs = got[got["metric"] == "kappa"].set_index(["first", "second"])
    assert len(pairs) == 3
    assert pairs.loc[("refusal phrases", "labels"), "high"] < 0.5  # substrings mislead on this sample
    assert [j["name"] for j in got.attrs["provenance"]["judges"]] == ["refusal phrases", "two phrases", "labels"]
