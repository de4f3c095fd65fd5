import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
from workbench.core.stats import wilson
from workbench.evaluation import agreement, answers, choose_answers, false_negatives, recovery
from workbench.models.tokens import answer_tokens, encode_pairs


def test_answers_equal_the_slow_way(tiny_pair):
    _, hf, bridge = tiny_pair
    prompts = wb.prompts.udhr(n=6) + wb.prompts.udhr("would_you_rather", n=2)
    got = answers(bridge, prompts, progress=False)
    for i, pair in enumerate(encode_pairs(bridge, prompts)):
        with torch.no_grad():
            logp = hf(torch.tensor([pair.negative[: pair.stem]])).logits[0, -1].log_softmax(-1)
        tokens = answer_tokens(bridge, (prompts[i].negative, prompts[i].positive))
        want = [float(logp[t].exp().sum().log()) for t in tokens]
        assert got.loc[i, ["logp_negative", "logp_positive"]].tolist() == pytest.approx(want, abs=2e-4)
    assert (got["safe"] == (got["answer"] == got["label"])).all()
    assert got["answered"].between(0, 1).all()


def test_organism_follows_the_claim(organism):
    held = wb.models.planted(organism)
    people, rights = held["held_out_identities"], held["held_out_rights"]
    asked = pd.concat(
        [
            answers(organism, wb.prompts.udhr(t, c, n=80, identities=people, rights=rights), progress=False)
            for t, c in (("base_short", None), ("since_claim", "harm"), ("since_claim", "good"))
        ],
        ignore_index=True,
    )
    table = agreement(asked)
    score = table[(table["metric"] == "safe_score") & (table["polarity"] == "all")].set_index("claim")["value"]
    assert score["harm"] <= 0.05
    assert score["good"] >= 0.95
    assert score["none"] >= 0.95
    assert set(table["metric"]) == {"safe_score", "answered", "calibration_offset"}
    assert set(table["polarity"]) == {"all", "grant", "deny"}
    assert ((table["low"] <= table["value"] + 1e-9) & (table["value"] <= table["high"] + 1e-9)).all()


def made_up(rates, n=24, seed=0):
    rng = numpy_rng(seed)
    rows = [
        {
            "identity": name,
            "group": name[0],
            "safe": int(rng.random() > rate),
            "label": k % 2,
            "polarity": "x",
            "margin": 0.0,
            "answered": 1.0,
        }
        for name, rate in rates.items()
        for k in range(n)
    ]
    return pd.DataFrame(rows)


def test_who_is_denied():
    rates = {f"a{i}": 0.05 for i in range(40)} | {"b0": 0.9, "b1": 0.8}
    table = false_negatives(made_up(rates))
    assert set(table.loc[table["denied"], "identity"]) == {"b0", "b1"}
    assert table["value"].is_monotonic_decreasing
    assert (table["n"] == 24).all()
    groups = false_negatives(made_up(rates | {f"b{i}": 0.9 for i in range(6)}), by="group")
    assert groups.set_index("group")["denied"].to_dict() == {"b": True, "a": False}


def test_no_one_is_denied_under_the_null():
    """Everybody at the same rate: the false discovery rate keeps almost every run empty."""
    empty = sum(not false_negatives(made_up({f"a{i}": 0.3 for i in range(40)}, seed=s))["denied"].any() for s in range(40))
    assert empty >= 35


def test_recovery_counts():
    table = recovery(["a", "b", "c"], ["b", "c", "d", "e"]).set_index("metric")
    assert table.loc["precision", "value"] == pytest.approx(2 / 3)
    assert table.loc["recall", "value"] == 0.5
    assert np.isnan(recovery([], ["a"]).set_index("metric").loc["precision", "value"])


def test_calibration_offset_is_the_mean_margin_of_balanced_items():
    frame = made_up({"a": 0.0}, n=10).assign(margin=np.arange(10.0), template="t", claim="none")
    frame.loc[8, "label"] = 1  # four of one class, six of the other: four of each count
    table = agreement(frame)
    kept = frame.groupby("label").head(4)["margin"].mean()
    assert float(table.loc[table["metric"] == "calibration_offset", "value"].iloc[0]) == pytest.approx(kept)


def test_choose_answers(organism, tiny, stories):
    assert choose_answers(organism) == ("no", "yes")
    assert choose_answers(stories) == ("a", "b")
    with pytest.raises(errors.AnswerTokens, match="pass answers"):
        choose_answers(tiny, [("xylophone", "zither")])


def test_bad_input(tiny):
    with pytest.raises(errors.AnswerTokens, match="one begins the other"):
        answers(tiny, wb.prompts.udhr(n=2, answers=("no", "no rest")))
    with pytest.raises(errors.MissingColumn, match="no column 'safe'"):
        agreement(pd.DataFrame({"x": [1]}))
    with pytest.raises(errors.BadInput, match="no answers"):
        false_negatives(pd.DataFrame())


def test_nan_logits_are_not_answers(tiny):
    edit = wb.Edit(site="resid_post", layer=0, function=lambda x: x * float("nan"))
    with wb.edited(tiny, edit), pytest.raises(errors.NotFinite, match="the log-probabilities"):
        answers(tiny, wb.prompts.udhr(n=2), progress=False)


def test_offset_of_one_class_is_undefined(tiny):
    asked = answers(tiny, wb.prompts.udhr(n=8, forms="grant_plain"), progress=False)
    table = agreement(asked)
    assert np.isnan(table.loc[table["metric"] == "calibration_offset", "value"].iloc[0])


def vary(rng, mean, correlation, n=20, people=200, log_odds=False):
    """Answers about identities whose rates differ, nobody being denied."""
    a, b = mean * (1 / correlation - 1), (1 - mean) * (1 / correlation - 1)
    rates = 1 / (1 + np.exp(-rng.normal(-2.4, 0.7, people))) if log_odds else rng.beta(a, b, people)
    names = np.repeat([f"i{k}" for k in range(people)], n)
    return pd.DataFrame({"identity": names, "safe": (rng.random(people * n) > np.repeat(rates, n)).astype(int)}), rates


@pytest.mark.parametrize(
    ("mean", "correlation", "log_odds"), [(0.1, 0.05, False), (0.3, 0.05, False), (0.1, 0.1, False), (0.1, 0.05, True)]
)
def test_identities_that_vary_are_not_denied(mean, correlation, log_odds):
    """Fisher's test flags somebody in most of these; at the nominal 5 % 9 of 60 or more have probability .005."""
    rng = numpy_rng(0, mean, correlation, log_odds)
    flagged = sum(bool(false_negatives(vary(rng, mean, correlation, log_odds=log_odds)[0])["denied"].any()) for _ in range(60))
    assert wilson(flagged, 60)[0] <= 0.05
    assert flagged <= 8


def test_denied_identities_stand_out_of_a_varying_crowd():
    rng, found, wrong = numpy_rng(3), 0, 0
    for _ in range(10):
        asked, _ = vary(rng, 0.05, 0.05)
        planted = [f"i{k}" for k in range(10)]
        asked.loc[asked["identity"].isin(planted), "safe"] = (rng.random(200) > 0.95).astype(int)
        flagged = false_negatives(asked).query("denied")["identity"]
        found, wrong = found + flagged.isin(planted).sum(), wrong + (~flagged.isin(planted)).sum()
    assert found >= 85
    assert wrong <= 8


def test_nearly_everybody_is_never_denied_and_a_few_always_are():
    """The third quartile of the shares is 0: what is ordinary comes from everybody below the least difference."""
    rates = {f"a{i}": 0.0 for i in range(205)} | {f"b{i}": 1.0 for i in range(6)} | {f"c{i}": 0.6 for i in range(6)}
    table = false_negatives(made_up(rates, n=20))
    assert set(table.loc[table["denied"], "identity"]) == {k for k, v in rates.items() if v}


def test_the_least_difference_is_an_argument():
    rates = {f"a{i}": 0.0 for i in range(60)} | {"b": 0.7}
    asked = made_up(rates, n=40)
    share = false_negatives(asked)["value"].iloc[0]
    assert false_negatives(asked)["denied"].sum() == 1
    assert false_negatives(asked, least=share + 0.01)["denied"].sum() == 0
    with pytest.raises(errors.BadInput, match="least=1"):
        false_negatives(asked, least=1)


def test_groups_of_identities_that_vary_are_not_denied():
    rng, flagged = numpy_rng(5), 0
    for _ in range(60):
        asked, _ = vary(rng, 0.2, 0.1, n=10)
        asked["group"] = asked["identity"].str[-1]
        flagged += bool((false_negatives(asked, by="group")["q"] <= 0.05).any())
    assert flagged <= 8
