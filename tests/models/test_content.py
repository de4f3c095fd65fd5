"""Which tokens are the texts of a chat, under templates of several kinds; the scope that leaves out the rest."""

import copy
from types import SimpleNamespace

import pytest
import torch

import workbench as wb
from workbench.models import Edit, Read, Scope, edited, generate_texts
from workbench.models.content import content
from workbench.models.forward import run
from workbench.models.tokens import encode, pad
from workbench.models.watch import Layout, Watch, laid_out

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful friend.<|im_end|>\n{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (  # the assistant is called otherwise, there is no system role, texts are stripped
    "<s>{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
INST = (  # no control tokens but the first; the system's text stands inside the user's turn
    "<s>{% set told = '' %}{% if messages[0]['role'] == 'system' %}{% set told = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ told if loop.first }}"
    "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }}\n{% endif %}{% endfor %}"
)
THOUGHT = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")
MARKS = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<s>", "<think>", "</think>"]


@pytest.fixture(scope="module")
def chatting(words):
    """A tokenizer per template."""
    out = {}
    for name, template in {"chatml": CHATML, "turns": TURNS, "inst": INST, "thought": THOUGHT}.items():
        tokenizer = copy.deepcopy(words)
        tokenizer.add_tokens(MARKS, special_tokens=True)
        tokenizer.chat_template = template
        out[name] = tokenizer
    return out


def said(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    kept = content(tokenizer, ids)
    assert len(kept) == len(ids)
    return "".join(tokenizer.decode([i for i, keep in zip(ids, kept, strict=True) if keep]).split())


def bare(*texts):
    return "".join("".join(texts).split())


@pytest.mark.parametrize("name", ["chatml", "turns", "inst", "thought"])
def test_only_what_the_user_and_the_assistant_say_is_content(chatting, name):
    tokenizer = chatting[name]
    one, two, three = "do you agree?\nwomen rest", "yes, women have", "no? true"
    render = lambda turns, **how: tokenizer.apply_chat_template(  # noqa: E731
        [{"role": r, "content": c} for r, c in turns], tokenize=False, **how
    )
    asked = render([("user", one)], add_generation_prompt=True)
    assert said(tokenizer, asked) == bare(one)
    assert said(tokenizer, asked + "Since rest") == bare(one, "Since rest"), "the assistant's turn may be begun"
    several = render([("user", one), ("assistant", two), ("user", three), ("assistant", one)])
    assert said(tokenizer, several) == bare(one, two, three, one)
    if name != "turns":  # it has no system turn
        told = render([("system", "rest and rest"), ("user", one), ("assistant", two), ("user", three)], add_generation_prompt=True)
        assert said(tokenizer, told) == bare(one, two, three)
    plain = "Statement: women have the right to rest"
    assert said(tokenizer, plain) == bare(plain), "what is no chat is text as a whole"
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{{ raise_exception('none of it') }}"
    assert said(tokenizer, plain) == bare(plain)


def test_the_scope_leaves_out_the_first_token(tiny):
    rows = encode(tiny, ["women have the right to rest", "rest", "do you agree?"])
    seen = []
    edit = Edit(site="resid_post", layer=1, function=lambda x: x + 100.0, scope=Scope())
    for side in ("right", "left"):
        batch = pad(tiny, rows, side, prompt=[len(rows[0]), len(rows[1]), len(rows[2]) - 1])
        with torch.no_grad(), edited(tiny, Read(site="resid_post", layer=1, function=lambda x: seen.append(x.clone()))):
            run(tiny, batch)
            with edited(tiny, edit):
                run(tiny, batch)
        moved = (seen.pop() - seen.pop()).abs().amax(-1) > 50
        for i, row in enumerate(rows):
            start = int(batch.starts[i])
            assert moved[i].tolist() == [0 < k - start < len(row) for k in range(moved.shape[1])], side


def test_the_scope_in_a_chat_padded_on_the_left_and_continued(chatting):
    tokenizer = chatting["chatml"]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "do you agree?"}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(chat, add_special_tokens=False)["input_ids"]
    batch, mask = (torch.tensor([[filler] * 3 + row]) for filler, row in ((0, ids + ids[:2]), (0, [1] * (len(ids) + 2))))
    watch = Watch(SimpleNamespace(tokenizer=tokenizer, original_model=None))
    watch.owner.enter()
    try:
        with laid_out(Layout(prompt=torch.tensor([len(ids)]))):
            watch._enter(None, (batch,), {"attention_mask": mask})
    finally:
        watch.owner.leave()
    chosen = batch[0][watch._content()[0]].tolist()
    assert tokenizer.decode(chosen[:-2]).strip() == "do you agree?"
    assert chosen[-2:] == ids[:2], "what follows the prompt is the model's own"


def test_pushes_leave_the_first_token_alone_unless_they_are_told(tiny):
    d = wb.Direction.of(torch.linspace(-1, 1, 32), provenance={"site": "resid_post", "layer": 1})
    from workbench.interventions import custom_edit

    for made in (wb.add(d), wb.ablate(d), wb.clamp(d, 1.0), wb.rotate(d, 10.0), custom_edit(torch.neg, layer=1)):
        assert made[0].scope == Scope("content")
    assert {e.scope for e in wb.interventions.ablate_everywhere(tiny, d)} == {Scope("all")}, "as orthogonalised weights do"
    assert custom_edit(torch.neg, layer=1, site="pattern")[0].scope is None
    with edited(tiny, wb.add(d, 5.0)):
        content_only = generate_texts(tiny, ["Statement: do you agree?"], max_new_tokens=3)[0].ids
    with edited(tiny, wb.add(d, 5.0, scope="all")):
        assert len(generate_texts(tiny, ["Statement: do you agree?"], max_new_tokens=3)[0].ids) == len(content_only)
