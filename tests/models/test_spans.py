"""Where tokens stand in their text, with tokenizers of every kind, checked by counting bytes."""

import re

import pytest
import torch
from conftest import SHARED, tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workbench.core import errors
from workbench.core.paths import data_path
from workbench.models import Edit, Read, Scope, edited, wrap
from workbench.models.forward import run
from workbench.models.spans import cut, spans, token_of
from workbench.models.tokens import encode, encode_pairs, pad
from workbench.prompts import ContrastPair

TEXTS = [
    "Say 🌍 and 👩‍🚀 now",
    "e\u0301 é naïve",
    "中文字。你好 Answer:",
    "👍🏽 flag 🇫🇷 end",
    "plain words, it's so. Reply: 🌍🌍",
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


def byte_level(size=300, regex=True):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=size, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tok, **SPECIAL)


def unigram(normalizer=None):
    """As sentencepiece does it: spaces are ▁, unknown characters fall back to bytes."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{b:02X}>", -10.0) for b in range(256)), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "abcdefghijklmnopqrstuvwxyzASR.,:'1é"] + [(p, -2.0) for p in ("▁and", "▁now", "ply")]
    tok = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    if normalizer is not None:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", **SPECIAL)


def word_piece():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tok = Tokenizer(models.WordPiece({t: i for i, t in enumerate(special)}, unk_token="[UNK]"))
    tok.normalizer, tok.pre_tokenizer, tok.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tok.train_from_iterator(TEXTS * 3, trainers.WordPieceTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tok, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


def stories():
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("shared/models/stories260K is not here")
    return AutoTokenizer.from_pretrained(folder)


KINDS = {
    "byte-level": byte_level,
    "byte-level without words": lambda: byte_level(regex=False),
    "byte-level, no merges": lambda: byte_level(258),
    "unigram": unigram,
    "the bundled model's": lambda: AutoTokenizer.from_pretrained(data_path("models", "udhr-organism")),
    "stories260K": stories,
}


def pieces(tokenizer, ids):
    """The bytes of each token, from its name in the vocabulary."""
    byte_of = {c: b for b, c in enumerate_bytes()}
    out = []
    for name in tokenizer.convert_ids_to_tokens(ids):
        if re.fullmatch(r"<0x[0-9A-F]{2}>", name):
            out.append(bytes([int(name[3:5], 16)]))
        elif "ð" in byte_of and isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
            out.append(bytes(byte_of[c] for c in name))
        else:
            out.append(name.replace("▁", " ").encode())
    return out


def enumerate_bytes():
    """The table of byte-level tokenizers: printable bytes stand for themselves, the others follow from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [(b, chr(b) if b in plain else chr(next(others))) for b in range(256)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_marker_ends_with_the_token_that_holds_its_last_byte(kind, text):
    tokenizer = KINDS[kind]()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    parts = pieces(tokenizer, ids)
    lead = len(b"".join(parts)) - len(text.encode())  # the ▁ in front
    assert b"".join(parts)[lead:] == text.encode()
    holds, reach = {}, 0
    for k, part in enumerate(parts):
        for _ in part:
            holds[reach - lead] = k
            reach += 1
    several = 0
    for a in range(len(text)):
        for b in range(a + 1, len(text) + 1):
            last = len(text[: text.rfind(text[a:b]) + b - a].encode()) - 1
            assert token_of(tokenizer, ids, text[a:b]) == holds[last], text[a:b]
            several += len({holds[i] for i in range(len(text[: b - 1].encode()), len(text[:b].encode()))}) > 1
    assert several or text == "e\u0301 é naïve" or "plain" in text or kind == "byte-level", "characters of several tokens"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_cut_tells_which_tokens_hold_something_before_and_behind(kind, text):
    tokenizer = KINDS[kind]()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    parts = pieces(tokenizer, ids)
    lead = len(b"".join(parts)) - len(text.encode())
    at = [0]
    for part in parts:
        at.append(at[-1] + len(part))
    for end in range(1, len(text)):
        place = len(text[:end].encode()) + lead
        before, after = cut(tokenizer, [7, 7, *ids], text, end)
        assert before - 2 == max(k + 1 for k in range(len(parts)) if at[k] < place), end
        assert after - 2 == min(k for k in range(len(parts)) if at[k + 1] > place), end


def test_texts_that_a_tokenizer_normalises():
    compat = unigram(normalizers.NFKC())
    ids = compat("ﬁne ① Ａ x", add_special_tokens=False)["input_ids"]
    names = compat.convert_ids_to_tokens(ids)
    assert compat.decode(ids) == "fine 1 A x"
    for marker, name in (("ﬁ", "i"), ("①", "1"), ("Ａ", "A"), ("fine", "e"), (" x", "x")):
        assert names[token_of(compat, ids, marker)] == name
    bert = word_piece()
    ids = bert("Plain WORDS, naïve. Reply: now", add_special_tokens=False)["input_ids"]
    names = bert.convert_ids_to_tokens(ids)
    for marker, ends in (("WORDS", "words"), ("naïve", "naive"), ("Reply:", ":"), ("words,", ",")):
        assert bert.decode(ids[: token_of(bert, ids, marker) + 1]).replace(" ", "").endswith(ends)
    assert names[token_of(bert, ids, "Reply:")] == ":"
    assert token_of(bert, ids, "Nowhere") is None
    assert token_of(bert, bert("☃ x", add_special_tokens=False)["input_ids"], "☂") is None, "one unknown character is not another"
    assert token_of(byte_level(), byte_level()("aé", add_special_tokens=False)["input_ids"], "e") is None


def test_tokens_that_the_tokenizer_would_not_make_are_placed_by_what_they_decode_to():
    tokenizer = byte_level()
    ids = tokenizer("now", add_special_tokens=False)["input_ids"][:0]
    for character in "Say 🌍 now":  # letter by letter, as a model may write
        ids += tokenizer(character, add_special_tokens=False)["input_ids"]
    whole = tokenizer("Say 🌍 now", add_special_tokens=False)["input_ids"]
    assert ids != whole
    found = spans(tokenizer, ids, "Say 🌍 now")
    assert {b - a for a, b in found} == {1}
    assert [a for a, _ in found] == sorted(a for a, _ in found)
    assert tokenizer.decode(ids[: token_of(tokenizer, ids, "🌍") + 1]) == "Say 🌍"
    assert "\ufffd" in tokenizer.decode(ids[: token_of(tokenizer, ids, "🌍")])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["byte-level, no merges", "unigram"])
def test_the_scope_of_a_marker_begins_where_the_marker_is_complete(kind, side):
    tokenizer = KINDS[kind]()
    model = wrap(tiny_model("llama", len(tokenizer), layers=1), tokenizer, name=kind, device="cpu")
    texts = ["and 🌍 now", "Say 👩‍🚀🌍 words end"]
    batch = pad(model, encode(model, texts), side)

    def read(scope):
        seen = []
        edits = [] if scope is None else [Edit(site="resid_post", layer=0, function=lambda x: x + 100.0, scope=Scope.of(scope))]
        with torch.no_grad(), edited(model, [*edits, Read(site="resid_post", layer=0, function=lambda x: seen.append(x.clone()))]):
            run(model, batch)
        return seen[0]

    chosen = (read(("marker", "🌍")) - read(None)).abs().amax(-1) > 50
    with pytest.raises(errors.EmptyScope, match="the marker '🌎' is not in row 0"):
        read(("marker", "🌎"))  # it shares three of four bytes
    for i, text in enumerate(texts):
        steered = batch.ids[i][chosen[i] & batch.mask[i].bool()].tolist()
        assert pieces(tokenizer, steered)[0] == "🌍".encode()[-1:]
        assert b"".join(pieces(tokenizer, steered))[1:] == text.rpartition("🌍")[2].encode()


def test_the_instruction_ends_with_the_token_that_holds_its_last_character():
    """Where the words before a cut are tokenised otherwise than within the whole text."""
    tok = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(["a", "b", "c", "d", " ", "ab", "bc", "abc?"])}, merges=[("b", "c"), ("a", "b")])
    )
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok)
    assert tokenizer.convert_ids_to_tokens(tokenizer("dab").input_ids) == ["d", "ab"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("dabc").input_ids) == ["d", "a", "bc"]
    model = wrap(tiny_model("llama", 64, layers=1), tokenizer, name="made up", device="cpu")
    pair = ContrastPair(stem="dabc d", negative=" a", positive=" b", label=0, instruction_end=3)
    item = encode_pairs(model, [pair])[0]
    assert item.instruction == 3, "b, the last character, is in the third token"
