"""Every architecture beside Hugging Face's own model: each use is right or refused, nothing between."""

import copy
import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer
from zoo import ARCHITECTURES, QUICK, hugging_face

import workbench as wb
from workbench.core import errors
from workbench.models import Edit, edited, wrap
from workbench.models.checked import check
from workbench.models.forward import run
from workbench.models.generate import generate_texts
from workbench.models.known import KNOWN
from workbench.models.source import bundled_models
from workbench.models.tokens import pad
from workbench.models.untouched import Untouched
from workbench.models.verdict import verdict
from workbench.verify import USES, verify

TABLE = Path(__file__).parents[2] / "docs" / "architectures.csv"


@pytest.fixture(scope="module")
def tokens():
    return AutoTokenizer.from_pretrained(bundled_models()["udhr-organism"])


def both(name, tokens, seed=0):
    """The workbench's model and the untouched one, of the same weights."""
    hf = hugging_face(name, len(tokens), seed)
    oracle = Untouched(copy.deepcopy(hf))
    return wrap(hf, tokens, name=name, bos=0, device="cpu"), oracle


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.more) for n in ARCHITECTURES])
def test_right_or_refused(name, tokens):
    found = verify(*both(name, tokens)).set_index("use")
    wrong = found[found.verdict == "wrong"].says.to_dict()
    assert wrong == {}
    with TABLE.open(encoding="utf-8") as file:
        said = next(row for row in csv.DictReader(file) if row["architecture"] == name)
    assert found.verdict.to_dict() == {use: said[use] for use in USES}, "docs/architectures.csv says what is measured"


def test_the_oracle_finds_what_is_wrong(tokens):
    """Another model's weights are no reference: every use that compares must say so."""
    model, _ = both("llama", tokens)
    _, other = both("llama", tokens, seed=1)
    found = verify(model, other).set_index("use").verdict
    assert set(found[["capture", "answers", "edits", "generation", "generation, edited", "lens"]]) == {"wrong"}


def test_a_bridge_that_differs_is_refused_and_the_trunk_reads(tokens):
    """TransformerLens reads Cohere's rotation otherwise; its trunk does not."""
    model, oracle = both("cohere", tokens)
    text = "women have the right to rest"
    prompts = wb.prompts.PromptSet([wb.prompts.ContrastPair(stem=text, negative=" no", positive=" yes", label=1)])
    acts = wb.capture(model, prompts, layers=[0, 1, 2], position="last", progress=False)
    ids = [0, *tokens(text + " yes", add_special_tokens=False)["input_ids"]]
    want = oracle.read(ids)[0][1:, -1]
    got = acts.values[0, 1].float()
    assert float((got - want).abs().max() / want.abs().max()) < 1e-5
    direction = wb.Direction.of(torch.ones(32), provenance={"model": wb.models.info(model).key(), "site": "resid_post", "layer": 1})
    doors = {
        "edit": lambda: edited(model, Edit(site="resid_post", layer=1, function=lambda x: x)).__enter__(),
        "push": lambda: edited(model, wb.add(direction, 1.0)).__enter__(),
        "pass": lambda: run(model, pad(model, [ids])),
        "generate": lambda: generate_texts(model, [text], max_new_tokens=2),
        "own generate": lambda: model.generate(torch.tensor([ids]), max_new_tokens=2, verbose=False),
        "bridge": lambda: wb.capture(model, prompts, layers=[1], engine="bridge", progress=False),
        "site": lambda: wb.capture(model, prompts, layers=[1], site="attn_out", progress=False),
        "patch": lambda: wb.patch(model, prompts, prompts, site="resid_post", progress=False),
    }
    for name, door in doors.items():
        with pytest.raises(errors.Disagrees, match=r"differs from Hugging Face's: log-probabilities by \d"):
            door()
            pytest.fail(name)


def test_decoding_that_differs_reads_whole_texts(tokens):
    """With ALiBi, TransformerLens's decoding with a cache gives other numbers from the second token on."""
    model, oracle = both("falcon-alibi", tokens)
    assert verdict(model).decoding == "whole"
    rows = [[0, *range(20, 40)], [0, *range(50, 57)]]
    with pytest.warns(UserWarning, match="each step reads the whole text") as said:
        wrote = generate_texts(model, rows, max_new_tokens=6)
        generate_texts(model, rows, max_new_tokens=2)
    assert len([w for w in said if "whole text" in str(w.message)]) == 1, "it is said once"
    for row, got in zip(rows, wrote, strict=True):
        assert float(oracle.follow(row, list(got.ids)).max()) < 1e-3
    own = model.generate(torch.tensor([rows[0]]), max_new_tokens=6, do_sample=False, verbose=False, return_type="tokens", stop_at_eos=False)
    assert float(oracle.follow(rows[0], own[0, len(rows[0]) :].tolist()).max()) < 1e-3, "TransformerLens's own method too"


def test_a_site_that_is_not_what_its_name_says_is_refused(tokens, monkeypatch):
    """A Bridge whose `attn_out` is the part's output before the block scales it."""
    model, _ = both("granite", tokens)
    assert not verdict(model).sites
    for block in model.blocks:
        block._teardown_capture_hooks()
        block.residual_contribution_scale = 1.0
        block._maybe_wire_capture_hooks()
    found = check(model, KNOWN[model].reference)
    assert set(found.sites) == {"attn_out", "mlp_out"}
    monkeypatch.setitem(KNOWN, model, replace(KNOWN[model], verdict=found))
    with pytest.raises(errors.Disagrees, match="'attn_out' is refused: it is not what the block adds"):
        edited(model, Edit(site="attn_out", layer=1, function=lambda x: x)).__enter__()
    with edited(model, Edit(site="resid_post", layer=1, function=lambda x: x)):
        run(model, pad(model, [[0, 5, 6]]))


@pytest.mark.parametrize("name", ["olmo2", "exaone4", "gemma2", "granite"])
def test_a_push_in_the_middle_of_a_block_reaches_the_stream(name, tokens):
    """The Bridge's `resid_mid` is the entry of the part that reads next; the stream beside it must get the push too."""
    model, _ = both(name, tokens)
    batch, vector = pad(model, [[0, *range(20, 40)]]), torch.linspace(-2, 2, 32)
    under = []
    for site in ("resid_mid", "attn_out"):
        with edited(model, Edit(site=site, layer=1, function=lambda x: x + vector)):
            under.append(run(model, batch).log_softmax(-1))
    assert torch.allclose(under[0], under[1], atol=1e-3)
    assert not torch.allclose(under[0], run(model, batch).log_softmax(-1), atol=0.1)


def test_the_comparison_runs_once_and_is_kept(tokens, monkeypatch):
    model, _ = both("gpt2", tokens)
    calls = []
    monkeypatch.setattr("workbench.models.load.check", lambda *a: calls.append(a))
    assert wb.load_model(model) is model
    with edited(model, Edit(site="resid_post", layer=1, function=lambda x: x)):
        run(model, pad(model, [[0, 5, 6]]))
    assert not calls
    assert KNOWN[model].verdict.apart["logits"] < 1e-3
