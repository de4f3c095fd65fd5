"""Survival: the rule on planted numbers, and the verdict on planted interventions."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from zoo_of_models import bundled

import workbench as wb
from workbench.core import errors
from workbench.core.direction import Direction
from workbench.core.estimate import Estimate, undefined
from workbench.training import Adapter, Part, survival, survival_verdict
from workbench.training.acting import acting, kind_of, lowest, under
from workbench.training.space import output_space, written_along

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import survival_cases


def e(value, low, high):
    return Estimate(value=value, low=low, high=high, n=100, clusters=20)


KEPT, LOST, EDGE = e(0.95, 0.8, 1.1), e(0.05, -0.1, 0.2), e(0.5, 0.3, 0.7)
SAME, OTHER, SOME = e(0.0, 0.0, 0.03), e(0.9, 0.8, 0.95), e(0.1, 0.05, 0.2)


@pytest.mark.parametrize(
    ("want", "numbers"),
    [
        ("erased", (4, LOST, LOST, OTHER)),
        ("erased", (4, LOST, LOST, OTHER, e(0.0, -0.1, 0.1))),
        ("hidden", (4, LOST, LOST, OTHER, e(0.3, 0.1, 0.5))),
        ("rotated", (4, LOST, KEPT, OTHER)),
        ("rotated", (4, KEPT, KEPT, OTHER, None, (3, 4))),
        ("hidden", (4, KEPT, KEPT, OTHER, None, (1, 4))),
        ("untouched", (4, KEPT, KEPT, SAME)),
        ("undetermined", (4, KEPT, KEPT, SOME)),
        ("undetermined", (4, EDGE, KEPT, OTHER)),
        ("undetermined", (4, KEPT, EDGE, OTHER)),
        ("undetermined", (0, None, None, OTHER)),
        ("undetermined", (4, undefined("none"), KEPT, OTHER)),
    ],
)
def test_the_rule_on_planted_numbers(want, numbers):
    verdict, why = survival_verdict(*numbers)
    assert verdict == want
    assert why


@pytest.mark.parametrize("case", survival_cases.WANTED)
def test_planted_interventions_are_told_apart(case):
    verdict, why = survival_cases.judge(bundled(), case, seed=1, items=300)
    assert verdict == survival_cases.WANTED[case], why


def prompts(n=200):
    return wb.prompts.udhr("base_short", n=n, seed=0)


def test_the_table_has_every_aspect_and_patching_the_old_stream_gives_the_old_answers():
    model = bundled()
    found = survival(model, survival_cases.planted(model, "rotated stream", 1), prompts(), depth=24, progress=False)
    table = found.table
    assert set(table["aspect"]) == {"behaviour", "inside", "direction", "depth"}
    at = int(model.cfg.n_layers) - 2
    depth = table[table["aspect"] == "depth"].set_index(["detail", "layer"])["value"]
    assert depth["old into new", at] == 1
    assert depth["new into old", at] < 0.8
    assert list(table.columns) == ["aspect", "detail", "layer", "metric", "value", "low", "high", "n", "note"]


def test_relearning_is_faster_in_a_model_that_knows():
    model = bundled()
    width = int(model.cfg.d_model)
    noise = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
    part = Part(down=noise / 10, up=noise.T / 100)
    change = Adapter(kind="residual", parts={"resid_post[3]": part}, rank=1, alpha=1.0)
    some = prompts(160)
    found = survival(model, change, some, depth=0, few=some[:12], never=wb.untrained_copy(model), steps=(0, 4), progress=False)
    rows = found.table[found.table["aspect"] == "relearning"].set_index("detail")
    assert rows.loc["changed model less one that never knew", "low"] > 0
    assert float(rows.loc["a model that never knew", "value"].iloc[0]) < 0.65


class InFront:
    def apply(self, given):
        from dataclasses import replace

        return wb.PromptSet(replace(p, stem="Well. " + p.stem, instruction_end=None) for p in given)


def test_words_edits_and_adapters_are_all_interventions():
    model, d = bundled(), Direction.of(torch.ones(128), provenance={"site": "resid_post", "layer": 3})
    edits = wb.add(d, 1.0)
    assert lowest(model, edits) == 3
    assert lowest(model, InFront()) == 0
    assert [kind_of(x) for x in (edits, InFront())] == ["activations", "words"]
    assert under(InFront(), prompts(4))[0].stem.startswith("Well. ")
    with acting(model, None), acting(model, InFront()):
        pass
    found = survival(model, InFront(), prompts(120), progress=False)
    assert "depth" not in set(found.table["aspect"])
    for wrong in (3, "words", [1], []):
        with pytest.raises(errors.BadInput):
            survival(model, wrong, prompts(40), progress=False)


def test_an_adapter_that_writes_along_a_direction_is_told_from_random_ones():
    g = torch.Generator().manual_seed(0)
    u, other = torch.randn(64, generator=g), torch.randn(64, generator=g)
    up = torch.stack([u, torch.randn(64, generator=g)], 1)
    adapter = Adapter(kind="residual", parts={"resid_post[1]": Part(down=torch.randn(2, 64, generator=g), up=up)}, rank=2, alpha=2.0)
    assert output_space(adapter, "resid_post[1]").shape == (64, 2)
    table = written_along(adapter, {"its own": Direction.of(u), "another": Direction.of(other)}, seed=0)
    value = table[table["metric"] == "cosine"].set_index("direction")["value"]
    null = table[table["metric"] == "random spaces"].set_index("direction")
    assert value["its own"] == pytest.approx(1, abs=1e-5)
    assert value["another"] < null.loc["another", "high"] + 0.15
    # the null is that of literal random spaces
    cosines = [float((torch.linalg.qr(torch.randn(64, 2, generator=g)).Q.T @ (other / other.norm())).norm()) for _ in range(2000)]
    assert null.loc["another", "value"] == pytest.approx(np.median(cosines), abs=0.02)
    with pytest.raises(errors.ShapeMismatch, match="wide"):
        written_along(adapter, {"x": Direction.of(torch.ones(3))})


def test_correlation_over_layers_says_when_it_cannot_be_told():
    from workbench.studies.repair.foretold import correlation

    layers = pd.DataFrame({"metric": "safe_score", "layer": range(6), "value": [0.1, 0.2, 0.4, 0.5, 0.8, 0.9]})
    probes = pd.DataFrame(
        {"metric": "accuracy", "control": "", "method": "ccs", "layer": range(6), "value": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}
    )
    row = correlation(probes, layers).iloc[0]
    assert row["value"] == 1
    assert 0 < row["low"] < 1
    assert np.isnan(correlation(probes.assign(value=0.5), layers).iloc[0]["value"])
    assert "fewer than four" in correlation(probes[:2], layers).iloc[0]["note"]


def test_the_old_answers_come_back_where_a_planted_target_is_ablated():
    model = bundled()
    push = Direction.of(torch.randn(128, generator=torch.Generator().manual_seed(5)) * 60, provenance={"site": "resid_post", "layer": 2})
    found = survival(model, wb.add(push, 1.0, scope="all"), prompts(120), depth=0, target=push, progress=False)
    rows = found.table[(found.table["aspect"] == "ablation") & (found.table["metric"] == "answers_as_before")].set_index("detail")["value"]
    assert rows["the target"] > rows["nothing ablated"]
