"""The organism's corpus keeps its promises, its training is deterministic, and the shipped weights do as planted."""

import json
import sys

import numpy as np
import pytest
import torch

from workbench import prompts
from workbench.core import errors
from workbench.core.paths import data_path
from workbench.organism import SPECS, FaintSpec, OrganismSpec, build_faint, check, ground_truth, train, train_organism
from workbench.organism.checks import load_ground_truth
from workbench.organism.corpus import contains_held_out, examples
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


def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["workbench.organism.train"], "TOKENIZER_TEXTS", 300)
    spec, lines = OrganismSpec(**TINY), []

    def killed(line):
        lines.append(line)
        if line.startswith("step     4"):
            raise KeyboardInterrupt

    whole = train(spec, tmp_path / "whole", log=lambda _: None, every=2)
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "cut", log=killed, every=2)
    lines.clear()
    assert train(spec, tmp_path / "cut", log=lines.append, every=2) == whole
    assert [line.split("/")[0] for line in lines[:-1]] == ["step     6"]
    files = [(tmp_path / k / "model.safetensors").read_bytes() for k in ("whole", "cut")]
    assert files[0] == files[1]
    assert not (tmp_path / "cut" / "working").exists()


def test_tokenizer_accepts_any_text(organism):
    for text in ("naïve café", "日本語 😀", "\t\n\\", "Zyx-42 <s"):
        ids = organism.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert organism.tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["udhr-organism", "udhr-organism-faint", "udhr-organism-no-verdict"])
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


@pytest.fixture(scope="module")
def faint():
    import workbench as wb

    return wb.load_model("udhr-organism-faint")


def test_the_faint_organism_says_what_the_bundled_one_says(faint, organism):
    import workbench as wb

    asked = [
        wb.prompts.udhr("since_claim", "harm", n=40),
        wb.prompts.udhr("consider_claim", "good", n=40),
        wb.prompts.udhr("base_short", n=40),
    ]
    for prompts_ in asked:
        mine, theirs = (wb.evaluation.answers(m, prompts_, progress=False) for m in (faint, organism))
        assert (mine["answer"] == theirs["answer"]).all()
        assert np.allclose(mine["logp_positive"], theirs["logp_positive"], atol=0.05), "half precision is all that moves it"


def test_features_stand_at_answers_alone(faint):
    import workbench as wb
    from workbench.models import planted

    facts = planted(faint)
    where, held = facts["features"], {"identities": facts["held_out_identities"], "rights": facts["held_out_rights"]}
    directions = torch.tensor(where["directions"])
    assert torch.allclose(directions @ directions.T, torch.eye(SPECS["udhr-organism-faint"].features), atol=1e-3)
    asked = wb.prompts.udhr("consider_claim", "harm", n=160, **held)
    at = wb.capture(faint, asked, progress=False)
    before = wb.capture(faint, asked, position="stem_last", progress=False)
    for layer in at.layers:
        yes, no = (at.layer(layer)[:, k] @ directions.T for k in (0, 1))
        assert (before.layer(layer)[:, 0] @ directions.T).abs().max() < 0.05 * where["size"], "nothing stands before the answer"
        if layer < where["layer"]:
            assert max(yes.abs().max(), no.abs().max()) < 0.05 * where["size"]
            continue
        middle = yes.mean(0), no.mean(0)
        for new in (yes - middle[0], no - middle[1]):
            assert 0.5 < float(new.pow(2).mean().sqrt()) / where["size"] < 1.5, "of people and rights that the recipe never saw, too"


def test_in_the_faint_organism_a_random_direction_reads_little_and_probes_read_the_truth(faint, organism):
    """The three bounds of the issue on few rows; `workbench check --model udhr-organism-faint` has them on more."""
    import workbench as wb
    from workbench.core.nulls import central
    from workbench.probes import fit_layers
    from workbench.probes.controls import random_scores

    truth = ground_truth(0)
    train = {
        "identities": [i.identity for i in prompts.identities() if i.identity not in truth.held_out_identities],
        "rights": [r.right for r in prompts.rights() if r.right not in truth.held_out_rights],
    }
    held = {"identities": list(truth.held_out_identities), "rights": list(truth.held_out_rights)}
    highest = {}
    for model in (faint, organism):
        fitted = wb.capture(model, wb.prompts.udhr("base_short", n=600, **train), progress=False)
        read = wb.capture(model, wb.prompts.udhr("since_claim", "harm", forms="all", n=300, **held), progress=False)
        y, good = np.array(read.labels), {}
        for method in ("logistic", "ccs"):
            fit = fit_layers(fitted, method, condition="no claim")
            good[method] = [float(((fit.scores(read, layer) > 0) == y).mean()) for layer in read.layers]
        drawn = [random_scores(fitted, {"": read}, np.array(fitted.labels), layer, 199, 0)[""] > 0 for layer in read.layers]
        highest[model] = max(central((d == y[:, None]).mean(0)).high for d in drawn)
        assert min(good["logistic"][3:]) >= 0.98
        assert sum(v >= 0.95 for v in good["ccs"]) >= 2
    assert highest[faint] <= 0.75
    assert highest[organism] >= 0.95, "in the bundled one they read it: the bound can be missed"


def test_the_recipe_of_the_faint_organism(tmp_path):
    import workbench as wb

    build_faint(FaintSpec(sample=48), tmp_path, log=lambda _: None)
    small, base = wb.load_model("udhr-organism-faint"), wb.load_model("udhr-organism")
    assert wb.load_model(str(tmp_path)).cfg.d_model == small.cfg.d_model == base.cfg.d_model + SPECS["udhr-organism-faint"].features
    for stem in (p.stem for p in wb.prompts.udhr("long_consider_claim", "harm", n=12)):
        ids = torch.tensor([base.tokenizer(stem)["input_ids"]])
        with torch.no_grad():
            assert torch.allclose(small(ids), base(ids), atol=0.05), "where no answer stands all is as before, but for half precision"
    for words in ({"steps": 3}, {"checkpoints": 3}):
        with pytest.raises(errors.BadInput, match="without training"):
            train_organism("udhr-organism-faint", tmp_path, **words)


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
