"""Every architecture beside Hugging Face's own model: each use is right or refused, nothing between."""

import copy
import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer
from zoo import ARCHITECTURES, QUICK, hugging_face

import workbench as wb
from workbench.core import errors
from workbench.models import Edit, Read, edited, wrap
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


@pytest.fixture(scope="module")
def cohere(tokens):
    """TransformerLens reads Cohere's rotation otherwise; its trunk does not."""
    return both("cohere", tokens)


PAIR = wb.prompts.ContrastPair(stem="women have the right to rest", negative=" no", positive=" yes", label=1)


def test_where_the_bridge_differs_the_trunk_reads(cohere, tokens):
    model, oracle = cohere
    acts = wb.capture(model, wb.prompts.PromptSet([PAIR]), layers=[0, 1, 2], position="last", progress=False)
    want = oracle.read([0, *tokens(PAIR.stem + PAIR.positive, add_special_tokens=False)["input_ids"]])[0][1:, -1]
    got = acts.values[0, 1].float()
    assert float((got - want).abs().max() / want.abs().max()) < 1e-5


IDENTITY = {"layer": 1, "function": lambda x: x}
DOORS = {
    "edit": lambda m: edited(m, Edit(site="resid_post", **IDENTITY)).__enter__(),
    "reading": lambda m: edited(m, Read(site="resid_post", **IDENTITY)).__enter__(),
    "pass": lambda m: run(m, pad(m, [[0, 5, 6]])),
    "generate": lambda m: generate_texts(m, [PAIR.stem], max_new_tokens=2),
    "wb.generate": lambda m: wb.generate(m, [PAIR.stem], max_new_tokens=2, progress=False),
    "own generate": lambda m: m.generate(torch.tensor([[0, 5, 6]]), max_new_tokens=2, verbose=False),
    "bridge": lambda m: wb.capture(m, wb.prompts.PromptSet([PAIR]), layers=[1], engine="bridge", progress=False),
    "site": lambda m: wb.capture(m, wb.prompts.PromptSet([PAIR]), layers=[1], site="attn_out", progress=False),
    "patch": lambda m: wb.patch(m, wb.prompts.PromptSet([PAIR]), wb.prompts.PromptSet([PAIR]), progress=False),
}


@pytest.mark.parametrize("door", DOORS)
def test_where_the_bridge_differs_it_is_refused(cohere, door):
    with pytest.raises(errors.Disagrees, match=r"differs from Hugging Face's: log-probabilities by \d"):
        DOORS[door](cohere[0])


@pytest.mark.parametrize(("name", "right"), [("llama", True), ("gpt2", True), ("cohere", False)])
def test_a_bridge_booted_elsewhere_is_compared_when_it_is_first_used(name, right, tokens, tmp_path):
    tokens.save_pretrained(tmp_path)
    hugging_face(name, len(tokens)).save_pretrained(tmp_path)
    with torch.random.fork_rng(devices=[]):  # booting draws
        model = TransformerBridge.boot_transformers(str(tmp_path), device="cpu")
    model.eval()
    assert verdict(model).bridge == "" if right else "differs" in verdict(model).bridge
    assert wb.load_model(model) is model
    if right:
        run(model, pad(model, [[0, 5, 6]]))
        return
    for door in ("edit", "pass", "generate", "bridge"):
        with pytest.raises(errors.Disagrees):
            DOORS[door](model)


def test_decoding_that_differs_reads_whole_texts(tokens):
    """With ALiBi, TransformerLens's decoding with a cache gives other numbers from the second token on."""
    model, oracle = both("falcon-alibi", tokens)
    assert verdict(model).decoding == "whole"
    rows = [[0, *range(20, 40)], [0, *range(50, 57)]]
    with pytest.warns(UserWarning, match="each step reads the whole text"):
        wrote = generate_texts(model, rows, max_new_tokens=6)
    generate_texts(model, rows, max_new_tokens=2)  # it is said once: a second warning would be an error here
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


@pytest.mark.parametrize("name", ["cohere", "falcon-alibi", "mpt", "glm", "olmo", "llama"])
def test_half_precision_is_told_from_another_computation(name, tokens):
    """Rounding moves such weights by a fifth of the largest value; the limit is measured, and the verdict is that of float32."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = wrap(hugging_face(name, len(tokens)).to(dtype), tokens, name=name, bos=0, device="cpu")
        found[dtype] = (bool(verdict(model).bridge), verdict(model).decoding, verdict(model).padded)
    assert found[torch.float32] == found[torch.bfloat16]
