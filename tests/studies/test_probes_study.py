"""The probe bench as a study: the run folder, what it says of the two organisms, checkpoints, bad input."""

import json

import numpy as np
import pytest

import workbench as wb
from workbench.core import errors

SMALL = {"train": 100, "test": 100, "methods": ("logistic", "knn", "ccs"), "repeats": 2, "draws": 20, "resamples": 50, "claims": ("harm",)}


@pytest.fixture
def no_browser(monkeypatch):
    """Stills take seconds, and the UDHR study draws them."""
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Three steps of an organism's training, far too few to learn anything."""
    import sys

    from safetensors.torch import load_file

    from workbench.organism import train_organism

    folder = tmp_path_factory.mktemp("organism")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["workbench.organism.train"], "TOKENIZER_TEXTS", 300)  # a tokenizer from fewer texts is made sooner
        train_organism("udhr-organism", folder, steps=9, checkpoints=3, log=lambda _: None)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-1", "step-3", "step-9"]
    one, two = (load_file(f / "model.safetensors") for f in (folder, folder / "checkpoints" / "step-9"))
    assert all((one[k] == two[k]).all() for k in one)
    return folder / "checkpoints"


def test_run_folder_and_findings(tmp_path, checkpoints, no_browser, documented):
    run = wb.run_study("probes", out=tmp_path / "run", progress=False, checkpoints=str(checkpoints), **SMALL)
    assert json.loads((run.folder / "run.json").read_text())["status"] == "finished"
    documented(run)
    for name in ("layers", "methods", "transfer", "sample_efficiency", "ccs_honesty", "tampering", "training"):
        assert (run.folder / "figures" / f"{name}.html").is_file()
        assert (run.folder / "figures" / f"{name}.csv").is_file()
    table = run.tables["probes"]
    assert {"layer", "site", "method", "condition", "split", "metric", "value", "low", "high", "n"} <= set(table.columns)
    at = table[(table["metric"] == "accuracy") & (table["control"] == "") & (table["layer"] == 4) & (table["condition"] == "harm")]
    assert (at.set_index("method").loc[["logistic", "ccs"], "value"] > 0.9).all()
    assert set(table["control"]) == {
        "", "untrained_model", "embedding", "shuffled_labels", "random_directions", "bag_of_words", "ngrams", "token_embeddings", "burns_exact"
    }  # fmt: skip
    roc = run.tables["tampering"].set_index(["condition", "metric"])
    assert roc.loc[("harm", "auroc"), "value"] > 0.95
    assert (run.tables["tampering"].dropna(subset="kind")["kind"].isin(["held out", "unpushed"])).all()
    changes = run.tables["change_points"].set_index("method")
    assert np.isnan(changes.loc["ccs", "value"]), "nine steps teach nothing"
    text = " ".join(run.findings)
    for word in ("By method", "Nonlinear", "Controls", "Transfer", "How few", "What CCS found", "Broken from outside", "Across training"):
        assert word in text
    assert "What was found" in run.report.read_text()


def test_bad_input(tmp_path, organism):
    for options, text in (
        ({"train": 20}, "train: 100 items at least"),
        ({"claims": ("good",)}, "claims= must hold it"),
        ({"checkpoints": str(tmp_path)}, "workbench train … --checkpoints"),
        ({"behaviour": 3}, "has no setting behaviour"),
    ):
        with pytest.raises(errors.BadInput, match=text):
            wb.run_study("probes", model=organism, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
