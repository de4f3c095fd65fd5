"""An adapter carried to a model whose stream is turned does there what it did, and through a wrong map it does not."""

import pytest
import torch
from zoo_of_models import bundled

import workbench as wb
from workbench.core import errors
from workbench.core.paths import data_path
from workbench.directions import fit_map
from workbench.prompts import PromptSet
from workbench.training import adapted, adapter_transfer, carry_adapter, train_adapter


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """The bundled model with its stream in another basis."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from workbench.core.seeds import torch_rng
    from workbench.organism.faint import _rotate

    source, folder = data_path("models", "udhr-organism"), tmp_path_factory.mktemp("turned")
    model = AutoModelForCausalLM.from_pretrained(source)
    width = model.config.hidden_size
    _rotate(model, torch.linalg.qr(torch.randn(width, width, generator=torch_rng(0, "turn"), dtype=torch.float64)).Q)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return wb.load_model(str(folder))


@pytest.fixture(scope="module")
def mended():
    model = bundled()
    split = wb.prompts.udhr_split(model, seed=0)

    def items(claim, n, side, form="since_claim"):
        return wb.prompts.udhr(form, claim, n=n, seed=0, split=split, side=side)

    fit = PromptSet(p for claim in ("harm", "good") for p in items(claim, 96, "train"))
    adapter = train_adapter(model, fit, rank=1, layers=[1], steps=30, progress=False)
    held = {"harm": items("harm", 40, "test"), "no claim": wb.prompts.udhr("base_short", n=40, seed=0, split=split, side="test")}
    return model, adapter, fit, held


def test_a_carried_adapter_mends_a_turned_model_and_a_wrong_map_does_not(mended, turned):
    model, adapter, fit, held = mended
    table = adapter_transfer(model, turned, adapter, fit, held, draws=1, progress=False)
    value = table.set_index(["map", "prompts", "metric"])["value"]
    with adapted(model, adapter):
        want = float(wb.answers(model, held["harm"], progress=False)["safe"].mean())
    assert want > 0.9
    assert value["nothing", "harm", "safe_score"] == 0
    assert value["carried", "harm", "safe_score"] == want
    assert value["carried", "no claim", "kl"] < 0.02
    for way in ("as it is", "map of shuffled rows 1", "random rotation 1"):
        assert value[way, "harm", "gain"] <= 0.1, way
    assert (table["low"] <= table["value"]).all()


def test_labels_are_not_used_for_the_maps(mended, turned):
    from dataclasses import replace

    model, adapter, fit, held = mended
    flipped = PromptSet(replace(p, label=1 - p.label) for p in fit)
    one, two = (
        adapter_transfer(model, turned, adapter, f, {"harm": held["harm"].subset(range(16))}, draws=1, progress=False)
        for f in (fit, flipped)
    )
    assert one.equals(two)


def test_what_cannot_be_carried_is_refused(mended, turned):
    model, adapter, fit, held = mended
    rows = torch.randn(40, 128, generator=torch.Generator().manual_seed(0))
    same, narrow = fit_map(rows, rows, method="procrustes"), fit_map(rows[:, :64], rows, method="procrustes")
    with pytest.raises(errors.ShapeMismatch, match="width 128"):
        carry_adapter(adapter, narrow, same, layer=1)
    lora = train_adapter(model, fit, kind="lora", rank=1, layers=[1], steps=1, progress=False)
    with pytest.raises(errors.BadInput, match="only a residual adapter at one place"):
        adapter_transfer(model, turned, lora, fit, held)
    with pytest.raises(errors.BadInput, match="16 prompts at least"):
        adapter_transfer(model, turned, adapter, fit.subset(range(8)), held)
    with pytest.raises(errors.UnknownLayer):
        adapter_transfer(model, turned, adapter, fit, held, layer=9)
