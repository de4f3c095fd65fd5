"""The many-shot study: what stands in front of the questions, the one pass against a plain loop, and its findings on planted tables."""

import numpy as np
import pandas as pd
import pytest

from workbench.core import errors
from workbench.evaluation import answers
from workbench.prompts import PromptSet
from workbench.studies.many_shot.report import MINUS, SHARE, _beside, law_findings, moved
from workbench.studies.many_shot.settings import ManyShotSettings
from workbench.studies.many_shot.study import STUDY, ManyShot

SMALL = {"most": 6, "questions": 10, "chains": 2, "train": 60, "resamples": 5, "pushed": (4, 2), "elicit": 0}


class Steps:
    """No step is run here."""

    progress = False


class Loaded(ManyShot):
    """The study of a model that is loaded already."""

    model = property(lambda self: self.handle)


@pytest.fixture(scope="module")
def study(organism):
    return Loaded({"model": organism}, ManyShotSettings(**SMALL), Steps())


def test_what_stands_in_front(study):
    assert study.shots == [0, 1, 2, 3, 4, 6]
    harmful, benign, prose = (study.prompts(kind) for kind in ("harmful", "benign", "prose"))
    assert len(harmful) == len(benign) == len(prose) == 2 * 6 * 10
    for one, two, three in zip(harmful, benign, prose, strict=True):
        assert one.label == two.label == three.label
        assert one.meta["statement"] == two.meta["statement"] == three.meta["statement"]
    # the same statements in the same order, each with the other answer
    last = slice(50, 60)
    given = [[line.rsplit(" ", 1)[1] for line in p[last][0].stem.split("\n\n")[:-1]] for p in (harmful, benign)]
    assert len(given[0]) == 6
    assert all({a, b} == {"yes", "no"} for a, b in zip(*given, strict=True))
    # a number of demonstrations is a prefix of the next, and chains differ
    fewer, more = harmful[40].stem, harmful[50].stem
    assert more.startswith(fewer[: fewer.rindex("\n\n")])
    assert harmful[110].stem.split("\n\n")[0] != more.split("\n\n")[0]
    # no demonstration names an identity and right that is asked about; prose has as many tokens as demonstrations
    shown = {(p.identity, p.right) for chain in study.chains for p in chain}
    assert not shown & {(p.identity, p.right) for p in study.asked}
    lengths = [[len(ids[0]) for ids in p.token_ids(study.handle)[last]] for p in (harmful, prose)]
    assert np.abs(np.subtract(*lengths)).max() <= 12  # one sentence


def test_shuffled_answers_are_a_coin_and_the_same_for_every_length(study):
    many = study.shown("shuffled", 0, 6)
    assert study.shown("shuffled", 0, 3) == many[:3]
    assert [p.stem for p in many] == [p.stem for p in study.shown("harmful", 0, 6)]


def test_one_pass_gives_what_a_plain_loop_gives(study, organism):
    some = study.prompts("harmful")
    said = study.ask(some)
    rows = [0, 35, 59, 119]
    loop = np.concatenate(
        [answers(organism, PromptSet([some[i]], name="one"))[["logp_negative", "logp_positive"]].to_numpy() for i in rows]
    )
    assert np.abs(said[rows] - loop).max() < 1e-3
    nll, harmful, _, people, chains = study._grid(said, edited=False)
    assert nll.shape == (20, 6)
    label = some[35].label  # chain 0, three demonstrations, the sixth question
    assert nll[5, 3] == pytest.approx(-said[35, 1 - label])
    assert harmful[5, 3] == (said[35, 1 - label] > said[35, label])
    assert people[:10] == people[10:] == [p.identity for p in study.asked]
    assert chains == ["0"] * 10 + ["1"] * 10


def planted(first, last, kind="harmful"):
    rows = [(kind, "none", s, SHARE, v, v - 0.05, v + 0.05, 60) for s, v in ((0, first), (8, last))]
    return pd.DataFrame(rows, columns=["kind", "intervention", "shots", "metric", "value", "low", "high", "n"])


def test_findings_follow_the_intervals():
    assert "0.70 [0.65, 0.75] behind 8 (n=60): more harmful answers." in moved(planted(0.2, 0.7))[0]
    assert "fewer harmful answers" in moved(planted(0.7, 0.2))[0]
    assert "not told from none of them" in moved(planted(0.4, 0.45))[0]
    table = planted(0.4, 0.3).assign(metric=f"{MINUS} benign")
    assert "Beside benign" in _beside(table)[0]
    assert _beside(table)[0].endswith(", apart.")
    assert _beside(planted(0.0, 0.02).assign(metric=f"{MINUS} prose"))[0].endswith("not told apart.")


def test_a_law_is_named_only_where_it_is_chosen():
    rows = []
    for law, error in (("power", 0.1), ("exponential", 0.3), ("bayesian", 0.2)):
        for parameter, value in (("exponent", 0.5), ("intercept", 3.0), ("held-out error", error)):
            if parameter == "held-out error" or law == "power":
                rows.append(("harmful", "none", law, parameter, value, value - 0.05, value + 0.05, 20, 0.95, law == "power", ""))
    columns = ["kind", "intervention", "law", "parameter", "value", "low", "high", "n", "share", "chosen", "note"]
    table = pd.DataFrame(rows, columns=columns)
    text = law_findings(table)[0]
    assert "the power law foretells best (error power 0.10" in text
    assert "exponent 0.50 [0.45, 0.55]" in text
    assert "a law with a floor foretells best" in law_findings(table.assign(chosen=table["law"] != "power"))[0]
    undecided = table.assign(chosen=False, note="a power law foretells best, in 60% of resamples only")
    assert "no law is chosen: a power law foretells best, in 60% of resamples only" in law_findings(undecided)[0]
    none = table.iloc[:1].assign(law="none", parameter="", note="2 numbers of shots: 6 at least for a law")
    assert law_findings(none)[0] == "Law, harmful, demonstrations alone: none fitted (2 numbers of shots: 6 at least for a law)."


def test_errors():
    for change, match in (
        ({"kinds": ("harmfull",)}, "Did you mean 'harmful'"),
        ({"interventions": ("none", "adaptor")}, "intervention"),
        ({"interventions": ("system",)}, "'none' is what the others are compared with"),
        ({"kinds": ("prose", "harmful")}, "one kind of demonstrations at least"),
        ({"questions": 11}, "an even number of 10 or more, got 11"),
        ({"pushed": (4, 0)}, "pushed: a number of questions and a number of demonstrations"),
        ({"train": 10}, "60 statements at least"),
        ({"most": 0}, "1 or more"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            ManyShotSettings(**change)
    assert STUDY.name == "many_shot"
