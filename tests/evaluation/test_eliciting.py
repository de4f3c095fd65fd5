"""Forms of asking are compared without labels, and the one that serves is chosen."""

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.core import errors
from workbench.evaluation import eliciting as module
from workbench.evaluation.eliciting import Form, best_form, elicitation, forms

PAIR = [wb.prompts.udhr(t, n=16) for t in ("base_short", "base_long")]


def answering(of):
    """Stands for the pass over several prompt sets: what each form would be answered, by its name."""

    def answer(prompts):
        margin, mass = of(prompts.name, len(prompts))
        return prompts.to_frame().assign(margin=margin, answered=mass, answer=(margin > 0).astype(int))

    return lambda model, sets, progress, note: [answer(prompts) for prompts in sets]


def each(forms, pair=PAIR):
    return {form: [wb.prompts.PromptSet(s, name=form.name) for s in pair] for form in forms}


def test_the_form_that_serves_is_chosen_and_labels_are_not_looked_at(organism, monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=16)
    serves, one_word, silent, fickle = (Form(shots=k) for k in (6, 0, 2, 4))

    def of(name, n):
        if name == one_word.name:
            return truth + 9, 0.99
        if name == silent.name:
            return truth, 0.01
        if name == fickle.name:
            return rng.normal(size=n), 0.99
        return truth + 0.1 * rng.normal(size=n), 0.9

    monkeypatch.setattr(module, "_asked", answering(of))
    asked = each((one_word, silent, fickle, serves))
    table = elicitation(organism, asked)
    assert best_form(table, list(asked)) == serves
    score = table[table["metric"] == "score"].set_index("form")["value"]
    assert (score.drop(serves.name) < 0.2).all()
    turned = [wb.prompts.PromptSet(wb.prompts.ContrastPair(**{**vars(p), "label": 1 - p.label}) for p in s) for s in PAIR]
    monkeypatch.setattr(module, "_asked", answering(lambda name, n: (truth if name == serves.name else truth + 9, 0.9)))
    before = elicitation(organism, each(asked))
    monkeypatch.setattr(module, "_asked", answering(lambda name, n: (truth if name == serves.name else truth + 9, 0.9)))
    pd.testing.assert_frame_equal(before, elicitation(organism, each(asked, turned)))


def test_forms_are_those_that_the_tokenizer_admits(organism, stories):
    names = [form.name for form in forms(organism)]
    assert "plain, no examples, yes/no" in names
    assert not any(name.startswith("chat") for name in names)
    assert [form.shots for form in forms(organism, shots=(0,))] == [0] * len(forms(organism, shots=(0,)))
    with pytest.raises(errors.BadInput, match="has no chat template"):
        forms(organism, chat=True)
    with pytest.raises(errors.AnswerTokens, match="writes none of"):
        forms(organism, words={("flibbertigibbet", "yes"): ""})


def test_two_wordings_are_needed(organism):
    with pytest.raises(errors.BadInput, match="two wordings of the question at least"):
        elicitation(organism, {Form(): PAIR[:1]})
    with pytest.raises(errors.BadInput, match="no form"):
        elicitation(organism, {})
