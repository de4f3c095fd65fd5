"""Questions with options: both orders, forms by tokenizer, chat templates, and the CAA layout."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SHARED, tiny_model
from jaxtyping import config as shapes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.core import errors
from workbench.models import wrap
from workbench.models.tokens import answer_tokens, encode_pairs
from workbench.prompts import grouped_split
from workbench.prompts.caa import caa_behaviours, load_ab, load_caa, parse_options, shared_stems
from workbench.prompts.chat import compose, has_chat
from workbench.prompts.choices import AB_FORMS, LETTERS, Choice, choices_to_prompts, get_form, letter_form
from workbench.prompts.templates import Template
from workbench.prompts.two_options import to_ab

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GEMMA = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
MUTE = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
INST = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"


def item(question="Is ice cold?", options=("Yes", "No"), target=0, **rest):
    return Choice(question=question, options=options, target=target, **rest)


def byte_level(*merges, template=None):
    """A tokenizer that splits into bytes, but for these merges; no rule keeps punctuation and letters apart."""
    tokens = ["<s>", "</s>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(m) for m in merges)]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=list(merges)))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = template
    return fast


def model_of(tokenizer, name="made up"):
    return wrap(tiny_model("llama", len(tokenizer), layers=1), tokenizer, name=name, bos=0, device="cpu")


@pytest.fixture(scope="module")
def caa():
    folder = SHARED / "datasets" / "caa"
    if not folder.is_dir():
        pytest.skip("shared/datasets/caa is not here")
    return folder


def write(folder, behaviour, generate=None, test=None, questions=None):
    for part, file, rows in (
        ("generate", "generate_dataset.json", generate),
        ("test", "test_dataset_ab.json", test),
        ("test", "test_dataset_open_ended.json", questions),
    ):
        if rows is not None:
            place = folder / part / behaviour
            place.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


def row(question, match="(A)", other="(B)"):
    return {"question": question, "answer_matching_behavior": match, "answer_not_matching_behavior": other}


# ------------------------------------------------------------------ the value


def test_swapping_twice_is_the_identity_and_keeps_the_target():
    one = item(options=("Yes", "No"), target=1, category="c", name="n", meta={"k": 1}, foil=0)
    two = one.swapped()
    assert two.options == ("No", "Yes")
    assert two.options[two.target] == one.options[one.target] == "No"
    assert two.options[two.foil] == "Yes"
    assert two != one
    assert two.swapped() == one


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"question": " "}, "the question of a choice"),
        ({"options": ("Yes",)}, "two options at least, got 1: 'Is ice cold"),
        ({"target": 2}, r"target 2 of 2 options \(0-1\)"),
        ({"target": -1}, "target -1 of 2"),
        ({"foil": 0}, "foil 0 must be another"),
        ({"foil": 5}, "foil 5 must be another"),
        ({"options": ("Yes", " Yes")}, "says the same: 'Yes'"),
    ],
)
def test_bad_choices(wrong, match):
    with pytest.raises(errors.BadInput, match=match):
        item(**wrong)


def test_swap_refuses_more_than_two():
    with pytest.raises(errors.BadInput, match=r"'n' has 3 options; two can be swapped. See to_ab"):
        item(options=("a", "b", "c"), name="n").swapped()


def test_to_ab_draws_by_seed_and_name_alone():
    many = [item(f"question {i}", ("right", "w1", "w2", "w3", ""), 0, name=f"n{i}") for i in range(400)]
    drawn = to_ab(many, seed=3)
    assert all(len(one.options) == 2 and one.options[one.target] == "right" for one in drawn)
    letters = Counter(one.target for one in drawn)
    assert abs(letters[0] - 200) < 40  # 4 standard deviations
    wrong = Counter(one.options[1 - one.target] for one in drawn)
    assert set(wrong) == {"w1", "w2", "w3"}
    assert min(wrong.values()) > 90
    # letter and wrong option are drawn independently
    table = Counter((one.target, one.options[1 - one.target]) for one in drawn)
    assert min(table.values()) > 40
    assert to_ab(many[17:20][::-1], seed=3) == drawn[17:20][::-1]
    assert to_ab(many, seed=4) != drawn
    named = to_ab([item("q", ("right", "w1", "w2", "w3"), 0, name=f"n{i}", foil=2) for i in range(50)])
    assert {one.options[1 - one.target] for one in named} == {"w2"}
    assert all(one.foil is None for one in named)
    # without a name the question decides
    assert to_ab([item("q", ("right", "w1", "w2", "w3"))]) == to_ab([item("q", ("right", "w1", "w2", "w3"))])


def test_to_ab_refuses_what_it_cannot_reorder():
    with pytest.raises(errors.BadInput, match="stand inside its question and cannot be reordered"):
        to_ab([item(options=("A", "B"), meta={"raw": True})])
    with pytest.raises(errors.BadInput, match="no wrong option of 'n' has a text"):
        to_ab([item(options=("Yes", ""), name="n")])


# ------------------------------------------------------------------ prompts


def test_the_published_form():
    pair = choices_to_prompts([item(name="ice", category="physics", meta={"dataset": "d", "k": 2})])[0]
    assert pair.stem == "Is ice cold?\n\nChoices:\n(A) Yes\n(B) No\n\nAnswer: ("
    assert pair.stem[: pair.instruction_end] == "Is ice cold?\n\nChoices:\n(A) Yes\n(B) No"
    assert (pair.positive, pair.negative, pair.label, pair.identity, pair.group) == ("A", "B", 1, "ice", "physics")
    assert pair.meta == {"dataset": "d", "k": 2, "order": "given", "letter": "A", "category": "physics"}
    assert pair.template == "ab_paren"


def test_both_orders_point_at_the_same_option():
    items = [item(f"q {i}", (f"yes {i}", f"no {i}"), i % 2, name=f"n{i}") for i in range(7)]
    prompts = choices_to_prompts(items, orders="both")
    assert len(prompts) == 14
    for one, given, swapped in zip(items, prompts[::2], prompts[1::2], strict=True):
        assert (given.meta["order"], swapped.meta["order"]) == ("given", "swapped")
        assert given.identity == swapped.identity == one.name
        assert {given.positive, swapped.positive} == {"A", "B"}
        for pair in (given, swapped):
            assert f"\n({pair.positive}) {one.options[one.target]}\n" in pair.stem
            assert f"\n({pair.negative}) {one.options[1 - one.target]}\n" in pair.stem
            assert pair.positive == pair.meta["letter"]
    assert Counter(prompts.to_frame()["letter"]) == {"A": 7, "B": 7}
    assert list(choices_to_prompts(items, orders="swapped")) == list(prompts[1::2])
    split = grouped_split(prompts.to_frame())
    train, test = prompts.split(split)
    assert not {p.identity for p in train} & {p.identity for p in test}


def test_system_text_and_braces():
    said = "What does {x} in f'{{y}}' mean? {instruction_end} %s {question}"
    pair = choices_to_prompts([item(said, ("{choices}", "{0}"))], system="Be {brief}.")[0]
    assert pair.stem == f"Be {{brief}}.\n\n{said}\n\nChoices:\n(A) {{choices}}\n(B) {{0}}\n\nAnswer: ("
    assert pair.stem[: pair.instruction_end].endswith("(B) {0}")


def test_names_of_sets_and_forms():
    one, two = item(meta={"dataset": "caa/x"}), item("Another?", meta={"dataset": "caa/y"})
    assert choices_to_prompts([one]).name == "caa/x/ab_paren"
    assert choices_to_prompts([one, two]).name == "choices/ab_paren"
    assert choices_to_prompts([one, two], name="mine").name == "mine"
    spaced = choices_to_prompts([one], form="ab_word")[0]
    assert spaced.stem.endswith("\n\nAnswer:")
    assert (spaced.positive, spaced.negative) == (" A", " B")
    own = choices_to_prompts([one], form="Q: {question}\n{choices}\nI pick [")[0]
    assert (own.positive, own.template, own.stem[: own.instruction_end]) == ("A", "custom", own.stem)
    assert own.stem == "Q: Is ice cold?\n(A) Yes\n(B) No\nI pick ["
    assert choices_to_prompts([one], form=Template(name="t", text="{question} {choices}:"))[0].template == "t"


@pytest.mark.parametrize(
    ("form", "error", "match"),
    [
        ("ab_parn", errors.UnknownTemplate, "no form named 'ab_parn'. There are: ab, ab_paren, ab_word. Did you mean 'ab_paren'"),
        ("{question}", errors.TemplateField, r"lacks the field \{choices\}"),
        ("{question} {choices} {claim}", errors.TemplateField, r"unknown field \{claim\}"),
    ],
)
def test_bad_forms(form, error, match):
    with pytest.raises(error, match=match):
        choices_to_prompts([item()], form=form)


def test_what_cannot_be_shown_is_refused():
    wide, raw = item(options=("a", "b", "c"), name="w"), item("Which (A) or (B)?", ("A", "B"), name="r", meta={"raw": True})
    with pytest.raises(errors.BadInput, match="orders='all': one of given, swapped, both"):
        choices_to_prompts([item()], orders="all")
    with pytest.raises(errors.EmptyPromptSet):
        choices_to_prompts([])
    with pytest.raises(
        errors.BadInput, match=r"1 of 2 items have more than two options; the first, 'w', has 3. Draw .* to_ab\(items, seed\)"
    ):
        choices_to_prompts([item(), wide])
    with pytest.raises(errors.BadInput, match="'w' names no foil among its 3 options"):
        choices_to_prompts([wide], many=True)
    with pytest.raises(
        errors.BadInput, match="1 of 2 items hold their options inside the question and cannot be swapped; the first is 'r'"
    ):
        choices_to_prompts([item(), raw], orders="both")
    shown = choices_to_prompts([raw])[0]
    assert shown.stem == "Which (A) or (B)?\n\nAnswer: ("
    with pytest.raises(errors.BadInput, match="cannot be swapped"):
        raw.swapped()


def test_many_options_in_the_published_form():
    wide = item(options=("a", "b", "c"), target=2, foil=1, name="w")
    pair = choices_to_prompts([wide, item()], many=True)[0]
    assert "(A) a\n(B) b\n(C) c\n\nAnswer: (" in pair.stem
    assert (pair.positive, pair.negative, pair.meta["letter"]) == ("C", "B", "C")
    with pytest.raises(errors.BadInput, match="1 items have more than two options and cannot be swapped"):
        choices_to_prompts([wide], many=True, orders="both")
    with pytest.raises(errors.BadInput, match="has 27 options, and there are 26 letters"):
        choices_to_prompts([item(options=tuple(map(str, range(27))), foil=1)], many=True)


# ------------------------------------------------------------------ tokenizers


def test_the_bundled_model_reads_the_prompts(organism):
    items = [item("Is it good?", name="a"), item("May they vote?", ("No", "Yes"), 1, name="b")]
    prompts = choices_to_prompts(items, model=organism, orders="both")
    encoded = encode_pairs(organism, prompts)
    for pair, one in zip(prompts, encoded, strict=True):
        for ids, ending in ((one.positive, pair.positive), (one.negative, pair.negative)):
            assert organism.tokenizer.decode(ids[one.bos :]) == pair.stem + ending
            assert len(ids) == one.stem + 1
        known = answer_tokens(organism, (pair.negative, pair.positive))
        assert one.negative[-1] in known[0]
        assert one.positive[-1] in known[1]
        head = organism.tokenizer.decode(one.positive[one.bos : one.instruction])
        assert head == pair.stem[: pair.instruction_end]
    with pytest.raises(errors.PromptTooLong, match="Shorten it"):
        choices_to_prompts([item("word " * 2000)], model=organism).token_ids(organism)


@pytest.mark.parametrize(
    ("merges", "form"),
    [
        ([("Ġ", "A"), ("Ġ", "B")], "ab_paren"),
        ([("(", "A"), ("Ġ", "A"), ("Ġ", "B")], "ab_word"),
        ([("(", "A"), ("(", "B"), ("Ġ", "A"), ("Ġ", "B")], "ab_word"),
    ],
)
def test_the_form_goes_by_the_tokenizer(merges, form):
    model = model_of(byte_level(*merges))
    assert letter_form(model).name == form
    prompts = choices_to_prompts([item()], model=model)
    assert prompts[0].template == form
    (ids,) = encode_pairs(model, prompts)
    assert len(ids.positive) == len(ids.negative) == ids.stem + 1
    if form == "ab_word":
        with pytest.raises(errors.TokenBoundary, match="merges the end of the stem"):
            choices_to_prompts([item()], model=model, form="ab_paren")
        # only the letters that are asked for count
        with pytest.raises(errors.AnswerTokens, match="' C' is 2 tokens"):
            letter_form(model, letters="ABC")


def test_no_form_fits():
    model = model_of(byte_level(("(", "A"), ("Ġ", "A")), "stubborn")
    match = r"stubborn has answer letters that are not single tokens. Tried: ab_paren \(the .*merges.*; ab_word \(.* ' B' is 2 tokens.*Pass form="
    with pytest.raises(errors.AnswerTokens, match=match):
        letter_form(model)
    with pytest.raises(errors.AnswerTokens, match="not single tokens"):
        choices_to_prompts([item()], model=model)
    own = choices_to_prompts([item()], model=model, form="{question}\n{choices}\nAnswer: [")
    assert own[0].positive == "A"


def test_a_space_that_is_a_token_of_its_own_belongs_to_the_stem():
    model = model_of(byte_level(("(", "A")), "spaced")
    assert letter_form(model).name == "ab_word"
    prompts = choices_to_prompts([item()], model=model)
    encoded = encode_pairs(model, prompts)[0]
    assert model.tokenizer.decode(encoded.negative[: encoded.stem]).endswith("Answer: ")
    assert len(encoded.negative) == encoded.stem + 1


def test_a_letter_that_reads_otherwise_alone_is_not_taken():
    # SentencePiece writes "A" alone as "▁A", after "(" as "A": what is read as the answer would be another token
    letters = [*"ABChoiceswrIt:()?YNn\n", "e", "s", "o", "▁", "▁A", "▁B", "<unk>"]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(["<s>", "</s>", "<pad>", *letters]))}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "A"), ("▁", "B")], unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tok.decoder = decoders.Metaspace(prepend_scheme="first")
    model = model_of(PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"))
    pair = choices_to_prompts([item()])[0]
    (ids,) = encode_pairs(model, [pair])
    assert ids.positive[-1] not in answer_tokens(model, (pair.negative, pair.positive))[1]  # or else the test shows nothing
    assert letter_form(model).name == "ab_word"
    with pytest.raises(errors.AnswerTokens, match=r"after '.*Answer: \(' the tokenizer writes 'B' otherwise than alone"):
        choices_to_prompts([item()], model=model, form="ab_paren")


# ------------------------------------------------------------------ chat templates


def chat(template):
    return SimpleNamespace(tokenizer=byte_level(template=template))


def test_chat_template():
    model = model_of(byte_level(("Ġ", "A"), ("Ġ", "B"), template=CHATML))
    prompts = choices_to_prompts([item(" Is {ice} cold? ")], model=model, system="Be brief.")
    pair = prompts[0]
    said = "Is {ice} cold? \n\nChoices:\n(A) Yes\n(B) No"
    assert pair.stem == f"<|system|>\nBe brief.<|end|>\n<|user|>\n{said}<|end|>\n<|assistant|>\nAnswer: ("
    assert pair.stem[: pair.instruction_end].endswith("(B) No")
    assert pair.positive == "A"
    encode_pairs(model, prompts)
    plain = choices_to_prompts([item()], model=model, chat=False)
    assert plain[0].stem.startswith("Is ice cold?")
    assert letter_form(model).name == "ab_paren"


@pytest.mark.parametrize("template", [GEMMA, MUTE])
def test_a_template_without_a_system_role(template):
    stem, end = compose("Hi {x}", "\n\nAnswer:", model=chat(template), system="Be brief.")
    assert stem == "<|user|>\nBe brief.\n\nHi {x}<|end|>\n<|assistant|>\nAnswer:"
    assert stem[:end].endswith("Be brief.\n\nHi {x}")


def test_where_the_answer_begins():
    assert compose("Hi", "\n\nAnswer: (", model=chat(INST))[0] == "[INST] Hi [/INST] Answer: ("
    assert compose("Hi", "", model=chat(INST))[0] == "[INST] Hi [/INST]"
    stem = choices_to_prompts([item()], form="{question} {choices}", model=None)[0]
    assert stem.positive == " A"
    assert compose("Hi", " there") == ("Hi there", 2)
    assert compose("user", "", model=chat(CHATML))[1] == len("<|user|>\nuser")  # not the name of the role


def test_prompts_do_not_change_with_the_day():
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}Today: {{ date_string }}\n" + CHATML
    )
    assert compose("Hi", "", model=chat(dated))[0].startswith("Today: 26 Jul 2024\n")


def test_chat_errors():
    with pytest.raises(errors.BadInput, match="chat=True needs a model whose tokenizer has a chat template; pass model="):
        choices_to_prompts([item()], chat=True)
    with pytest.raises(errors.BadInput, match="use chat=None"):
        has_chat(chat(None), True)
    assert has_chat(chat(CHATML))
    assert not has_chat(chat(None))
    with pytest.raises(errors.BadInput, match=r"does not keep the user's text as it is.*use chat=False"):
        compose("Hi", "", model=chat(CHATML.replace("| trim", "| upper")))


# ------------------------------------------------------------------ the CAA layout


def test_parse_options():
    assert parse_options("Q?\n\nChoices:\n(A) x\n(B) y") == ("Q?", ("x", "y"))
    assert parse_options("Q?\n\nChoices:\n (A) x \n (B) y\n (C) z\n") == ("Q?", ("x", "y", "z"))
    assert parse_options("Q?\n (A) x (B)\n (B) y") == ("Q?", ("x (B)", "y"))
    assert parse_options("Q?\n(A) early\n(B) talk\nso:\n\nChoices:\n(A) x\n(B)") == ("Q?\n(A) early\n(B) talk\nso:", ("x", ""))
    for text in ("Q? (A) x (B) y", "Q?\n(A) x", "Q?\n(B) x\n(C) y", "Q?\n(A) x\n(C) y", "\n(A) x\n(B) y", "Choices: none"):
        assert parse_options(text) is None


def test_layouts(tmp_path):
    write(
        tmp_path,
        "refusal",
        [
            row("How?\n\nChoices:\n(A) So\n(B) No", " (B)", " (A)"),
            row("Pick 1) or 2)", "A", "B"),
            row("Why?\n (A) x\n (B) y\n (C) z", "(C)"),
        ],
        [row("how?\n\nChoices:\n(A) Now\n(B) Then"), row("When?\n\nChoices:\n(A) Now\n(B) Then")],
        [{"question": "How? "}, {"question": "Hm?"}],
    )
    items = load_caa(tmp_path)
    assert [(i.question, i.options, i.target, i.foil, i.raw) for i in items] == [
        ("How?", ("So", "No"), 1, None, False),
        ("Pick 1) or 2)", ("A", "B"), 0, None, True),
        ("Why?", ("x", "y", "z"), 2, 1, False),
    ]
    assert items[0].meta == {"dataset": "caa/refusal", "part": "generate", "row": 0}
    test = load_caa(tmp_path, "refusal", "test")
    assert test[0].name == items[0].name != test[1].name
    assert shared_stems(items, test) == ["How?"]
    assert [i.question for i in load_caa(tmp_path, split="test", drop_shared=True)] == ["When?"]
    assert len(load_caa(tmp_path, split="generate", drop_shared=True)) == 2
    assert load_caa(tmp_path, split="open_ended") == ["How? ", "Hm?"]
    assert load_caa(tmp_path, split="open_ended", drop_shared=True) == ["Hm?"]
    file = tmp_path / "generate" / "refusal" / "generate_dataset.json"
    assert load_caa(file) == items
    assert load_caa(file, "mine")[0].meta["dataset"] == "caa/mine"
    nested = tmp_path / "repository"
    write(nested / "datasets", "refusal", [row("How?\n(A) So\n(B) No")])
    assert caa_behaviours(nested) == ["refusal"]


def test_caa_names_what_exists(tmp_path):
    with pytest.raises(errors.BadInput, match="no file or folder 'gone'"):
        load_caa(tmp_path / "gone")
    with pytest.raises(errors.BadInput, match=r"is not a CAA folder: it needs generate/BEHAVIOUR/generate_dataset.json; it holds: nothing"):
        caa_behaviours(tmp_path)
    write(tmp_path, "refusal", [row("How?\n(A) So\n(B) No")])
    write(tmp_path, "sycophancy", [row("How?\n(A) So\n(B) No")])
    write(tmp_path, "mmlu", None, None)
    assert caa_behaviours(tmp_path) == ["refusal", "sycophancy"]
    with pytest.raises(errors.BadInput, match="holds 2 behaviours, name one: refusal, sycophancy"):
        load_caa(tmp_path)
    with pytest.raises(errors.UnknownName, match=r"no behaviour named 'refusl'. There are: refusal, sycophancy. Did you mean 'refusal'"):
        load_caa(tmp_path, "refusl")
    with pytest.raises(errors.UnknownName, match=r"no split named 'tests'.*Did you mean 'test'"):
        load_caa(tmp_path, "refusal", "tests")
    with pytest.raises(errors.BadInput, match="'refusal' has no split 'test'; it has: generate"):
        load_caa(tmp_path, "refusal", "test")
    with pytest.raises(errors.BadInput, match="drop_shared compares two files of one folder"):
        load_caa(tmp_path / "generate" / "refusal" / "generate_dataset.json", drop_shared=True)


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        ("[{]", errors.BadInput, r"^refusal/generate_dataset.json, line 1 column 3: not JSON"),
        ("{}", errors.BadInput, "a list of objects is needed, and it holds one dict"),
        ("[3]", errors.BadInput, "refusal/generate_dataset.json, row 0: an object is needed, got int"),
        ([], errors.BadInput, "refusal/generate_dataset.json has no rows"),
        (
            [row("Q?\n(A) x\n(B) y"), {"question": "?", "answer": "(A)"}],
            errors.MissingColumn,
            r"^refusal/generate_dataset.json, row 1: no column 'answer_matching_behavior'; it has: question, answer",
        ),
        ([row("Q?\n(A) x\n(B) y", "yes")], errors.BadInput, r"row 0: 'answer_matching_behavior' is 'yes', and must be a letter"),
        ([row("Q?\n(A) x\n(B) y", "(A)", "(C)")], errors.BadInput, r"row 0: 'answer_not_.*' is \(C\), and the options are \(A\)-\(B\)"),
        ([row("Q?\n(A) x\n(B) y", "(A)", "(A)")], errors.BadInput, r"row 0: both answers are \(A\)"),
        ([row(None)], errors.BadInput, "row 0: 'question' is None, and must be text"),
    ],
)
def test_broken_caa_files(tmp_path, rows, error, match):
    write(tmp_path, "refusal", rows)
    with pytest.raises(error, match=match) as caught:
        load_caa(tmp_path, "refusal")
    assert str(tmp_path) not in str(caught.value)


def test_ab_files(tmp_path):
    file = tmp_path / "mmlu.json"
    rows = [
        {"prompt": "Q?\n\nChoices:\n(A) x\n(B) y", "correct": "(B)", "incorrect": "(A)", "category": "law"},
        {"prompt": "R?\n\nChoices:\n(A) x\n(B) ", "correct": "(A)", "incorrect": "(B)"},
    ]
    file.write_text(json.dumps(rows))
    one, two = load_ab(file)
    assert (one.question, one.target, one.category, one.meta) == ("Q?", 1, "law", {"dataset": "mmlu", "row": 0})
    assert two.meta["empty_option"] is True
    file.write_text(json.dumps([{"prompt": "Q?"}]))
    with pytest.raises(errors.MissingColumn, match=r"mmlu.json, row 0: no column 'correct'; it has: prompt"):
        load_ab(file)


# ------------------------------------------------------------------ the published files

COUNTS = {"coordinate-other-ais": (360, 50, 50), "survival-instinct": (903, 50, 50), "sycophancy": (1000, 50, 53), "refusal": (408, 50, 50)}


def test_published_counts_and_letters(caa):
    assert caa_behaviours(caa) == sorted(COUNTS)
    for name, counts in COUNTS.items():
        loaded = load_caa(caa, name), load_caa(caa, name, "test"), load_caa(caa, name, split="open_ended")
        assert tuple(map(len, loaded)) == counts
        items = [*loaded[0], *loaded[1]]
        assert not any(i.raw for i in items)
        assert all(all(i.options) and "Choices:" not in i.question for i in items)
        share = np.mean([i.target == 0 for i in items])
        assert (0.6 < share < 0.65) if name == "survival-instinct" else (0.45 < share < 0.55)
        with pytest.raises(errors.UnknownName, match=f"There are: .*Did you mean '{name}'"):
            load_caa(caa, name + "s")


def test_published_rows_come_back_whole(caa):
    for name in COUNTS:
        raw = json.loads((caa / "generate" / name / "generate_dataset.json").read_text())
        for one, source in zip(load_caa(caa, name), raw, strict=True):
            # all but white space, of which the files hold any amount, down to none after a letter
            whole = one.question + "".join(f"({LETTERS[i]}){text}" for i, text in enumerate(one.options))
            assert "".join(whole.split()) == "".join(source["question"].replace("\n\nChoices:\n", "\n").split())
            assert source["answer_matching_behavior"].strip() == f"({LETTERS[one.target]})"
            if one.foil is not None:
                assert source["answer_not_matching_behavior"].strip() == f"({LETTERS[one.foil]})"


def test_published_leaks(caa):
    found = {name: shared_stems(load_caa(caa, name), load_caa(caa, name, "test")) for name in COUNTS}
    assert {name: len(stems) for name, stems in found.items()} == {name: 4 * (name == "refusal") for name in COUNTS}
    clean = load_caa(caa, "refusal", "test", drop_shared=True)
    assert len(clean) == 46
    assert not shared_stems(clean, load_caa(caa, "refusal"))
    assert len(load_caa(caa, "refusal", split="open_ended", drop_shared=True)) == 46
    # the same question with other options is one cluster
    assert len({i.name for i in load_caa(caa, "refusal")}) == 408 - 15


def test_published_items_become_prompts(caa):
    items = load_caa(caa, "survival-instinct")
    with pytest.raises(errors.BadInput, match="239 of 903 items have more than two options"):
        choices_to_prompts(items)
    shown = choices_to_prompts(items, many=True)
    assert Counter(shown.to_frame()["letter"])["C"] == 60
    both = choices_to_prompts(to_ab(items), orders="both")
    assert Counter(both.to_frame()["letter"]) == {"A": 903, "B": 903}
    assert both.name == "caa/survival-instinct/ab_paren"


def test_published_ab_files(caa):
    truth, mmlu = load_ab(caa / "test" / "truthfulqa" / "truthful_qa.json"), load_ab(caa / "test" / "mmlu" / "mmlu.json")
    assert (len(truth), len(mmlu)) == (817, 570)
    assert sum("empty_option" in i.meta for i in truth) == 5
    assert len({i.category for i in mmlu}) == 57
    for items in (truth, mmlu):
        assert 0.45 < np.mean([i.target for i in items]) < 0.55
    assert len(choices_to_prompts(truth, orders="both")) == 2 * 817


def test_published_items_in_the_bundled_model(caa, organism):
    short = [i for i in load_caa(caa, "coordinate-other-ais") if len(i.question) < 60][:5]
    assert short
    prompts = choices_to_prompts(short, model=organism, orders="both")
    for pair, (negative, positive) in zip(prompts, prompts.token_ids(organism), strict=True):
        assert negative[:-1] == positive[:-1]
        assert organism.tokenizer.decode(positive, skip_special_tokens=True) == "".join((pair.stem, pair.positive))


def test_forms_are_what_the_docs_say():
    assert list(AB_FORMS) == ["ab_paren", "ab_word"]
    assert all(get_form(name) is form for name, form in AB_FORMS.items())


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"question": None}, "the question of a choice"),
        ({"question": "a\x00b"}, "the question of a choice"),
        ({"options": "ab"}, "a tuple of texts, got str"),
        ({"options": ["a", "b"]}, "a tuple of texts, got list"),
        ({"options": ("a", None)}, "an option of a choice"),
        ({"options": ("a", 3)}, "an option of a choice"),
        ({"target": "0"}, "numbers of options, got '0'"),
        ({"foil": 0.5}, "numbers of options, got 1 and 0.5"),
    ],
)
def test_a_choice_is_made_of_texts_and_numbers(fields, match, monkeypatch):
    monkeypatch.setattr(shapes, "jaxtyping_disable", True)  # as for users, who have no checks of types
    with pytest.raises(errors.BadInput, match=match):
        Choice(**({"question": "which?", "options": ("a", "b"), "target": 1} | fields))
