"""Sentences of a claim as a factor of an angle: planted, against none planted; and which sentences the study shows."""

import numpy as np
import pytest
import torch

from workbench.core import errors
from workbench.directions import compare_directions, factorial_geometry
from workbench.runs import Cache, Run, Steps, find
from workbench.runs.handle import handles
from workbench.studies.geometry.report import _limits
from workbench.studies.geometry.settings import GeometrySettings
from workbench.studies.geometry.study import Geometry
from workbench.studies.geometry.wordings import Said, Worded, with_sentences, wordings

D, PEOPLE, EACH, SENTENCES = 24, 30, 10, 5
CONTRASTS = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def planted(seed, by_sentence, sentences=SENTENCES):
    """Harm, good and a baseline: orthogonal directions, noise of identities, and of every sentence a direction of its own."""
    g = torch.Generator().manual_seed(seed)
    people = np.repeat(np.arange(PEOPLE), EACH)
    code = np.tile(np.arange(PEOPLE * EACH) % sentences, 1)
    means = {"harm": torch.eye(D)[0], "good": torch.eye(D)[1], "baseline": torch.zeros(D)}
    person = 0.3 * torch.randn(PEOPLE, D, generator=g)
    rows = {}
    for name, mean in means.items():
        own = by_sentence * torch.randn(sentences, D, generator=g)
        rows[name] = 2 * mean + person[people] + own[code] + 0.5 * torch.randn(len(people), D, generator=g)
    said = {name: Said(claim=name, sentences=code.tolist()) for name in means}
    return rows, people.astype(str).tolist(), said


def reports(seed, by_sentence):
    rows, people, said = planted(seed, by_sentence)
    x, y, z = rows.values()
    found = compare_directions(harm=(x, z), good=(y, z), items=[str(i) for i in range(len(x))], clusters=people, draws=0, seed=0)
    return found, Worded(rows, dict.fromkeys(rows, people), said, CONTRASTS).report(found)


def test_sentences_that_differ_widen_the_interval_until_it_holds_the_truth():
    held, alone = [], []
    for seed in range(20):
        found, worded = reports(seed, 0.4)
        assert worded.cosine == found.cosine
        assert worded.interval[0] < found.interval[0] < found.interval[1] < worded.interval[1]
        held.append(worded.interval[0] <= 0 <= worded.interval[1])
        alone.append(found.interval[0] <= 0 <= found.interval[1])
    assert sum(held) >= 17, "the directions of the claims themselves are orthogonal"
    assert sum(alone) <= 10, "over identities alone the interval is about these sentences"


def test_sentences_that_do_not_differ_leave_the_interval_nearly_as_it_is():
    ratio = []
    for seed in range(10):
        found, worded = reports(seed, 0.0)
        ratio.append((worded.interval[1] - worded.interval[0]) / (found.interval[1] - found.interval[0]))
    assert min(ratio) >= 1 - 1e-9
    assert np.median(ratio) < 1.3


def test_the_verdict_is_that_of_the_wider_interval():
    changed = [pair for pair in (reports(seed, 0.6) for seed in range(10)) if pair[0].verdict != pair[1].verdict]
    assert changed
    for _, worded in changed:
        assert worded.verdict == "undetermined"
        assert "sentences" in worded.reason


def test_a_claim_with_one_sentence_adds_nothing():
    rows, people, said = planted(0, 0.4, sentences=1)
    x, y, z = rows.values()
    found = compare_directions(harm=(x, z), good=(y, z), items=[str(i) for i in range(len(x))], clusters=people, draws=0, seed=0)
    assert Worded(rows, dict.fromkeys(rows, people), said, CONTRASTS).report(found) == found


def test_a_two_by_two_has_sentences_in_every_interval():
    g = torch.Generator().manual_seed(0)
    pairs, code = [str(i) for i in range(60)], np.arange(60) % 3
    push = {s: 0.6 * torch.randn(3, D, generator=g) for s in (0, 1)}
    cells = {
        (h, s): 2 * h * torch.eye(D)[0] + 2 * s * torch.eye(D)[1] + push[s][code] + 0.5 * torch.randn(60, D, generator=g)
        for h, s in CORNERS
    }
    found = factorial_geometry(cells, ("harm", "safety"), clusters=dict.fromkeys(cells, pairs), draws=0, seed=0)
    names = {f"{h}{s}": x for (h, s), x in cells.items()}
    said = {f"{h}{s}": Said(claim=f"push {s}", sentences=code.tolist()) for h, s in CORNERS}
    worded = with_sentences(found, names, dict.fromkeys(names, pairs), said)
    wide, narrow = (r.effects.set_index("effect").eval("high - low") for r in (worded, found))
    assert wide["safety"] > 1.5 * narrow["safety"], "the sentences push differently"
    assert wide["harm"] < 1.3 * narrow["harm"], "and harm of the request knows nothing of them"
    key = ("harm", "safety")
    assert worded.reports[key].interval[0] < found.reports[key].interval[0]
    assert worded.effects["value"].tolist() == found.effects["value"].tolist()


def study(organism, tmp_path, **more):
    settings, models = GeometrySettings(items=64, requests=40, **more), handles({"model": organism}, Cache(tmp_path))
    return Geometry(models, settings, Steps(Run(tmp_path, {"steps": []}), find("geometry"), settings, models))


def test_every_claim_is_shown_in_its_sentences(organism, tmp_path):
    many = study(organism, tmp_path)
    assert many.sentences == {"harm": 5, "good": 5, "neutral": 5, "jailbreak": 3, "protect": 3}
    tables = {claim: prompts.to_frame() for claim, prompts in many.stances("train").items()}
    for claim, table in tables.items():
        assert table["phrasing"].nunique() == many.sentences[claim]
    numbers = [Said.of(table, claim).sentences for claim, table in tables.items()]
    assert numbers[0] == numbers[1] == numbers[2], "a statement is shown the same sentence of each claim"
    requests = many.requests().to_frame()
    assert requests.groupby("claim")["phrasing"].nunique().to_dict() == {"jailbreak": 3, "protect": 3}
    assert requests.groupby(["claim", "right"])["phrasing"].nunique().max() == 1, "both of a pair are shown one"
    assert requests.groupby("claim")["claim_harm"].unique().map(list).to_dict() == {"jailbreak": [1], "protect": [0]}
    assert not any("There is one sentence" in line for line in _limits(many))


def test_one_sentence_is_what_was_asked_before_and_is_said(organism, tmp_path):
    one = study(organism, tmp_path, phrasings=1)
    assert "phrasing" not in one.stances("train")["harm"].to_frame()
    assert any("There is one sentence for harm, good, neutral, jailbreak and protect" in line for line in _limits(one))


def test_a_claim_with_fewer_sentences_uses_those_there_are(monkeypatch):
    assert wordings("harm", 5) == 5
    assert wordings("jailbreak", 5, "requests") == 3
    assert wordings("jailbreak", 2, "requests") == 2
    monkeypatch.setattr("workbench.studies.geometry.wordings.claim_phrasings", lambda claim, kind: ([], []))
    assert wordings("harm", 5) == 1


@pytest.mark.parametrize(("match", "options"), [("phrasings", {"phrasings": 6}), ("scopes", {"scopes": ("stem",)})])
def test_bad_settings(match, options):
    with pytest.raises(errors.BadInput, match=match):
        GeometrySettings(**options)
