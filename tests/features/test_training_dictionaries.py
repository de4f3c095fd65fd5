"""Training of dictionaries: planted features are found, a killed training goes on where it was, and what it refuses."""

import pytest
import torch

import workbench as wb
from workbench.core.errors import BadInput, DamagedStore, MissingTool, NotFinite, TooFew, UnknownLayer
from workbench.features import training, training_sae
from workbench.features.streams import as_prompts, read_streams, split_texts
from workbench.features.training import fit_dictionary, train_dictionary
from workbench.models import Edit, edited

pytest.importorskip("sae_lens")
FEW = {"width": 12, "k": 2, "steps": 60, "batch": 64, "progress": False}


def planted(n=4000, features=12, d=12, seed=0):
    """Sparse sums of known directions."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(features, d, generator=g), dim=1)
    x = (torch.rand(n, features, generator=g) < 0.12) * (0.3 + torch.rand(n, features, generator=g))
    return x @ directions, directions


def found(dictionary, directions):
    return float((torch.nn.functional.normalize(dictionary.decoder, dim=1) @ directions.T).max(0).values.mean())


def test_planted_features_are_found_and_a_permuted_dictionary_has_none():
    rows, directions = planted(20000)
    d = fit_dictionary(rows, kind="standard", width=12, steps=1200, batch=256, rate=3e-3, progress=False)
    assert found(d, directions) > 0.95
    assert found(d.permuted(), directions) < 0.8
    error = ((d.reconstruct(rows) - rows) ** 2).sum() / ((rows - rows.mean(0)) ** 2).sum()
    assert float(error) < 0.3  # in raw units: the scale is folded into the weights


@pytest.mark.parametrize("kind", training_sae.KINDS)
def test_every_kind_is_trained_and_read(kind, tmp_path):
    rows, _ = planted(500)
    state = torch.get_rng_state()
    d = fit_dictionary(rows, kind=kind, **FEW)
    assert torch.equal(torch.get_rng_state(), state)
    assert d.trained_as in ("", "batchtopk", "matryoshka_batchtopk")
    assert d.provenance["trained"]["kind"] == kind
    assert ("k" in d.provenance["trained"]) == (kind not in training_sae.SPARSE)
    d.save(tmp_path)
    assert wb.features.Dictionary.load(tmp_path).key == d.key
    assert fit_dictionary(rows, kind=kind, **FEW).key == d.key
    assert fit_dictionary(rows, kind=kind, **FEW | {"steps": 61}).key != d.key


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_a_killed_training_goes_on_and_gives_the_same_bits(kind, tmp_path, monkeypatch):
    rows, _ = planted(500)
    monkeypatch.setattr(training, "EVERY", 20)
    whole = fit_dictionary(rows, kind=kind, **FEW)
    step, done = training_sae.Trainer.step, []

    def dies(self, x):
        if len(done) == 47:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, x)

    monkeypatch.setattr(training_sae.Trainer, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit_dictionary(rows, kind=kind, store=tmp_path, **FEW)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    again = []
    monkeypatch.setattr(training_sae.Trainer, "step", lambda self, x: again.append(1) or step(self, x))
    resumed = fit_dictionary(rows, kind=kind, store=tmp_path, **FEW)
    assert len(again) == 20  # from step 40
    assert resumed.key == whole.key
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_checkpoint_of_another_training_is_not_resumed_and_a_broken_one_is_told(tmp_path):
    rows, _ = planted(200)
    make = {"k": 2, "penalty": 1.0, "steps": 20, "batch": 8, "rate": 1e-3, "seed": 0, "centre": torch.zeros(12)}
    one = training_sae.Trainer("topk", 12, 12, **make)
    one.step(rows[:8])
    one.save(tmp_path / "a", {"seed": 0})
    assert one.resume(tmp_path / "a", {"seed": 1}) == 0
    assert one.resume(tmp_path / "a", {"seed": 0}) == 1
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(DamagedStore, match="delete it"):
        one.resume(tmp_path / "a", {"seed": 0})


def test_without_saelens_the_error_says_what_works(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(MissingTool, match=r"pip install 'workbench-interp\[features\]'.*can be loaded"):
        fit_dictionary(planted(100)[0], **FEW)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"kind": "ica"}, BadInput, "standard, gated"),
        ({"width": 1}, BadInput, "width=1"),
        ({"k": 13}, BadInput, "k=13"),
        ({"rate": 0.0}, BadInput, "rate=0.0"),
        ({"steps": 3}, BadInput, "steps=3"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(more, error, message):
    with pytest.raises(error, match=message):
        fit_dictionary(planted(100)[0], **FEW | more)


def test_rows_that_cannot_be_used_are_refused():
    with pytest.raises(NotFinite):
        fit_dictionary(torch.full((20, 12), float("nan")), **FEW)
    with pytest.raises(BadInput, match="every row is 0"):
        fit_dictionary(torch.zeros(20, 12), **FEW)
    with pytest.raises(TooFew):
        fit_dictionary(torch.zeros(1, 12), **FEW)


def test_streams_are_every_token_but_the_first(tiny):
    texts = ["women have the right to rest", "the right", "Statement: do you agree? Answer: yes"]
    streams = read_streams(tiny, texts, layer=1, progress=False)
    assert streams.rows.shape[1] == 32
    assert sorted(set(streams.text.tolist())) == [0, 1, 2]
    assert int(streams.place.min()) == 1
    acts = wb.capture(tiny, as_prompts(texts), layers=[1], position="all", progress=False)
    for k, p, row in zip(streams.text.tolist(), streams.place.tolist(), streams.rows, strict=True):
        torch.testing.assert_close(acts.layer(1)[k, 1, p], row)
    sizes = [len(t) - 1 for t in streams.tokens]
    sinks = int(acts.sinks(1)[:, 1, 1:].sum())
    assert len(streams) == sum(sizes) - sinks
    first, second = split_texts(streams, 0.34, seed=0)
    assert not set(first.text.tolist()) & set(second.text.tolist())
    assert len(first) + len(second) == len(streams)
    with pytest.raises(BadInput, match="cannot be split"):
        split_texts(streams, 0.0)
    with pytest.raises(BadInput, match="none of them empty"):
        read_streams(tiny, ["", "a"], layer=1)
    with pytest.raises(BadInput, match="'z' has none"):
        read_streams(tiny, texts, layer=1, site="z")


def test_a_dictionary_of_a_model_knows_its_place(tiny, tmp_path):
    texts = ["women have the right to rest", "do you agree? yes no", "Statement: true false"]
    d = train_dictionary(tiny, texts, layer=1, store=tmp_path, **FEW)
    assert (d.provenance["site"], d.provenance["layer"], d.d_in) == ("resid_post", 1, 32)
    d.check_place(tiny)
    with pytest.raises(UnknownLayer):
        train_dictionary(tiny, texts, layer=9, **FEW)
    with pytest.raises(BadInput, match="width=0"):
        train_dictionary(tiny, texts, layer=1, **FEW | {"width": 0})
    flip = Edit(site="resid_post", layer=0, function=torch.neg, label="flip")
    with pytest.raises(BadInput, match="edits are active"), edited(tiny, [flip]):
        train_dictionary(tiny, texts, layer=1, **FEW)
