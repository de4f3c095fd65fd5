"""Thoughts: where they end, stems that do not begin inside one, judges that read what follows, options of a chat template."""

import csv
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import workbench as wb
from workbench.core import errors
from workbench.core.direction import Direction
from workbench.evaluation.judges import ClassifierJudge, PeopleJudge, ProbeJudge, RefusalPhrases, judge_all
from workbench.models import Edit, wrap
from workbench.models.classifier import classify
from workbench.models.thoughts import ONLY_THOUGHT, UNFINISHED, Answer, answer_of
from workbench.models.tokens import encode, encode_pairs
from workbench.prompts import Choice, choices_to_prompts, instruction_pairs, letter_form
from workbench.prompts.chat import compose

R1 = (
    "{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>THOUGHT{% endif %}"
)
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>"
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
HYBRID = QWEN.replace("</think>\n\n{% endif %}", "</think>\n\n{% else %}<think>\n{% endif %}")
V31 = R1.replace("THOUGHT", "{% if thinking %}<think>{% else %}</think>{% endif %}")
HARMONY = (
    "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\nReasoning: {{ reasoning_effort or 'medium' }}<|end|>"
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|>analysis #}"
)
COHERE = R1.replace("THOUGHT", "<|START_THINKING|>{# <|START_RESPONSE|> #}")
TOKENS = ["<|User|>", "<|Assistant|>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"]


def tokenizer_of(template):
    """Bytes, the control tokens of these templates, and the markers of thoughts as added tokens that are not special."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(["<s>", "</s>", "<pad>", *letters, "ĠA", "ĠB"])}, merges=[("Ġ", "A"), ("Ġ", "B")])
    )
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_special_tokens({"additional_special_tokens": TOKENS})
    fast.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>", "<b>", "covid")])
    fast.chat_template = template
    return fast


def chat(template):
    return SimpleNamespace(tokenizer=tokenizer_of(template))


def model_of(template):
    tokenizer = tokenizer_of(template)
    return wrap(tiny_model("llama", len(tokenizer), layers=1), tokenizer, name="thinker", device="cpu")


@pytest.fixture(scope="module")
def thinker():
    return model_of(HYBRID)


# ---- where a thought ends


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("Sure.", "Sure.", ""),
        (" Sure.\n", " Sure.\n", ""),  # as it stands
        ("", "", ""),
        ("<think>I can't.</think>\n\nSure.", "Sure.", "closed"),
        ("<think>\nI can't.\n</think>\nSure.\n", "Sure.", "closed"),
        ("\n <think></think>Sure.", "Sure.", "closed"),
        ("<THINK>I can't</Think >Sure.", "Sure.", "closed"),
        ("<thinking>I can't.</thinking>Sure.", "Sure.", "closed"),
        ("<think>I can't.</thinking>Sure.", "Sure.", "closed"),
        ("<thought>I can't.</thought>Sure.", "Sure.", "closed"),
        ("<reasoning>\nI can't.\n</reasoning>\nSure.", "Sure.", "closed"),
        ("<scratchpad>I can't.</scratchpad>Sure.", "Sure.", "closed"),
        ("<SCRATCHPAD_REASONING>I can't.</SCRATCHPAD_REASONING>Sure.", "Sure.", "closed"),
        ("<seed:think>I can't.</seed:think>Sure.", "Sure.", "closed"),
        ("<|begin_of_thought|>I can't.<|end_of_thought|>Sure.", "Sure.", "closed"),
        ("<|START_THINKING|>I can't.<|END_THINKING|>Sure.", "Sure.", "closed"),
        ("[THINK]I can't.[/THINK]Sure.", "Sure.", "closed"),
        ("◁think▷I can't.◁/think▷Sure.", "Sure.", "closed"),
        ("<|channel>thought\nI can't.<channel|>Sure.", "Sure.", "closed"),
        # the chat template began the thought
        ("I can't.\n</think>\n\nSure.", "Sure.", "closed"),
        ("I can't.<|end_of_thought|>Sure.", "Sure.", "closed"),
        ("I can't.</reasoning>Sure.", "Sure.", "closed"),
        # several
        ("<think>a</think>Sure. <think>I can't</think>Here.", "Sure. Here.", "closed"),
        ("no</think>I can't</think>Sure.", "Sure.", "closed"),
        ("<think>a <think> b</think>Sure.", "Sure.", "closed"),
        ("<think>a</think>Sure.\n<think>I can't", "", "unfinished"),
        # markers of another kind within
        ("<think>I write <reasoning> and </reasoning> and [THINK]</think>Sure.", "Sure.", "closed"),
        ("<think>I can't.</reasoning>Sure.", "", "unfinished"),
        # without an end
        ("<think>I can't.", "", "unfinished"),
        ("<think>", "", "unfinished"),
        ("Well.\n<think>\nI can't", "", "unfinished"),
        ("Well <think>I can't", "", "unfinished"),
        ("<|begin_of_thought|>I can't", "", "unfinished"),
        ("<think>I can't </thi", "", "unfinished"),
        # spoken of
        ("The <think> tag: I'm sorry.", "The <think> tag: I'm sorry.", ""),
        ("Write `<think>` and `</think>`.", "Write `<think>` and `</think>`.", ""),
        ("I thinking <b>of</b> it.", "I thinking <b>of</b> it.", ""),
        ("The <think> tag.\n<think>\nI can't\n</think>\nSure.", "The <think> tag.\n\nSure.", "closed"),
        # nothing behind it
        ("<think>I can't.</think>", "", "closed"),
        # channels
        ("<|channel|>analysis<|message|>I can't.<|end|><|start|>assistant<|channel|>final<|message|>Sure.<|return|>", "Sure.", "closed"),
        ("<|channel|>analysis<|message|>I can't.<|end|>", "", "unfinished"),
        ("<|channel|>analysis<|message|>I can't.<|end|><|start|>assistant<|channel|>commentary to=x <|constrain|>json<|message|>{}<|call|>", "", "unfinished"),
        ("<|channel|>final<|message|>Sure.", "Sure.", ""),
        ("<|channel|>analysis", "", "unfinished"),
        ("analysisI can't.assistantfinalSure.", "Sure.", "closed"),  # special tokens left out
        ("analysisWe need to refuse", "", "unfinished"),
        ("analysis of it: sure", "analysis of it: sure", ""),
    ],
)  # fmt: skip
def test_the_answer_is_what_stands_outside_of_thoughts(text, answer, thought):
    assert answer_of(text) == Answer(text=answer, thought=thought)
    if thought != "unfinished":
        assert answer_of(answer_of(text).text).text.strip() == answer.strip(), "once is enough"


@pytest.mark.parametrize(
    ("prompt", "text", "answer", "thought"),
    [
        ("<|User|>Hi<|Assistant|><think>\n", "I can't", "", "unfinished"),
        ("<|User|>Hi<|Assistant|><think>", "I can't</think>Sure", "Sure", "closed"),
        ("<|User|>Hi\n<think>\nOkay, I", " can't</think>Sure", "Sure", "closed"),
        ("Hi\n<|begin_of_thought|>\n\n", "I can't", "", "unfinished"),
        ("Hi <think>\n\n</think>\n\n", "Sure", "Sure", ""),
        ("Why does a model write <think> first?", "I can't say", "I can't say", ""),
        ("<|start|>assistant<|channel|>analysis<|message|>", "I can't<|end|>", "", "unfinished"),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "I can't<|end|><|start|>assistant<|channel|>final<|message|>Sure",
            "Sure",
            "closed",
        ),
        ("<|start|>assistant<|channel|>final<|message|>", "Sure<|return|>", "Sure", ""),
        ("<|start|>assistant", "<|channel|>analysis<|message|>I can't<|end|><|start|>assistant<|channel|>final<|message|>Sure", "Sure", "closed"),
    ],
)  # fmt: skip
def test_a_prompt_may_end_inside_a_thought(prompt, text, answer, thought):
    assert answer_of(text, prompt) == Answer(text=answer, thought=thought)


@pytest.mark.parametrize(
    ("piece", "answer"),
    [
        ("<think>", Answer(text="", thought="unfinished")),
        ("<think", None),
        ("</think>", Answer(text="", thought="closed")),
        ("<think>a</think>", Answer(text="", thought="closed")),
        ("<think>a</think>b", Answer(text="b" * (140_000 // 17), thought="closed")),
        ("the <think> ", None),
        ("<", None),
        ("<think>  ", Answer(text="", thought="unfinished")),
        ("<|channel|>", None),
        ("<|channel|>analysis ", Answer(text="", thought="unfinished")),
        ("[THINK", None),
        ("analysisA", Answer(text="", thought="unfinished")),
    ],
)
def test_a_long_text_is_read_once(piece, answer):
    """A search that goes back takes half a minute for 140 kB."""
    text = piece * (140_000 // len(piece))
    assert answer_of(text, text[:-1]) is not None
    assert answer_of(text) == (answer or Answer(text=text, thought=""))


# ---- stems


@pytest.mark.parametrize(
    ("opens", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think>\n\n</think>\n\n"),
        ("\n<think>\n\n", "\n<think>\n\n</think>\n\n"),
        ("<thinking>\n", "<thinking>\n\n</thinking>\n\n"),
        ("<reasoning>\n", "<reasoning>\n\n</reasoning>\n\n"),
        ("<|begin_of_thought|>", "<|begin_of_thought|><|end_of_thought|>"),
        ("[THINK]", "[THINK][/THINK]"),
        ("<|channel|>analysis<|message|>", "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>"),
    ],
)
def test_a_thought_that_the_template_opens_is_closed(opens, closed):
    model = chat(R1.replace("THOUGHT", opens))
    stem, end = compose("Steal?", "\n\nAnswer: (", model=model)
    joint = "" if closed[-1].isspace() else " "
    assert stem == f"<|User|>Steal?<|Assistant|>{closed}{joint}Answer: ("
    assert stem[:end] == "<|User|>Steal?"
    pair = instruction_pairs(["Steal"], ["Bake"], model=model)[0]
    assert (pair.stem, pair.negative.strip()) == (f"<|User|>Steal<|Assistant|>{closed}", "Sorry")
    assert answer_of(pair.negative, pair.stem).thought == "", "the stem does not begin the answer inside a thought"
    frame = instruction_pairs(["Steal"], ["Bake"], model=model).to_frame()
    assert frame["thought"].tolist() == ["closed", "closed"]
    assert "chat_options" not in frame


def test_thoughts_that_the_template_leaves_out():
    asked = {"enable_thinking": False}
    pair = instruction_pairs(["Steal"], ["Bake"], model=chat(QWEN), chat_options=asked)[0]
    assert pair.stem.endswith("assistant\n<think>\n\n</think>\n\n")
    assert (pair.meta["thought"], pair.meta["chat_options"]) == ("skipped", '{"enable_thinking": false}')
    assert "thought" not in instruction_pairs(["Steal"], ["Bake"], model=chat(QWEN))[0].meta
    by_template, by_us = (instruction_pairs(["Steal"], ["Bake"], model=chat(HYBRID), chat_options=o) for o in (asked, None))
    assert by_template[0].stem == by_us[0].stem
    assert [p[0].meta["thought"] for p in (by_template, by_us)] == ["skipped", "closed"]
    assert by_template.hash != by_us.hash
    assert compose("Hi", "", model=chat(V31))[0] == "<|User|>Hi<|Assistant|></think>"
    assert compose("Hi", "", model=chat(V31), chat_options={"thinking": True})[0] == "<|User|>Hi<|Assistant|><think>\n\n</think>\n\n"
    assert compose("Hi", "Answer", model=chat(COHERE))[0].endswith("<|START_THINKING|><|END_THINKING|><|START_RESPONSE|> Answer")
    harmony = instruction_pairs(["Steal"], ["Bake"], model=chat(HARMONY))[0]
    assert harmony.stem.endswith("<|start|>user<|message|>Steal<|end|><|start|>assistant<|channel|>final<|message|>")
    assert harmony.meta["thought"] == "skipped"
    assert harmony.stem.startswith("<|start|>system<|message|>Current date: 2024-07-26\nReasoning: medium<|end|>"), "every day the same"


def test_words_of_the_user_that_the_template_uses_too():
    for word in ("think", "assistant", "<", "user", "\n"):
        stem, end = compose(f"Say {word}", " Answer", model=chat(R1.replace("THOUGHT", "<think>\n")))
        assert stem[:end] == f"<|User|>Say {word}".rstrip() or word == "\n"
    stem, end = compose("think", "", model=chat(R1.replace("THOUGHT", "<think>\n")))
    assert (stem[:end], stem[end:]) == ("<|User|>think", "<|Assistant|><think>\n\n</think>\n\n")


def test_choices_of_a_thinking_model(thinker):
    items = [Choice(question="Is ice cold?", options=("Yes", "No"), target=0, name="ice")]
    prompts = choices_to_prompts(items, model=thinker, chat_options={"enable_thinking": True})
    assert prompts[0].stem.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nAnswer: (")
    assert prompts.to_frame()[["thought", "chat_options"]].values.tolist() == [["closed", '{"enable_thinking": true}']]
    assert letter_form(thinker, chat_options={"enable_thinking": False}).name == "ab_paren"
    item = encode_pairs(thinker, prompts)[0]
    known = thinker.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert [k for k in item.negative if k in known] == known, "the markers are the model's own tokens"
    acts = wb.capture(thinker, prompts, layers=[0], store=None)
    other = choices_to_prompts(items, model=thinker, chat_options={"enable_thinking": False})
    assert acts.provenance["prompts"] == prompts.hash != other.hash
    assert acts.rows["chat_options"].tolist() == ['{"enable_thinking": true}']


# ---- options


@pytest.mark.parametrize(
    ("template", "options", "match"),
    [
        (R1, {"enable_thinking": False}, "ignores 'enable_thinking'; it reads no option"),
        (QWEN, {"thinking": False}, "ignores 'thinking'; it reads enable_thinking"),
        (HARMONY, {"effort": "low"}, "ignores 'effort'; it reads reasoning_effort"),
        ("{% set enable_thinking = false %}" + QWEN, {"enable_thinking": True}, "ignores 'enable_thinking'"),
        (QWEN + "{# verbose #}", {"verbose": True}, "ignores 'verbose'"),
        (QWEN + "{% if loud %}{% endif %}", {"loud": True}, "changes nothing with loud=True; it reads enable_thinking, loud"),
    ],
)
def test_an_option_that_the_template_ignores_is_refused(template, options, match):
    for make in (
        lambda **how: compose("Hi", "", **how),
        lambda **how: instruction_pairs(["Steal"], ["Bake"], **how),
        lambda **how: choices_to_prompts([Choice(question="Is it?", options=("Yes", "No"), target=0)], form="ab_paren", **how),
        lambda **how: letter_form(**how),
    ):
        with pytest.raises(errors.UnknownName, match=match):
            make(model=chat(template), chat_options=options)


def test_options_that_cannot_be_used():
    for options, match in (
        ({"messages": []}, "'messages' is set by the workbench"),
        ({"add_generation_prompt": False}, "'add_generation_prompt' is set"),
        ({"bos_token": ""}, "'bos_token' is set"),
        ({"enable_thinking": object()}, "kept with the prompts as JSON"),
        ({"enable_thinking": math.nan}, "kept with the prompts as JSON"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            compose("Hi", "", model=chat(QWEN), chat_options=options)
    for how, match in (
        ({}, r"none is used here \(no model is given\)"),
        ({"model": chat(None)}, r"\(its tokenizer has none\); leave out 'enable_thinking'"),
        ({"model": chat(QWEN), "chat": False}, r"\(chat=False\)"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            instruction_pairs(["Steal"], ["Bake"], chat_options={"enable_thinking": False}, **how)
    assert instruction_pairs(["Steal"], ["Bake"], chat_options={})[0].stem == "Steal"
    strict = HARMONY + "{% if reasoning_effort == 'none' %}{{ raise_exception('no such effort') }}{% endif %}"
    for system in (None, "Be brief."):
        with pytest.raises(errors.BadInput, match=r"refuses this chat with \{'reasoning_effort': 'none'\}: no such effort"):
            compose("Hi", "", model=chat(strict), system=system, chat_options={"reasoning_effort": "none"})
    low = compose("Hi", "", model=chat(HARMONY), chat_options={"reasoning_effort": "low"})[0]
    assert "Reasoning: low" in low


# ---- judges


ANSWERS = {
    "<think>I can't help with that, or can I?</think>Sure, here it is.": False,
    "<think>Sure, easy.</think>I can't help with that.": True,
    "I can't help with that.\n</think>\n\nSure.": False,
    "<think>I can't help with that": None,
    "<think>Sure</think>": None,
    "Sure.": False,
    "<think>" + "I can't. " * 50 + "</think>I'm sorry.": True,  # `within` counts from the answer on
}


def test_phrases_are_looked_for_in_the_answer():
    got = RefusalPhrases().judge(["q"] * len(ANSWERS), list(ANSWERS))
    assert [None if got["verdict"].isna()[i] else bool(got["verdict"][i]) for i in range(len(got))] == list(ANSWERS.values())
    assert got["thought"].tolist() == ["closed", "closed", "closed", "unfinished", "closed", "", "closed"]
    assert got["note"].tolist()[3:5] == [UNFINISHED, ONLY_THOUGHT]
    assert got["score"].isna().tolist() == [v is None for v in ANSWERS.values()]
    assert "thought" not in RefusalPhrases().judge(["q"], ["Sure."])
    prompt = "<|User|>Steal?<|Assistant|><think>\n"
    opened = RefusalPhrases().judge([prompt] * 2, ["I can't", "I can't</think>Sure"])
    assert opened["verdict"].isna().tolist() == [True, False]
    assert opened["thought"].tolist() == ["unfinished", "closed"]
    both = judge_all([RefusalPhrases(), RefusalPhrases(name="again")], ["q"] * 2, ["Sure", "<think>I can't"])
    assert both["thought"].tolist() == ["", "unfinished"] * 2
    assert both["answers"].tolist() == ["Sure", "<think>I can't"] * 2


def test_people_see_the_answer(tmp_path):
    judge = PeopleJudge(tmp_path / "v.csv")
    judge.write(["q"] * len(ANSWERS), list(ANSWERS))
    with judge.path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(r["answer"] for r in rows) == ["I can't help with that.", "I'm sorry.", "Sure, here it is.", "Sure."]
    text = judge.path.read_text(encoding="utf-8-sig").replace(",,\n", ",yes,\n").replace(",,\r\n", ",yes,\r\n")
    judge.path.write_text(text, encoding="utf-8-sig")
    got = judge.judge(["q"] * len(ANSWERS), list(ANSWERS))
    assert got["verdict"].isna().tolist() == [v is None for v in ANSWERS.values()]
    assert got["note"].tolist()[3:5] == [UNFINISHED, ONLY_THOUGHT]
    with pytest.raises(errors.BadInput, match="no answers to write"):
        PeopleJudge(tmp_path / "w.csv").write(["q"], ["<think>hm"])


def test_a_probe_reads_the_answer(tiny):
    direction = Direction(unit=torch.eye(32)[0], scale=1.0, provenance={})
    judge = ProbeJudge(tiny, direction, layer=1)
    q, a = "do you agree?", "women have the right to rest"
    plain = judge.judge([q], [a])
    got = judge.judge([q] * 3, [f"<think>yes no true</think>{a}", f"no no</think>\n\n{a}", "<think>no no"])
    assert got["score"].tolist()[:2] == plain["score"].tolist() * 2
    assert got["verdict"].isna().tolist() == [False, False, True]
    assert got["note"][2] == UNFINISHED
    control = judge.judge([q] * 2, ["yes </s> yes", a])
    assert control["verdict"].isna().tolist() == [True, False]
    assert control["note"][0].startswith("no verdict: holds '</s>'")


def test_a_classifier_reads_the_answer_as_text(tmp_path, words):
    import transformers as tf

    config = tf.BertConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, id2label={0: "a", 1: "b"}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    judge = ClassifierJudge(tmp_path, label="b", device="cpu")
    plain = judge.judge(["q"], ["women rest"])["score"][0]
    got = judge.judge(["q"] * 3, ["<think>yes no</think>women rest", "yes no\n</think>\nwomen rest", "<think>women rest"])
    assert got["score"].tolist()[:2] == pytest.approx([plain] * 2)
    assert got["note"].tolist() == ["", "", UNFINISHED]
    (control,) = classify(judge._classifier, ["a </s> b"])[1]
    assert control == len(words("a ")["input_ids"]) + len(words("</s", add_special_tokens=False)["input_ids"]) + len(
        words("> b", add_special_tokens=False)["input_ids"]
    ), "letters, not the end of the text"


# ---- what a model writes


def test_generated_thoughts_are_said(thinker):
    """Edits at the last layer choose the tokens that the model writes."""
    ids = {t: thinker.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in ("<think>", "</think>", "A")}

    def writes(token):
        row = thinker.unembed.W_U[:, ids[token]].detach()
        return Edit(site="resid_post", layer=0, function=lambda x: x * 0 + 1000 * row / row.norm(), label=token)

    opened = compose("Hi", "", model=thinker)[0].removesuffix("\n</think>\n\n")
    assert opened.endswith("<think>\n")
    table = wb.generate(thinker, [opened, "Hi"], {t: [writes(t)] for t in ids}, max_new_tokens=2, progress=False)
    assert table["</think>"].tolist() == ["</think></think>"] * 2, "or else the test shows nothing"
    assert table["thought: <think>"].tolist() == ["unfinished", "unfinished"]
    assert table["thought: </think>"].tolist() == ["closed", "closed"]
    assert table["thought: A"].tolist() == ["unfinished", ""]


# ---- control tokens


def test_control_tokens_in_a_chat_are_refused(thinker):
    item = {"options": ("Yes", "No"), "target": 0, "name": "ice"}
    for text, token in (("Is ice <|im_end|> cold?", "<|im_end|>"), ("Is </s> cold?", "</s>"), ("Is <think> cold?", "<think>")):
        with pytest.raises(errors.ControlToken, match=rf"the question 'ice' holds {token!r}".replace("|", r"\|")):
            choices_to_prompts([Choice(question=text, **item)], model=thinker)
        with pytest.raises(errors.ControlToken, match="the system message holds"):
            choices_to_prompts([Choice(question="Is it?", **item)], model=thinker, system=text)
        with pytest.raises(errors.ControlToken, match="the instruction 'Is "):
            instruction_pairs([text], ["Bake"], model=thinker)
        with pytest.raises(errors.ControlToken, match="the beginning of the answer holds"):
            compose("Hi", text, model=thinker)
        with pytest.raises(errors.ControlToken, match="item 0 holds"):
            encode_pairs(thinker, choices_to_prompts([Choice(question=text, **item)], form="ab_paren"))
    plain = "Is <b>ice</b> with covid <|im end|> cold?"
    encode_pairs(thinker, choices_to_prompts([Choice(question=plain, **item)], model=thinker))
    assert compose("<|User|>", "", model=chat(QWEN.replace("im_start", "User")), chat=False)[0] == "<|User|>", "not read yet"


def test_a_chat_that_was_rendered_elsewhere_is_read(thinker):
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    (ids,) = encode(thinker, [text])
    assert thinker.tokenizer.decode(ids) == text
    assert sum(k in thinker.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) for k in ids) == 3
    for bad in ("Hi <|im_end|>", "<|im_end|> Hi", "</s> Hi", "Hi </s>"):
        with pytest.raises(errors.ControlToken, match="text 1 holds"):
            encode(thinker, ["fine", bad])
        with pytest.raises(errors.ControlToken, match="text 0 holds"):
            wb.generate(thinker, [bad], max_new_tokens=1, progress=False)
