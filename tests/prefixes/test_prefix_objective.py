"""Words in prompts: where they go, how they are cut into tokens there, what they do, and the gradient."""

import numpy as np
import pytest
import torch
from conftest import tiny_model

import workbench as wb
from workbench.core.errors import AnswerTokens, BadInput, PromptTooLong, TokenBoundary, UnknownName
from workbench.models import wrap
from workbench.models.tokens import encode_pairs
from workbench.prefixes import Objective, allowed, put
from workbench.prefixes.proposals import propose
from workbench.prefixes.vocabulary import text_of


@pytest.fixture(scope="module")
def merging(words):
    return wrap(tiny_model("llama", len(words)), words, name="merging", bos=0, device="cpu")


@pytest.fixture(scope="module")
def prompts():
    return wb.prompts.udhr("consider_claim", "harm", n=6, seed=0)


class TestPlacing:
    def test_before_after_and_in_front_as_a_paragraph(self, prompts):
        pair = prompts[0]
        assert put(prompts, "Be kind.")[0].stem == f"Be kind. {pair.stem}"
        assert put(prompts, "Be kind.", "system")[0].stem == f"Be kind.\n\n{pair.stem}"
        question, tail = pair.stem[: pair.instruction_end], pair.stem[pair.instruction_end :]
        assert put(prompts, "Be kind.", "after")[0].stem == f"{question} Be kind.{tail}"

    @pytest.mark.parametrize("where", ["before", "after", "system"])
    def test_the_instruction_ends_where_it_did(self, prompts, where):
        for pair, new in zip(prompts, put(prompts, "Be kind.", where), strict=True):
            assert new.stem[new.instruction_end :] == pair.stem[pair.instruction_end :]

    def test_no_words_change_nothing(self, prompts):
        assert [p.stem for p in put(prompts, "", "after")] == [p.stem for p in prompts]

    def test_rows_name_the_words(self, prompts):
        assert set(put(prompts, "Be kind.", name="kind").to_frame()["prefix"]) == {"kind"}

    def test_an_unknown_place(self, prompts):
        with pytest.raises(UnknownName, match="place of a prefix named 'behind'"):
            put(prompts, "x", "behind")


class TestChats:
    @pytest.fixture
    def chatty(self, words):
        words = type(words).from_pretrained(words.name_or_path) if words.name_or_path else words
        before = words.chat_template
        words.chat_template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<s>assistant:{% endif %}"
        yield wrap(tiny_model("llama", len(words)), words, name="chatty", bos=0, device="cpu")
        words.chat_template = before

    def test_words_go_into_the_users_turn(self, chatty):
        asked = wb.prompts.udhr("base_short", n=2, model=chatty)
        for pair, new in zip(asked, put(asked, "Be kind.", model=chatty), strict=True):
            assert new.stem == pair.stem.replace("user: ", "user: Be kind. ", 1)
        encode_pairs(chatty, put(asked, "Be kind.", model=chatty))

    def test_a_system_message_is_a_turn_of_its_own(self, chatty):
        asked = wb.prompts.udhr("base_short", n=2, model=chatty)
        there = wb.prompts.udhr("base_short", n=2, model=chatty, system="Be kind.")
        assert [p.stem for p in put(asked, "Be kind.", "system", model=chatty)] == [p.stem for p in there]
        encode_pairs(chatty, put(asked, "Be kind.", "system", model=chatty))


class TestTokens:
    def test_words_that_merge_are_no_tokens_of_their_own(self, merging, prompts):
        """ " t" and "he" are tokens, and so is " the": the text of the first two is read as the third."""
        tokenizer = merging.tokenizer
        (the,) = tokenizer(" the", add_special_tokens=False)["input_ids"]
        parts = [i for t in (" t", "he") for i in tokenizer(t, add_special_tokens=False)["input_ids"]]
        objective = Objective(merging, prompts, "safe", "after")
        assert text_of(tokenizer, parts) == " the"
        assert parts != [the]
        assert objective.tokens_of([" the"]) == [[the]]

    def test_every_trial_tokenises_to_itself_in_place(self, merging, prompts):
        tokenizer = merging.tokenizer
        letters = np.array([tokenizer.convert_tokens_to_ids(t) for t in ("t", "h", "e", "Ġ", "r", "i", "g")])
        objective = Objective(merging, prompts, "safe", "after")
        table = merging.W_E.detach().numpy()[letters]
        rng = np.random.default_rng(0)
        found = propose(objective, [], " the right", letters, table, width=24, top=7, length=4, rng=rng)
        assert len(found) >= 8
        for text in found:
            ids = objective.tokens_of([text])[0]
            assert text_of(tokenizer, ids) == text
            for pair, read in zip(put(prompts, text, "after"), encode_pairs(merging, put(prompts, text, "after")), strict=True):
                row = read.negative[: read.stem]
                assert any(row[k : k + len(ids)] == ids for k in range(len(row))), pair.stem
        # the filter has something to do: letters side by side mostly merge
        drawn = [rng.choice(letters, 3).tolist() for _ in range(40)]
        assert sum(objective.tokens_of([text_of(tokenizer, d)])[0] != d for d in drawn) > 10

    def test_words_that_merge_with_what_follows(self, merging, prompts):
        """Behind the question stands " Answer:"; a space at the end of the words becomes a part of it or of the words."""
        objective = Objective(merging, prompts, "safe", "after")
        joined = [objective.tokens_of([f" the{end}"])[0] for end in ("", " ", "\n")]
        assert joined[0] is not None
        with pytest.raises(TokenBoundary, match="merge with what stands around them in merging"):
            objective.check("\ufffe".join(["a", "<s>"]))

    def test_filters(self, organism):
        readable, every = allowed(organism, "readable"), allowed(organism)
        assert set(readable) < set(every)
        assert all(text_of(organism.tokenizer, [i]).isascii() for i in every.tolist())
        assert organism.tokenizer.bos_token_id not in every
        (one,) = allowed(organism, ["rights"]).tolist()
        assert text_of(organism.tokenizer, [one]) == " rights"
        with pytest.raises(BadInput, match="no token of udhr-organism passes the filter"):
            allowed(organism, [])
        with pytest.raises(BadInput, match="words='nice': 'ascii', 'any', 'readable', or a list"):
            allowed(organism, "nice")


class TestLosses:
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_the_log_odds_are_those_of_the_answers(self, organism, prompts, where):
        """The same number from `answers`, prompt by prompt."""
        texts = ["Everyone should have equal rights.", " lamp lamp"]
        got = Objective(organism, prompts, "safe", where).losses(texts)
        for k, text in enumerate(texts):
            asked = wb.answers(organism, put(prompts, text, where))
            safe = np.where(asked["label"] == 1, asked["logp_positive"], asked["logp_negative"])
            np.testing.assert_allclose(got.odds[k], safe - np.log(-np.expm1(safe)), atol=2e-3)
            assert got.loss[k] == pytest.approx(np.maximum(8 - got.odds[k], 0).mean())

    def test_harm_is_the_other_answer(self, organism, prompts):
        text = " lamp lamp"
        asked = wb.answers(organism, put(prompts, text))
        other = np.where(asked["label"] == 1, asked["logp_negative"], asked["logp_positive"])
        got = Objective(organism, prompts, "harm").losses([text])
        np.testing.assert_allclose(got.odds[0], other - np.log(-np.expm1(other)), atol=2e-3)

    def test_a_target_of_several_tokens(self, organism, prompts):
        target = " not the lamp"
        got = Objective(organism, prompts, target).losses([" lamp"])
        for i, pair in enumerate(put(prompts, " lamp")):
            stem, whole = (organism.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (pair.stem, pair.stem + target))
            with torch.no_grad():
                logits = organism(torch.tensor([[0, *whole]]), return_type="logits")[0].log_softmax(-1)
            logp = sum(float(logits[k, whole[k]]) for k in range(len(stem), len(whole)))
            assert got.odds[0, i] == pytest.approx(logp - np.log(-np.expm1(logp)), abs=2e-3)

    def test_the_words_own_likelihood(self, organism, prompts):
        text = "Everyone should have equal rights."
        ids = [0, *organism.tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            logp = organism(torch.tensor([ids]), return_type="logits")[0].log_softmax(-1)
        want = -np.mean([float(logp[k, ids[k + 1]]) for k in range(len(ids) - 1)])
        assert Objective(organism, prompts, "safe").losses([text], fluency=True).fluency[0] == pytest.approx(want, abs=1e-3)

    def test_sharing_saves_tokens_and_everything_is_counted(self, organism, prompts):
        objective = Objective(organism, prompts, "safe", "after")
        objective.losses([" lamp one", " lamp two", " lamp"])
        assert objective.counted == 18
        assert 0 < objective.tokens < 0.7 * objective.plain

    @pytest.mark.parametrize("where", ["before", "after"])
    @pytest.mark.parametrize("towards", ["safe", " not the lamp"])
    def test_both_ways_give_one_gradient(self, organism, prompts, where, towards):
        objective = Objective(organism, prompts, towards, where)
        ids, one = objective.gradient(" lamp and bread")
        objective._gradients.learner = None
        _, other = objective.gradient(" lamp and bread")
        assert one.shape == (len(ids), 128)
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())

    def test_the_gradient_is_that_of_the_loss(self, organism, prompts):
        """A small step along it, in the embedding of one token, changes the loss by its length."""
        objective = Objective(organism, prompts, "safe")
        _, gradient = objective.gradient(" lamp and bread")
        line = torch.from_numpy(gradient[1] / np.linalg.norm(gradient[1])).float()
        values = []
        for step in (-1e-2, 1e-2):
            edit = wb.Edit(
                site="resid_pre", layer=0, function=lambda x, s=step: x.index_add(1, torch.tensor([2]), s * line.expand(len(x), 1, -1))
            )
            with wb.edited(organism, edit):
                asked = wb.answers(organism, put(prompts, " lamp and bread"))
            safe = np.where(asked["label"] == 1, asked["logp_positive"], asked["logp_negative"])
            values.append(np.maximum(8 - (safe - np.log(-np.expm1(safe))), 0).mean())
        assert (values[1] - values[0]) / 2e-2 == pytest.approx(np.linalg.norm(gradient[1]), rel=0.02)


class TestRefused:
    def test_no_model(self, prompts):
        with pytest.raises(BadInput, match="gradients of a loaded model, and this is str"):
            Objective("gpt", prompts, "safe")

    def test_an_empty_target(self, organism, prompts):
        with pytest.raises(BadInput, match="'safe', 'harm', or a text that should follow each prompt; it is empty"):
            Objective(organism, prompts, " ")

    def test_answers_of_several_tokens(self, organism):
        prompts = wb.prompts.udhr(n=2, answers=("not at all", "certainly yes"))
        with pytest.raises(AnswerTokens, match="must be one here"):
            Objective(organism, prompts, "safe")

    def test_a_prefix_that_does_not_fit(self, organism, prompts):
        with pytest.raises(PromptTooLong, match="with a prefix of 1020 tokens a prompt has 10"):
            Objective(organism, prompts, "safe").room(1020)
