"""Controls and resampling as objects: the same table as by keywords, and one way at a time."""

import numpy as np
import pandas as pd
import pytest
from made import activations

import workbench as wb
from workbench.core import errors
from workbench.probes import CONTROLS, Controls, Resampling

METHODS = ["logistic", "mass_mean", "ccs", "knn"]
QUICK = {"methods": METHODS, "ccs_options": {"epochs": 30, "restarts": 2}, "folds": 3, "seed": 3}


@pytest.fixture(scope="module")
def acts():
    return activations(n_identities=16, n_rights=8, signal=2.0)


def test_both_spellings_give_the_same_bits(acts):
    blank = activations(n_identities=16, n_rights=8, signal=0.0).with_rows(acts.rows)
    first = blank.where(layers=[0])
    words = wb.probe_layers(
        acts,
        **QUICK,
        untrained=blank,
        embedding=first,
        controls=("random_directions", "bag_of_words", "ngrams", "shuffled_labels"),
        random_directions=7,
        shuffles=4,
        burns_exact=True,
        control_task="identity",
        text="statement",
        resamples=40,
    )
    objects = wb.probe_layers(
        acts,
        **QUICK,
        controls=Controls(
            names=("random_directions", "bag_of_words", "ngrams", "shuffled_labels"),
            untrained=blank,
            embedding=first,
            random_directions=7,
            shuffles=4,
            burns_exact=True,
            control_task="identity",
            text="statement",
        ),
        resampling=Resampling(resamples=40),
    )
    pd.testing.assert_frame_equal(words, objects, check_exact=True)
    assert words.attrs == objects.attrs
    assert {"untrained_model", "embedding", "burns_exact", *CONTROLS} <= set(objects["control"])


def test_the_defaults_are_those_of_the_objects(acts):
    few = {"methods": ["mass_mean"]}
    plain = wb.probe_layers(acts, **few)
    pd.testing.assert_frame_equal(plain, wb.probe_layers(acts, **few, controls=Controls(), resampling=Resampling()), check_exact=True)
    pd.testing.assert_frame_equal(plain, wb.probe_layers(acts, **few, controls=list(CONTROLS), resamples=1000), check_exact=True)


def test_giving_a_thing_twice_is_refused(acts):
    for name, value in {"untrained": acts, "embedding": acts, "random_directions": 5, "shuffles": 5, "burns_exact": False}.items():
        with pytest.raises(errors.BadInput, match=rf"{name}= is given twice: as a keyword and in controls=Controls"):
            wb.probe_layers(acts, controls=Controls(), **{name: value})
    with pytest.raises(errors.BadInput, match="resamples= is given twice: as a keyword and in resampling=Resampling"):
        wb.probe_layers(acts, resampling=Resampling(), resamples=100)
    table = wb.probe_layers(acts, methods=["mass_mean"], controls=Controls(names=()), resamples=0)  # each is given once
    assert set(table["metric"]) == {"accuracy"}


def test_a_level_moves_intervals_and_bands_and_the_spread_of_controls(acts):
    wide = wb.probe_layers(acts, methods=["mass_mean"], resampling=Resampling(resamples=200, level=0.99))
    narrow = wb.probe_layers(acts, methods=["mass_mean"], resampling=Resampling(resamples=200, level=0.5))
    assert (wide["value"] == narrow["value"]).all()
    assert (wide["high"] - wide["low"] >= narrow["high"] - narrow["low"]).all()
    accuracy = wide["metric"].eq("accuracy") & wide["control"].eq("")
    assert (wide[accuracy]["band_low"] < wide[accuracy]["low"]).all()
    spread = narrow[narrow["control"] == "random_directions"]
    assert spread["note"].str.contains("central 50 % of 199 draws").all()


def test_bands_can_be_left_out(acts):
    table = wb.probe_layers(acts, methods=["mass_mean"], controls=(), resampling=Resampling(resamples=0, bands=False))
    assert np.isnan(table["band_low"].astype(float)).all()


def test_options_are_checked():
    with pytest.raises(errors.UnknownName, match="no control named 'shuffled'"):
        Controls(names=["shuffled"])
    assert Controls(names="bag_of_words").names == ("bag_of_words",)
    with pytest.raises(errors.BadInput, match="shuffles=0: the control 'shuffled_labels' needs 1 draw at least"):
        Controls(shuffles=0)
    assert Controls(names=(), shuffles=0).shuffles == 0
    with pytest.raises(errors.BadInput, match="random_directions=-1"):
        Controls(names=(), random_directions=-1)
    with pytest.raises(errors.BadInput, match="resamples=-1: 0 or more"):
        Resampling(resamples=-1)
    with pytest.raises(errors.BadInput, match="level=95: between 0 and 1"):
        Resampling(level=95)
    with pytest.raises(errors.BadInput, match="resampling= takes a Resampling"):
        Resampling.of(100, {})
