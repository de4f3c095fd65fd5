import pytest

import workbench as wb
from workbench.core import errors
from workbench.models.tokens import answer_tokens, encode, encode_pairs, pad
from workbench.prompts import ContrastPair


def test_first_token_once(tiny, words):
    assert encode(tiny, ["agree"])[0][0] == 0
    assert encode(tiny, ["<s>agree"]) == encode(tiny, ["agree"])


def test_pairs_share_their_stem(organism):
    prompts = wb.prompts.udhr("since_claim", "harm", n=6)
    for pair, item in zip(prompts, encode_pairs(organism, prompts), strict=True):
        assert item.negative[: item.stem] == item.positive[: item.stem]
        assert organism.tokenizer.decode(item.negative[item.stem :]) == pair.negative
        instruction = organism.tokenizer.decode(item.negative[item.bos : item.instruction])
        assert instruction == pair.stem[: pair.instruction_end]
        assert instruction.endswith("Do you agree?")
    assert prompts.token_ids(organism)[0] == (item_0(organism, prompts).negative, item_0(organism, prompts).positive)


def item_0(model, prompts):
    return encode_pairs(model, prompts)[0]


def test_padding(tiny):
    rows = [[0, 5, 6], [0, 7]]
    left, right = pad(tiny, rows, "left"), pad(tiny, rows, "right")
    assert left.ids[1].tolist() == [2, 0, 7]
    assert left.mask[1].tolist() == [0, 1, 1]
    assert right.ids[1].tolist() == [0, 7, 2]
    assert left.place(right.starts + 1).tolist() == [1, 2]
    with pytest.raises(errors.BadInput, match="padding side 'middle'"):
        pad(tiny, rows, "middle")


def test_answer_tokens(tiny):
    no, yes = answer_tokens(tiny, (" no", " yes"))
    assert no
    assert yes
    assert not set(no) & set(yes)
    with pytest.raises(errors.AnswerTokens, match="tokens for tiny llama, and must be one"):
        answer_tokens(tiny, (" xylophone", " yes"))
    with pytest.raises(errors.AnswerTokens, match="share their first token"):
        answer_tokens(tiny, (" yes", " yesq"))


def test_too_long(tiny):
    pair = ContrastPair(stem="women " * 300, negative=" no", positive=" yes", label=1)
    with pytest.raises(errors.PromptTooLong, match=r"a prompt of \d+ tokens; tiny llama reads 256"):
        encode_pairs(tiny, [pair])


def test_boundary(tiny):
    pair = ContrastPair(stem="Statement: ag", negative="ree", positive=" yes", label=1)
    with pytest.raises(errors.TokenBoundary, match="Let the stem end without a space"):
        encode_pairs(tiny, [pair])
