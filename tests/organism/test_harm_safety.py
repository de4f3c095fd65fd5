"""Two organisms in which the angle between harm and safety is known, and the whole instrument on them."""

import json

import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.directions import erase_and_reprobe
from workbench.organism import train_organism


@pytest.fixture(scope="module")
def trained(kept):
    """Both organisms, trained once for as long as nothing changes that they are made of."""

    def train(folder):
        for kind in ("bipolar", "independent"):
            train_organism(f"harm-safety-{kind}", folder / kind, log=lambda _: None)

    return kept("harm-safety", train)


def cells(model, pairs, layer):
    """The four cells (request harm, response safety) at the reply, of some pairs of requests."""
    acts = wb.capture(model, wb.prompts.requests("request", ids=sorted(pairs)), layers=[layer], logits="answers", progress=False)
    harm, x = acts.rows["input_harm"].to_numpy(), acts.layer(layer)
    rows = {(h, s): x[torch.tensor(harm == h), (1 - h) if s else h] for h in (0, 1) for s in (0, 1)}
    people = {(h, s): acts.rows["right"].to_numpy()[harm == h].tolist() for h in (0, 1) for s in (0, 1)}
    return rows, people, wb.answers_of(acts)["safe"].mean()


@pytest.mark.parametrize(
    ("kind", "verdict", "low", "high"), [("bipolar", "opposite", -1.02, -0.95), ("independent", "orthogonal", -0.2, 0.2)]
)
def test_the_verdict_is_what_was_trained_in_on_requests_never_seen(trained, kind, verdict, low, high):
    planted = json.loads((trained / kind / "planted.json").read_text())
    model = wb.load_model(str(trained / kind), device="cpu")
    rows, people, right = cells(model, planted["held_out_requests"], planted["harm_safety"]["layer"])
    assert right > 0.95, "it still answers as the bundled model does"
    report = wb.factorial_geometry(rows, ("harm", "safety"), clusters=people, draws=0).reports["harm", "safety"]
    assert report.verdict == verdict, str(report)
    assert low < report.cosine < high
    assert min(report.reliability.values()) > 0.9


def test_the_bundled_model_itself_says_neither(organism):
    """Before training on, the same rows have no such directions to speak of."""
    rows, people, _ = cells(organism, [p["id"] for p in wb.prompts.request_pairs()], 3)
    report = wb.factorial_geometry(rows, ("harm", "safety"), clusters=people, draws=0).reports["harm", "safety"]
    assert report.verdict not in ("opposite", "orthogonal"), str(report)


def test_erasing_harm_leaves_safety_where_they_are_independent(trained):
    """Projecting the harm direction out at the planted layer."""
    model = wb.load_model(str(trained / "independent"), device="cpu")
    rows, people, _ = cells(model, [p["id"] for p in wb.prompts.request_pairs()], 3)
    keys = list(rows)
    labels = {name: [k[i] for k in keys for _ in range(len(rows[k]))] for i, name in enumerate(("harm", "safety"))}
    table = erase_and_reprobe(
        torch.cat([rows[k] for k in keys]),
        labels,
        groups=[p for k in keys for p in people[k]],
        erasers=("mean_projection",),
        probes=("linear",),
    )
    at = table[table["metric"] == "accuracy"].set_index(["erased", "read"])["value"]
    assert at["nothing", "safety"] > 0.9
    assert at["harm", "safety"] > 0.9


def test_bad_input(tmp_path):
    with pytest.raises(errors.BadInput, match="no checkpoints"):
        train_organism("harm-safety-bipolar", tmp_path, checkpoints=3)
    with pytest.raises(errors.BadInput, match="bipolar or independent"):
        wb.organism.HarmSafetySpec(name="x", kind="both")
