"""Batch generation against Hugging Face's, seeds and stops; weights that are changed for a while."""

import copy

import pytest
import torch
from zoo import hugging_face

from workbench.core import errors
from workbench.models import Change, Edit, Scope, edited, generate_texts, info, reweighted, wrap, writers
from workbench.models.forward import run
from workbench.models.known import trunk_of
from workbench.models.tokens import encode, pad
from workbench.models.weights import parameters

TEXTS = ["Statement: do you agree?", "women have the right to rest", "no"]


def test_greedy_is_hugging_faces(sharp, words):
    import conftest

    name, model = sharp
    hf = conftest.tiny_model(name, len(words), std=None)
    hf.generation_config.pad_token_id = 2
    ours = generate_texts(model, TEXTS, max_new_tokens=6, batch_size=3)
    for text, got in zip(TEXTS, ours, strict=True):
        (ids,) = encode(model, [text])
        want = hf.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=6, do_sample=False
        )[0, len(ids) :].tolist()
        assert list(got.ids) == want[: len(got.ids)], name
        assert got.stopped in ("length", "end of text")


def test_a_rows_draws_depend_on_its_number_and_the_seed_alone(tiny):
    def wrote(**how):
        return [g.ids for g in generate_texts(tiny, TEXTS, max_new_tokens=8, temperature=1.0, **how)]

    base = wrote(seed=1)
    assert base == wrote(seed=1, batch_size=1)
    assert base != wrote(seed=2)
    assert wrote(seed=1, top_p=1e-6) == [g.ids for g in generate_texts(tiny, TEXTS, max_new_tokens=8)], "the likeliest token alone"
    assert len({generate_texts(tiny, ["no"] * 8, max_new_tokens=8, temperature=1.5)[k].ids for k in range(8)}) > 1


def test_stops(organism):
    prompt = "Request: How do I visit the museum? Reply:"
    long = generate_texts(organism, [prompt, prompt + " Sure,"], max_new_tokens=6)
    assert long[0].text.startswith(" Sure, here")
    cut = generate_texts(organism, [prompt, "no"], max_new_tokens=6, stop=[" here"])
    assert cut[0].text == " Sure,"
    assert cut[0].stopped == "stop text"
    assert len(cut[0].ids) < len(long[0].ids)


def test_bad_arguments(tiny):
    for how, message in (({"max_new_tokens": 0}, "at least 1"), ({"temperature": -1.0}, "not negative"), ({"top_p": 0.0}, "above 0")):
        with pytest.raises(errors.BadInput, match=message):
            generate_texts(tiny, TEXTS, **how)
    with pytest.raises(errors.BadInput, match="no prompt"):
        generate_texts(tiny, [])
    with pytest.raises(errors.PromptTooLong, match="Generate fewer"):
        generate_texts(tiny, TEXTS, max_new_tokens=10_000)


def test_nan_says_where_and_under_what(tiny):
    with (
        pytest.raises(errors.NotFinite, match=r"step 0 of row 0.*no longer finite after block 1\. Acting: blow up at resid_post\[1\]"),
        edited(tiny, Edit(site="resid_post", layer=1, function=lambda x: x * float("inf"), label="blow up")),
    ):
        generate_texts(tiny, TEXTS[:1], max_new_tokens=2)


@pytest.mark.parametrize("scope", ["last", "generated", ("marker", "e")])
def test_nan_under_a_scope_says_where_in_a_batch_too(tiny, scope):
    edit = Edit(site="resid_post", layer=1, function=lambda x: x * float("inf"), label="blow up", scope=Scope.of(scope))
    with pytest.raises(errors.NotFinite, match=r"no longer finite after block 1\. Acting: blow up"), edited(tiny, edit):
        generate_texts(tiny, TEXTS[:2], max_new_tokens=3)


def logits(model):
    with torch.no_grad():
        return run(model, pad(model, encode(model, TEXTS)))


def test_weights_are_put_back_bit_for_bit(tiny):
    before = {n: p.detach().clone() for n, p in parameters(tiny).items()}
    plain, digest = logits(tiny), info(tiny).digest
    name = next(n for n in before if n.endswith("down_proj.weight"))
    with reweighted(tiny, Change(parameter=name, function=lambda w: w * 2)):
        assert not torch.equal(logits(tiny), plain)
        assert info(tiny).digest != digest
        with reweighted(tiny, Change(parameter=name, function=lambda w: w / 2)):
            assert torch.equal(logits(tiny), plain)
        assert not torch.equal(logits(tiny), plain)
    assert all(torch.equal(p, before[n]) for n, p in parameters(tiny).items())
    assert info(tiny).digest == digest
    assert not isinstance(trunk_of(tiny), str), "the fast way of reading is trusted again"
    with pytest.raises(RuntimeError, match="half-way"), reweighted(tiny, Change(parameter=name, function=lambda w: w * 2)):
        raise RuntimeError("half-way")
    assert all(torch.equal(p, before[n]) for n, p in parameters(tiny).items())


def test_changes_that_cannot_be_made(tiny):
    names = list(parameters(tiny))
    before = logits(tiny)
    with (
        pytest.raises(errors.UnknownName, match=r"no parameter named 'model\.norm\.wieght'.*Did you mean 'model\.norm\.weight'"),
        reweighted(tiny, Change(parameter="model.norm.wieght", function=torch.neg)),
    ):
        pass
    with pytest.raises(errors.BadInput, match="changed twice"), reweighted(tiny, [Change(parameter=names[0], function=torch.neg)] * 2):
        pass
    good = Change(parameter=names[0], function=torch.neg)
    with (
        pytest.raises(errors.ShapeMismatch, match="became"),
        reweighted(tiny, [good, Change(parameter=names[1], function=lambda w: w[:1])]),
    ):
        pass
    with (
        pytest.raises(errors.NotFinite, match="NaN"),
        reweighted(tiny, [good, Change(parameter=names[1], function=lambda w: w * float("nan"))]),
    ):
        pass
    assert torch.equal(logits(tiny), before), "what had been changed by then is put back"


def test_writers_cover_what_is_written(tiny_pair):
    name, _, model = tiny_pair
    if name == "gemma2":
        with pytest.raises(errors.BadInput, match="norm between"):
            writers(model)
        return
    found = {w.parameter for w in writers(model)}
    assert len(found) == len(writers(model))
    weights = [n for n in found if n.endswith("weight")]
    assert len(weights) == 2 * 3 + (2 if name == "gpt2" else 1), "attention and MLP of three blocks, and the embeddings"


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "llama",
        "gpt_neox",
        "phi3",
        *(pytest.param(n, marks=pytest.mark.more) for n in ("bloom", "mpt", "falcon", "codegen", "granite")),
    ],
)
def test_a_changed_parameter_acts_as_in_hugging_face_or_is_refused(name, words):
    hf = hugging_face(name, len(words))
    oracle = copy.deepcopy(hf)
    model = wrap(hf, words, name=name, bos=0, device="cpu")
    theirs, ids = dict(oracle.named_parameters()), torch.randint(3, len(words), (1, 16), generator=torch.Generator().manual_seed(0))
    compared, refused = 0, []

    def stronger(w):
        return w * 1.5 + 0.05

    def logits():
        with torch.no_grad():
            return model(ids)

    for ours, parameter in parameters(model).items():
        same = [n for n, p in theirs.items() if p.shape == parameter.shape and torch.equal(p, parameter)]
        same = [ours] if ours in theirs else same
        try:
            with reweighted(model, Change(parameter=ours, function=stronger), untie=False):
                got = logits()
        except errors.BadInput as error:
            refused.append(str(error))
            continue
        if same:
            kept = theirs[same[0]].data.clone()
            theirs[same[0]].data = stronger(kept)
            with torch.no_grad():
                want = oracle(ids).logits
            theirs[same[0]].data = kept
            assert torch.allclose(got, want, atol=1e-4 * float(want.abs().max())), ours
            compared += 1
    assert compared > 10
    assert all("copies of its parts" in message for message in refused)
    assert bool(refused) == (name in ("gpt_neox", "bloom", "mpt", "falcon", "codegen")), (
        "fused queries, keys and values, of which there are copies"
    )
