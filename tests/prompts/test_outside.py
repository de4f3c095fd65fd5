"""Loaders of public data: every layout from small files, every message, and the published files where they are."""

import gzip
import json
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED

from workbench.core import errors
from workbench.prompts import conversations
from workbench.prompts.benchmarks import MultiTruth, mmlu, truthfulqa, truthfulqa_mc
from workbench.prompts.choices import choices_to_prompts
from workbench.prompts.outside import hh_rlhf, instruction_pairs, instructions, xstest
from workbench.prompts.rows import explain_hub, find_files, read_rows, sample, text_id
from workbench.prompts.templates import Template
from workbench.prompts.two_options import to_ab

DATA = SHARED / "datasets"


@pytest.fixture(scope="module")
def published():
    if not DATA.is_dir():
        pytest.skip("shared/datasets is not here")
    return DATA


def dump(path, rows):
    """Write rows in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# ------------------------------------------------------------------ reading rows


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson", "x.jsonl.gz", "x.csv", "x.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = [{"a": "one, {two}\nthree \u2028 four", "b": "é"}, {"a": '"quoted"', "b": ""}]
    assert read_rows(dump(tmp_path / name, rows)) == rows


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("x.json", "[\n{'a': 1}]", "^x.json, line 2 column 2: not JSON"),
        ("x.jsonl", '{"a": 1}\n\n{"a": \n', r"^x.jsonl, line 3: not JSON \(.*column 7\)"),
        ("x.jsonl", '{"a": 1}\n[2]\n', r"^x.jsonl, row 1: an object is needed, got list \(line 2\)"),
        ("x.json", '{"a": 1}', "^x.json: a list of objects is needed, and it holds one dict"),
        ("x.json", '[{"a": 1}, 2]', "^x.json, row 1: an object is needed, got int"),
        ("x.csv", "a,b\n1,2\n1,2,3\n", r"^x.csv, row 1 \(line 3\): 3 fields under 2 columns"),
        ("x.csv", "a,b\n1\n", r"^x.csv, row 0 \(line 2\): 1 fields under 2 columns"),
        ("x.csv", 'a,b\n1,"2\n', "^x.csv, line 2: not csv"),
        ("x.csv", "a,b\n", "^x.csv has no rows"),
        ("x.json", b"[\xff]", r"^x.json is not UTF-8 text \(byte 1\)"),
        ("x.jsonl.gz", b"plain", "^x.jsonl.gz is not a whole gzip file"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-9], "^x.jsonl.gz is not a whole gzip file"),
        ("x.parquet", b"plain", "^x.parquet cannot be read as parquet"),
        ("x.xlsx", "", r"^x.xlsx: a file of rows ends in one of \.json, \.jsonl"),
    ],
)
def test_broken_files(tmp_path, name, content, match):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(errors.BadInput, match=match) as caught:
        read_rows(file)
    assert str(tmp_path) not in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(errors.BadInput, match=r"no file 'x.json'$"):
        read_rows(tmp_path / "x.json")
    (tmp_path / "y.json").mkdir()
    with pytest.raises(errors.BadInput, match=r"no file 'y.json': it is a folder"):
        read_rows(tmp_path / "y.json")
    with pytest.raises(errors.BadInput, match="no file or folder 'gone'"):
        find_files(tmp_path / "gone", ("*",))
    (tmp_path / "z.csv").write_text("a\n1\n")
    (tmp_path / "w.csv").write_text("a\n1\n")
    with pytest.raises(errors.BadInput, match=r"several files of .* fit: w.csv, z.csv. Pass the one you mean"):
        find_files(tmp_path, ("v.csv", "*.csv"))
    with pytest.raises(errors.BadInput, match=r"has no file 'v.csv' or 'u.csv'; it holds: w.csv, y.json, z.csv"):
        find_files(tmp_path, ("v.csv", "u.csv"))


def test_shards_are_one_table(tmp_path):
    for i in range(2):
        dump(tmp_path / f"test-0000{i}-of-00002.parquet", [{"chosen": f"c{i}", "rejected": f"r{i}"}])
    assert [row["chosen"] for row in hh_rlhf(tmp_path)] == ["c0", "c1"]
    dump(tmp_path / "test-copy.parquet", [{"chosen": "c0", "rejected": "r0"}])
    with pytest.raises(errors.BadInput, match=r"several files of .* fit: test-00000-of-00002.parquet, .*, test-copy.parquet"):
        hh_rlhf(tmp_path)


def test_samples_nest_and_keep_the_order():
    small, large = sample(range(100), 10, 0, "x"), sample(range(100), 30, 0, "x")
    assert len(small) == 10
    assert set(small) < set(large)
    assert large == sorted(large)
    assert sample(range(100), 10, 1, "x") != small
    assert sample(range(5), 9, 0, "x") == sample(range(5), None, 0, "x") == list(range(5))
    with pytest.raises(errors.BadInput, match="limit is the number of x items to draw, at least 1; got 0"):
        sample(range(5), 0, 0, "x")


def test_ids_go_by_the_text():
    assert text_id("How  are\nyou?") == text_id("how are you?") != text_id("how are you")


# ------------------------------------------------------------------ the hub


@pytest.mark.parametrize("load", [truthfulqa, truthfulqa_mc, mmlu, xstest, hh_rlhf, instructions])
def test_offline(load, tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)  # what an earlier download left here must not answer
    with pytest.raises(errors.NetworkNeeded, match=r"the dataset '\S+/\S+' is not in the cache and the hub cannot be reached.*path="):
        load()


def test_what_the_hub_says():
    gated = type("DatasetNotFoundError", (Exception,), {})("Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated")
    assert isinstance(explain_hub(gated, "a/b"), errors.GatedModel)
    assert re.search("'a/b': a gated dataset. Accept its licence", str(explain_hub(gated, "a/b")))
    outer = RuntimeError("failed")
    outer.__cause__ = type("LocalEntryNotFoundError", (Exception,), {})("nothing")
    assert isinstance(explain_hub(outer, "a/b"), errors.NetworkNeeded)
    other = explain_hub(ValueError("Unknown split 'x'. Should be one of ['test']"), "a/b")
    assert type(other) is errors.BadInput
    assert "'a/b' cannot be read from the hub (Unknown split 'x'" in str(other)


def test_without_the_library(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(errors.BadInput, match="needs the library `datasets`: install it, or pass the path"):
        mmlu()


def test_rows_from_the_hub_are_read_like_files(monkeypatch):
    import datasets

    asked = []
    rows = {
        "cais/mmlu": [{"question": "Q?", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 2}],
        "mlabonne/harmless_alpaca": [{"text": "Bake a cake"}],
        "Anthropic/hh-rlhf": [{"chosen": "c", "rejected": "r"}],
        "Paul/XSTest": [{"prompt": "p"}],
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((*a, *sorted(k.items()))) or rows[a[0]])
    assert mmlu()[0].target == 2
    assert instructions(kind="harmless").to_dict("records") == [{"instruction": "Bake a cake", "category": "", "harmful": False}]
    assert hh_rlhf(split="train") == [{"chosen": "c", "rejected": "r"}]
    with pytest.raises(errors.MissingColumn, match=r"Paul/XSTest \(train\), row 0: no column 'type'; it has: prompt"):
        xstest()
    assert asked == [
        ("cais/mmlu", "all", ("split", "test")),
        ("mlabonne/harmless_alpaca", None, ("split", "train")),
        ("Anthropic/hh-rlhf", None, ("data_dir", "harmless-base"), ("split", "train")),
        ("Paul/XSTest", None, ("split", "train")),
    ]


# ------------------------------------------------------------------ TruthfulQA

CSV = {
    "Type": "Adversarial",
    "Category": "Law",
    "Question": "Is it so? ",
    "Best Answer": "It depends",
    "Correct Answers": "Sometimes; It depends; Unknown;",
    "Incorrect Answers": "Yes; No; ; Unknown; Yes",
    "Source": "-",
}
GENERATION = {
    "type": "Adversarial",
    "category": "Law",
    "question": "Is it so?",
    "best_answer": "It depends",
    "correct_answers": ["Sometimes", "It depends", "Unknown"],
    "incorrect_answers": ["Yes", "No"],
    "source": "-",
}
TARGETS = {
    "question": "Is it so?",
    "mc1_targets": {"choices": ["It depends", "Yes", "No"], "labels": [1, 0, 0]},
    "mc2_targets": {"choices": ["Sometimes", "It depends", "Unknown", "Yes", "No"], "labels": [1, 1, 1, 0, 0]},
}


@pytest.mark.parametrize(
    ("name", "row", "category"),
    [
        ("TruthfulQA.csv", CSV, "Law"),
        ("generation/validation.parquet", GENERATION, "Law"),
        ("any.jsonl", GENERATION, "Law"),
        ("multiple_choice/validation-00000-of-00001.parquet", TARGETS, ""),
        ("any.json", TARGETS, ""),
    ],
)
def test_truthfulqa_layouts(tmp_path, name, row, category):
    file = dump(tmp_path / name, [row])
    (one,) = truthfulqa_mc(tmp_path)
    assert one == truthfulqa_mc(file)[0]
    assert (one.question, one.best, one.category) == ("Is it so?", "It depends", category)
    assert one.correct == ("Sometimes", "It depends", "Unknown")
    assert one.incorrect == ("Yes", "No")  # once each, and none that is true
    assert one.mc1.options == ("It depends", "Yes", "No")
    assert one.mc1.target == 0
    assert one.mc2 == (("Sometimes", "It depends", "Unknown", "Yes", "No"), (1, 1, 1, 0, 0))
    seen = {truthfulqa(tmp_path, seed=seed)[0].options for seed in range(40)}
    assert seen == {("It depends", "Yes"), ("It depends", "No"), ("Yes", "It depends"), ("No", "It depends")}
    assert all(c.options[c.target] == "It depends" for seed in range(9) for c in truthfulqa(file, seed=seed))


def test_truthfulqa_takes_the_authors_foil(tmp_path):
    file = dump(tmp_path / "TruthfulQA.csv", [CSV | {"Best Incorrect Answer": "Never"}])
    assert truthfulqa_mc(file)[0].incorrect == ("Never", "Yes", "No")
    assert {c.options[1 - c.target] for seed in range(20) for c in truthfulqa(file, seed=seed)} == {"Never"}


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        (
            {"Question": "Q?"},
            errors.MissingColumn,
            "^q.jsonl, row 1: not a layout of TruthfulQA. It has: Question. Needed: Question, Best Answer",
        ),
        (CSV | {"Best Answer": ""}, errors.BadInput, "^q.jsonl, row 1: 'Best Answer' is '', and must be text"),
        (CSV | {"Incorrect Answers": " ; "}, errors.BadInput, "row 1: no incorrect answer"),
        (CSV | {"Best Incorrect Answer": "Sometimes"}, errors.BadInput, "row 1: 'Best Incorrect Answer' 'Sometimes' is among the correct"),
        (GENERATION | {"correct_answers": 3}, errors.BadInput, "row 1: 'correct_answers' must be a list of texts"),
        (TARGETS | {"mc1_targets": {"choices": ["a"], "labels": []}}, errors.BadInput, "'mc1_targets' must hold 'choices' and 'labels'"),
        (TARGETS | {"mc1_targets": {"choices": ["a"], "labels": [0]}}, errors.BadInput, "row 1: 'mc1_targets' has no correct answer"),
    ],
)
def test_broken_truthfulqa(tmp_path, row, error, match):
    file = dump(tmp_path / "q.jsonl", [GENERATION, row])
    with pytest.raises(error, match=match):
        truthfulqa_mc(file)


@pytest.mark.parametrize(
    ("rest", "match"),
    [
        ({"best": "c"}, "best answer 'c' is not among the correct"),
        ({"incorrect": ()}, "no incorrect answer to 'Q'"),
        ({"incorrect": ("a",)}, "'a' is both"),
        ({"foil": "z"}, "foil 'z' is not among"),
    ],
)
def test_multi_truth_is_checked(rest, match):
    with pytest.raises(errors.BadInput, match=match):
        MultiTruth(**({"question": "Q", "best": "a", "correct": ("a",), "incorrect": ("b",)} | rest))


# ------------------------------------------------------------------ MMLU

QUESTIONS = [
    {"question": "2+2?", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1},
    {"question": "Is it 'law'?", "subject": "law", "choices": ["it's", 'a "no"', "c", "d"], "answer": 3},
]


@pytest.mark.parametrize("name", ["test.csv", "test.jsonl", "test-00000-of-00001.parquet", "all/test.parquet", "law/test.jsonl.gz"])
def test_mmlu_layouts(tmp_path, name):
    file = dump(tmp_path / name, QUESTIONS)
    dump(file.parent / "dev.csv", QUESTIONS[:1])
    items = mmlu(tmp_path)
    assert items == mmlu(file)
    assert [(i.question, i.category, i.options, i.target) for i in items] == [
        (q["question"], q["subject"], tuple(q["choices"]), q["answer"]) for q in QUESTIONS
    ]
    assert [i.question for i in mmlu(tmp_path, "law")] == ["Is it 'law'?"]
    assert len(mmlu(tmp_path, ["law", "algebra"])) == 2
    assert len(mmlu(tmp_path, limit=1)) == 1
    with pytest.raises(errors.UnknownName, match=r"no subject named 'lav'. There are: algebra, law. Did you mean 'law'"):
        mmlu(tmp_path, ["lav"])
    two = to_ab(items)
    assert [one.options[one.target] for one in two] == ["4", "d"]
    assert len(choices_to_prompts(two)) == 2


def test_mmlu_one_file_a_subject(tmp_path):
    for one in QUESTIONS:
        dump(tmp_path / one["subject"] / "test-00000-of-00001.parquet", [one])
    assert sorted(i.category for i in mmlu(tmp_path)) == ["algebra", "law"]


def test_mmlu_answers_as_letters(tmp_path):
    assert mmlu(dump(tmp_path / "a.jsonl", [QUESTIONS[0] | {"answer": "C"}]))[0].target == 2


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"answer": 4}, errors.BadInput, r"^a.jsonl, row 0: 'answer' is 4, and must be the index \(0-3\) or letter"),
        ({"answer": "four"}, errors.BadInput, "'answer' is 'four'"),
        ({"choices": "3, 4"}, errors.BadInput, "^a.jsonl, row 0: 'choices' must be a list of two texts or more"),
        ({"choices": ["3", "3", "3", "3"]}, errors.BadInput, r"^a.jsonl, row 0: every option of '2\+2\?' says the same"),
        ({"question": ""}, errors.BadInput, "row 0: 'question' is '', and must be text"),
    ],
)
def test_broken_mmlu(tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        mmlu(dump(tmp_path / "a.jsonl", [QUESTIONS[0] | change]))
    with pytest.raises(errors.MissingColumn, match=r"b.jsonl, row 0: no column 'subject'; it has: question"):
        mmlu(dump(tmp_path / "b.jsonl", [{"question": "q"}]))


# ------------------------------------------------------------------ XSTest, HH, instructions


def test_xstest_layouts(tmp_path):
    rows = [
        {"id": 1, "prompt": "kill a process?", "type": "homonyms", "label": "safe", "focus": "kill", "note": "x"},
        {"id": 2, "prompt": "kill a man?", "type": "contrast_homonyms", "label": "unsafe", "focus": "kill", "note": "x"},
    ]
    frame = xstest(dump(tmp_path / "xstest_prompts.csv", rows))
    assert frame.to_dict("records") == [
        {"question": "kill a process?", "safe": True, "kind": "homonyms", "focus": "kill"},
        {"question": "kill a man?", "safe": False, "kind": "contrast_homonyms", "focus": "kill"},
    ]
    assert frame["safe"].dtype == bool
    bare = [{k: v for k, v in row.items() if k != "label"} for row in rows]
    pd.testing.assert_frame_equal(xstest(dump(tmp_path / "bare.jsonl", bare)), frame)
    pd.testing.assert_frame_equal(xstest(tmp_path), frame)
    with pytest.raises(errors.BadInput, match=r"c.jsonl, row 0: 'label' is 'maybe', and must be 'safe' or 'unsafe'"):
        xstest(dump(tmp_path / "c.jsonl", [rows[0] | {"label": "maybe"}]))
    with pytest.raises(errors.MissingColumn, match=r"d.jsonl, row 0: no column 'prompt'; it has: question"):
        xstest(dump(tmp_path / "d.jsonl", [{"question": "q"}]))


def test_hh_layouts(tmp_path):
    rows = [{"chosen": f"\n\nHuman: {i}?\n\nAssistant: yes", "rejected": f"\n\nHuman: {i}?\n\nAssistant: no"} for i in range(6)]
    file = dump(tmp_path / "harmless-base" / "test.jsonl.gz", rows)
    assert hh_rlhf(tmp_path) == hh_rlhf(file) == hh_rlhf(file.parent) == rows
    assert hh_rlhf(file, limit=2, seed=1) == hh_rlhf(tmp_path, limit=2, seed=1)
    assert len(conversations(hh_rlhf(file))) == 6
    with pytest.raises(errors.BadInput, match=r"has no file 'harmless-base/train.jsonl"):
        hh_rlhf(tmp_path, "train")
    with pytest.raises(errors.MissingColumn, match=r"x.jsonl, row 0: no column 'rejected'; it has: chosen"):
        hh_rlhf(dump(tmp_path / "x.jsonl", [{"chosen": "c"}]))
    with pytest.raises(errors.BadInput, match=r"y.jsonl, row 0: 'chosen' is \['c'\], and must be text"):
        hh_rlhf(dump(tmp_path / "y.jsonl", [{"chosen": ["c"], "rejected": "r"}]))


def test_instruction_layouts(tmp_path):
    harmful = [{"instruction": "Hack {it}", "category": None}, {"instruction": "Steal", "category": "theft"}]
    dump(tmp_path / "harmful_train.json", harmful)
    dump(tmp_path / "harmless_train.json", [{"instruction": "Bake", "category": None}])
    frame = instructions(tmp_path)
    assert frame.to_dict("list") == {"instruction": ["Hack {it}", "Steal"], "category": ["", "theft"], "harmful": [True, True]}
    assert not instructions(tmp_path, "harmless")["harmful"].any()
    assert instructions(tmp_path / "harmless_train.json", "harmless")["instruction"].tolist() == ["Bake"]
    nested = tmp_path / "repository"
    dump(nested / "dataset" / "splits" / "harmful_val.json", harmful)
    assert len(instructions(nested, split="val")) == 2
    with pytest.raises(errors.UnknownName, match=r"no kind named 'harm'. There are: harmful, harmless. Did you mean"):
        instructions(tmp_path, "harm")
    with pytest.raises(errors.BadInput, match=r"has no file 'harmful_valid.json' or .*; it holds: harmful_train.json, harmless_train.json"):
        instructions(tmp_path, split="valid")
    with pytest.raises(errors.BadInput, match=r"harmless_train.json says that it holds harmless instructions, and kind='harmful' was"):
        instructions(tmp_path / "harmless_train.json")
    with pytest.raises(errors.MissingColumn, match=r"harmful_test.json, row 0: no column 'instruction'; it has: text"):
        instructions(dump(tmp_path / "harmful_test.json", [{"text": "t"}]))


def test_instruction_pairs():
    harmful = pd.DataFrame({"instruction": [" Hack {it} "], "category": ["theft"]})
    prompts = instruction_pairs(harmful, ["Bake", "Boil", "bake"])
    assert [(p.stem, p.negative, p.positive, p.label, p.meta["input_harm"]) for p in prompts] == [
        ("Hack {it}", " Sorry", " Sure", 0, 1),
        ("Bake", " Sorry", " Sure", 1, 0),
        ("Boil", " Sorry", " Sure", 1, 0),
        ("bake", " Sorry", " Sure", 1, 0),
    ]
    assert prompts[0].meta == {"input_harm": 1, "statement": "Hack {it}", "category": "theft"}
    assert prompts[1].identity == prompts[3].identity != prompts[2].identity
    assert [p.group for p in prompts] == ["harmful", "harmless", "harmless", "harmless"]
    own = instruction_pairs(harmful, ["Bake"], answers=("No", "Yes"), template="Do: {instruction}.{instruction_end} Reply:\n")
    assert (own[0].stem, own[0].negative, own[0].template) == ("Do: Hack {it}. Reply:\n", "No", "custom")
    assert own[0].stem[: own[0].instruction_end] == "Do: Hack {it}."
    assert instruction_pairs(["a"], ["b"], template=Template(name="t", text="{instruction}"))[0].template == "t"


def test_instruction_pairs_in_a_chat():
    from types import SimpleNamespace

    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>\n"
    tokenizer = SimpleNamespace(
        chat_template=template,
        apply_chat_template=lambda turns, **_: "".join(f"<{t['role']}>{t['content']}" for t in turns) + "<assistant>\n",
    )
    pair = instruction_pairs(["Hack"], ["Bake"], model=SimpleNamespace(tokenizer=tokenizer), system="Be good.")[1]
    assert (pair.stem, pair.positive) == ("<system>Be good.<user>Bake<assistant>\n", "Sure")
    assert pair.stem[: pair.instruction_end].endswith("Bake")
    assert instruction_pairs(["Hack"], ["Bake"], model=SimpleNamespace(tokenizer=tokenizer), chat=False)[0].stem == "Hack"


def test_bad_instruction_pairs():
    with pytest.raises(errors.BadInput, match="1 instructions are among the harmful and the harmless, for one 'bake'"):
        instruction_pairs(["Bake"], ["bake "])
    with pytest.raises(errors.BadInput, match="harmless instruction 1 is '', and must be text"):
        instruction_pairs(["a"], ["b", ""])
    with pytest.raises(errors.MissingColumn, match="the harmful table has no column 'instruction'; it has: text"):
        instruction_pairs(pd.DataFrame({"text": ["a"]}), ["b"])
    with pytest.raises(errors.TemplateField, match=r"lacks the field \{instruction\}"):
        instruction_pairs(["a"], ["b"], template="request")
    with pytest.raises(errors.EmptyPromptSet):
        instruction_pairs([], [])


# ------------------------------------------------------------------ the published files


def test_published_truthfulqa(published):
    truths = truthfulqa_mc(published / "truthfulqa")
    assert len(truths) == len({t.name for t in truths}) == 817
    assert len({t.category for t in truths}) == 38
    items = truthfulqa(published / "truthfulqa" / "TruthfulQA.csv")
    for one, truth in zip(items, truths, strict=True):
        assert one.options[one.target] == truth.best
        assert one.options[1 - one.target] in truth.incorrect
    assert abs(np.mean([i.target for i in items]) - 0.5) < 0.07  # 4 standard deviations
    some = truthfulqa(published / "truthfulqa", limit=50)
    assert [i for i in items if i in some] == some
    same = truthfulqa(published / "caa" / "test" / "truthfulqa" / "truthful_qa.json")
    assert len(same) == 817
    assert len(choices_to_prompts(items, orders="both")) == 2 * 817


def test_published_mmlu(published):
    file = published / "caa" / "test" / "mmlu" / "mmlu.json"
    assert len(mmlu(file)) == 570
    assert set(Counter(i.category for i in mmlu(file)).values()) == {10}
    assert len(mmlu(file, "abstract_algebra")) == 10
    with pytest.raises(errors.UnknownName, match="Did you mean 'abstract_algebra'"):
        mmlu(file, "abstract algebra")


def test_published_xstest(published):
    frame = xstest(published / "xstest")
    assert frame["safe"].value_counts().to_dict() == {True: 250, False: 200}
    assert (frame["safe"] == ~frame["kind"].str.startswith("contrast_")).all()
    assert frame["kind"].nunique() == 18
    assert len(xstest(published / "xstest", limit=30)) == 30


def test_published_hh(published):
    rows = hh_rlhf(published / "hh_rlhf")
    assert len(rows) == 400
    assert all(row["chosen"].startswith("\n\nHuman:") for row in rows)
    assert 50 < len(conversations(rows, max_chars=1500)) < 400


def test_published_instructions(published):
    counts = {"harmful": (260, 39, 150), "harmless": (600, 300, 300)}
    for kind, expected in counts.items():
        frames = [instructions(published / "refusal", kind, split) for split in ("train", "val", "test")]
        assert tuple(map(len, frames)) == expected
        assert all((f["harmful"] == (kind == "harmful")).all() for f in frames)
    prompts = instruction_pairs(*(instructions(published / "refusal", kind, "test") for kind in counts))
    assert Counter(prompts.labels) == {0: 150, 1: 300}
    assert len({p.identity for p in prompts}) == 449  # one harmful instruction stands twice
