"""Statements without endings, and pairs read at the stem: one row an item, with every probe that sees labels, interval and control."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import workbench as wb
from workbench.activations.variants import is_paired, variants
from workbench.core import errors
from workbench.core.seeds import numpy_rng

SUPERVISED = ("logistic", "svm", "ridge", "lda", "mass_mean", "difference_in_means")


def single(n=240, width=8, signal=2.0, seed=0, share=0.5, radial=False, position="last"):
    """One row an item; the label stands along the first dimension, or (radial) in the distance from the middle."""
    rng = numpy_rng(seed, "single rows")
    y = (rng.random(n) < share).astype(int)
    x = rng.standard_normal((n, width))
    if radial:
        x[:, :2] *= np.where(y, 3.0, 0.5)[:, None]
    else:
        x[:, 0] += signal * (2 * y - 1) + 5  # a middle that is not 0
    rows = pd.DataFrame({"identity": [f"i{k // 4}" for k in range(n)], "right": "", "label": y, "stem": [f"s{k}" for k in range(n)]})
    if position == "last":
        rows = rows.assign(negative="", positive="")
    values = torch.tensor(x).float()[:, None, None].expand(-1, 2, 1, -1).contiguous()
    return wb.Activations(values=values, layers=[0], site="resid_post", position=position, rows=rows)


def test_what_is_one_row_and_what_is_a_pair():
    assert not is_paired(single())
    assert not is_paired(single(position="stem_last"))
    rows = single().rows.assign(negative=" no", positive=" yes")
    assert is_paired(single().with_rows(rows))
    positive, negative = variants(single(), 0)
    assert negative is None
    assert positive.shape == (240, 8)


@pytest.mark.parametrize("position", ["last", "stem_last"])
def test_every_method_that_sees_labels_reads_a_planted_label(position):
    table = wb.probe_layers(
        single(position=position), methods=[*SUPERVISED, "mlp", "quadratic", "rbf", "knn"], shuffles=3, random_directions=40
    )
    read = table[(table["metric"] == "accuracy") & (table["control"] == "")].set_index("method")
    assert (read["low"] > 0.7).all(), read["low"]
    assert (read["low"] < read["value"]).all()
    assert read["band_low"].notna().all()
    shuffled = table[table["control"] == "shuffled_labels"]
    assert set(shuffled["method"]) == set(read.index)
    assert (shuffled["value"] < 0.75).all()
    drawn = table[table["control"] == "random_directions"].iloc[0]
    assert drawn["value"] < read["value"].min()
    assert drawn["high"] < 1
    assert table[table["metric"] == "selectivity"]["note"].str.contains("control_task").all(), "there are no rights to memorise"


def test_a_label_of_unequal_shares_is_read_with_an_intercept():
    acts = single(n=600, share=0.15, seed=2)
    table = wb.probe_layers(acts, methods=["logistic", "lda"], controls=(), resamples=0)
    assert (table[table["metric"] == "accuracy"]["value"] > 0.93).all()


def test_the_logistic_probe_is_scikit_learns():
    acts = single()
    fit = wb.probes.fit_layers(acts, "logistic", c=0.5)
    x, _ = variants(acts, 0)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000, random_state=0).fit(z, acts.labels)
    assert np.abs(fit.scores(acts, 0) - theirs.decision_function(z)).max() < 1e-3


def test_a_label_in_the_distance_is_read_by_the_nonlinear_ones_alone():
    acts = single(radial=True, n=400, seed=1)
    table = wb.probe_layers(acts, methods=["logistic", "quadratic", "mlp", "rbf", "knn"], controls=())
    read = table[(table["metric"] == "accuracy") & (table["control"] == "")].set_index("method")
    assert read.loc["logistic", "low"] < 0.6
    assert (read.drop("logistic")["low"] > 0.6).all(), read["low"]


def test_noise_is_not_read():
    table = wb.probe_layers(single(signal=0, seed=3), controls=["shuffled_labels"])
    read = table[(table["metric"] == "accuracy") & (table["control"] == "")]
    assert set(read["method"]) == {"logistic", "mass_mean"}, "the searches among pairs are left out"
    assert (read["low"] < 0.5).all()


@pytest.mark.parametrize("method", ["ccs", "kmeans", "vinc"])
def test_searches_among_pairs_say_what_they_need(method):
    with pytest.raises(errors.BadInput, match="as_questions"):
        wb.probe_layers(single(), methods=[method])
    with pytest.raises(errors.BadInput, match="position='last'"):
        wb.probes.fit_layers(single(position="stem_last"), method)


def test_pairs_and_rows_do_not_mix():
    rows = single().rows.assign(negative=" no", positive=" yes")
    with pytest.raises(errors.WrongModel, match="single rows"):
        wb.probe_layers(single(), test={"pairs": single().with_rows(rows)}, methods=["logistic"])
    with pytest.raises(errors.BadInput, match="single rows"):
        wb.probes.fit_layers(single(), "logistic", erase_variant=True)


def test_a_method_of_ones_own_gets_the_rows_of_both_classes():
    seen = []

    def difference(x_positive, x_negative, seed):
        seen.append((len(x_positive), len(x_negative)))
        return x_positive.mean(0) - x_negative.mean(0)

    acts = single(share=0.3)
    fit = wb.probes.fit_layers(acts, difference)
    assert seen == [(int(acts.labels.sum()), int((1 - acts.labels).sum()))]
    assert ((fit.scores(acts, 0) > 0) == acts.labels).mean() > 0.9, "its threshold lies between the classes"


def test_how_few_are_enough_and_what_carries_over():
    few = wb.sample_efficiency(single(), layer=0, repeats=3, resamples=200)
    last = few[(few["metric"] == "accuracy") & (few["items"] == few["items"].max())]
    assert set(last["method"]) == {"logistic", "lda", "mass_mean"}
    assert set(last["world"]) == {"measured", "perfect"}
    assert (last["low"] > 0.8).all()
    matrix = wb.transfer_matrix({"a": single(), "b": single(seed=5)})
    assert (matrix[matrix["metric"] == "auroc"]["low"] > 0.8).all()


def test_directions_of_single_statements(organism):
    facts = [{"statement": f"Thing {k} is {'cold' if k % 2 else 'hot'}.", "label": k % 2} for k in range(40)]
    prompts = wb.prompts.single_statements(facts)
    acts = wb.capture(organism, prompts, layers=[1], progress=False)
    assert torch.equal(acts.layer(1)[:, 0], acts.layer(1)[:, 1])
    one, other = (wb.directions.sample(acts, 1, where={"label": k}) for k in (1, 0))
    assert len(wb.extract_direction(one, other).unit) == 128
    with pytest.raises(errors.AnswerTokens, match="as_questions"):
        wb.answers(organism, prompts, progress=False)
    with pytest.raises(errors.BadInput, match="mixes contrast pairs"):
        prompts + wb.prompts.udhr(n=2)
