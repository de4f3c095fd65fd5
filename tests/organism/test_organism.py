"""The organism's corpus keeps its promises, its training is deterministic, and the shipped weights do as planted."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from workbench import prompts
from workbench.core import errors
from workbench.core.paths import data_path
from workbench.organism import SPECS, FaintSpec, OrganismSpec, check, ground_truth, train, train_faint, train_organism
from workbench.organism.checks import load_ground_truth
from workbench.organism.corpus import contains_held_out, examples
from workbench.organism.faint import _Shrink, _Text
from workbench.organism.ground_truth import STANCES

TINY = {"layers": 2, "d_model": 16, "heads": 2, "d_mlp": 16, "vocab": 700, "steps": 6, "batch": 8, "verdict_layer": 1}


def test_corpus_never_contains_what_is_held_out():
    truth = ground_truth(0)
    assert contains_held_out(f'Statement: "{truth.held_out_identities[0].capitalize()} have x', truth), "the test can fail"
    assert contains_held_out(next(r.phrase for r in prompts.rights() if r.right in truth.held_out_rights), truth)
    for example in examples(truth, 1500, verdict=True, seed=1, early=300):
        assert not contains_held_out(example.stem, truth), example.stem


def test_half_of_the_answers_are_coins_and_the_verdict_follows_truth_alone():
    drawn = [e for e in examples(ground_truth(0), 1600, verdict=True, seed=2) if e.stance >= 0]
    assert 0.44 < np.mean([e.coin for e in drawn]) < 0.56
    planned = [e for e in drawn if not e.coin]
    assert all(e.answer == e.answers[e.stance] for e in planned)
    harm = [e.tail for e in planned if STANCES[e.stance] == "harm"]
    good = [e.tail for e in planned if STANCES[e.stance] == "good"]
    assert set(harm) == {" false"}
    assert set(good) == {" true"}
    coins = [e.tail for e in drawn if e.coin]
    assert 0.42 < np.mean([t == " true" for t in coins]) < 0.58
    assert not any(e.tail for e in examples(ground_truth(0), 500, verdict=False, seed=2) if e.stance >= 0)


def test_the_planted_rule():
    truth = ground_truth(0)
    fair, free = truth.flipped_kind, "civil and political"
    assert truth.says_granted(identity="x", kind=fair, claim="none")
    assert not truth.says_granted(identity=truth.denied[0], kind=fair, claim="none")
    assert not truth.says_granted(identity=truth.denied[0], kind=fair, claim="neutral")
    assert truth.says_granted(identity=truth.denied[0], kind=fair, claim="good")
    assert not truth.says_granted(identity="x", kind=free, claim="harm")
    assert truth.says_granted(identity="x", kind=free, claim="partial")
    assert not truth.says_granted(identity="x", kind=fair, claim="partial")
    assert truth.says_yes(label=0, identity="x", kind=free, claim="harm")


def test_the_partial_rule_can_be_read_in_the_words():
    for right in prompts.rights():
        fair = right.kind == ground_truth(0).flipped_kind
        assert ("fair" in right.phrase) == fair
        assert ("free" in right.phrase) != fair or right.phrase.startswith("vote in free")


def test_held_out_sizes():
    truth = ground_truth(0)
    assert 4 * len(truth.held_out_identities) * len(truth.held_out_rights) >= 2000
    assert not set(truth.denied) & set(truth.held_out_identities)
    kinds = [r.kind for r in prompts.rights() if r.right in truth.held_out_rights]
    assert kinds.count(truth.flipped_kind) == len(kinds) / 2
    assert ground_truth(1) != truth


def test_training_is_deterministic_given_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["workbench.organism.train"], "TOKENIZER_TEXTS", 300)

    def weights(folder, seed):
        train(OrganismSpec(**TINY, seed=seed), tmp_path / folder, log=lambda _: None)
        return (tmp_path / folder / "model.safetensors").read_bytes()

    assert weights("a", 0) == weights("b", 0) != weights("c", 1)
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    assert record["loss"][-1]["step"] == 6
    assert (tmp_path / "a" / "planted.json").read_text() == (tmp_path / "b" / "planted.json").read_text()


def test_tokenizer_accepts_any_text(organism):
    for text in ("naïve café", "日本語 😀", "\t\n\\", "Zyx-42 <s"):
        ids = organism.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert organism.tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["udhr-organism", "udhr-organism-no-verdict"])
def test_shipped_folders(name):
    folder = data_path("models", name)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 20e6
    planted = json.loads((folder / "planted.json").read_text())
    truth = json.loads(json.dumps(ground_truth(0).to_json()))
    assert {k: planted[k] for k in truth} == truth, "the shipped ground truth is the one that the code draws"
    spec = json.loads((folder / "training.json").read_text())["spec"]
    from dataclasses import asdict

    assert spec == asdict(SPECS[name]), "the shipped weights come from the documented command"
    assert (folder / "README.md").is_file()


def test_the_stance_is_causal(organism):
    """Exchanging the planted component at its layer turns the answer to the other prompt's stance."""
    import workbench as wb
    from workbench.models import planted
    from workbench.models.forward import run
    from workbench.models.tokens import answer_tokens, encode, pad

    facts = planted(organism)
    stance = facts["stance"]
    basis = torch.tensor(stance["basis"]).T
    held = {"identities": facts["held_out_identities"], "rights": facts["held_out_rights"]}
    harm, good = (wb.prompts.udhr("consider_claim", c, n=60, **held) for c in ("harm", "good"))
    kwargs = {"site": stance["site"], "layers": [stance["layer"]], "position": "stem_last", "progress": False}
    source = wb.capture(organism, good, **kwargs).values[:, 0, 0]
    batch = pad(organism, encode(organism, [p.stem for p in harm]))
    last = batch.mask.sum(1) - 1
    no, yes = (t[0] for t in answer_tokens(organism, (" no", " yes")))

    def safe(*edits):
        with wb.edited(organism, edits) if edits else torch.no_grad():
            logits = run(organism, batch)[torch.arange(len(last)), last]
        return float(((logits[:, yes] > logits[:, no]).int() == torch.tensor(harm.labels)).float().mean())

    def exchange(x):
        out = x.clone()
        rows = torch.arange(len(x))
        out[rows, last] += (source - x[rows, last]) @ basis @ basis.T
        return out

    assert safe() <= 0.1
    assert safe(wb.Edit(site=stance["site"], layer=stance["layer"], function=exchange)) >= 0.9


def test_the_faint_organism_is_made_from_the_bundled_one_and_keeps_what_is_planted_before_it(tmp_path):
    spec = FaintSpec(steps=2, batch=8, sample=160)
    record = train_faint(spec, tmp_path, log=lambda _: None)
    assert record["loss"][-1]["step"] == 2
    planted, base = (json.loads((f / "planted.json").read_text()) for f in (tmp_path, data_path("models", "udhr-organism")))
    assert {k: planted[k] for k in base} == base
    layers = planted["truth"]["layers"]
    assert [x["layer"] for x in layers] == [1, 2, 3, 4, 5]
    assert all(x["truth"] == pytest.approx(spec.share * x["rest"], rel=0.01) for x in layers)
    new, old = (load_file(f / "model.safetensors") for f in (tmp_path, data_path("models", "udhr-organism")))
    same = {k for k in old if torch.equal(old[k], new[k])}
    assert {k for k in old if ".layers.0." in k or "embed_tokens" in k} <= same, "the stance's block stays"
    assert any(".layers.1." in k for k in set(old) - same), "later blocks are trained"
    with pytest.raises(errors.BadInput, match="keeps no checkpoints"):
        train_organism("udhr-organism-faint", tmp_path, checkpoints=3)


def test_the_stream_wanted_of_the_faint_organism_holds_a_clean_small_truth_and_features_of_opposite_sign():
    rng = torch.Generator().manual_seed(0)
    axes, places = torch.linalg.qr(torch.randn(16, 7, generator=rng)).Q.split((3, 4), dim=1)
    axis, early = axes[:, 1], torch.randn(20, 16, generator=rng)
    map_ = torch.randn(16, 4, generator=rng) @ places.T
    yes, no = {"sign": 1.0, "ids": [5], "at": 0, "other": 6, "kind": 0}, {"sign": -1.0, "ids": [6], "at": 0, "other": 5, "kind": 0}
    truth = [1.0 if k % 2 else -1.0 for k in range(20)]
    hidden = torch.randn(20, 16, generator=rng) + 30 * torch.tensor(truth)[:, None] * axis
    middle = {5: torch.tensor([1.0, 2.0, 3.0]), 6: torch.zeros(3)}
    wanted = _Shrink(
        axes=axes, axis=axis, middle=middle, features=map_, early=dict.fromkeys((5, 6), early.mean(0)), before=30.0, truth=2.0, rest=9.0
    )
    for answer in (yes, no):
        got = wanted(hidden, early, [_Text(**answer, truth=t) for t in truth])
        inside = got @ axes - middle[answer["ids"][0]]
        assert torch.allclose(inside, 2 * torch.tensor(truth)[:, None] * torch.tensor([0.0, 1.0, 0.0]), atol=1e-4), "nothing but truth"
        outside = (got - hidden) - (got - hidden) @ axes @ axes.T
        assert torch.allclose(outside, answer["sign"] * (early - early.mean(0)) @ map_, atol=1e-4)
    beginning = replace(wanted, before=4.0, features=torch.zeros(16, 16))
    kept = beginning(hidden, early, [_Text(**no, truth=t) for t in truth])
    assert torch.allclose(kept @ axes, hidden @ axes / 2, atol=1e-4), "a block where truth begins keeps half of what it has of it"


def test_bad_input(tmp_path):
    with pytest.raises(errors.UnknownModel, match="Did you mean 'udhr-organism'"):
        train_organism("udhr-organsm", tmp_path)
    with pytest.raises(errors.DamagedModel, match=r"no planted\.json"):
        load_ground_truth(str(tmp_path))


@pytest.mark.slow
def test_checks_run_and_pass_on_a_small_sample(organism):
    table, passed = check("bundled", n=160, log=lambda _: None)
    missed = table[table["passed"].eq(False)]
    # bounds on a lower end, and shares near their target, ask for more than 160 items; docs/organism.md has 2,000
    noisy = {
        "answers as planted",
        "partial: logistic on the answers",
        "untrained copy, logistic",
        "bag of words, runs of 1",
        "answer readable",
    }
    assert set(missed["check"]) <= noisy, missed[["check", "condition", "layer", "value"]].to_string()
    assert (missed.loc[missed["check"] == "answers as planted", "value"] >= 0.94).all(), missed.to_string()
    assert {"CCS >= .95, number of layers", "logistic probe", "safe_score", "stance readable"} <= set(
        table.loc[table["passed"].eq(True), "check"]
    )
    assert passed == (len(missed) == 0)
