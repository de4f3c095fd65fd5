"""Every study that is registered keeps the contract of studies, on a model of two layers with random weights: nothing is found in it."""

from pathlib import Path

import pytest
from conftest import SHARED, tiny_model

import workbench as wb
from workbench.runs import find, names

CAA = {"data": str(SHARED / "datasets" / "caa"), "behaviours": ("refusal",), "layers": (0, 1)}
# smaller still than what a study declares for its check (`Study.checked`)
OPTIONS = {
    "udhr": {"behaviour": 16, "train": 40, "test": 32, "rights_per_identity": 1, "resamples": 10, "ccs_epochs": 30},
    "probes": {"methods": ("logistic", "ccs"), "resamples": 20},
    "geometry": {"pushed": 0, "random": 1},
    "patching": {"layers": (), "items": 8},
    "reading": {"layers": ()},
    "caa": CAA,
}


@pytest.fixture(scope="module")
def random_model(tmp_path_factory, organism):
    """A folder as save_pretrained writes it: random weights under the organism's tokenizer, whose prompts are short."""
    folder = tmp_path_factory.mktemp("models") / "drawn-at-random"
    tiny_model("llama", len(organism.tokenizer), layers=2, std=None).save_pretrained(folder)
    organism.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_study_keeps_the_contract(name, random_model, tmp_path, monkeypatch):
    if name == "caa" and not Path(CAA["data"]).is_dir():
        pytest.skip("shared/datasets/caa is not here")
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    roles = {role: str(random_model) for role in find(name).models}
    checked = wb.check_study(name, models=roles, out=tmp_path / "check", **OPTIONS.get(name, {}))
    assert checked.again.agrees
    assert checked.steps >= 2
    main = find(name).main
    assert main is not None
    assert main.table in checked.run.tables
