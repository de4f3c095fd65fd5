"""Statements through a chat template, behind examples, with a legend, and under several sentences of a claim."""

import pytest

import workbench as wb
from workbench.core import errors
from workbench.prompts.asking import Asking

p = wb.prompts
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(words):
    """A described model whose tokenizer has a chat template; no text of these tests is encoded."""

    class Model:
        class tokenizer:
            chat_template = TEMPLATE
            all_special_tokens = ("<|im_start|>", "<|im_end|>")
            all_special_ids = ()

            @staticmethod
            def apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **_):
                import jinja2

                return jinja2.Template(TEMPLATE, keep_trailing_newline=True).render(
                    messages=messages, add_generation_prompt=add_generation_prompt
                )

            @staticmethod
            def get_added_vocab():
                return {"<|im_start|>": 1, "<|im_end|>": 2}

    return Model()


def test_plain_prompts_are_what_they_were():
    one, two = (
        p.udhr("since_claim", "harm", n=8, seed=3),
        p.udhr("since_claim", "harm", n=8, seed=3, chat=False, shots=0, legend="", phrasings=1),
    )
    assert one.hash == two.hash
    assert Asking().plain


def test_a_chat_puts_the_question_into_the_user_s_turn_and_begins_the_answer(chatty):
    pair = p.udhr("since_claim", "harm", n=2, model=chatty)[0]
    assert pair.stem.startswith('<|im_start|>user\nStatement: "')
    assert pair.stem.endswith(
        'Do you agree?<|im_end|>\n<|im_start|>assistant\nAnswer: Since "Nobody should have rights and freedoms.", I choose:'
    )
    assert pair.stem[: pair.instruction_end].endswith("Do you agree?")
    assert pair.positive == " yes"
    assert p.udhr("since_claim", "harm", n=2, model=chatty, chat=False).hash == p.udhr("since_claim", "harm", n=2).hash


@pytest.mark.parametrize("chat", [False, True])
def test_examples_come_first_half_of_each_kind_and_are_not_asked_about(chatty, chat):
    some = {"identities": ["women", "men", "girls"], "rights": [r.right for r in p.rights()[:4]]}
    prompts = p.udhr("base_short", model=chatty, chat=chat, shots=4, seed=1, system="Be honest.", **some)
    stem = prompts[0].stem
    assert stem.count("Statement:") == 5
    assert stem.count("Answer: yes") == stem.count("Answer: no") == 2
    assert stem.index("Be honest.") < stem.index("Statement:")
    assert prompts[0].meta["shots"] == 4
    assert len(prompts) == 2 * (12 - 4)
    assert all(pair.meta["statement"] not in stem.rpartition("Statement:")[0] for pair in prompts)
    assert prompts[0].stem[: prompts[0].instruction_end].endswith("Do you agree?")


def test_a_legend_stands_where_the_instruction_ends():
    pair = p.udhr("since_claim", "good", n=2, answers=("B", "A"), legend="(A) yes (B) no")[0]
    assert 'Do you agree? (A) yes (B) no Answer: Since "Everyone' in pair.stem
    assert pair.stem[: pair.instruction_end].endswith("(B) no")
    assert (pair.negative, pair.positive) == (" B", " A")


def test_sentences_of_a_claim_are_drawn_by_cell_and_the_same_for_every_claim():
    harm, neutral = (p.udhr("since_claim", claim, n=400, phrasings=5, seed=2).to_frame() for claim in ("harm", "neutral"))
    assert harm["phrasing"].nunique() == neutral["phrasing"].nunique() == 5
    assert (harm["statement"] == neutral["statement"]).all()
    assert harm.groupby(["identity", "right"])["phrasing"].nunique().max() == 1
    assert neutral.groupby(harm["phrasing"])["phrasing"].nunique().max() == 1, "one sentence of one claim goes with one of the other"
    assert all(text in stem for text, stem in zip(harm["phrasing"], harm["stem"], strict=True))


def test_tables_and_requests_are_asked_in_the_same_ways(chatty):
    rows = [{"statement": f"Fact {k}.", "label": k % 2} for k in range(40)]
    table = p.from_table(rows, template="since_claim", claim="harm", model=chatty, system="Be brief.", phrasings=3, legend="Yes or no?")
    assert table[0].stem.startswith("<|im_start|>system\nBe brief.")
    assert "Yes or no?" in table[0].stem
    assert table.to_frame()["phrasing"].nunique() == 3
    asked = p.requests(n=2, model=chatty)
    assert asked[0].stem.endswith("<|im_start|>assistant\nReply:")
    assert p.factorial(n=2, model=chatty, chat=False).hash == p.factorial(n=2).hash
    with pytest.raises(errors.BadInput, match="need a template="):
        p.from_table([{"stem": "One", "label": 1}], system="Be brief.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 3}, "shots=3: an even number"),
        ({"shots": -2}, "shots=-2: an even number"),
        ({"phrasings": 2}, "phrasings=2: there is no claim"),
        ({"phrasings": 0}, "phrasings is the number of sentences"),
        ({"template": "since_claim", "claim": "harm", "phrasings": 9}, "the claim 'harm' has 5 sentences"),
        ({"template": "since_claim", "claim": "My own claim.", "phrasings": 2}, "your own claim is one sentence"),
        ({"chat": True}, "needs a model whose tokenizer has a chat template"),
        ({"legend": "a\x00b"}, "the legend holds a control character"),
        ({"template": "would_you_rather", "shots": 2}, "a forced choice"),
        ({"shots": 8, "identities": ["women"], "rights": [r.right for r in p.rights()[:8]]}, "leave nothing to ask about"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    with pytest.raises(errors.BadInput, match=message):
        p.udhr(**{"n": 4, **options})
