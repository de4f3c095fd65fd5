"""Debates: what is planted in scripts is found and nothing else, quotations are checked, seats are exchanged, and endpoints argue and judge."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pandas as pd
import pytest

from workbench.core import errors
from workbench.evaluation.debate import (
    Case,
    CountingJudge,
    EndpointDebater,
    ModelDebater,
    ModelJudge,
    Rated,
    ScriptedDebater,
    Speech,
    Transcript,
    debate,
    debate_table,
    hold,
    rise,
    undebated,
    with_speeches,
)
from workbench.evaluation.debate.hold import every
from workbench.evaluation.debate.measures import frame_of
from workbench.prompts import ContrastPair, udhr

FACTS = ("The gate is open at noon.", "At noon nobody guards it.")
DOUBTS = ("The gate has a lock.",)


def case(k=0, label=1):
    stem = f"Question {k}: can one pass the gate at noon? Answer:"
    pair = ContrastPair(stem=stem, negative=" no", positive=" yes", label=label, identity=f"person {k % 12}")
    return Case(name=f"case {k}", pair=pair, facts=FACTS, doubts=DOUBTS)


def held(strengths=(0.0, 1.0), n=48, turns=1, seed=0):
    cases = [case(k, k % 2) for k in range(n)]
    out = [t for c in cases for t in undebated(c)]
    for s in strengths:
        one = ScriptedDebater(strength=s, seed=seed)
        out += every(cases, (one, one), turns, strength=s, progress=False)
    return out


def test_quotations_are_checked_word_for_word():
    said = Speech(side=1, text="See <quote>The gate is\n open at noon.</quote> and <quote>The gate is never closed.</quote>")
    assert said.quotes(case().document) == (["The gate is open at noon."], ["The gate is never closed."])
    assert said.shown(case().document) == "See “The gate is open at noon.” and The gate is never closed. (not in the text)"


def test_a_judge_sees_what_was_said_and_not_the_text():
    one = ScriptedDebater(strength=1.0)
    t = hold(case(), (one, one), (0, 1), 1)
    pair = with_speeches(t)
    assert pair.stem.endswith("Answer:")
    assert "Debater A, for “no”" in pair.stem
    assert sum(fact in pair.stem for fact in FACTS) == 1
    assert "The gate has a lock." in pair.stem
    assert not any(fact in with_speeches(undebated(case())[0]).stem for fact in FACTS)
    assert pair.label == 1
    assert 'Consider that "' in with_speeches(t, "consider").stem
    assert all(fact in t.document() for fact in FACTS)


def test_seats_and_names_are_exchanged():
    one = ScriptedDebater(strength=0.5)
    four = debate(case(), (one, one), 2)
    assert sorted((t.first, t.called.index("Debater A")) for t in four) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    chosen = np.array([0.9 if t.first == 1 else 0.3 for t in four])
    frame = frame_of(four, chosen)
    assert frame["first"].mean() == pytest.approx((0.9 + 0.7) / 2)
    assert frame["named"].mean() == pytest.approx(0.5 + 0.0)


def test_a_stronger_debater_quotes_wherever_a_weaker_one_does():
    for k in range(20):
        weak, strong = (ScriptedDebater(strength=s).speak(case(k), 1, (), 0) for s in (0.4, 0.8))
        assert "<quote>" in strong or "<quote>" not in weak


@pytest.fixture(scope="module")
def transcripts():
    return held()


def flagged(table, metric, strength=0.0):
    row = table[(table["protocol"] == "debate") & (table["metric"] == metric) & (table["strength"] == strength)].iloc[0]
    return 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0


def test_planted_leanings_and_hearing_are_found_and_a_deaf_judge_shows_none(transcripts):
    runs = 16
    found = {"first": 0, "named": 0, "positive": 0}
    names = {"first": "first speaker", "named": "called A", "positive": "positive answer"}
    false = rises = deaf = 0
    for seed in range(runs):
        for kind, metric in names.items():
            table = debate_table(transcripts, CountingJudge(**{kind: 0.5}, noise=1.0, seed=seed).choose(transcripts))
            found[kind] += flagged(table, metric) == 1
        quiet = CountingJudge(facts=0.0, noise=1.0, seed=seed).choose(transcripts)
        table = debate_table(transcripts, quiet)
        false += any(flagged(table, metric) for metric in names.values())
        up = rise(transcripts, CountingJudge(noise=1.0, seed=seed).choose(transcripts)).set_index("protocol")
        rises += up.loc["debate", "low"] > 0
        none = rise(transcripts, quiet).set_index("protocol")
        deaf += not none.loc["debate", "low"] <= 0 <= none.loc["debate", "high"]
    assert min(found.values()) == runs
    assert rises == runs
    assert false <= 4  # of 16 runs at 5 %: 5 or more come in .1 % of them
    assert deaf <= 4


def test_what_debate_adds_is_counted_over_the_same_cases(transcripts):
    right = np.array([t.case.right for t in transcripts], float)
    debated = np.array([t.protocol == "debate" for t in transcripts])
    table = debate_table(transcripts, np.where(debated, right, 1 - right)).set_index(["protocol", "strength", "metric"])["value"]
    assert table["debate", 1.0, "accuracy"] == 1
    assert table["consultancy", 1.0, "accuracy"] == 0
    assert table["debate", 1.0, "over none"] == table["debate", 0.0, "over consultancy"] == 1
    assert table["debate", 0.0, "same in all seats"] == 1
    tied = debate_table(transcripts, np.full(len(transcripts), 0.5))
    rows = tied[tied["metric"] == "accuracy"]
    assert (rows["note"] == "+0.50 in every case").all()


def test_a_model_judges_by_what_it_answers(organism):
    prompts = udhr("base_short", n=24, seed=0)
    cases = [Case(name=str(k), pair=p, facts=("A fact.",)) for k, p in enumerate(prompts)]
    chosen = ModelJudge(organism, "consider", progress=False).choose([undebated(c)[0] for c in cases])
    assert ((chosen > 0.5) == np.array(prompts.labels)).all()


class Longer:
    """Rates an answer by its length."""

    name = "longer"

    def judge(self, questions, answers):
        score = [float("nan") if "Question 2" in q else len(a) / 10 for q, a in zip(questions, answers, strict=True)]
        return pd.DataFrame({"judge": "longer", "score": score, "verdict": None, "note": ""})


def test_any_judge_that_rates_answers_decides_by_the_higher_rating():
    some = [undebated(case(k))[0] for k in range(3)]
    chosen = Rated(Longer()).choose(some)
    assert chosen[:2].tolist() == [1.0, 1.0]
    assert np.isnan(chosen[2]), "without a rating there is no verdict"
    assert np.isnan(frame_of(some, np.array([np.nan, 1.0, 0.0]))["correct"]).tolist() == [True, False, False]


@pytest.fixture
def endpoint():
    """A server on this machine that argues, or rates yes at 8 and everything else at 2."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            asked.append(text)
            if "You take part in a debate" in text:
                reply = "Look: <quote>The gate is open at noon.</quote>"
            else:
                reply = json.dumps({"rating": 8 if json.loads(text)["answer"] == "yes" else 2, "reason": "so"})
            out = json.dumps({"model": "m", "choices": [{"message": {"content": reply}, "finish_reason": "stop"}], "usage": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_argues_and_another_judges(endpoint):
    from workbench.evaluation.judges import EndpointJudge

    url, asked = endpoint
    one = EndpointDebater(url, "m", key_variable=None)
    t = hold(case(), (one, one), (1, 0), 1)
    assert [s.quotes(t.case.document)[0] for s in t.speeches] == [["The gate is open at noon."]] * 2
    assert "the right answer is 'yes'" in asked[0]
    assert all(fact in asked[0] for fact in FACTS), "who argues has read the text"
    assert "Look:" in asked[1], "and hears what was said before"
    asked.clear()
    judge = EndpointJudge(url, "m", key_variable=None, progress=False)
    assert Rated(judge).choose([t]).tolist() == [1.0]
    assert not any("At noon nobody guards it." in text for text in asked), "who judges has not"


def test_bad_input_is_refused(organism):
    one = ScriptedDebater(strength=0.0)
    with pytest.raises(errors.BadInput, match="0 to 1"):
        ScriptedDebater(strength=1.5)
    with pytest.raises(errors.BadInput, match="one fact at least"):
        Case(name="x", pair=case().pair, facts=())
    with pytest.raises(errors.BadInput, match="each side once"):
        hold(case(), (one, one), (1, 1), 1)
    with pytest.raises(errors.BadInput, match="form="):
        with_speeches(Transcript(case=case(), protocol="none"), "sung")
    with pytest.raises(errors.ShapeMismatch, match="one for each"):
        debate_table([undebated(case())[0]], np.zeros(2))
    with pytest.raises(errors.BadInput, match="chat template"):
        ModelDebater(organism).speak(case(), 1, (), 0)
