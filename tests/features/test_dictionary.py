"""Dictionaries: what they compute is what SAELens computes, what they keep, and what they refuse."""

import json
import types

import pytest
import torch
from jaxtyping import config as shapes
from safetensors.torch import save_file

from workbench.core.errors import BadInput, DamagedStore, NotFinite, ShapeMismatch, UnknownName, WrongModel
from workbench.features.dictionary import Dictionary
from workbench.features.saelens_files import CFG, WEIGHTS

D, WIDTH = 12, 40


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def made(kind="standard", **more):
    g = rng(1)
    names = {"standard": ["b_enc"], "topk": ["b_enc"], "jumprelu": ["b_enc", "threshold"], "gated": ["b_gate", "b_mag", "r_mag"]}.get(
        kind, []
    )
    given = {
        "kind": kind, "encoder": torch.randn(D, WIDTH, generator=g), "decoder": torch.randn(WIDTH, D, generator=g),
        "bias": torch.randn(D, generator=g), "vectors": {n: torch.rand(WIDTH, generator=g) * 0.3 for n in names}, "k": 5 if kind == "topk" else 0,
        "provenance": {"site": "resid_post", "layer": 1, "model": {"name": "m", "digest": "d"}},
    }  # fmt: skip
    return Dictionary(**given | more)


X = torch.randn(30, D, generator=rng(2)) * 2
FORMS = [
    ("standard", {}), ("standard", {"normalisation": "layer_norm"}), ("standard", {"normalisation": "constant_norm_rescale"}),
    ("standard", {"subtract": False}), ("topk", {}), ("topk", {"rescale": True}), ("topk", {"normalisation": "layer_norm"}), ("jumprelu", {}),
    ("jumprelu", {"trained_as": "batchtopk"}), ("jumprelu", {"trained_as": "matryoshka_batchtopk"}), ("gated", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "more"), FORMS)
def test_what_is_written_is_read_by_saelens_and_computes_the_same(kind, more, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    own = made(kind, **more)
    own.save(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    again = Dictionary.load(tmp_path)
    with torch.no_grad():
        latents = theirs.encode(X)
        out = theirs.decode(latents)
    for one in (own, again):
        torch.testing.assert_close(one.encode(X), latents, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.decode(latents, X), out, rtol=1e-6, atol=1e-5)
    assert again.key == own.key
    assert again.provenance == own.provenance
    assert again.trained_as == own.trained_as


def literal(d, x):
    """One row and one latent at a time."""
    out = torch.zeros(len(x), d.width)
    for r, row in enumerate(x):
        row = row - d.bias if d.subtract else row
        pre = [float(row @ d.encoder[:, j]) for j in range(d.width)]
        if d.kind != "gated":
            pre = [p + float(d.vectors["b_enc"][j]) for j, p in enumerate(pre)]
        kept = sorted(pre)[-d.k] if d.kind == "topk" else 0
        for j, p in enumerate(pre):
            if d.kind == "gated":
                mag = p * float(d.vectors["r_mag"][j].exp()) + float(d.vectors["b_mag"][j])
                out[r, j] = max(mag, 0) if p + float(d.vectors["b_gate"][j]) > 0 else 0
            elif d.kind == "jumprelu":
                out[r, j] = max(p, 0) if p > float(d.vectors["threshold"][j]) else 0
            else:
                out[r, j] = max(p, 0) if p >= kept else 0
    return out


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "gated"])
def test_encoding_is_its_equation(kind):
    d = made(kind)
    torch.testing.assert_close(d.encode(X), literal(d, X), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(d.reconstruct(X), literal(d, X) @ d.decoder + d.bias, rtol=1e-4, atol=1e-4)
    assert d.encode(X[:2].reshape(1, 2, D)).shape == (1, 2, WIDTH)
    if kind == "topk":
        assert int((d.encode(X) > 0).sum(1).max()) <= 5


def test_a_latent_is_a_direction_at_the_place_of_the_dictionary():
    d = made()
    one = d.latent(3)
    torch.testing.assert_close(one.vector, d.decoder[3])
    assert (one.provenance["site"], one.provenance["layer"]) == ("resid_post", 1)
    for bad in (WIDTH, -1, True):
        with pytest.raises(UnknownName, match=f"latent {bad} of a dictionary that has latents 0-{WIDTH - 1}"):
            d.latent(bad)


def test_a_permuted_dictionary_has_the_same_numbers_elsewhere():
    d = made()
    other = d.permuted(seed=1)
    torch.testing.assert_close(other.decoder.sort(1).values, d.decoder.sort(1).values)
    assert not torch.equal(other.decoder, d.decoder)
    assert torch.equal(other.decoder, d.permuted(seed=1).decoder)
    assert not torch.equal(other.decoder, d.permuted(seed=2).decoder)


def test_another_place_is_refused():
    d = made()
    d.check_place(place={"site": "resid_post", "layer": 1, "model": {"digest": "d"}})
    d.check_place(place={})
    for other in ({"layer": 2}, {"site": "mlp_out"}, {"model": {"digest": "e"}}):
        with pytest.raises(WrongModel):
            d.check_place(place=other)


def test_another_model_is_refused(tiny):
    with pytest.raises(WrongModel, match="a dictionary of width 12"):
        made().check_place(tiny)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"kind": "linear"}, UnknownName, "standard"),
        ({"normalisation": "batch"}, UnknownName, "layer_norm"),
        ({"decoder": torch.zeros(WIDTH, D)}, BadInput, "dead dictionary"),
        ({"decoder": torch.ones(D, WIDTH)}, ShapeMismatch, "an encoder"),
        ({"bias": torch.full((D,), float("nan"))}, NotFinite, "b_dec"),
        ({"vectors": {}}, BadInput, "needs b_enc"),
        ({"vectors": {"b_enc": torch.zeros(3)}}, ShapeMismatch, "b_enc of shape"),
    ],
)
def test_what_cannot_be_a_dictionary_is_refused(more, error, message, monkeypatch):
    monkeypatch.setattr(shapes, "jaxtyping_disable", True)  # as for users, who have no checks of types
    with pytest.raises(error, match=message):
        made(**more)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ShapeMismatch, match="width of 5"):
        made().encode(torch.zeros(2, 5))
    with pytest.raises(NotFinite, match="NaN"):
        made().encode(torch.full((2, D), float("nan")))
    with pytest.raises(ShapeMismatch, match="given 3"):
        made().decode(torch.zeros(2, 3))
    with pytest.raises(BadInput, match="like="):
        made(normalisation="layer_norm").decode(torch.zeros(2, WIDTH))
    with pytest.raises(BadInput, match="k=0"):
        made("topk", k=0)


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UnknownName, match="neither a folder that is here"):
        Dictionary.load("no such release")
    with pytest.raises(UnknownName, match="holds no dictionary"):
        Dictionary.load(tmp_path)
    made().save(tmp_path)
    cfg = json.loads((tmp_path / CFG).read_text())
    state = {"W_enc": made().encoder, "W_dec": made().decoder, "b_dec": made().bias, "b_enc": torch.zeros(WIDTH)}
    for change, message in (
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        ({"normalize_activations": "expected_average_only_in"}, "does not hold by what"),
        ({"reshape_activations": "hook_z"}, "heads"),
    ):
        with pytest.raises(BadInput, match=message):
            Dictionary.of_saelens({**cfg, **change}, state)
    with pytest.raises(BadInput, match="scaling factors"):
        Dictionary.of_saelens(cfg, {**state, "scaling_factor": torch.full((WIDTH,), 2.0)})
    with pytest.raises(DamagedStore, match="lack threshold"):
        Dictionary.of_saelens({**cfg, "architecture": "jumprelu"}, state)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(DamagedStore, match="cannot be read"):
        Dictionary.load(tmp_path)


def test_a_release_that_is_not_here_needs_the_network():
    from workbench.core.errors import NetworkNeeded

    with pytest.raises(NetworkNeeded, match="give a folder"):
        Dictionary.load("nobody/no-dictionary", "layer_1")


def test_older_files_and_those_of_gemma_scope_are_read(tmp_path):
    g = rng(3)
    state = {
        "W_enc": torch.randn(D, WIDTH, generator=g),
        "W_dec": torch.randn(WIDTH, D, generator=g),
        "b_enc": torch.zeros(WIDTH),
        "b_dec": torch.zeros(D),
    }
    old = Dictionary.of_saelens(
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "hook_name": "blocks.3.hook_resid_pre", "model_name": "gpt2"}, state
    )
    assert (old.kind, old.k, old.provenance) == ("topk", 4, {"site": "resid_pre", "layer": 3, "model": {"name": "gpt2"}})
    folder = tmp_path / "layer_9_width_40"
    folder.mkdir()
    low = {k.lower(): v for k, v in state.items()} | {"threshold": torch.full((WIDTH,), 0.5)}
    save_file(low, folder / "params.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_name": "gemma-3-270m"}))
    gemma = Dictionary.load(folder)
    assert (gemma.kind, gemma.subtract, gemma.provenance["layer"]) == ("jumprelu", False, 9)
    pre = X @ state["W_enc"]
    torch.testing.assert_close(gemma.encode(X), pre.relu() * (pre > 0.5))


def test_a_release_or_folder_that_is_not_there_is_told_with_what_to_do(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    def gone(*_, **__):
        raise RepositoryNotFoundError("404", response=types.SimpleNamespace(headers={}, request=None, status_code=404, text=""))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gone)
    with pytest.raises(UnknownName, match=r"no repository 'nobody/none'\. Give OWNER/NAME.*pretrained dictionaries"):
        Dictionary.load("nobody/none")
    made().save(tmp_path / "resid_post" / "layer_1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UnknownName, match="no folder 'layer_9' with a dictionary"):
        Dictionary.load("somebody/some", "layer_9")
    assert Dictionary.load("somebody/some", "resid_post/layer_1").key == made().key
    with pytest.raises(UnknownName, match=r"holds no dictionary.*There are: resid_post/layer_1 \(id=\)"):
        Dictionary.load(tmp_path)
    assert Dictionary.load(tmp_path, "resid_post/layer_1").key == made().key
