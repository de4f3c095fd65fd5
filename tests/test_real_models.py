"""docs/real-models.md and the README say what the kept tables hold, and the verdicts follow from these by the rules."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from workbench.studies.udhr.both import decide

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import make_real_models as made

MODELS = [name for name in made.NAMES if (made.KEPT / f"{name}.json").exists()]


def test_the_page_is_written_from_its_tables():
    assert (ROOT / "docs" / "real-models.md").read_text(encoding="utf-8") == made.page()


@pytest.mark.parametrize("name", MODELS)
def test_verdicts_follow_from_the_tables(name):
    kept = made.read(name)
    said = kept["says"].rename(columns={"template": "form", "claim": "condition"}).to_dict("records")
    texts = {"control": "", "minus": ""}
    found = decide(said, kept["readings"].fillna(texts), kept["kept"].fillna(texts))
    keys = ["method", "form", "claim"]
    columns = ["verdict", "inside", "says", "layers"]
    stored = kept["verdicts"].set_index(keys)[columns]
    pd.testing.assert_frame_equal(found.set_index(keys)[columns], stored, check_dtype=False)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_shown_comes_from_the_readings(name):
    kept = made.read(name)
    shown = kept["says_and_knows"].query("what.str.startswith('knows') and condition != 'no claim'")
    readings = kept["readings"].query("fit == form").set_index(["method", "form", "claim", "layer"])["value"]
    for row in shown.itertuples():
        method = "ccs" if "CCS" in row.what else "logistic"
        assert readings.loc[method, row.form, row.condition, row.layer] == pytest.approx(row.value, abs=1e-6)
    assert len(shown) >= 2 * 2 * 2


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_says_the_same(name):
    assert made.sentence(name) in (ROOT / "README.md").read_text(encoding="utf-8")
