"""Every way in, with every value that is no text and every text that is hard to keep: the same rules at every door."""

import csv
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from jaxtyping import config as shapes

from workbench import prompts as p
from workbench.core import errors
from workbench.evaluation.judges import PeopleJudge
from workbench.evaluation.judges.base import BadVerdicts
from workbench.prompts.benchmarks import MultiTruth
from workbench.prompts.choices import Choice
from workbench.prompts.templates import Template
from workbench.studies.caa.data import CaaData


@pytest.fixture(autouse=True)
def users_have_no_type_checks():
    """What a user sees: the checks of types that the other tests switch on would answer first."""
    shapes.update("jaxtyping_disable", True)


# ------------------------------------------------------------------ doors: where a text of the user's goes in, and where it comes out

FINE = "Cats have four legs."


def jsonl(tmp_path, rows, name="mine.jsonl"):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(r) for r in rows))  # what JSON can escape is escaped
    return file


def raw_jsonl(tmp_path, rows):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(("\ufeff" + "\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows)).encode())
    return file


def json_list(tmp_path, rows, name="mine.json"):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]")
    return file


def csv_file(tmp_path, rows, ends="\n", mark=""):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], lineterminator=ends, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "mine.csv").write_bytes((mark + out.getvalue()).encode())
    return tmp_path / "mine.csv"


def parquet(tmp_path, rows):
    pd.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    return tmp_path / "mine.parquet"


def statement_rows(value, column="statement"):
    return [{column: FINE, "label": 1}, {column: value, "label": 0}]


def said(prompts):
    return prompts[1].meta["statement"]


def own(source):
    """The user's own statements; 70 rows, of which the second holds the value."""
    return p.own_statements(source).frame["statement"].tolist()


def many(value):
    return [*statement_rows(value), *({"statement": f"Statement {i}.", "label": i % 2} for i in range(70))]


PAIR = {"chosen": "Human: hi", "rejected": "Human: no"}
XSTEST = {"prompt": "Kill it?", "type": "homonyms", "focus": "kill", "label": "safe"}
TRUTH = {"question": "Q?", "best_answer": "a", "correct_answers": ["a"], "incorrect_answers": ["b"]}
MMLU = {"question": "Q?", "subject": "law", "choices": ["a", "b"], "answer": 0}
CAA = {"question": "Q?", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
AB = {"prompt": "Q?", "correct": "(A)", "incorrect": "(B)"}


def two(row, column, value):
    return [row, row | {column: value}]


def open_ended(tmp_path, value):
    json_list(tmp_path, two({"question": FINE}, "question", value), "caa/test/kindness/test_dataset_open_ended.json")
    return p.load_caa(tmp_path / "caa", "kindness", "open_ended")[1]


def caa(tmp_path, value):
    json_list(tmp_path, two(CAA, "question", value), "caa/generate/kindness/generate_dataset.json")
    return p.load_caa(tmp_path / "caa", "kindness")[1].question


STATEMENT, TABLE = {"template": "{statement}"}, "the table, row 1"
# name -> (put the value in and return the text that comes out, file and row, column, line)
FILES = {
    "from_table jsonl": (lambda t, v: said(p.from_table(jsonl(t, statement_rows(v)), **STATEMENT)), "mine.jsonl, row 1", "statement", 2),
    "from_table json": (lambda t, v: said(p.from_table(json_list(t, statement_rows(v)), **STATEMENT)), "mine.json, row 1", "statement", 3),
    "from_table mapped": (
        lambda t, v: said(p.from_table(jsonl(t, statement_rows(v, "text")), {"statement": "text"}, **STATEMENT)),
        "mine.jsonl, row 1",
        "text",
        2,
    ),
    "from_table stem": (lambda t, v: p.from_table(jsonl(t, statement_rows(v, "stem")))[1].stem, "mine.jsonl, row 1", "stem", 2),
    "from_table ending": (
        lambda t, v: p.from_table(jsonl(t, [{"stem": "Q", "label": 0, "positive": w} for w in (FINE, v)]))[1].positive,
        "mine.jsonl, row 1",
        "positive",
        2,
    ),
    "own_statements": (lambda t, v: own(jsonl(t, many(v)))[1], "mine.jsonl, row 1", "statement", 2),
    "conversations": (
        lambda t, v: p.conversations(jsonl(t, two(PAIR, "chosen", v)), "{first}|{second}")[1].stem.replace("|", "").replace("Human: no", ""),
        "mine.jsonl, row 1",
        "chosen",
        2,
    ),
    "hh_rlhf": (lambda t, v: p.hh_rlhf(jsonl(t, two(PAIR, "rejected", v)))[1]["rejected"], "mine.jsonl, row 1", "rejected", 2),
    "xstest": (lambda t, v: p.xstest(jsonl(t, two(XSTEST, "prompt", v)))["question"][1], "mine.jsonl, row 1", "prompt", 2),
    "instructions": (
        lambda t, v: p.instructions(json_list(t, two({"instruction": "Hack"}, "instruction", v)))["instruction"][1],
        "mine.json, row 1",
        "instruction",
        3,
    ),
    "truthfulqa_mc": (lambda t, v: p.truthfulqa_mc(jsonl(t, two(TRUTH, "question", v)))[1].question, "mine.jsonl, row 1", "question", 2),
    "mmlu": (lambda t, v: p.mmlu(jsonl(t, two(MMLU, "question", v)))[1].question, "mine.jsonl, row 1", "question", 2),
    "load_caa": (caa, "kindness/generate_dataset.json, row 1", "question", 3),
    "load_caa open_ended": (open_ended, "kindness/test_dataset_open_ended.json, row 1", "question", 3),
    "load_ab": (lambda t, v: p.load_ab(json_list(t, two(AB, "prompt", v)))[1].question, "mine.json, row 1", "prompt", 3),
}  # fmt: skip
MEMORY = {
    "from_table frame": (lambda t, v: said(p.from_table(pd.DataFrame(statement_rows(v), dtype=object), **STATEMENT)), TABLE, "statement"),
    "from_table list": (lambda t, v: said(p.from_table(statement_rows(v), **STATEMENT)), TABLE, "statement"),
    "own_statements frame": (lambda t, v: own(pd.DataFrame(many(v), dtype=object))[1], TABLE, "statement"),
    "statements": (lambda t, v: p.statements(pd.DataFrame(many(v), dtype=object)).frame["statement"][1], TABLE, "statement"),
    "instruction_pairs frame": (
        lambda t, v: p.instruction_pairs(pd.DataFrame({"instruction": ["Hack", v]}, dtype=object), ["Bake"])[1].stem,
        "the harmful table, row 1",
        "instruction",
    ),
    "instruction_pairs": (lambda t, v: p.instruction_pairs(["Hack"], ["Bake", v])[2].stem, "harmless instruction 1", ""),
    "conversations list": (
        lambda t, v: p.conversations([PAIR, PAIR | {"rejected": v}], "{first}|{second}")[1].stem.replace("|", "").replace("Human: hi", ""),
        "the conversations, row 1",
        "rejected",
    ),
}  # fmt: skip
MADE = {
    "stem": (lambda v: p.ContrastPair(stem=v, negative="a", positive="b", label=0).stem, "the stem of a contrast pair"),
    "ending": (lambda v: p.ContrastPair(stem="s", negative="a", positive=v, label=0).positive, "the ending of variant 1"),
    "identity": (lambda v: p.Identity(identity=v, group="").identity, "an identity"),
    "right": (lambda v: p.Right(**RIGHT | {"deny_plain": v}).deny_plain, "deny_plain of the right 'r'"),
    "template": (lambda v: Template(name="t", text=v).text, "the text of template 't'"),
    "question": (lambda v: MultiTruth(question=v, best="a", correct=("a",), incorrect=("b",)).question, "the question"),
    "answer": (lambda v: MultiTruth(question="q", best="a", correct=("a",), incorrect=(v,)).incorrect[0], "one of the incorrect answers"),
}
RIGHT = {"right": "r", "article": 0, "kind": "", "grant_plain": "g", "grant_negated": "g", "deny_negated": "d", "deny_plain": "d"}
# these leave out the white space around a text, and say so in their documentation
TRIMMED = {"truthfulqa_mc", "instruction_pairs", "instruction_pairs frame"}

# ------------------------------------------------------------------ values

NOT_TEXT = {
    "null": None,
    "nan": math.nan,
    "empty": "",
    "blank": " \t\n",
    "blank separator": "\u2028",
    "number": 5,
    "fraction": 1.5,
    "truth": True,
    "list": ["a"],
    "mapping": {"a": 1},
}
BROKEN = {  # what the message calls them
    "NUL": ("a\x00b", r"control character \(U\+0000\) at character 1"),
    "bell": ("ab\x07", r"control character \(U\+0007\) at character 2"),
    "escape": ("\x1b[31mred", r"control character \(U\+001B\) at character 0"),
    "delete": ("a\x7f", r"control character \(U\+007F\)"),
    "C1, a wrong decoding": ("a\x92s", r"control character \(U\+0092\)"),
    "high surrogate": ("a\ud83d", r"half a character \(a lone surrogate, U\+D83D\)"),
    "low surrogate": ("\ude00a", r"half a character \(a lone surrogate, U\+DE00\)"),
}
GOOD = {
    "line separator": "one\u2028two",
    "paragraph separator": "one\u2029two",
    "next line": "one\x85two",
    "vertical tab and form feed": "one\x0btwo\x0cthree",
    "information separators": "one\x1ctwo\x1dthree\x1efour",
    "emoji": "a family 👩‍👩‍👧‍👦, a flag 🇺🇳",
    "combining mark": "cafe\u0301",
    "composed": "caf\u00e9",
    "right to left": "\u05d0\u05d1 \u202bx\u202c",
    "quotes": "She said \"yes\", he said 'no'; “both”",
    "comma": "one, two, three",
    "line feed": "one\ntwo",
    "carriage return": "one\r\ntwo",
    "spaces": "  one  ",
    "separators at the ends": "\u2028one\u2029",
    "tab": "\tone\ttwo",
    "no-break space": "\u00a0one\u00a0",
    "byte-order mark": "one\ufefftwo",
    "number": "007",
    "exponent": "1e5",
    "truth": "true",
    "not available": "NA",
    "null": "null",
    "nan": "nan",
    "braces": "{statement} and {claim} and {",
    "hash": "# one",
    "backslash": "one\\ntwo \\u2028",
    "replacement": "one\ufffd",
}


def cases(doors, values):
    return [pytest.param(d, v, id=f"{name}-{kind}") for name, d in doors.items() for kind, v in values.items()]


@pytest.mark.parametrize(("door", "value"), cases(FILES, NOT_TEXT))
def test_what_is_no_text_is_refused_in_every_file(door, value, tmp_path):
    read, place, column, line = door
    with pytest.raises(errors.BadInput, match=rf"(?s)^{place}: '{column}' is .*, and must be text.*\(line {line}\)$") as caught:
        read(tmp_path, value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("door", "value"), cases(FILES, BROKEN))
def test_characters_of_no_text_are_refused_in_every_file(door, value, tmp_path):
    read, place, column, line = door
    with pytest.raises(
        errors.BadInput, match=rf"^{place}: '{column}' holds (a )?{value[1]}.*repair or remove it \(line {line}\)$"
    ) as caught:
        read(tmp_path, value[0])
    assert str(caught.value).isprintable(), "the message itself is safe to print"


@pytest.mark.parametrize(("door", "value"), cases(MEMORY, NOT_TEXT | {"NA": pd.NA, "NaT": pd.NaT, "array": np.arange(2), "bytes": b"a"}))
def test_what_is_no_text_is_refused_in_memory(door, value, tmp_path):
    read, place, column = door
    with pytest.raises(errors.BadInput, match=rf"^{place}:? ?'?{column}'? ?is .*, and must be text"):
        read(tmp_path, value)


@pytest.mark.parametrize(("door", "value"), cases(MEMORY, BROKEN))
def test_characters_of_no_text_are_refused_in_memory(door, value, tmp_path):
    read, place, column = door
    with pytest.raises(errors.BadInput, match=rf"^{place}:? ?'?{column}'? ?holds (a )?{value[1]}"):
        read(tmp_path, value[0])


@pytest.mark.parametrize(("door", "value"), cases(MADE, NOT_TEXT | {k: v for k, (v, _) in BROKEN.items()}))
def test_what_is_no_text_is_refused_in_values_made_by_hand(door, value):
    make, what = door
    with pytest.raises(errors.BadInput, match=rf"^{what}.* (is .*, and must be text|holds .*repair or remove it)"):
        make(value)


@pytest.mark.parametrize(("door", "value"), cases(MADE, GOOD))
def test_values_made_by_hand_keep_a_text_as_it_is(door, value):
    assert door[0](value) == value


@pytest.mark.parametrize(("name", "value"), [pytest.param(n, v, id=f"{n}-{k}") for n in FILES | MEMORY for k, v in GOOD.items()])
def test_a_text_is_kept_as_it_is(name, value, tmp_path):
    assert (FILES | MEMORY)[name][0](tmp_path, value) == (value.strip() if name in TRIMMED else value)


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("how", ["jsonl, BOM, CRLF", "csv", "csv, CRLF", "csv, BOM", "parquet"])
def test_a_text_is_kept_as_it_is_however_the_file_is_written(how, value, tmp_path):
    rows = [{"statement": v, "label": "1", "note": v} for v in (FINE, value)]
    file = {
        "jsonl, BOM, CRLF": lambda: raw_jsonl(tmp_path, rows),
        "csv": lambda: csv_file(tmp_path, rows),
        "csv, CRLF": lambda: csv_file(tmp_path, rows, ends="\r\n"),
        "csv, BOM": lambda: csv_file(tmp_path, rows, mark="\ufeff"),
        "parquet": lambda: parquet(tmp_path, rows),
    }[how]()
    prompts = p.from_table(file, **STATEMENT)
    assert len(prompts) == 2
    assert prompts[1].stem == said(prompts) == prompts[1].meta["note"] == value
    assert p.read_table(file)["statement"].tolist() == [FINE, value]


@pytest.mark.parametrize("value", ["", " ", "a\x00", "a\x1b"])
@pytest.mark.parametrize("load", [lambda f: p.from_table(f, **STATEMENT), p.own_statements])
def test_csv_is_no_other_door(load, value, tmp_path):
    file = csv_file(tmp_path, [{"statement": "one\ntwo", "label": "1"}, {"statement": value, "label": "0"}])
    with pytest.raises(errors.BadInput, match=r"^mine.csv, row 1: 'statement' .*\(line 4\)$"):  # the first row has two lines
        load(file)


# ------------------------------------------------------------------ labels

LABELS = [0, 1, False, True, 0.0, 1.0, "0", "1", "0.0", "1.0", "true", "FALSE", " Yes ", "no", np.int64(1), np.float32(0), np.bool_(True)]
NO_LABELS = [2, -1, 0.5, math.nan, math.inf, None, pd.NA, "", "maybe", "2", "nan", "None", [1], {"a": 1}, "0 1", b"1"]
ONE = ("1", "1.0", "true", "yes")


@pytest.mark.parametrize("label", LABELS, ids=repr)
def test_a_label_is_the_same_at_every_door(label, tmp_path):
    wanted = int(str(label).strip().lower() in ONE)
    rows = [{"statement": "a", "label": label}, {"statement": "b", "label": label}]
    doors = [
        p.from_table(pd.DataFrame(rows), **STATEMENT)[1],
        p.from_table(rows, **STATEMENT)[1],
        p.from_table(csv_file(tmp_path, rows), **STATEMENT)[1],
        p.ContrastPair(stem="b", negative=" no", positive=" yes", label=label),
    ]
    if not isinstance(label, np.generic):
        doors.append(p.from_table(jsonl(tmp_path, rows), **STATEMENT)[1])
    assert [(type(d.label), d.label) for d in doors] == [(int, wanted)] * len(doors)
    assert len({p.PromptSet([d]).hash for d in doors[:3]}) == 1


@pytest.mark.parametrize("label", NO_LABELS, ids=repr)
def test_what_is_no_label_is_refused_at_every_door(label, tmp_path):
    rows = [{"statement": "a", "right answer": 1}, {"statement": "b", "right answer": label}]
    match = r"row 1: a label is 0/1, true/false or yes/no, got .* in 'right answer'"
    sources = [rows, pd.DataFrame(rows)]
    if not isinstance(label, bytes) and label is not pd.NA:
        sources += [jsonl(tmp_path, rows), csv_file(tmp_path, rows)]
    for source in sources:
        for load in (lambda s, c: p.from_table(s, c, **STATEMENT), p.own_statements):
            with pytest.raises(errors.BadInput, match=match):
                load(source, {"label": "right answer"})
    with pytest.raises(errors.BadInput, match="label must be 0 or 1"):
        p.ContrastPair(stem="a", negative=" no", positive=" yes", label=label)


def test_labels_of_lists_are_labels(tmp_path):
    targets = {"choices": ["a", "b"], "labels": [1, 2]}
    row = {"question": "Q?", "mc1_targets": targets, "mc2_targets": targets}
    with pytest.raises(errors.BadInput, match=r"mine.jsonl, row 0: a label is 0/1, .* got 2 in 'mc1_targets.labels' \(line 1\)"):
        p.truthfulqa_mc(jsonl(tmp_path, [row]))


@pytest.mark.parametrize(
    ("change", "load", "column"),
    [
        (TRUTH | {"correct_answers": ["a", "b\x00"]}, p.truthfulqa_mc, "'correct_answers' an answer holds a control"),
        (TRUTH | {"incorrect_answers": "b; c\x07"}, p.truthfulqa_mc, "'incorrect_answers' an answer holds a control"),
        (MMLU | {"choices": ["a", None]}, p.mmlu, "'choices' an answer is None"),
        (MMLU | {"choices": [3, 4]}, p.mmlu, "'choices' an answer is 3"),
        (MMLU | {"subject": ["law"]}, p.mmlu, r"'subject' is \['law'\], and must be a name"),
        (MMLU | {"answer": True}, p.mmlu, "'answer' is True"),
        (XSTEST | {"focus": {"a": 1}}, p.xstest, "'focus' is {'a': 1}, and must be a name"),
        (AB | {"category": ["x"]}, p.load_ab, r"'category' is \['x'\], and must be a name"),
        (AB | {"correct": None}, p.load_ab, "'correct' is None, and must be text"),
        ({"instruction": "a", "category": 1.5}, p.instructions, "'category' is 1.5, and must be a name"),
    ],
)
def test_nothing_is_made_text_in_silence(change, load, column, tmp_path):
    with pytest.raises(errors.BadInput, match=rf"^mine.jsonl, row 0: (in )?{column}.*\(line 1\)$"):
        load(jsonl(tmp_path, [change]))


# ------------------------------------------------------------------ columns and names

OWN = pd.DataFrame({"text": ["a", "b"], "truth": [1, 0]})


@pytest.mark.parametrize("load", [lambda f, c: p.from_table(f, c, **STATEMENT), p.own_statements, p.statements])
@pytest.mark.parametrize(
    ("columns", "error", "match"),
    [
        (
            {"statement": "text", "label": "truth", "sentence": "text"},
            errors.BadInput,
            "columns: no field 'sentence'; there are: statement",
        ),
        ({"text": "statement", "truth": "label"}, errors.BadInput, "no field 'text'.*The field comes first: statement=text"),
        (
            {"statement": "text", "label": "truth", "identity": "text"},
            errors.BadInput,
            "'text' is named for 'statement' and for 'identity'",
        ),
        ({"statement": "txt", "label": "truth"}, errors.MissingColumn, "no column 'txt' for 'statement'; the table has: text, truth"),
        ({"statement": None, "label": "truth"}, errors.MissingColumn, "no column None for 'statement'"),
        ({"statement": "text"}, errors.MissingColumn, "no column for 'label'; the table has: text, truth. Name it"),
        (["text", "truth"], errors.BadInput, "columns is a mapping of fields to columns"),
    ],
)
def test_columns_are_checked_alike(load, columns, error, match):
    with pytest.raises(error, match=match):
        load(OWN, columns)


@pytest.mark.parametrize("path", [None, 5, math.nan, "", "a\x00.csv", pd.DataFrame({"a": [1]})])
def test_what_is_no_path(path):
    for read in (p.read_table, p.read_lines):
        with pytest.raises(errors.BadInput, match=r"^the path of a file (is|holds) "):
            read(path)
    for given in (path, "Bake"):
        if not isinstance(given, pd.DataFrame):
            with pytest.raises(errors.BadInput, match="harmless instructions are a list of texts or a table, got "):
                p.instruction_pairs(["a"], given)


@pytest.mark.parametrize("source", [{"statement": "a"}, ["a"], [["a", 1]], None, 5])
def test_what_is_no_table(source):
    with pytest.raises(
        errors.BadInput, match=r"a file, a data frame or a list of mappings is needed|a mapping of columns to values is needed"
    ):
        p.from_table(source, template="base_short")


def test_a_column_is_read_for_one_field():
    rows = pd.DataFrame({"claim": ["a", "b"], "label": [1, 0], "template": ["x", "y"], "stem": ["s", "t"]})
    pair = p.from_table(rows, {"statement": "claim"}, template="since_claim" , claim="harm")[0]  # fmt: skip
    assert (pair.meta["statement"], pair.claim, pair.template) == ("a", "harm", "since_claim")
    assert p.from_table(rows)[0].claim == "a", "without a template it is the name of the claim"
    assert p.from_table(rows.assign(statement="said"))[0].meta["statement"] == "said"
    with pytest.raises(errors.BadInput, match="columns are those of a table of your own, and 'udhr' is none"):
        p.statements("udhr", {"statement": "text"})


@pytest.mark.parametrize("field", ["identity", "right"])
@pytest.mark.parametrize("empty", ["", " ", None, math.nan])
@pytest.mark.parametrize("load", [lambda f, c: p.from_table(f, c, **STATEMENT), p.own_statements])
def test_all_rows_have_a_name_or_none_has(field, empty, load):
    rows = pd.DataFrame({"statement": ["a", "b"], "label": [1, 0], "who": ["x", empty]})
    with pytest.raises(errors.MissingColumn, match=rf"^the table, row 1 has no {field}, others have one: 'who' is .*fill it in, or leave"):
        load(rows, {field: "who"})
    assert p.from_table(rows.assign(who=empty), {"identity": "who"}, **STATEMENT).to_frame()["identity"].tolist() == ["row 0", "row 1"]


@pytest.mark.parametrize(("value", "name"), [(3, "3"), (3.0, "3"), ("3.0", "3.0"), ("007", "007"), (" a ", "a"), (np.int64(3), "3")])
def test_names(value, name):
    rows = [{"statement": "a", "label": 1, "identity": value}]
    assert p.from_table(rows, **STATEMENT)[0].identity == name
    if not isinstance(value, str):
        assert p.ContrastPair(stem="s", negative="a", positive="b", label=0, identity=value).identity == name


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 1.5, True, "a\x00", "a\ud83d", b"a"])
@pytest.mark.parametrize("field", ["identity", "group", "right"])
def test_what_is_no_name_is_refused(field, value):
    with pytest.raises(errors.BadInput, match=rf"^the table, row 0: '{field}' (is .*must be a name|holds )"):
        p.from_table([{"statement": "a", "label": 1, field: value}], **STATEMENT)
    for bad in (value, None, math.nan, pd.NA):
        with pytest.raises(errors.BadInput, match=rf"^the {field} of a contrast pair (is .*must be a name|holds )"):
            p.ContrastPair(**{"stem": "s", "negative": "a", "positive": "b", "label": 0, field: bad})


def test_meta_is_plain_and_names_no_field():
    def made(meta):
        return p.ContrastPair(stem="s", negative="a", positive="b", label=0, meta=meta)

    assert p.PromptSet([made({"k": np.int64(3), "x": np.float32(0.5)})]).hash == p.PromptSet([made({"k": 3, "x": 0.5})]).hash
    for meta, match in (
        ({"label": 1}, "meta has a value named 'label', which is a column of its own"),
        ({"k": [1]}, r"'k' in the meta of a contrast pair is \[1\]"),
        ({"k": None}, "'k' in the meta of a contrast pair is None"),
        ({"k": "a\ud83d"}, "'k' in the meta of a contrast pair holds half a character"),
        ({1: "a"}, "a name in the meta of a contrast pair is 1"),
        (None, "meta is a mapping of names to values, got None"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            made(meta)


def test_columns_that_no_field_uses(tmp_path):
    rows = [{"statement": s, "label": 1, "n": i, "x": None if i else 0.5, "l": [1], "flag": True} for i, s in enumerate("ab")]
    assert [dict(q.meta) for q in p.from_table(jsonl(tmp_path, rows), **STATEMENT)] == [
        {"n": 0, "x": 0.5, "flag": True, "statement": "a"},
        {"n": 1, "flag": True, "statement": "b"},
    ]
    assert [dict(q.meta) for q in p.from_table(pd.DataFrame(rows), **STATEMENT)][1] == {"n": 1, "flag": True, "statement": "b"}
    text = [{k: v for k, v in row.items() if k != "l"} | {"x": "0.50"} for row in rows]
    assert dict(p.from_table(csv_file(tmp_path, text), **STATEMENT)[1].meta) == {"n": 1, "x": "0.50", "flag": True, "statement": "b"}


# ------------------------------------------------------------------ what stands there twice


def test_a_repeated_text_is_one_identity_and_never_on_both_sides():
    rows = pd.DataFrame({"statement": ["One.", "Two.", "one. ", "Three.", "Two."], "label": [1, 0, 1, 0, 1]})
    frame = p.from_table(rows, **STATEMENT).to_frame()
    assert frame["identity"].tolist() == ["row 0", "row 1", "row 0", "row 3", "row 1"]
    assert frame["statement"].tolist() == rows["statement"].tolist()
    for seed in range(5):
        side = p.grouped_split(frame, seed=seed, by=("identity",)).side(frame)
        assert side[0] == side[2]
        assert side[1] == side[4]
    again = p.conversations([PAIR, PAIR | {"chosen": "x"}, PAIR])
    assert [q.identity for q in again] == ["row 0", "row 1", "row 0"]
    with pytest.raises(errors.BadInput, match="the conversations, row 1: 'chosen' and 'rejected' are the same conversation"):
        p.conversations([PAIR, {"chosen": "a", "rejected": "a\n"}])


def test_own_statements_name_both_rows(tmp_path):
    rows = [{"statement": f"Statement {i % 70}.", "label": i % 2} for i in range(71)]
    source = p.own_statements(jsonl(tmp_path, rows))
    assert [(s.source, s.row) for s in source.skipped] == [("mine.jsonl", 70)]
    assert len(source.frame) == 70
    with pytest.raises(errors.BadInput, match=r"^mine.jsonl, row 70: it stands there already, in row 0 .*line 71"):
        p.own_statements(jsonl(tmp_path, rows), strict=True)


def test_lists_say_what_is_asked_for_twice(tmp_path):
    women = p.Identity(identity="women", group="mine")
    for asked, match in (
        (["women", "women"], "the identity 'women' is asked for twice"),
        (["women", women], "the identity 'women' is asked for twice"),
        ([None], "None is no identity: give a name of the list, or a value of Identity"),
        ([p.rights()[0]], "is no identity"),
        ("women", "a list is asked for, got the text 'women' as identity"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            p.udhr(identities=asked, rights=["vote"])
    (tmp_path / "who.txt").write_text("bakers\n# more\nmillers\n Bakers \n")
    with pytest.raises(errors.BadInput, match=r"who\.txt, line 4: 'Bakers' stands in line 1 already"):
        p.identities_from_lines(tmp_path / "who.txt")
    (tmp_path / "yes.txt").write_text("have the right\n")
    with pytest.raises(errors.BadInput, match="right 1 is granted and denied in the same words"):
        p.rights_from_lines(tmp_path / "yes.txt", tmp_path / "yes.txt")
    with pytest.raises(errors.BadInput, match="the number of 'x' is plural or singular, got 'plurl'"):
        p.Identity(identity="x", group="", number="plurl")


def test_requests_drop_nothing_in_silence():
    known = p.request_pairs()[0]["id"]
    assert len(p.requests(ids=[known])) == 2
    with pytest.raises(errors.UnknownName, match="no request named 'none of them'"):
        p.requests(ids=[known, "none of them"])
    for n in (0, -1):
        with pytest.raises(errors.BadInput, match="n is the number of items to draw, at least 1"):
            p.requests(n=n)


def test_a_split_names_the_row_without_a_group():
    rows = pd.DataFrame({"identity": ["a", "b", None, "c"] * 4})
    for cut in (lambda: p.grouped_split(rows, by=("identity",)), lambda: p.grouped_folds(rows, 2, by=("identity",))):
        with pytest.raises(errors.MissingColumn, match=r"row 2 has no identity to split by \(4 such rows\)"):
            cut()


def test_a_prompt_set_holds_pairs():
    with pytest.raises(errors.BadInput, match="item 1 of the prompt set 'x' is 'text', and must be a ContrastPair"):
        p.PromptSet([p.ContrastPair(stem="s", negative="a", positive="b", label=0), "text"], name="x")
    with pytest.raises(errors.BadInput, match="instruction_end '1' lies outside"):
        p.ContrastPair(stem="s", negative="a", positive="b", label=0, instruction_end="1")


@pytest.mark.parametrize("value", [None, 5, "a\x00b", "a\ud83d"])
def test_whatever_is_put_into_a_template_is_text(value):
    with pytest.raises(errors.BadInput, match=r"the text for \{statement\} (is|holds)"):
        Template(name="t", text="{statement}{instruction_end} A:").render(statement=value)
    if isinstance(value, str):
        with pytest.raises(errors.BadInput, match="an option of a choice holds"):
            p.choices_to_prompts([Choice(question="Q?", options=("a", value), target=0)])
        with pytest.raises(errors.BadInput, match="a claim holds"):
            p.udhr("since_claim", f"my {value} claim", n=2)


@pytest.mark.parametrize("answers", ["no", ("no",), ("no", None), ("no", ""), ("no", " "), ("no", "no"), ("no", "a\x00"), (0, 1), None])
def test_answer_words_are_two_texts(answers):
    rows = [{"statement": "a", "label": 1}]
    for make in (
        lambda: p.from_table(rows, template="base_short", answers=answers),
        lambda: p.udhr(n=2, answers=answers),
        lambda: p.requests(n=1, answers=answers),
        lambda: p.instruction_pairs(["a"], ["b"], answers=answers),
    ):
        with pytest.raises(errors.BadInput, match=r"^answers are two words|^answer word|^both answer words"):
            make()


@pytest.mark.parametrize("count", [0, -1, 2.5, "2", True, math.nan])
def test_counts_are_whole_numbers(count, tmp_path):
    for draw in (
        lambda: p.udhr(n=count),
        lambda: p.requests(n=count),
        lambda: p.hh_rlhf(jsonl(tmp_path, [PAIR]), limit=count),
        lambda: p.xstest(jsonl(tmp_path, [XSTEST]), limit=count),
        lambda: p.mmlu(jsonl(tmp_path, [MMLU]), limit=count),
    ):
        with pytest.raises(errors.BadInput, match=r"items to draw, at least 1; got"):
            draw()


@pytest.mark.parametrize("index", [True, np.bool_(False), 1.0, "1", None, 7, -1])
def test_indices_are_whole_numbers(index):
    with pytest.raises(errors.BadInput, match=r"an index is a whole number, got .*np.flatnonzero|index -?\d of a prompt set of 4 items"):
        p.udhr(n=4).subset([0, index])


@pytest.mark.parametrize("given", [5, math.nan, ["a"], "a\x00b c {x}"])
def test_templates_and_claims_are_texts(given):
    with pytest.raises(errors.BadInput, match=r"^a template (is|holds) "):
        p.udhr(given)
    with pytest.raises(errors.BadInput, match=r"^a claim (is|holds) "):
        p.udhr("since_claim", given)


# ------------------------------------------------------------------ files of people's verdicts, and of the CAA study


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.replace("comment", "verdict"), "v.csv has two columns 'verdict' in line 1"),
        (lambda t: t.rstrip("\n") + ",more\n", "line 2: 6 cells, and the first line has 5"),
        (
            lambda t: t.replace("why", "wh\xff").encode("latin-1"),
            r"cannot be read as csv in UTF-8 \(v.csv is not UTF-8 text \(byte .*line 2",
        ),
        (lambda t: t.encode("utf-16"), "it looks like UTF-16; save it as UTF-8"),
        (lambda t: t.encode("utf-16-le"), "it looks like UTF-16; save it as UTF-8"),
    ],
)
def test_files_of_verdicts(change, match, tmp_path):
    judge = PeopleJudge(tmp_path / "v.csv")
    text = judge.write(["why"], ["so"]).read_text(encoding="utf-8-sig").replace("\r", "")
    changed = change(text)
    (tmp_path / "v.csv").write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(BadVerdicts, match=match):
        judge.judge(["why"], ["so"])


def test_verdicts_on_whatever_a_model_wrote(tmp_path):
    answers = ["a\u2028b", "a\x00b", "a\x0cb", "x" * 200_000]
    judge = PeopleJudge(tmp_path / "v.csv")
    path = judge.write(answers, answers)
    path.write_bytes(path.read_bytes().replace(b",,\r\n", b",yes,\r\n"))
    assert judge.judge(answers, answers)["verdict"].tolist() == [True] * 4


def test_a_broken_file_of_open_questions_is_no_missing_one(tmp_path):
    reader = CaaData.__new__(CaaData)
    reader.set = SimpleNamespace(data=tmp_path)
    json_list(tmp_path, [CAA], "generate/kindness/generate_dataset.json")
    assert reader.opened("kindness") is None
    json_list(tmp_path, [{"question": 5}], "test/kindness/test_dataset_open_ended.json")
    with pytest.raises(errors.BadInput, match=r"test_dataset_open_ended\.json, row 0: 'question' is 5, and must be text"):
        reader.opened("kindness")
