"""A plan's seconds grow with what a step has to do, and know steps that were never run."""

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.runs import amount as module
from workbench.runs.amount import Amount
from workbench.runs.cache import Cache
from workbench.runs.rehearsal import Step, expected

SMALL = {"size": 100_000_000, "fast": True}
ENTRY = {"study": "one", "step": "push", "seconds": 10.0, "tokens": 1000, "read": 300, "layers": 3, "source": "", **SMALL}


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cold"))
    return tmp_path / "cold"


def told(step, journal, **facts):
    (row,) = expected("one", [step], True, SMALL | facts, journal)
    return row["seconds"], row["from"]


def step(name="push", **amount):
    return Step(name=name, cached=False, amount=Amount(**amount))


def test_a_larger_grid_takes_longer_by_as_much_as_there_is_more_to_do():
    assert told(step(tokens=1000, read=300), [ENTRY]) == (10.0, "earlier runs")
    seconds, source = told(step(tokens=20_000, read=300), [ENTRY], fast=False)
    assert seconds == pytest.approx(200.0)
    assert "another grid, scaled by how much" in source
    bare = ENTRY | {"tokens": 0}
    assert told(step(read=900), [bare], fast=False)[0] == pytest.approx(30.0), "rows x layers, where no model is run"
    full = ENTRY | {"fast": False, "tokens": 20_000, "seconds": 150.0}
    assert told(step(tokens=1000, read=300), [ENTRY, full]) == (10.0, "earlier runs"), "the run of this very grid counts"


def test_another_model_is_scaled_by_its_size():
    seconds, source = told(step(tokens=2000), [ENTRY], size=400_000_000)
    assert seconds == pytest.approx(10.0 * 2 * 4)
    assert "other models" in source
    seconds, _ = told(step(read=300), [ENTRY | {"tokens": 0}], size=400_000_000)
    assert seconds == pytest.approx(20.0), "what is made of activations grows with the width"


def test_what_was_never_run_is_judged_by_other_steps_or_by_a_rule(monkeypatch):
    seconds, source = told(step("new", tokens=500), [ENTRY])
    assert (seconds, source) == (pytest.approx(5.0), "other steps of this model")
    monkeypatch.setattr(module, "rate", lambda: 1e11)
    seconds, source = told(step("new", tokens=500), [])
    assert seconds == pytest.approx(2 * 1e8 * 500 / (module.BUSY * 1e11))
    assert source.startswith("a rule")
    assert told(step("new", tokens=500), [ENTRY | {"tokens": 0}])[1].startswith("a rule"), "no model was run there"
    assert told(step("new", read=300), [])[0] > 0
    seconds, source = told(step("new"), [])
    assert seconds != seconds
    assert "nothing says how much" in source


def test_entries_that_do_not_say_how_much_they_did_are_not_scaled(monkeypatch):
    monkeypatch.setattr(module, "rate", lambda: 1e11)
    old = {k: v for k, v in ENTRY.items() if k not in ("tokens", "read")}
    assert told(step(tokens=500, read=1), [old])[1].startswith("a rule")


def test_a_plan_of_steering_on_a_fresh_cache_knows_every_step(cold, monkeypatch):
    monkeypatch.setattr("workbench.runs.handle.load_model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(module, "rate", lambda: 1e10)
    total = {}
    for name, fast in (("fast", True), ("full", False)):
        table = wb.plan(wb.Sweep(name="steering", study="steering", fast=fast))
        assert table["seconds"].notna().all(), table[table["seconds"].isna()]
        total[name] = table.set_index("step")["seconds"]
    shared = total["fast"].index.intersection(total["full"].index)
    pushed = ["choose site, layer and coefficient", "dose and response", "every direction at every layer", "what it costs"]
    assert set(pushed) <= set(shared)
    assert (total["full"][pushed] > 2 * total["fast"][pushed]).all()
    assert not cold.exists(), "nothing is written"


def test_a_run_notes_how_much_each_step_did(cold, tmp_path):
    wb.run_study("reading", out=tmp_path / "run", fast=True, layers=(3,), progress=False)
    noted = pd.DataFrame(Cache(cold).journal())
    reads = noted[noted["step"].str.startswith("read")]
    assert (reads["tokens"] > 0).all()
    tables = noted[~noted["step"].str.startswith("read")]
    assert (tables["read"] > 0).all(), "a step that runs no model is judged by what was read before it"
    assert all(json.loads(line)["step"] for line in (cold / "journal.jsonl").read_text().splitlines())


def test_what_prompts_begin_with_alike_and_what_was_read_already_is_counted_once():
    def pair(stem):
        return wb.prompts.ContrastPair(stem=stem, negative=" no", positive=" yes", label=1, identity="a", right="r", template="t")

    shown = "Q: " + "x" * 400
    pairs = wb.prompts.PromptSet([pair(f"{shown}{k}") for k in range(10)])
    assert module.tokens_of(pairs) == pytest.approx((403 + 10) / module.CHARACTERS + 20)
    assert module.tokens_of([pair("<|im_start|>user")]) == pytest.approx(8 / module.CHARACTERS + 2)
    tally = module.Tally()
    assert tally.reads(pairs, None, "store").tokens > 0
    assert tally.reads(pairs, None, "store").tokens == 0
    assert tally.reads(pairs, None, "another").tokens > 0
