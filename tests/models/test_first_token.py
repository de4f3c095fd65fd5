"""What a prompt begins with: what the tokenizer does, not what it declares; said once, and the caller may override it."""

import warnings

import pytest
import torch
from conftest import tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import workbench as wb
from workbench import doctor
from workbench.core import errors
from workbench.models import Edit, Read, Scope, edited, first, info, load_model
from workbench.models.beginning import SENTENCE, beginning
from workbench.models.forward import run
from workbench.models.outline import outline
from workbench.models.tokens import encode, encode_pairs, pad

TEXT = "women have the right to rest. do you agree? Answer: yes no"
# what the tokenizer puts around a text; what it declares; what prompts must begin with
KINDS = {
    "adds what it declares": ("<s> $A", "<s>", (0,)),
    "declares and adds nothing": ("$A", "<s>", ()),
    "declares nothing and adds nothing": ("$A", None, ()),
    "declares nothing and adds one": ("<g> $A", None, (1,)),
    "adds another than it declares": ("<g> $A", "<s>", (1,)),
    "adds two": ("<g> <s> $A", "<s>", (1, 0)),
    "adds one behind too": ("<s> $A <e>", "<s>", (0,)),
    "adds one behind only": ("$A <e>", "<s>", ()),
}


def tokenizer(template, declared):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    special = ["<s>", "<g>", "<e>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator([TEXT] * 20, trainer)
    tok.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(t, i) for i, t in enumerate(special)])
    more = {"additional_special_tokens": [t for t in special if t != declared]}
    return PreTrainedTokenizerFast(
        tokenizer_object=tok, eos_token="<e>", pad_token="<e>", **({"bos_token": declared} if declared else {}), **more
    )


@pytest.fixture
def folder(tmp_path):
    def make(kind):
        template, declared, _ = KINDS[kind]
        words = tokenizer(template, declared)
        out = tmp_path / kind.replace(" ", "-")
        tiny_model("llama", len(words)).save_pretrained(out)
        words.save_pretrained(out)
        return out

    first._SAID.clear()
    return make


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_tokenizer_does_decides(folder, kind):
    _, declared, want = KINDS[kind]
    where = folder(kind)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = load_model(where, device="cpu")
        load_model(where, device="cpu")
    told = [str(w.message) for w in said if "beginning of text" in str(w.message)]
    differs = want != ((0,) if declared else ())
    assert len(told) == int(differs), "said once, and only where declaration and behaviour differ"
    assert info(model).first == want
    assert outline(str(where)).info.first == want, "a model that is not loaded has the same rule"
    own = AutoTokenizer.from_pretrained(where)
    (ids,) = encode(model, [TEXT])
    plain = own(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == [*want, *plain]
    assert own(TEXT)["input_ids"][: len(ids)] == ids, "as Hugging Face's tokenizer gives it"
    pair = wb.prompts.ContrastPair(stem=TEXT, negative=" no", positive=" yes", label=1)
    (one,) = encode_pairs(model, [pair])
    assert one.bos == len(want)
    assert one.negative[: one.stem] == ids


@pytest.mark.parametrize(
    ("bos", "want"), [("auto", ()), ("declared", (0,)), (True, (0,)), (None, ()), (False, ()), ("none", ()), ("<g>", (1,)), (2, (2,))]
)
def test_the_caller_may_override_it(folder, bos, want):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(folder("declares and adds nothing"), device="cpu", bos=bos)
    assert info(model).first == want
    assert encode(model, ["rest"])[0][: len(want)] == list(want)
    assert (info(model).vocabulary == info(load_model(folder("declares and adds nothing"), device="cpu", bos=None)).vocabulary) == (
        not want
    )


def test_what_is_declared_must_exist(folder):
    with pytest.raises(errors.BadInput, match="declares no beginning-of-text token"):
        load_model(folder("declares nothing and adds nothing"), device="cpu", bos="declared")


def test_all_tokens_that_begin_every_prompt_are_left_out_of_scopes(folder):
    with pytest.warns(UserWarning, match="'<g>' '<s>' in front"):
        model = load_model(folder("adds two"), device="cpu")
    (ids,) = encode(model, [TEXT])
    seen = []
    push = Edit(site="resid_post", layer=0, function=lambda x: x + 100, scope=Scope("prompt"))
    read = Read(site="resid_post", layer=0, function=lambda x: seen.append(x[0]))
    for edits in ([read], [push, read]):
        with edited(model, edits):
            run(model, pad(model, [ids]))
    assert ((seen[1] - seen[0]).abs().amax(-1) > 50).tolist() == [False, False] + [True] * (len(ids) - 2)


def test_doctor_prints_both_and_what_the_model_makes_of_them(folder):
    where = folder("declares and adds nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(where, device="cpu")
        found = beginning(model)
        checks = {c.name.strip(): c for c in doctor._model(str(where))}
    assert (found.declared, found.does) == ("'<s>'", "none")
    assert found.nats["nothing"] == found.nats["what prompts begin with"] != found.nats["the declared token"]
    ids = torch.tensor([[0, *model.tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        logp = model(ids, return_type="logits")[0].log_softmax(-1)
    want = -logp[1:-1].gather(1, ids[0, 2:, None]).mean()
    assert found.nats["the declared token"] == pytest.approx(float(want), abs=1e-4)
    line = checks["first token"]
    assert line.state == "note"
    assert "declared '<s>', put in front none" in line.found
    assert f"{found.nats['the declared token']:.2f} after the declared token" in line.found
    assert "bos='declared'" in line.todo
    assert {c.state for n, c in checks.items() if n in ("capture", "edits", "generation", "lens")} == {"good"}
