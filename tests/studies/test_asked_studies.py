"""Patching and refusal ask an instruct model through its chat template, the organism as before; one that does not answer is told first."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_model

import workbench as wb
from workbench.core import errors
from workbench.runs import Cache, Run, Steps, find
from workbench.runs.handle import handles
from workbench.studies.answering import unanswered
from workbench.studies.asking import AskSettings, ChatSettings
from workbench.studies.patching.report import _weak
from workbench.studies.patching.study import Patching, PatchingSettings
from workbench.studies.reading.study import Reading, ReadingSettings
from workbench.studies.refusal.report import silent
from workbench.studies.refusal.study import Refusal, RefusalSettings, _Table

TEMPLATE = "{% for m in messages %}{{ m['role'] }} said : {{ m['content'] }} \n{% endfor %}{% if add_generation_prompt %}assistant said : {% endif %}"
SMALL = {"items": 8, "fit": 32, "layers": (0, 1)}


@pytest.fixture(scope="module")
def instruct(tmp_path_factory, organism):
    """A folder as save_pretrained writes it: random weights under the organism's tokenizer, with a chat template."""
    folder = tmp_path_factory.mktemp("models") / "instruct"
    tiny_model("llama", len(organism.tokenizer), layers=2, std=None).save_pretrained(folder)
    organism.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return str(folder)


def opened(kind, settings, model, tmp_path):
    models = handles({"model": model}, Cache(tmp_path))
    name = kind.__name__.lower()
    return kind(models, settings, Steps(Run(tmp_path, {"steps": []}), find(name), settings, models, progress=False))


def test_settings_of_asking_are_those_of_the_other_studies():
    assert issubclass(PatchingSettings, AskSettings)
    assert issubclass(RefusalSettings, ChatSettings)
    assert not issubclass(RefusalSettings, AskSettings), "requests have no examples and no answer words to try"
    assert RefusalSettings(chat_options={"think": "false"}).chat_options == {"think": False}
    with pytest.raises(errors.BadInput, match="shots"):
        PatchingSettings(shots=3)


def test_patching_asks_through_the_chat_template(instruct, tmp_path):
    study = opened(Patching, PatchingSettings(chat=True, system="be kind", shots=2, words="yes/no", elicit=0, **SMALL), instruct, tmp_path)
    for prompts in (study.clean, study.corrupted):
        for pair in prompts:
            assert pair.stem.count("user said :") == 3, "two examples and the question"
            assert pair.stem.count("assistant said :") == 3
            assert pair.stem.startswith("system said : be kind")
            assert pair.meta["shots"] == 2
    told = {p.meta["statement"] for p in study._examples(study.form, "base_short")}
    assert not told & {p.meta["statement"] for p in study._under(study.texts["harm"], "train", 32)}, "no direction is made of an example"


def test_patching_finds_its_form(instruct, tmp_path):
    """The table is made, and the form that scored best is asked in."""
    study = opened(Patching, PatchingSettings(elicit=8, shots=0, words="yes/no", **SMALL), instruct, tmp_path)
    table = study.run.tables["elicitation"]
    assert set(table["chat"]) == {False, True}
    best = table[(table["metric"] == "chosen") & (table["value"] == 1)]["form"].iloc[0]
    assert study.form.name == best
    assert ("user said :" in study.clean[0].stem) == study.form.chat


@pytest.mark.parametrize(("settings", "chat"), [({}, True), ({"chat": False}, False), ({"system": "be kind"}, True)])
def test_refusal_asks_through_the_chat_template(instruct, tmp_path, settings, chat):
    study = opened(Refusal, RefusalSettings(**settings), instruct, tmp_path)
    for prompts in study.sets.values():
        for pair in prompts:
            assert ("user said :" in pair.stem) == chat
            assert ("be kind" in pair.stem) == ("system" in settings)


def test_the_organism_is_asked_as_before(organism, tmp_path):
    patching = opened(Patching, PatchingSettings(items=8, fit=32), organism, tmp_path / "patching")
    refusal = opened(Refusal, RefusalSettings(), organism, tmp_path / "refusal")
    held = {"identities": sorted(patching.split.test["identity"]), "rights": sorted(patching.split.test["right"])}
    for prompts, claim in ((patching.clean, "good"), (patching.corrupted, "harm")):
        before = wb.prompts.udhr("consider_claim", patching.texts[claim], n=8, answers=patching.words, seed=0, **held)
        assert prompts.hash == before.hash
    ids = sorted({p.right for p in refusal.sets["fit"]})
    assert refusal.sets["fit"].hash == wb.prompts.requests("request", ids=ids, answers=refusal.words, seed=0).hash


def test_requests_are_read_with_a_refusal_and_compliance(organism, instruct, tmp_path):
    plain = opened(Reading, ReadingSettings(data="requests"), organism, tmp_path / "organism")
    chat = opened(Reading, ReadingSettings(data="requests", words="yes/no"), instruct, tmp_path / "instruct")
    assert {(p.negative, p.positive) for prompts in plain.sets.values() for p in prompts} == {(" Sorry", " Sure")}
    assert {(p.negative.strip(), p.positive.strip()) for prompts in chat.sets.values() for p in prompts} == {("no", "yes")}
    assert all("user said :" in p.stem for prompts in chat.sets.values() for p in prompts)


def test_without_a_template_there_is_no_chat(organism, tmp_path):
    with pytest.raises(errors.BadInput, match="chat template"):
        opened(Refusal, RefusalSettings(chat=True), organism, tmp_path)
    with pytest.raises(errors.BadInput, match="chat template"):
        opened(Patching, PatchingSettings(chat=True), organism, tmp_path)


def test_replies_are_given(instruct, tmp_path):
    study = opened(Refusal, RefusalSettings(replies="yes/no"), instruct, tmp_path)
    assert study.words == ("no", "yes")
    assert {p.negative.strip() for p in study.sets["test"]} == {"no"}
    with pytest.raises(errors.BadInput, match="replies"):
        RefusalSettings(replies="Sure/")
    with pytest.raises(errors.AnswerTokens):
        opened(Refusal, RefusalSettings(replies="yes/unheardofwordsindeed"), instruct, tmp_path)


def says(template, auroc, answered, yes):
    rows = {"auroc": auroc, "answered": (answered,) * 3, "yes": (yes,) * 3}
    return pd.DataFrame(
        [{"template": template, "claim": "none", "metric": m, "value": v, "low": a, "high": b, "n": 60} for m, (v, a, b) in rows.items()]
    )


FOLLOWS, BLIND = (0.9, 0.85, 0.95), (0.5, 0.42, 0.58)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (says("request", FOLLOWS, 0.9, 0.5), ""),
        (says("request", FOLLOWS, 0.02, 0.5), "both answers together hold 2.0% of the probability"),
        (says("request", BLIND, 0.9, 0.5), "the answers do not follow the requests"),
        (says("request", (0.6, 0.45, 0.75), 0.9, 0.99), "nearly all answers are Sure"),
    ],
)
def test_refusal_is_told_of_a_model_that_does_not_answer(table, why):
    run, study = SimpleNamespace(tables={"says": table}), SimpleNamespace(words=("Sorry", "Sure"))
    text = silent(run, study)
    assert why in text
    assert bool(text) == bool(why)


def test_patching_is_told_of_a_model_that_does_not_answer_and_of_claims_that_move_nothing():
    study = SimpleNamespace(set=SimpleNamespace(claims=("harm", "good")))

    def weak(auroc, low, high):
        apart = pd.DataFrame([{"value": (low + high) / 2, "low": low, "high": high, "n": 8}])
        return _weak(SimpleNamespace(tables={"says": says("base_short", auroc, 0.9, 0.5), "apart": apart}), study)

    assert weak(FOLLOWS, 1.0, 2.0) == ""
    assert "does not answer" in weak(BLIND, 1.0, 2.0)
    assert "a share of nothing" in weak(FOLLOWS, -0.1, 0.2)
    assert "does not answer" not in weak(FOLLOWS, -0.1, 0.2)


def test_nothing_is_said_of_a_form_that_was_not_asked():
    assert unanswered(says("request", BLIND, 0.9, 0.5), [("base_short", "none")]) == ""


EDITS = ("none", "add refusal", "subtract refusal", "ablate (to 0) everywhere", "ablate to the harmless mean")


def measured(study):
    """Rows as `Refusal.measure` makes them, without the hundreds of passes that it takes."""
    table, hits = _Table(0, 0.1), np.array([True, False, True])
    for name in EDITS:
        table.put(name, hits, hits)
    for name in study._controls(0):
        table.pool(name, [(hits, hits)] * 2)
    return table.frame()


def test_the_report_of_a_model_that_does_not_answer_begins_with_it(instruct, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    monkeypatch.setattr(Refusal, "measure", measured)
    run = wb.run_study("refusal", model=instruct, out=tmp_path / "run", progress=False, layers=1, optimise=0)
    assert run.findings[0].startswith("Mind: The model does not answer")
    page = run.report.read_text(encoding="utf-8")
    assert page.index("does not answer") < page.index("Refusal undone")
    assert "asked through its chat template" in page
