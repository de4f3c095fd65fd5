"""The findings of the features study follow their rules on planted tables, and the bundled dictionary belongs to the bundled model."""

import pandas as pd
import pytest

import workbench as wb
from workbench.core.errors import BadInput
from workbench.core.paths import data_path
from workbench.features import read_streams
from workbench.features.quality import rows_quality
from workbench.studies.features.report import _made_of, _probed, _together, beyond
from workbench.studies.features.study import FeaturesSettings


def planted(own=(0.9, 0.85, 0.93), **controls):
    rows = [("direction", *own), *((name.replace("_", " "), *v) for name, v in controls.items())]
    table = pd.DataFrame(rows, columns=["subject", "value", "low", "high"])
    needed = {"subject": "direction", "value": 5.0, "low": 4.0, "high": 6.0, "metric": "latents to 90 %", "latents": 0}
    table = table.assign(metric="explained", latents=8)
    return pd.concat([table, pd.DataFrame([needed])], ignore_index=True).assign(direction="stance", method="omp", n=39, note="")


def test_a_direction_is_beyond_a_control_only_where_the_intervals_are_apart():
    table = planted(random_directions=(0.3, 0.2, 0.4), shuffled_labels=(0.8, 0.5, 0.86))
    assert beyond(table, "stance") == {"random directions": True, "shuffled labels": False}


class Run:
    def __init__(self, table):
        self.tables = {"decompositions": table}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (planted(random_directions=(0.3, 0.2, 0.4)), "more than every control"),
        (planted(random_directions=(0.3, 0.2, 0.86)), "not told from random directions"),
        (planted(own=(0.5, float("nan"), float("nan")), random_directions=(0.3, 0.2, 0.4)), "more than every control"),
    ],
)
def test_the_words_say_which_control_was_not_beaten(table, words):
    finding = _made_of(Run(table), "stance")
    assert words in finding
    assert "5 latents reach 90 %" in finding
    assert finding.tables == ("decompositions",)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(BadInput, match="standard, gated"):
        FeaturesSettings(kind="ica")
    with pytest.raises(BadInput, match="seeds: 1"):
        FeaturesSettings(seeds=0)


def test_the_bundled_dictionary_is_small_and_of_the_bundled_model(organism):
    folder = data_path("dictionaries", "udhr-organism")
    assert sum(p.stat().st_size for p in folder.iterdir()) < 3e6
    sae = wb.Dictionary.load("bundled", model=organism)
    held = wb.prompts.udhr("since_claim", "harm", n=12, answers=wb.choose_answers(organism), split=wb.prompts.udhr_split(organism))
    streams = read_streams(organism, held, layer=sae.provenance["layer"], progress=False)
    assert rows_quality(sae, streams)["explained variance"].low > 0.85
    assert rows_quality(sae.permuted(), streams)["explained variance"].high < 0


def test_side_by_side_says_each_couple_with_its_null():
    rows = [("shared", 4, 0, 4, 0.075), ("opposed", 0, 0, 2, 1.0), ("only first", 3, 1, 9, 0.9), ("only second", 5, 2, 9, 0.8)]
    table = pd.DataFrame(rows, columns=["relation", "value", "low", "high", "p"]).assign(n=199, first="harm", second="safety")
    run = Run(None)
    run.tables = {"together": pd.concat([table, table.assign(first="stance", second="truth")])}
    said = str(_together(run))
    assert "Harm and safety: shared 4 (0 to 4 of 199 other directions at this angle, p = 0.075); opposed 0" in said
    assert "3 are of harm alone and 5 of safety alone. Stance and truth: shared 4" in said


@pytest.mark.parametrize(("high", "told"), [(0.6, False), (0.95, True)])
def test_sparse_probes_say_what_is_not_told_from_shuffled_labels(high, told):
    rows = [
        ("latents", 1, 0.9, 0.8, 0.95),
        ("axes of the stream", 1, 0.7, 0.6, 0.8),
        ("shuffled labels", 1, 0.5, 0.4, high),
        ("dense probe on the stream", 0, 1.0, 0.9, 1.0),
        ("shuffled labels", 0, 0.5, 0.4, 0.6),
    ]
    table = pd.DataFrame(rows, columns=["subject", "latents", "value", "low", "high"])
    run = Run(None)
    run.tables = {"probing": table.assign(direction="truth", metric="auroc", n=120, note="")}
    said = str(_probed(run))
    assert "truth: 1 0.90 [0.80, 0.95]" in said
    assert ("not told from shuffled labels" in said) == told
    assert "1 of the stream's own axes, chosen alike, 0.70 [0.60, 0.80]; the dense probe 1.00 [0.90, 1.00] (n=120 rows)" in said
