import numpy as np
import pandas as pd
import pytest

from workbench.core.errors import DamagedRun, MissingColumn, TooFew
from workbench.core.tables import pick, read_csv, span, write_csv

TABLE = pd.DataFrame({"layer": [0, 1, 1], "split": ["test", "train", "test"], "n": [40, 60, 50]})


def test_pick_keeps_the_matching_rows_and_their_labels():
    assert pick(TABLE, layer=1).index.tolist() == [1, 2]
    assert pick(TABLE, layer=1, split="test").index.tolist() == [2]
    assert pick(TABLE).equals(TABLE)
    assert pick(TABLE, layer=9).columns.tolist() == ["layer", "split", "n"]


def test_pick_changes_nothing():
    before = TABLE.copy()
    pick(TABLE, layer=1)
    assert TABLE.equals(before)


def test_pick_names_the_columns_that_exist():
    with pytest.raises(MissingColumn, match=r"no column 'site'.*layer, split, n"):
        pick(TABLE, site="resid_post")


@pytest.mark.parametrize(("counts", "text"), [([60, 60], "60"), ([60, 40, 50], "40 to 60"), ([np.nan, 7.0], "7")])
def test_span(counts, text):
    assert span(pd.DataFrame({"n": counts})) == text


@pytest.mark.parametrize("counts", [[], [np.nan, np.nan]])
def test_span_of_nothing(counts):
    with pytest.raises(TooFew, match="no number of items"):
        span(pd.DataFrame({"n": counts}))


def test_span_without_counts():
    with pytest.raises(MissingColumn, match=r"no column 'n'.*layer"):
        span(pd.DataFrame({"layer": [0]}))


# ------------------------------------------------------------------ csv

LIVE = [
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-x",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    " =1",
    "\x00=1",
    "\uff1d1",
    "'=x",
    "''=x",
    '=HYPERLINK("x","y")',
]
TAME = [
    "plain",
    "",
    "-0.5",
    "+1",
    "-1e-5",
    ".5",
    "-inf",
    "'hello",
    "don't",
    "a=b",
    "a\rb",
    "a\r\nb",
    'a"b',
    "a,b",
    "NA",
    "=".join("ab"),
    "\u2028x",
]


def test_a_text_that_a_spreadsheet_would_run_is_inert_in_the_file_and_itself_when_read(tmp_path):
    texts = [*LIVE, *TAME]
    table = pd.DataFrame({"text": texts, "=header": ["x"] * len(texts), "value": np.linspace(-1, 1, len(texts))})
    write_csv(tmp_path / "t.csv", table)
    seen = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)  # as another program sees it
    assert seen.columns.tolist() == ["text", "'=header", "value"]
    assert seen["text"].tolist() == ["'" + t for t in LIVE] + TAME
    assert seen["value"].tolist() == pytest.approx(table["value"].tolist(), rel=1e-5)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv"), table, rtol=1e-5)


def test_numbers_are_never_touched(tmp_path):
    table = pd.DataFrame(
        {"f": [-0.5, np.nan], "i": [-3, 4], "o": pd.Series([-0.25, "x"], dtype=object), "b": [True, False], "inf": [-np.inf, np.inf]}
    )
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "f,i,o,b,inf\n-0.5,-3,-0.25,True,-inf\n,4,x,False,inf\n"
    assert read_csv(tmp_path / "t.csv")[["f", "i", "b", "inf"]].equals(table[["f", "i", "b", "inf"]])


def test_written_twice_it_is_the_same_file(tmp_path):
    table = pd.DataFrame({"text": [*LIVE, *TAME], "value": 0.123456789})
    write_csv(tmp_path / "one.csv", table)
    write_csv(tmp_path / "two.csv", read_csv(tmp_path / "one.csv"))
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.parametrize("table", [pd.DataFrame(), pd.DataFrame({"a": [], "b": []}), pd.DataFrame([["=1", -0.5]], columns=["a", "a"])], ids=["no columns", "no rows", "one name twice"])  # fmt: skip
def test_small_tables_are_read_back(table, tmp_path):
    write_csv(tmp_path / "t.csv", table)
    assert read_csv(tmp_path / "t.csv").to_numpy().tolist() == table.to_numpy().tolist()


def test_half_a_character_is_written_as_its_escape(tmp_path):
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": pd.Series(["x\ud800"], dtype=object)}))
    assert read_csv(tmp_path / "t.csv")["a"].tolist() == ["x\\ud800"]


@pytest.mark.parametrize(
    "data", [None, b"", b"\xff\xfe", b'a,b\n"1', b"a\n1,2\n3,4,5\n"], ids=["missing", "empty", "no text", "cut off", "ragged"]
)
def test_what_is_no_table_is_called_so_by_name(data, tmp_path):
    if data is not None:
        (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DamagedRun, match=r"t\.csv .*run "):
        read_csv(tmp_path / "t.csv")
