"""Answers of several tokens, and answers that begin alike: log-probabilities are those of plain Hugging Face code."""

import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.models.tokens import answer_forms, answer_tokens, encode_pairs
from workbench.prompts import ContrastPair, PromptSet


def asked(*ends):
    stems = ("women have the right to rest? Answer:", "do you agree? Answer:", "rest? Answer:")
    return PromptSet(
        ContrastPair(stem=s, negative=no, positive=yes, label=i % 2, identity=str(i)) for i, s in enumerate(stems) for no, yes in ends
    )


def by_hand(hf, tokenizer, first, pair):
    """The sum of the log-probabilities of an ending's own tokens behind the stem, one sequence at a time."""
    out = []
    for end in (pair.negative, pair.positive):
        stem = [*first, *tokenizer(pair.stem, add_special_tokens=False)["input_ids"]]
        ids = [*first, *tokenizer(pair.stem + end, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            logp = hf(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        out.append(sum(float(logp[k - 1, ids[k]]) for k in range(len(stem), len(ids))))
    return out


@pytest.mark.parametrize("engine", ["trunk", "bridge"])
@pytest.mark.parametrize("ends", [(" no rest", " yes women"), (" rest to rest", " yes")])
def test_several_tokens_are_summed(tiny_pair, words, ends, engine):
    kind, hf, bridge = tiny_pair
    prompts = asked(ends)
    acts = wb.capture(bridge, prompts, layers=[0], logits="answers", engine=engine, progress=False)
    first = () if kind == "qwen2" else (0,)
    want = torch.tensor([by_hand(hf, words, first, pair) for pair in prompts])
    assert torch.allclose(acts.logp, want.float(), atol=2e-3)
    frame = wb.answers(bridge, prompts, progress=False)
    assert torch.allclose(torch.tensor(frame["margin"].to_numpy()), acts.logp.double().diff(dim=1)[:, 0], atol=1e-4)


def test_what_answers_begin_with_belongs_to_the_stem(tiny, words):
    prompts = asked((" the right", " the rest"))
    encoded, forms = encode_pairs(tiny, prompts)[0], answer_tokens(tiny, (" the right", " the rest"))
    assert words.decode(encoded.negative[: encoded.stem]).endswith("Answer: the")
    with torch.no_grad():
        logp = tiny(torch.tensor([encoded.negative[: encoded.stem]]))[0, -1].float().log_softmax(-1)
    margin = wb.answers(tiny, prompts, progress=False)["margin"].iloc[0]
    assert margin == pytest.approx(float(logp[forms[1]].logsumexp(0) - logp[forms[0]].logsumexp(0)), abs=1e-3)


def test_their_lengths_stand_in_the_table(tiny):
    frame = wb.answers(tiny, asked((" rest to rest", " yes")), progress=False)
    assert (frame["tokens_negative"] > frame["tokens_positive"]).all()
    assert (frame["tokens_positive"] == 1).all()
    assert "tokens_negative" not in wb.answers(tiny, asked((" no", " yes")), progress=False)


def test_single_and_longer_answers_stand_side_by_side(tiny):
    both = wb.answers(tiny, asked((" no", " yes"), (" rest to rest", " yes")), progress=False)
    for ends in ((" no", " yes"), (" rest to rest", " yes")):
        alone = wb.answers(tiny, asked(ends), progress=False)["margin"].to_numpy()
        mixed = both[both["negative"] == ends[0]]["margin"].to_numpy()
        assert abs(alone - mixed).max() < 1e-4


def test_where_one_token_is_asked_for_the_error_says_so(tiny):
    assert answer_forms(tiny, (" no", " rest to rest")) is None
    with pytest.raises(errors.AnswerTokens, match=r"' rest to rest' is \d tokens .* must be one here"):
        answer_tokens(tiny, (" no", " rest to rest"))
    with pytest.raises(errors.AnswerTokens, match="one begins the other"):
        answer_tokens(tiny, (" the", " the rest"))


def test_digits_behind_a_space_of_their_own(smollm2):
    """SmolLM2 writes " 0" as two tokens: the space belongs to the stem, and the digits are the answers."""
    prompts = wb.prompts.udhr(answers=("0", "1"), n=6)
    forms = answer_tokens(smollm2, (" 0", " 1"))
    assert [smollm2.tokenizer.decode(ids) for ids in forms] == ["0", "1"]
    encoded = encode_pairs(smollm2, prompts)[0]
    assert smollm2.tokenizer.decode(encoded.negative[: encoded.stem]).endswith(" ")
    frame = wb.answers(smollm2, prompts, progress=False)
    with torch.no_grad():
        logp = smollm2.original_model(torch.tensor([encoded.negative])).logits[0].float().log_softmax(-1)[encoded.stem - 1]
    assert frame["margin"].iloc[0] == pytest.approx(float(logp[forms[1][0]] - logp[forms[0][0]]), abs=1e-3)
    assert "tokens_negative" not in frame
