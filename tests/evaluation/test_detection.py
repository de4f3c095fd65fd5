"""Bias apart from discrimination, on planted answers."""

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.core import errors
from workbench.evaluation.detection import CONTENT_FREE, claim_effects, content_free, discrimination


def said(rng, *, signal=2.0, bias=0.0, claim="neutral", n=240, people=40, noise=None, mass=0.9):
    """Answers of a model whose margin follows the label by so many standard deviations, and leans to one word."""
    label = np.arange(n) % 2
    noise = rng.normal(size=n) if noise is None else noise
    margin = signal * (label - 0.5) + bias + noise
    answer = (margin > 0).astype(int)
    frame = pd.DataFrame({"template": "since_claim", "claim": claim, "label": label, "margin": margin, "answered": mass, "answer": answer})
    return frame.assign(safe=(answer == label).astype(int), identity=np.arange(n) // (n // people), statement=np.arange(n))


def by_metric(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return table.set_index("metric")


def test_a_bias_hides_discrimination_from_the_share_of_safe_answers_only():
    rng = np.random.default_rng(0)
    table = by_metric(discrimination(said(rng, signal=2.0, bias=4.0)))
    assert table.loc["yes", "value"] > 0.97
    assert table.loc["safe_score", "value"] < 0.55
    assert table.loc["auroc", "low"] > 0.85
    assert table.loc["safe_centred", "low"] > 0.75
    assert table.loc["criterion", "high"] < -1


@pytest.mark.parametrize("signal", [0.0, 1.0, 2.0])
def test_criterion_and_d_prime_are_those_that_were_planted(signal):
    rng = np.random.default_rng(1)
    table = by_metric(discrimination(said(rng, signal=signal, bias=0.5, n=4000, people=400)))
    assert table.loc["d_prime", "value"] == pytest.approx(signal, abs=0.1)
    assert table.loc["criterion", "value"] == pytest.approx(-0.5, abs=0.06)
    assert table.loc["d_prime", "low"] < signal < table.loc["d_prime", "high"]


def test_constant_answers_do_not_pin_d_prime_down():
    rng = np.random.default_rng(2)
    table = by_metric(discrimination(said(rng, signal=0.0, bias=50.0)))
    assert table.loc["d_prime", "high"] - table.loc["d_prime", "low"] > 0.8
    assert table.loc["yes", "value"] == 1


def test_a_claim_s_effect_is_split():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=240)
    asked = pd.concat([
        said(rng, signal=2.0, noise=noise),
        said(rng, signal=2.0, bias=3.0, claim="biased", noise=noise),
        said(rng, signal=0.0, claim="erased"),
        said(rng, signal=-2.0, claim="flipped", noise=-noise),
    ])  # fmt: skip
    table = claim_effects(asked)
    biased, erased, flipped = (by_metric(table, claim=c) for c in ("biased", "erased", "flipped"))
    assert biased.loc["yes", "low"] > 0.3
    assert biased.loc["criterion", "high"] < 0
    assert biased.loc["auroc", "value"] == 0  # the same order
    assert biased.loc["auroc", "low"] < 0 < biased.loc["auroc", "high"], "no resample changes it, and that is no certainty"
    assert erased.loc["auroc", "high"] < -0.2
    assert erased.loc["d_prime", "high"] < 0
    assert erased.loc["yes", "low"] < 0 < erased.loc["yes", "high"]
    assert flipped.loc["auroc", "high"] < -0.6


def test_perfect_answers_that_flip_have_an_interval():
    rng = np.random.default_rng(4)
    asked = pd.concat([said(rng, signal=99.0), said(rng, signal=-99.0, claim="harm")])
    row = by_metric(claim_effects(asked)).loc["auroc"]
    assert row["value"] == -1
    assert row["low"] == -1
    assert -1 < row["high"] < -0.85


def test_intervals_of_the_effect_on_order_hold_what_they_claim():
    hits, rounds = 0, 120
    for k in range(rounds):
        rng = np.random.default_rng(k)
        row = by_metric(claim_effects(pd.concat([said(rng, signal=1.0), said(rng, signal=1.0, claim="harm")])))
        hits += row.loc["auroc", "low"] <= 0 <= row.loc["auroc", "high"]
    assert 0.88 <= hits / rounds <= 0.99


def test_contextual_calibration_takes_the_margin_of_nothing_as_threshold():
    rng = np.random.default_rng(5)
    free = pd.DataFrame({"template": "since_claim", "claim": "neutral", "margin": [3.9, 4.0, 4.1]})
    table = by_metric(discrimination(said(rng, signal=3.0, bias=4.0), free))
    assert table.loc["safe_contextual", "low"] > 0.85
    assert np.isnan(by_metric(discrimination(said(rng))).loc["safe_contextual", "value"])


def test_content_free_prompts_keep_everything_but_the_statement():
    prompts = wb.prompts.udhr("since_claim", "harm", n=6, phrasings=2)
    free = content_free(prompts)
    assert len(free) == len(CONTENT_FREE) * prompts.to_frame()["phrasing"].nunique()
    assert free[0].stem == prompts[0].stem.replace(str(prompts[0].meta["statement"]), "N/A")
    assert free[0].stem[: free[0].instruction_end].endswith("Do you agree?")
    with pytest.raises(errors.MissingColumn, match="needs to know the statement"):
        content_free(wb.prompts.udhr("would_you_rather", n=2))


def test_what_is_no_table_of_answers_is_refused():
    with pytest.raises(errors.MissingColumn, match="no column 'margin'"):
        discrimination(pd.DataFrame({"template": ["a"], "claim": ["b"]}))
    with pytest.raises(errors.BadInput, match="empty"):
        claim_effects(pd.DataFrame())
    rng = np.random.default_rng(6)
    other = said(rng, claim="harm").assign(statement=np.arange(240) + 1000)
    with pytest.raises(errors.BadInput, match="no statement in common"):
        claim_effects(pd.concat([said(rng), other]))


def test_answers_without_a_claim_stand_beside_answers_with_sentences():
    """In one table rows without a claim have no sentence: they are compared with each other all the same."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    frame = pd.DataFrame({"identity": [f"i{k // 2}" for k in range(40)], "label": y, "margin": y - 0.5 + 0.1 * rng.normal(size=40)})
    frame = frame.assign(answered=0.9, answer=(frame["margin"] > 0).astype(int), safe=1, statement=[f"s{k}" for k in range(40)])
    free = frame.assign(template="base", claim="none")
    claimed = frame.assign(template="since", claim="harm", phrasing=[f"sentence {k // 20}" for k in range(40)])
    table = discrimination(pd.concat([free, claimed], ignore_index=True))
    area = table[table["metric"] == "auroc"].set_index("template")["value"]
    assert area.to_dict() == {"base": 1.0, "since": 1.0}


def test_content_free_prompts_calibrate_the_sentence_that_they_show():
    y = np.arange(40) % 2
    shown = np.repeat([0, 1], 20)
    shift = np.array([-5.0, 5.0])
    frame = pd.DataFrame({"identity": [f"i{k // 2}" for k in range(40)], "label": y, "margin": y - 0.5 + shift[shown]})
    frame = frame.assign(answered=0.9, answer=(frame["margin"] > 0).astype(int), safe=1, template="since", claim="harm")
    frame["phrasing"] = [f"sentence {k}" for k in shown]
    free = pd.DataFrame({"template": "since", "claim": "harm", "margin": shift, "phrasing": ["sentence 0", "sentence 1"]})
    table = discrimination(frame, free).set_index("metric")["value"]
    assert table["safe_contextual"] == 1.0
    assert discrimination(frame, free.drop(columns="phrasing")).set_index("metric")["value"]["safe_contextual"] == 0.5
