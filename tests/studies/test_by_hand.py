"""What the UDHR study says of a real model, computed again by plain Hugging Face and scikit-learn code that shares nothing with it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import workbench as wb
from workbench.probes import read_forms
from workbench.prompts import grouped_split

LAYER = 20
FORMS = (("no", " no", "No", " No"), ("yes", " yes", "Yes", " Yes"))  # each a single token of this model


@pytest.fixture(scope="module")
def plain(smollm2_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32), AutoTokenizer.from_pretrained(smollm2_folder)


@torch.no_grad()
def by_hand(plain, prompts):
    """The stream after a block at the last token of both variants, and the log-odds of the two answers after the stem."""
    model, tokenizer = plain
    stream, margin = [], []
    for p in prompts:
        ids = [tokenizer(p.stem + ending, return_tensors="pt").input_ids for ending in (p.negative, p.positive)]
        out = [model(x, output_hidden_states=True) for x in ids]
        stream.append([o.hidden_states[LAYER + 1][0, -1].numpy() for o in out])
        logits = out[0].logits[0, -2]
        no, yes = (torch.logsumexp(logits[[tokenizer(f).input_ids[0] for f in forms]], 0) for forms in FORMS)
        margin.append(float(yes - no))
    return np.array(stream), np.array(margin)


def test_readings_and_answers_under_a_claim(smollm2, plain):
    sets = {claim: wb.prompts.udhr("since_claim", claim=claim, n=90, seed=3) for claim in ("neutral", "harm")}
    split = grouped_split(sets["neutral"].to_frame(), test=0.4, seed=0)
    side = split.side(sets["neutral"].to_frame())
    chosen = np.flatnonzero(side != "")
    sets = {claim: prompts.subset(chosen) for claim, prompts in sets.items()}
    frame = sets["neutral"].to_frame()
    train, test = (np.flatnonzero(split.side(frame) == which) for which in ("train", "test"))
    y = frame["label"].to_numpy()
    hand = {"neutral": by_hand(plain, sets["neutral"]), "harm": by_hand(plain, sets["harm"].subset(test))}

    # a probe fitted behind the neutral sentence, read under the claim
    fitted = hand["neutral"][0][train]
    mean, std = fitted.mean(0), fitted.std(0)
    z = (fitted - mean) / std
    probe = LogisticRegression(C=0.01, max_iter=10000, tol=1e-10).fit(
        np.concatenate([z[:, 1], z[:, 0]]), np.concatenate([y[train], 1 - y[train]])
    )

    def order(x):
        z = (x - mean) / std
        return roc_auc_score(y[test], (z[:, 1] - z[:, 0]) @ probe.coef_[0])

    want = {"neutral": order(hand["neutral"][0][test]), "harm": order(hand["harm"][0])}
    acts = {claim: wb.capture(smollm2, prompts, layers=[LAYER], logits="answers", progress=False) for claim, prompts in sets.items()}
    table, _ = read_forms(
        {"since_claim": acts["neutral"]},
        {("since_claim", claim): a for claim, a in acts.items()},
        split=split,
        methods=("logistic",),
        options={"logistic": {"c": 0.01}},
        random_directions=0,
    )
    got = table.query("control == '' and minus == '' and metric == 'auroc'").set_index("claim")["value"]
    for claim in want:
        assert got[claim] == pytest.approx(want[claim], abs=0.02)
    assert want["neutral"] > 0.6

    # what it says
    for claim, rows in (("neutral", np.arange(len(y))), ("harm", test)):
        asked = wb.evaluation.answers_of(acts[claim])
        assert np.abs(asked["margin"].to_numpy()[rows] - hand[claim][1]).max() < 1e-3
