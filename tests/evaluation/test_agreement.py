import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.core import errors
from workbench.core.seeds import numpy_rng
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
    with pytest.raises(errors.AnswerTokens, match=r"the answer ' perhaps' is \d tokens"):
        answers(tiny, wb.prompts.udhr(n=2, answers=("no", "perhaps")))
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
