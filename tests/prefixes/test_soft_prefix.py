"""Soft prefixes: their gradient and numbers are those of Hugging Face and peft; they are found where a stance is planted; what words lose."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_model
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.core.errors import BadInput, DamagedStore, NotFinite, PromptTooLong, ShapeMismatch, WrongModel
from workbench.core.paths import data_path
from workbench.models import wrap
from workbench.models.tokens import encode_pairs
from workbench.prefixes import SoftPrefix, fit_soft_prefix, prefix_effects

FOLDER = data_path("models", "udhr-organism")


@pytest.fixture(scope="module")
def sides(organism):
    split = wb.prompts.udhr_split(organism)
    make = lambda n, side, seed: wb.prompts.udhr("consider_claim", "harm", n=n, split=split, side=side, seed=seed)  # noqa: E731
    return make(8, "train", 0), make(8, "train", 1), make(16, "test", 0)


@pytest.fixture(scope="module")
def soft(organism, sides):
    return fit_soft_prefix(organism, sides[0], length=4, validation=sides[1], steps=4, every=2, progress=False, seed=0)


class TestNumbers:
    def test_says_what_peft_says(self, organism, sides, soft, tmp_path):
        """The folder that is saved is read by peft, and gives the same answers there."""
        import peft

        soft.save(tmp_path)
        with torch.random.fork_rng(devices=[]):  # peft draws vectors before it reads them
            tuned = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(FOLDER), str(tmp_path)).eval()
        assert tuned.peft_config["default"].peft_type == "PROMPT_TUNING"
        got = soft.says(organism, sides[2])
        for pair, row in zip(encode_pairs(organism, sides[2]), got, strict=True):
            with torch.no_grad():
                want = tuned(input_ids=torch.tensor([pair.negative[: pair.stem]])).logits[0, -1].log_softmax(-1)
            assert row.numpy() == pytest.approx(want.numpy(), abs=1e-3)

    def test_what_peft_wrote_is_read(self, organism, sides, tmp_path):
        import peft

        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        with torch.random.fork_rng(devices=[]):
            tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(FOLDER), config)
        tuned.save_pretrained(str(tmp_path))
        read = SoftPrefix.load(tmp_path)
        assert torch.equal(read.vectors, tuned.get_prompt_embedding_to_save("default"))
        assert read.says(organism, sides[2].subset([0])).shape == (1, organism.cfg.d_vocab)

    def test_the_loss_is_that_of_the_answers(self, organism, sides, soft):
        """At its best state: max(0, 8 - log-odds of the safe answer), the mean over validation prompts."""
        logp = soft.says(organism, sides[1]).double().numpy()
        known = wb.prefixes.Objective(organism, sides[1], "safe").wanted
        said = np.array([np.logaddexp.reduce(row[forms]) for row, (forms,) in zip(logp, known, strict=True)])
        odds = said - np.log(-np.expm1(said))
        assert np.maximum(8 - odds, 0).mean() == pytest.approx(soft.loss, abs=1e-3)
        assert soft.loss == soft.history["validation"].min()
        assert soft.loss < soft.history["validation"].iloc[0]

    def test_vectors_that_are_tokens_say_what_the_tokens_say(self, organism, sides):
        ids = organism.tokenizer("Everyone", add_special_tokens=False)["input_ids"]
        vectors = organism.W_E.detach().float()[ids]
        got = SoftPrefix(vectors=vectors).says(organism, sides[2].subset([0, 3]))
        hf = AutoModelForCausalLM.from_pretrained(FOLDER).eval()
        for i, row in zip((0, 3), got, strict=True):
            pair = encode_pairs(organism, sides[2])[i]
            with torch.no_grad():
                want = hf(torch.tensor([[*ids, *pair.negative[: pair.stem]]])).logits[0, -1].log_softmax(-1)
            assert row.numpy() == pytest.approx(want.numpy(), abs=1e-3)

    def test_nothing_is_left_on_the_model(self, organism, sides, soft):
        before = wb.answers(organism, sides[2])
        soft.says(organism, sides[2])
        assert wb.answers(organism, sides[2]).equals(before)


class TestWords:
    def test_the_nearest_tokens_of_tokens_are_these_tokens(self, organism):
        ids = organism.tokenizer(" women have", add_special_tokens=False)["input_ids"]
        near, table = SoftPrefix(vectors=organism.W_E.detach().float()[ids] + 1e-3).nearest(organism)
        assert near.text.strip() == "women have"
        assert (table["distance"] < 0.05).all()
        assert (table["cosine"] > 0.99).all()
        assert (table["between"] > 0.1).all()

    def test_effects_stand_beside_words_and_random_vectors(self, organism, sides, soft):
        table = prefix_effects(
            organism, sides[2], {"soft": soft, "near": soft.nearest(organism)[0]}, random=soft.shuffled(2), progress=False
        )
        rows = table.set_index(["prefix", "metric"])
        assert rows.loc[("soft", "tokens"), "value"] == 4
        assert rows.loc[("soft", "kl"), "text"] == "4 vectors"
        assert rows.loc[("random", "safe_score"), "n"] == 2
        said = soft.says(organism, sides[2])
        assert rows.loc[("soft", "answered"), "value"] <= float(said.exp().sum(1).max())

    def test_controls_have_the_lengths(self, soft):
        one, two = soft.shuffled(2, seed=1)
        assert one.vectors.norm(dim=1).numpy() == pytest.approx(soft.vectors.norm(dim=1).numpy(), abs=1e-4)
        assert not torch.equal(one.vectors, two.vectors)


class TestLaws:
    def test_one_seed_one_prefix(self, organism, sides, soft):
        again = fit_soft_prefix(organism, sides[0], length=4, validation=sides[1], steps=4, every=2, progress=False, seed=0)
        assert torch.equal(again.vectors, soft.vectors)

    def test_a_killed_training_goes_on_to_the_same_vectors(self, organism, sides, soft, tmp_path, monkeypatch):
        from workbench.training import loop

        whole, count = loop.descend, []

        def dies(*args, **kwargs):
            count.append(1)
            if len(count) > 3:
                raise KeyboardInterrupt
            return whole(*args, **kwargs)

        monkeypatch.setattr(loop, "descend", dies)
        options = {"length": 4, "validation": sides[1], "steps": 4, "every": 2, "progress": False, "seed": 0, "place": tmp_path}
        with pytest.raises(KeyboardInterrupt):
            fit_soft_prefix(organism, sides[0], **options)
        monkeypatch.setattr(loop, "descend", whole)
        again = fit_soft_prefix(organism, sides[0], **options)
        assert torch.equal(again.vectors, soft.vectors)

    def test_saved_and_read(self, soft, tmp_path):
        back = SoftPrefix.load(soft.save(tmp_path))
        assert torch.equal(back.vectors, soft.vectors)
        assert (back.towards, back.loss) == (soft.towards, soft.loss)
        assert back.history["validation"].tolist() == pytest.approx(soft.history["validation"].tolist())


class TestRefused:
    def test_no_soft_prefix(self, soft, tmp_path):
        with pytest.raises(BadInput, match="has no adapter_config"):
            SoftPrefix.load(tmp_path)
        soft.save(tmp_path)
        (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
        with pytest.raises(DamagedStore, match="no soft prefix that can be read"):
            SoftPrefix.load(tmp_path)
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
        with pytest.raises(BadInput, match="peft calls it LORA"):
            SoftPrefix.load(tmp_path)

    def test_another_model_or_width(self, sides, soft):
        twin = wb.load_model("udhr-organism-no-verdict", device="cpu")
        with pytest.raises(WrongModel, match="was trained on 'udhr-organism'"):
            soft.says(twin, sides[2])
        with pytest.raises(ShapeMismatch, match="width 5"):
            SoftPrefix(vectors=torch.ones(2, 5)).says(twin, sides[2])

    def test_no_vectors_or_nan(self):
        with pytest.raises(ShapeMismatch, match="one token at least"):
            SoftPrefix(vectors=torch.ones(0, 5))
        with pytest.raises(NotFinite, match="NaN"):
            SoftPrefix(vectors=torch.full((2, 5), float("nan")))

    def test_edits_an_endpoint_and_too_long(self, organism, sides, soft, words):
        edits = wb.ablate(wb.Direction.of(torch.ones(128), provenance={"site": "resid_post", "layer": 1}))
        with pytest.raises(BadInput, match="edits are active"), wb.edited(organism, edits):
            soft.says(organism, sides[2])
        with pytest.raises(BadInput, match="needs log-probabilities and gradients"):
            fit_soft_prefix("http://localhost", sides[0])
        small = wrap(tiny_model("llama", len(words)), words, name="small", bos=0, device="cpu")
        with pytest.raises(PromptTooLong, match="vectors a prompt has"):
            fit_soft_prefix(small, sides[0], length=100_000)
        with pytest.raises(BadInput, match="length=0"):
            fit_soft_prefix(organism, sides[0], length=0)
