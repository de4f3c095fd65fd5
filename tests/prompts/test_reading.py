"""The one reader of files: lines, encodings, formats, columns; and that every loader reads through it."""

import ast
import csv
import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import SHARED

from workbench import prompts as p
from workbench.core import errors
from workbench.prompts.rows import read_rows
from workbench.prompts.table import open_table

ROOT = Path(__file__).resolve().parents[2] / "workbench"
# what cuts a line in str.splitlines and not in a file
CUTS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
ROWS = [{"statement": "One.", "label": 1}, {"statement": "Two.", "label": 0}]


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


# ------------------------------------------------------------------ lines


@pytest.mark.parametrize("cut", CUTS, ids=ascii)
def test_a_line_ends_at_a_line_feed_and_nowhere_else(cut, tmp_path):
    text = f"One{cut}and two."
    lines = write(tmp_path / "x.txt", f"\ufeff# mine\r\n{text}\r\n\r\n  three \n")
    assert p.read_lines(lines) == [text, "  three "]
    assert [i.identity for i in p.identities_from_lines(lines)] == [text, "three"]
    rows = [{"statement": text, "label": 1}, {"statement": "Three.", "label": 0}]
    escaped = cut < " "  # JSON allows no such character as it is
    body = "\r\n".join(json.dumps(r, ensure_ascii=escaped) for r in rows)
    for name, whole in (
        ("x.jsonl", "\ufeff" + body),
        ("x.ndjson", body + "\n\n"),
        ("x.json", "\ufeff[" + body.replace("\r\n", ",\r\n") + "]"),
    ):
        file = write(tmp_path / name, whole)
        assert read_rows(file) == rows
        assert p.read_table(file)["statement"].tolist() == [text, "Three."]
        assert [q.meta["statement"] for q in p.from_table(file, template="base_short")] == [text, "Three."]
        zipped = write(tmp_path / f"{name}.gz", gzip.compress(whole.encode()))
        assert p.from_table(zipped, template="base_short", name="x") == p.from_table(file, template="base_short", name="x")
    table = write(tmp_path / "x.csv", f"statement,label\n{text},1\nThree.,0\n")
    assert p.read_table(table)["statement"].tolist() == [text, "Three."]


def test_a_list_without_entries(tmp_path):
    with pytest.raises(errors.EmptyPromptSet, match=r"x\.txt has no entries: write one a line"):
        p.read_lines(write(tmp_path / "x.txt", "# nothing\n\n \n"))
    with pytest.raises(errors.BadInput, match=r"x.txt, line 2 holds a control character \(U\+0000\) at character 1"):
        p.read_lines(write(tmp_path / "x.txt", "fine\na\x00b\n"))
    with pytest.raises(errors.BadInput, match=r"^no file \'gone\.txt\'$"):
        p.read_lines(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.csv", 'statement,label\n"one\r\nand\n\ntwo",1\n\n\n"bad",maybe\n', 8),
        ("x.csv", "\nstatement,label\r\none,1\r\nbad,maybe\r\n", 4),
        ("x.jsonl", '\n{"statement": "a", "label": 1}\n \r\n{"statement": "b", "label": "maybe"}', 4),
        ("x.json", '[\n  {\n    "statement": "a",\n    "label": 1\n  },\n  {\n    "statement": "b", "label": "maybe"}]', 6),
        ("x.json", '[{"statement": "a, [{", "label": 1}, {"statement": "b", "label": "maybe"}]', 1),
    ],
)
def test_the_line_of_a_row_is_that_of_an_editor(name, text, line, tmp_path):
    with pytest.raises(errors.BadInput, match=rf"^{name}, row 1: a label is .*\(line {line}\)$"):
        p.from_table(write(tmp_path / name, text), template="base_short")


def test_a_row_in_memory_is_named_by_its_index():
    frame = pd.DataFrame({"statement": list("abcd"), "label": [1, 0, 1, 2]})[1:]
    with pytest.raises(errors.BadInput, match=r"^the table, row 2: a label is .*\(index 3\)$"):
        p.from_table(frame, template="base_short")


# ------------------------------------------------------------------ encodings and broken files

LOADERS = {
    "read_table": p.read_table,
    "from_table": lambda f: p.from_table(f, template="base_short"),
    "own_statements": p.own_statements,
    "conversations": p.conversations,
    "hh_rlhf": p.hh_rlhf,
    "xstest": p.xstest,
    "instructions": p.instructions,
    "load_caa": p.load_caa,
    "load_ab": p.load_ab,
    "truthfulqa": p.truthfulqa,
    "truthfulqa_mc": p.truthfulqa_mc,
    "mmlu": p.mmlu,
}
TEXT = "statement,label\nÄrger,1\nÖl,0\n"
BROKEN = {
    "latin-1": ("x.csv", TEXT.encode("latin-1"), r"x.csv is not UTF-8 text \(byte 16\), line 2: save it as UTF-8"),
    "latin-1 behind a mark": ("x.csv", b"\xef\xbb\xbf" + TEXT.encode("latin-1"), r"\(byte 19\), line 2: save it"),
    "utf-16": ("x.csv", TEXT.encode("utf-16"), r"x.csv is not UTF-8 text \(byte 0\): it looks like UTF-16; save it as UTF-8"),
    "utf-16 without a mark": ("x.csv", TEXT.encode("utf-16-le"), "it looks like UTF-16"),
    "utf-32": ("x.jsonl", json.dumps(ROWS[0]).encode("utf-32-be"), "it looks like UTF-16"),
    "empty": ("x.csv", b"", "x.csv has no rows"),
    "a mark alone": ("x.jsonl", b"\xef\xbb\xbf\r\n", "x.jsonl has no rows"),
    "only a head": ("x.csv", b"statement,label\n", "x.csv has no rows"),
    "an empty list": ("x.json", b"[]", "x.json has no rows"),
    "empty json": ("x.json", b"", "x.json, line 1 column 1: not JSON"),
    "two columns, csv": ("x.csv", b"label,label\n1,0\n", r"x.csv has two columns named 'label' \(columns 1 and 2\): rename or remove one"),
    "two columns, jsonl": ("x.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}', r"x.jsonl, row 1: two columns named 'a': .* \(line 2\)"),
    "two columns, json": ("x.json", b'[{"a": 1},\n{"a": 1, "a": 2}]', r"x.json, row 1: two columns named 'a': .* \(line 2\)"),
    "two keys inside": ("x.jsonl", b'{"a": 1}\n{"a": {"b": {"c": 1, "c": 2}}}', r"x.jsonl, row 1: two columns named 'c'"),
    "a column's name": ("x.csv", b"sta\x1btement,label\na,1\n", r"x.csv: the name of column 1 holds a control character \(U\+001B\)"),
    "ragged": ("x.csv", b"a,b\n1,2\n1,2,3\n", r"x.csv, row 1 \(line 3\): 3 fields under 2 columns; a text with a comma needs quotes"),
    "open quote": ("x.csv", b'a,b\n1,2\n3,"4\n5,6\n', r"x.csv, line 3: not csv \(unexpected end of data\)"),
    "raw control character": ("x.jsonl", b'{"a": 1}\n{"a": "\x0b"}\n', "x.jsonl, line 2: not JSON .Invalid control character"),
    "endless number": ("x.jsonl", b'{"a": 1}\n{"a": ' + b"1" * 9000 + b"}", "x.jsonl, line 2: not JSON that can be read"),
    "deep": ("x.json", b"[" * 100_000, "x.json: not JSON that can be read"),
    "parquet": ("x.parquet", b"PAR1", "x.parquet cannot be read as parquet"),
    "ending": ("x.txt", b"a", r"a file of rows ends in one of .*; save it as .csv, .jsonl or .parquet"),
}


@pytest.mark.parametrize(("name", "content", "match"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_broken_file_is_refused_by_every_loader_in_the_same_words(load, name, content, match, tmp_path):
    file = write(tmp_path / "kindness" / name, content)
    with pytest.raises(errors.BadInput, match=match) as caught:
        load(file)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).isprintable()


def test_two_columns_of_one_name_elsewhere(tmp_path):
    doubled = pd.DataFrame([["a", 1, "b"]], columns=["statement", "label", "statement"])
    match = r"the table has two columns named 'statement' \(columns 1 and 3\)"
    for load in (lambda f: p.from_table(f, template="base_short"), p.own_statements):
        with pytest.raises(errors.BadInput, match=match):
            load(doubled)
    with pytest.raises(errors.BadInput, match="the harmful table has two columns named 'instruction'"):
        p.instruction_pairs(pd.DataFrame([["a", "b"]], columns=["instruction"] * 2), ["c"])
    pyarrow.parquet.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]), tmp_path / "x.parquet")
    with pytest.raises(errors.BadInput, match=r"x\.parquet has two columns named 'x'"):
        p.read_table(tmp_path / "x.parquet")
    with pytest.raises(errors.BadInput, match="column names of 2 levels"):
        p.from_table(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("statement", "a")])), template="base_short")


def test_tables_without_rows():
    for load in (lambda f: p.from_table(f, template="base_short"), p.conversations):
        with pytest.raises(errors.EmptyPromptSet):
            load(pd.DataFrame({"statement": [], "label": []}))
    with pytest.raises(errors.BadInput, match="0 statements; 64 at least"):
        p.own_statements(pd.DataFrame({"statement": [], "label": []}))
    with pytest.raises(errors.MissingColumn):
        p.from_table([], template="base_short")


# ------------------------------------------------------------------ what a file says is what is read


def test_csv_numbers_are_numbers_only_where_nothing_is_lost(tmp_path):
    columns = {
        "whole": ["1", "-20"], "mixed": ["1", "0.5"], "truth": ["True", "False"],
        "zeros": ["007", "1"], "exponent": ["1e5", "2"], "long": ["0.50", "0.5"], "empty": ["1", ""], "nan": ["nan", "1.0"],
        "inf": ["inf", "1.0"], "NA": ["NA", "N/A"], "null": ["null", "None"], "lower": ["true", "false"], "plus": ["+1", "2"],
        "spaces": [" 1", "2"], "score": ["1_000", "2"], "other digits": ["١", "2"],
    }  # fmt: skip
    file = tmp_path / "x.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
    got = p.read_table(file)
    assert {c: got[c].tolist() for c in columns} == columns | {"whole": [1, -20], "mixed": [1.0, 0.5], "truth": [True, False]}
    assert got["truth"].dtype == bool
    assert [list(r.values()) for r in read_rows(file)] == [list(r) for r in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet", "x.csv"])
def test_names_and_statements_made_of_digits_stay(name, tmp_path):
    rows = [{"statement": "1984", "label": "1", "identity": "007"}, {"statement": "2001", "label": "0", "identity": "07"}]
    file = tmp_path / name
    {
        ".csv": lambda: pd.DataFrame(rows).to_csv(file, index=False),
        ".parquet": lambda: pd.DataFrame(rows).to_parquet(file),
        ".json": lambda: file.write_text(json.dumps(rows)),
        ".jsonl": lambda: file.write_text("\n".join(map(json.dumps, rows))),
    }[file.suffix]()
    got = p.from_table(file, template="{statement}")
    assert [(q.stem, q.identity) for q in got] == [("1984", "007"), ("2001", "07")]
    assert p.from_table(file, template="base_short").name == "x"


def test_half_a_table_of_pandas_keeps_no_row_numbers(tmp_path):
    frame = pd.DataFrame({"statement": list("abcd"), "label": [0, 1, 0, 1]})[1:3]
    frame.to_parquet(tmp_path / "x.parquet")
    assert list(open_table(tmp_path / "x.parquet").columns) == ["statement", "label"]
    assert [dict(q.meta) for q in p.from_table(tmp_path / "x.parquet", template="base_short")] == [{"statement": "b"}, {"statement": "c"}]


def test_a_long_cell_is_read_and_the_limit_of_others_is_left(tmp_path):
    before, text = csv.field_size_limit(), "x" * 300_000
    file = write(tmp_path / "x.csv", f"statement,label\n{text},1\n")
    assert p.from_table(file, template="{statement}")[0].stem == text
    assert csv.field_size_limit() == before


def test_rows_that_lack_a_column_are_named(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"statement": "a", "label": 1}\n{"statement": "b"}\n')
    with pytest.raises(errors.MissingColumn, match=r"^x.jsonl, row 1: no column 'label'; it has: statement \(line 2\)$"):
        p.from_table(file, template="base_short")


@pytest.mark.parametrize(
    ("cell", "match"),
    [("a\\ud83d", r"x.jsonl, row 0: 'note' holds half a character \(a lone surrogate, U\+D83D\)"), ("a\\u0000", "'note' holds a control")],
)
def test_a_table_is_read_whole_or_refused(cell, match, tmp_path):
    with pytest.raises(errors.BadInput, match=match):
        p.read_table(write(tmp_path / "x.jsonl", f'{{"note": "{cell}"}}\n'))


# ------------------------------------------------------------------ one reader

# the rooms of what comes from outside as text; models, stores and runs read files of their own
ROOMS = ("prompts", "organism", "evaluation", "studies")
READERS = {"read_csv", "read_json", "read_parquet", "read_table", "read_text", "read_bytes", "reader", "DictReader", "splitlines", "open"}
ALLOWED = {
    ("prompts/formats.py", "reader"),  # the one reader
    ("prompts/formats.py", "read_bytes"),
    ("prompts/formats.py", "splitlines"),  # of an error's message
    ("prompts/templates.py", "read_text"),  # the project's own toml
    ("organism/harm_safety.py", "read_text"),  # what an organism's folder says of itself
    ("organism/faint.py", "read_text"),
    ("organism/adapted.py", "read_text"),
    ("studies/debate/study.py", "read_text"),  # debates that it wrote itself
    ("organism/checks.py", "read_text"),
    ("evaluation/judges/cache.py", "read_text"),  # replies that it wrote itself
    ("prompts/rows.py", "read_text"),  # that of prompts/formats.py
    ("prompts/lists.py", "read_text"),
    ("prompts/peek.py", "read_text"),
    ("prompts/published.py", "read_text"),
    ("prompts/student_prompts.py", "read_text"),
    ("studies/caa/source.py", "read_text"),
    ("evaluation/judges/people.py", "read_text"),
    ("evaluation/judges/people.py", "open"),  # to write
    ("evaluation/judges/phrases.py", "read_table"),  # that of prompts/loaders.py
}


def test_every_loader_reads_through_one_reader():
    found = set()
    for path in (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            lines_of_an_error = (
                called == "splitlines" and isinstance(node.func.value, ast.Call) and getattr(node.func.value.func, "id", "") == "str"
            )
            if called in READERS and not lines_of_an_error:
                found.add((name, called))
    assert found == ALLOWED


# ------------------------------------------------------------------ the published files


def test_published_files_are_read_as_they_are():
    folder = SHARED / "datasets"
    if not folder.is_dir():
        pytest.skip("shared/datasets is not here")
    for file in sorted((folder / "azaria_mitchell").glob("*.csv")):
        plain = pd.read_csv(file, dtype=str, keep_default_na=False)
        got = p.from_table(file, template="{statement}")
        assert [q.stem for q in got] == plain["statement"].tolist()
        assert got.labels == plain["label"].astype(int).tolist()
        assert len({q.identity for q in got}) == plain["statement"].str.casefold().str.split().str.join(" ").nunique()
    lines = (folder / "hh_rlhf" / "harmless-base_test_400.jsonl").read_bytes().split(b"\n")
    assert p.hh_rlhf(folder / "hh_rlhf") == [json.loads(line) for line in lines if line]
    for file in sorted((folder / "model_written_evals").glob("*.jsonl")):
        assert len(p.read_table(file)) == sum(bool(line) for line in file.read_bytes().split(b"\n"))
