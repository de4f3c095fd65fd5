import pytest
from conftest import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import workbench as wb
from workbench.core import errors
from workbench.models import wrap
from workbench.models.control import control_tokens
from workbench.models.tokens import answer_tokens, encode, encode_pairs, pad
from workbench.prompts import Choice, ContrastPair, PromptSet, choices_to_prompts, from_table
from workbench.prompts.udhr import Identity


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
    with pytest.raises(errors.AnswerTokens, match="one begins the other"):
        answer_tokens(tiny, (" yes", " yesq"))
    with pytest.raises(errors.ControlToken, match="the answer '</s>' holds '</s>'"):
        answer_tokens(tiny, ("</s>", " yes"))


def test_too_long(tiny):
    pair = ContrastPair(stem="women " * 300, negative=" no", positive=" yes", label=1)
    with pytest.raises(errors.PromptTooLong, match=r"a prompt of \d+ tokens; tiny llama reads 256"):
        encode_pairs(tiny, [pair])


def test_boundary(tiny):
    pair = ContrastPair(stem="Statement: ag", negative="ree", positive=" yes", label=1)
    with pytest.raises(errors.TokenBoundary, match="Let the stem end without a space"):
        encode_pairs(tiny, [pair])


# ---- control tokens: the tokenizer of `tiny` has <s>, </s> and <pad>


BAD = "women </s> rest"


def table(text):
    return [{"statement": text, "label": 1}, {"statement": "women rest", "label": 0}]


def chats(better, worse="no"):
    return [{"chosen": better, "rejected": worse}, {"chosen": "yes", "rejected": worse}]


MADE = {
    "a statement of one's own": lambda text: from_table(table(text), template="base_short"),
    "an identity": lambda text: wb.prompts.udhr(identities=[Identity(identity=text, group="g", number="plural")], n=2),
    "a claim": lambda text: wb.prompts.udhr("since_claim", f"{text} now", n=2),
    "a claim of requests": lambda text: wb.prompts.requests("claim_request", f"{text} now", n=1),
    "a conversation": lambda text: wb.prompts.conversations(chats(text)),
    "a choice": lambda text: choices_to_prompts([Choice(question=text, options=("rest", "right"), target=0)]),
    "an option": lambda text: choices_to_prompts([Choice(question="rest?", options=(text, "right"), target=0)]),
    "a system message": lambda text: choices_to_prompts([Choice(question="rest?", options=("a", "b"), target=0)], system=text),
    "an instruction": lambda text: wb.prompts.instruction_pairs([text], ["rest"]),
    "an answer word": lambda text: wb.prompts.udhr(answers=("no", text), n=2),
    "an ending": lambda text: PromptSet([ContrastPair(stem="women", negative=" no", positive=f" {text}", label=1)]),
    "a whole stem": lambda text: from_table([{"stem": text, "label": 1}]),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_control_token_in_a_text_is_refused_before_it_is_read(tiny, kind):
    prompts = MADE[kind](BAD)
    with pytest.raises(errors.ControlToken, match=r"item 0 holds '</s>' \(in '.*</s>.*'\), which this tokenizer reads as a control token"):
        encode_pairs(tiny, prompts)
    with pytest.raises(errors.ControlToken):
        wb.capture(tiny, prompts, store=None)
    MADE[kind](BAD.replace("</s>", "</ s>")).token_ids(tiny)
    MADE[kind](BAD.replace("</s>", "<|im_end|>")).token_ids(tiny)  # which is no token of this tokenizer


def test_control_tokens_of_a_form_are_kept(tiny):
    """A chat that is written as a template: its own tokens count, further ones in what is filled in do not."""
    form = "<s> {statement}{instruction_end}</s> Answer:"
    (ids, _), _ = from_table(table("women rest"), template=form).token_ids(tiny)
    assert ids.count(0) == ids.count(1) == 1
    assert ids[0] == 0
    with pytest.raises(errors.ControlToken, match="item 0 holds '</s>'"):
        from_table(table(BAD), template=form).token_ids(tiny)
    with pytest.raises(errors.ControlToken, match="item 0 holds '<s>'"):
        from_table(table("<s>women"), template=form).token_ids(tiny)
    whole = ContrastPair(stem="<s></s>women", negative=" no", positive=" yes", label=1)  # begins as only a rendered prompt does
    assert encode_pairs(tiny, [whole])[0].negative[:2] == [0, 1]


def test_what_is_kept_for_this_changes_no_set():
    one, two = (ContrastPair(stem="a", negative=" b", positive=" c", label=0, wording=w) for w in (None, "x"))
    assert one == two
    assert PromptSet([one]).hash == PromptSet([two]).hash
    assert "wording" not in PromptSet([one]).to_frame()


def test_unknown_words_are_no_control_tokens(tiny):
    tok = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "!": 2, "a": 3}, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", bos_token="<s>", pad_token="!")
    assert control_tokens(tokenizer) == {0: "<unk>", 1: "<s>"}
    model = wrap(tiny_model("llama", 64, layers=1), tokenizer, name="words", device="cpu")
    assert encode(model, ["a ! b"]) == [[3, 2, 0]]
    with pytest.raises(errors.ControlToken, match="text 1 holds '<unk>'"):
        encode(model, ["a", "a <unk> b"])
